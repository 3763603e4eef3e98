"""Making the embedded PostgreSQL's cluster: as whom the server may run, what its folder may hold, `initdb`."""

import asyncio
import errno
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ringfence.embedded.postgres_exec import NAMESPACE, USER
from ringfence.embedded.postgres_guard import Layout, exec_prefix
from ringfence.errors import SetupError

ADMINISTRATOR = "postgres"

_STAGING = "postgres.init-"
_TAIL_CHARS = 1500
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 2**20  # with less, the server can't even write its log
_ENVIRONMENT = ("PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


async def prepare(layout: Layout, binaries: Path) -> str:
    """Make the cluster if there is none, and tell the way (see `postgres_exec`) in which its server runs.

    Only for the holder of the guard's lock.

    Raises:
        SetupError, OSError: see `postgres.start`.
    """
    way, version = await _choose_way(layout, binaries)
    exists = _check_folder(layout, version)
    await asyncio.to_thread(give_access, layout, way, os.geteuid())
    if not exists:
        await _initialise(layout, binaries, way)
    return way


def nobody() -> tuple[int, int]:
    """The user and group id of the system's user `nobody`."""
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def ways(euid: int, owner: int | None) -> list[str]:
    """As whom a server may run, best first, for a user and the owner of its folder (None: no folder yet)."""
    if euid != 0:
        return [USER]
    uid, gid = nobody()
    return [f"{uid}:{gid}"] if owner == uid else [NAMESPACE, f"{uid}:{gid}"]


async def _choose_way(layout: Layout, binaries: Path) -> tuple[str, str]:
    """The first way in which the binaries run here, and their major version."""
    owner = layout.folder.stat().st_uid if layout.folder.exists() else None
    said = ""
    for way in ways(os.geteuid(), owner):
        code, output = await run(*exec_prefix(way, signal.SIGKILL), binaries / "postgres", "-V")
        said += output
        version = re.search(r"\(PostgreSQL\) (\d+)", output)
        if code == 0 and version:
            return way, version[1]
    raise SetupError("postgres_unusable", f"{binaries / 'postgres'} does not run here.{quoted(said)}")


def _check_folder(layout: Layout, version: str) -> bool:
    """Whether there is a cluster of ours; an error if there is anything else."""
    if not layout.folder.exists() or not any(layout.folder.iterdir()):
        return False
    marker = layout.cluster / "PG_VERSION"
    if not marker.exists() or not layout.password.exists():
        raise SetupError("postgres_folder_foreign", f"{layout.folder} holds files that are not Ringfence's database.")
    found = marker.read_text().strip()
    if found != version:
        raise SetupError(
            "postgres_other_version",
            f"{layout.cluster} was made by PostgreSQL {found}; this Ringfence brings {version}. Dump it with a "
            "Ringfence that brings the other one and restore it here, or choose another RINGFENCE_DATA_DIR.",
        )
    return True


def give_access(layout: Layout, way: str, euid: int) -> None:
    """Let the user as whom the server runs reach and own its files, where that is not us, user `euid`.

    Raises:
        SetupError: `postgres_folder_denied`, the files belong to neither.
    """
    if way in (USER, NAMESPACE):
        owner = layout.folder.stat().st_uid if layout.folder.exists() else euid
        if owner != euid:
            raise _denied(layout, f"it belongs to user id {owner}")
        return
    os.chown(layout.data_dir, -1, int(way.split(":")[1]))
    layout.data_dir.chmod(stat.S_IMODE(layout.data_dir.stat().st_mode) | stat.S_IXGRP)
    if layout.folder.exists():
        _hand_over(layout.folder, way)


def _hand_over(folder: Path, way: str) -> None:
    uid, gid = (os.geteuid(), -1) if way in (USER, NAMESPACE) else (int(part) for part in way.split(":"))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


async def _initialise(layout: Layout, binaries: Path, way: str) -> None:
    """Make the cluster aside and rename it, so that it is there whole or not at all."""
    for abandoned in layout.data_dir.glob(_STAGING + "*"):
        await asyncio.to_thread(shutil.rmtree, abandoned, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=layout.data_dir))
    password = staging / layout.password.name
    try:
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        _hand_over(staging, way)
        code, output = await run(
            *(*exec_prefix(way, signal.SIGKILL), binaries / "initdb", "-D", staging / layout.cluster.name),
            *("-U", ADMINISTRATOR, "--auth=scram-sha-256", "--pwfile", password, "-E", "UTF8", "--no-instructions"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            # one call for the file system: a tenth of the time of one for each of a thousand files
            *(("--sync-method=syncfs",) if sys.platform == "linux" else ()),
        )
        if code != 0:
            raise failure(layout, "postgres_init_failed", "PostgreSQL can't make its data folder.", output)
        staging.rename(layout.folder)  # noqa: ASYNC240  # quick; a thread could outlive a cancelled start
        await asyncio.to_thread(_sync, layout.password, layout.folder, layout.data_dir)
    finally:
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)


def _sync(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def run(*command: object, output: int = subprocess.PIPE, inherit: Sequence[int] = ()) -> tuple[int, str]:
    """Run a program, without our secrets in its environment.

    Args:
        command: path and arguments.
        output: descriptor for what it says.
        inherit: descriptors that it gets.

    Returns:
        Its exit code, and what it said if `output` is a pipe.
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment | {"LC_ALL": "C"},  # messages are read for their reason
        pass_fds=inherit,
        start_new_session=True,
    )
    try:
        text, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return await process.wait(), (text or b"").decode(errors="replace")


def quoted(output: str) -> str:
    """The end of a program's output as an error's last sentence."""
    tail = output.strip()[-_TAIL_CHARS:]
    return f" It said:\n{tail}" if tail else ""


def failure(layout: Layout, code: str, words: str, output: str) -> SetupError:
    """The error behind what `initdb` or the server said."""
    if "No space left on device" in output or shutil.disk_usage(layout.data_dir).free < _FULL_BYTES:
        return _disk_full(layout)
    if "Permission denied" in output:
        return _denied(layout, "the server's user can't reach it" + quoted(output))
    return SetupError(code, words + quoted(output))


def os_failure(layout: Layout, error: OSError) -> SetupError:
    """The error behind the operating system's."""
    if error.errno in _FULL:
        return _disk_full(layout)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _denied(layout, f"{error.filename or 'it'}: {error.strerror}")
    return SetupError("postgres_folder_unusable", f"{layout.folder} can't be used: {error.strerror or error}.")


def _disk_full(layout: Layout) -> SetupError:
    return SetupError(
        "postgres_disk_full", f"The disk of {layout.data_dir} is full. Make room or choose another RINGFENCE_DATA_DIR."
    )


def _denied(layout: Layout, reason: str) -> SetupError:
    return SetupError(
        "postgres_folder_denied",
        f"{layout.folder} can't be used by user id {os.geteuid()}: {reason}. Run Ringfence as the folder's owner, or "
        "choose another RINGFENCE_DATA_DIR.",
    )

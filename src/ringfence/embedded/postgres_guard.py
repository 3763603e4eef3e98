"""The guard: keeps the embedded PostgreSQL of one data folder running for as long as any process uses it.

    python -I -S postgres_guard.py DATA_DIR LOCK WAY SOCKET_DIR COMMAND [ARGUMENT ...]

Two files in the data folder carry the whole protocol, by locks (`flock`) that the kernel drops when a process dies:

- `postgres.users`: shared by every process that uses the server. The guard tries for it exclusively; once it has it,
  nobody is left, and it stops the server.
- `postgres.guard`: exclusive for who starts the server, who hands the open lock (descriptor LOCK) to the guard. While
  the server accepts connections, the file says so (`State`); otherwise it is empty. The last user, who has the first
  lock exclusively, empties it to have the server stopped without delay.

A guard that is killed takes its server with it (`postgres_exec`); a server that is killed is started again.
Run by its path and with the standard library only, like `postgres_exec`.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

EXEC = Path(__file__).with_name("postgres_exec.py")
PORT = 5432
"""Only a part of the socket's name: the server does not listen on TCP."""
LOG_MAX_BYTES = 4 * 2**20
"""The log is moved aside when it is longer, over the one that was moved before."""

_STARTING_POLL = 0.01
_RUNNING_POLL = 0.1
_EVICT_SECONDS = 10.0
_STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))  # "fast", then "immediate"
_STILL_BUSY = ("postmaster.pid", "shared memory block")  # in the log: a former server is not quite gone
_READY_LINE = 7  # of postmaster.pid: LOCK_FILE_LINE_PM_STATUS - 1 in PostgreSQL's miscadmin.h


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in a data folder (which must be absolute and free of symbolic links)."""

    data_dir: Path

    @property
    def folder(self) -> Path:
        """Everything of PostgreSQL but the locks."""
        return self.data_dir / "postgres"

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own folder (PGDATA)."""
        return self.folder / "data"

    @property
    def password(self) -> Path:
        """The administrator's password."""
        return self.folder / "password"

    @property
    def log(self) -> Path:
        """The server's log since its start, at most `LOG_MAX_BYTES`; the one before has the suffix `.1`."""
        return self.folder / "server.log"

    @property
    def users(self) -> Path:
        """Locked by the server's users."""
        return self.data_dir / "postgres.users"

    @property
    def guard(self) -> Path:
        """Locked by the guard; holds the `State`."""
        return self.data_dir / "postgres.guard"


@dataclass(frozen=True, slots=True)
class State:
    """A server that accepts connections: process ids of its guard and of itself, and its socket's folder."""

    guard: int
    postgres: int
    socket_dir: str


def read_state(layout: Layout) -> State | None:
    """What the guard says about its server; None while it does not accept connections."""
    try:
        return State(**json.loads(layout.guard.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock the open file if that is possible at once."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def exec_prefix(way: str, death_signal: int) -> list[str]:
    """The start of a command line that runs the rest as `postgres_exec` says, as a child of this process."""
    return [sys.executable, "-I", "-S", str(EXEC), way, str(int(death_signal)), str(os.getpid())]


def move_aside(log: Path) -> None:
    """Empty the log, which a server may be writing, and keep what it held as `.1`."""
    if log.exists():
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def stop(process: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]] = _STOP_STEPS) -> None:
    """Stop the server by ever ruder signals, each with its seconds to work."""
    for sign, seconds in steps:
        process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
    process.kill()
    process.wait()


def leftovers(cluster: Path, processes: Path = Path("/proc")) -> list[int]:
    """Process ids of PostgreSQL servers and their children that work in the folder (none without procfs)."""
    found = []
    for entry in processes.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
            executable = (entry / "exe").readlink().name.removesuffix(" (deleted)")
            if executable == "postgres" and (entry / "cwd").samefile(cluster):
                found.append(int(entry.name))
    return found


def evict(cluster: Path, seconds: float = _EVICT_SECONDS) -> None:
    """End what a killed guard or server left running in the folder, kindly for so many seconds.

    Only for the holder of the guard's lock: it alone knows that no server is meant to run.
    """
    deadline = time.monotonic() + seconds
    while pids := leftovers(cluster):
        postmaster = _lock_file(cluster)[0]
        kindly = postmaster in pids and time.monotonic() < deadline
        for pid in [postmaster] if kindly else pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGINT if kindly else signal.SIGKILL)
        time.sleep(_STARTING_POLL)


def forget_stranger(cluster: Path, socket_dir: Path, processes: Path = Path("/proc")) -> None:
    """Remove lock files whose process id now belongs to something else, common after a container's restart.

    PostgreSQL takes any living process for its predecessor and would refuse to start. For use after `evict`.
    """
    pid = _lock_file(cluster)[0]
    process = processes / str(pid)
    with contextlib.suppress(OSError):  # no such process: PostgreSQL sees that itself
        name = (process / "comm").read_text().strip()
        if name != "postgres" or not (process / "cwd").samefile(cluster):
            (socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
            (cluster / "postmaster.pid").unlink(missing_ok=True)


def _lock_file(cluster: Path) -> tuple[int, bool]:
    """Process id in `postmaster.pid` (0: none) and whether that server is ready."""
    try:
        lines = (cluster / "postmaster.pid").read_text().split("\n")
        return int(lines[0]), lines[_READY_LINE:][:1] == ["ready   "]
    except (FileNotFoundError, ValueError):
        return 0, False


class Guard:
    """One server and the rule of its life.

    Args:
        layout: of the data folder, with an initialised cluster.
        users: open descriptor of `layout.users`.
        lock: open, locked descriptor of `layout.guard`.
        way: as whom the server runs, see `postgres_exec`.
        socket_dir: folder of the server's socket.
        command: the server with its arguments.
    """

    def __init__(
        self, layout: Layout, *, users: int, lock: int, way: str, socket_dir: str, command: Sequence[str]
    ) -> None:
        self._layout = layout
        self._users = users
        self._lock = lock
        self._way = way
        self._socket_dir = socket_dir
        self._command = command
        self.stopping = False

    def run(self) -> None:
        """Run the server until nobody uses it, it can't start, it was shut down on purpose, or `stopping` is set."""
        while not self._is_unneeded():
            evict(self._layout.cluster)
            forget_stranger(self._layout.cluster, Path(self._socket_dir))
            written = self._layout.log.stat().st_size
            process = self._launch()
            was_ready = self._watch(process)
            if process.returncode == 0 or not (was_ready or self._is_busy(written)):
                return

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._layout.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # our own programs
                [*exec_prefix(self._way, signal.SIGINT), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    def _watch(self, process: subprocess.Popen[bytes]) -> bool:
        """Stay with the server to its end; tells whether it has ever been ready."""
        was_ready = False
        try:
            while process.poll() is None and not self._is_unneeded():
                if not was_ready and _lock_file(self._layout.cluster) == (process.pid, True):
                    was_ready = True
                    state = State(os.getpid(), process.pid, self._socket_dir)
                    os.pwrite(self._lock, json.dumps(asdict(state)).encode(), 0)
                elif was_ready and os.fstat(self._lock).st_size == 0:
                    self.stopping = True
                if self._layout.log.stat().st_size > LOG_MAX_BYTES:
                    move_aside(self._layout.log)
                time.sleep(_RUNNING_POLL if was_ready else _STARTING_POLL)
        finally:
            os.ftruncate(self._lock, 0)
            stop(process)
        return was_ready

    def _is_unneeded(self) -> bool:
        return self.stopping or try_lock(self._users)

    def _is_busy(self, written: int) -> bool:
        with self._layout.log.open("rb") as log:
            log.seek(written)
            text = log.read().decode(errors="replace")
        return any(sign in text for sign in _STILL_BUSY)


def main(argv: Sequence[str], *, fork: Callable[[], int] = os.fork) -> None:
    """Go into the background and guard a server, as the module's words say."""
    data_dir, lock, way, socket_dir, *command = argv
    if fork():
        return  # whoever started us reaps this process; the guard itself outlives its starter
    layout = Layout(Path(data_dir))
    users = os.open(layout.users, os.O_RDWR)
    guard = Guard(layout, users=users, lock=int(lock), way=way, socket_dir=socket_dir, command=command)

    def end(*_: object) -> None:
        guard.stopping = True

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    try:
        guard.run()
    finally:
        with contextlib.suppress(OSError):  # it is not empty where it is the server's folder
            Path(socket_dir).rmdir()
        os.close(int(lock))
        os.close(users)


if __name__ == "__main__":
    main(sys.argv[1:])

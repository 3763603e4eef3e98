"""The guard and the way into the server's process, in-process."""

import asyncio
import contextlib
import fcntl
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringfence.embedded import postgres_exec, postgres_guard
from ringfence.embedded.postgres import find_binaries
from ringfence.embedded.postgres_cluster import prepare
from ringfence.embedded.postgres_guard import Guard, Layout, State, leftovers, read_state, try_lock
from tests.embedded.postgres_tools import FAST, until


@pytest.fixture
def layout() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="rf-", dir=FAST, ignore_cleanup_errors=True) as folder:
        layout = Layout(Path(folder).resolve())
        for path in (layout.users, layout.guard):
            path.touch()
        yield layout


@pytest.fixture
def fake(layout: Layout) -> Layout:
    """A data folder for commands that only play a server."""
    layout.cluster.mkdir(parents=True)
    layout.log.touch()
    return layout


@contextlib.contextmanager
def opened(path: Path, kind: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR)
    try:
        assert not kind or try_lock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def guarding(layout: Layout, way: str, *command: str) -> AsyncIterator[tuple[Guard, threading.Thread, int]]:
    """A guard in a thread, with our share in its server (the last of the three)."""
    with opened(layout.users, fcntl.LOCK_SH) as ours, opened(layout.users) as users, opened(layout.guard) as lock:
        guard = Guard(layout, users=users, lock=lock, way=way, socket_dir=str(layout.folder), command=[*command])
        thread = threading.Thread(target=guard.run)
        thread.start()
        try:
            yield guard, thread, ours
        finally:
            guard.stopping = True
            await asyncio.to_thread(thread.join)


async def server_command(layout: Layout) -> tuple[str, ...]:
    binaries = find_binaries()
    way = await prepare(layout, binaries)
    layout.log.touch()
    options = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={layout.folder}")
    return (way, str(binaries / "postgres"), "-D", str(layout.cluster), *options)


async def test_the_servers_life(layout: Layout) -> None:
    command = await server_command(layout)
    async with guarding(layout, *command) as (_, thread, ours):
        await until(lambda: read_state(layout))
        first = read_state(layout)
        assert first
        assert first.guard == os.getpid()
        assert first.socket_dir == str(layout.folder)
        assert first.postgres in leftovers(layout.cluster)

        os.kill(first.postgres, signal.SIGKILL)
        await until(lambda: (state := read_state(layout)) and state != first)
        second = read_state(layout)
        assert second
        assert second.postgres in leftovers(layout.cluster)

        layout.log.write_bytes(b"x" * (postgres_guard.LOG_MAX_BYTES + 1))
        await until(lambda: layout.log.stat().st_size == 0)
        assert layout.log.with_name("server.log.1").stat().st_size == postgres_guard.LOG_MAX_BYTES + 1

        fcntl.flock(ours, fcntl.LOCK_UN)
        await until(lambda: not thread.is_alive())
        assert read_state(layout) is None
        assert leftovers(layout.cluster) == []

    async with guarding(layout, *command) as (_, thread, _):
        await until(lambda: read_state(layout))
        state = read_state(layout)
        assert state
        os.kill(state.postgres, signal.SIGINT)  # somebody shuts it down on purpose
        await until(lambda: not thread.is_alive())
        assert read_state(layout) is None

    async with guarding(layout, *command) as (_, thread, _):
        await until(lambda: read_state(layout))
        os.truncate(layout.guard, 0)
        await until(lambda: not thread.is_alive())
        assert leftovers(layout.cluster) == []

    async with guarding(layout, *command, "-c", "no_such_setting=1") as (_, thread, _):
        await until(lambda: not thread.is_alive())
        assert "no_such_setting" in layout.log.read_text()


async def test_evicts_what_a_killed_guard_left(layout: Layout) -> None:
    way, *command = await server_command(layout)
    for seconds in (10, 0):  # kindly, and at once
        with layout.log.open("ab") as log:
            server = subprocess.Popen(  # noqa: ASYNC220  # what is tested is synchronous
                [*postgres_guard.exec_prefix(way, signal.SIGKILL), *command], stdout=log, stderr=log
            )
        await until(lambda: "ready   " in _text(layout.cluster / "postmaster.pid"))
        reaping = threading.Thread(target=server.wait)  # as init does for the children of a killed guard
        reaping.start()
        await asyncio.to_thread(postgres_guard.evict, layout.cluster, seconds)
        await asyncio.to_thread(reaping.join)
        assert leftovers(layout.cluster) == []
        assert server.returncode == (0 if seconds else -signal.SIGKILL)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_tries_again_while_a_former_server_is_not_gone(fake: Layout) -> None:
    seen = fake.folder / "seen"
    script = f"[ -e {seen} ] && echo other || echo lock file postmaster.pid; touch {seen}; exit 1"
    async with guarding(fake, postgres_exec.USER, "/bin/sh", "-c", script) as (_, thread, _):
        await until(lambda: not thread.is_alive())
    assert fake.log.read_text().splitlines() == ["lock file postmaster.pid", "other"]


async def test_nobody_needs_it(fake: Layout) -> None:
    async with guarding(fake, postgres_exec.USER, "/bin/sleep", "100") as (_, thread, ours):
        await until(fake.log.exists)
        fcntl.flock(ours, fcntl.LOCK_UN)
        await until(lambda: not thread.is_alive())
    assert read_state(fake) is None


async def test_starts_nothing_for_nobody(fake: Layout) -> None:
    with opened(fake.users) as users, opened(fake.guard) as lock:
        Guard(fake, users=users, lock=lock, way="user", socket_dir="/", command=["/no/such"]).run()
    assert fake.log.read_text() == ""


@pytest.mark.parametrize("program", [postgres_guard.__name__, postgres_exec.__name__])
def test_is_a_program(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.delitem(sys.modules, program)
    with pytest.raises(ValueError, match="not enough values to unpack"):
        runpy.run_module(program, run_name="__main__")


def test_stops_ever_more_rudely() -> None:
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); signal.pause()"
    for steps, end in (
        ([(signal.SIGINT, 0.1), (signal.SIGQUIT, 20.0)], signal.SIGQUIT),
        ([(signal.SIGINT, 0.1)], signal.SIGKILL),
    ):
        with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            postgres_guard.stop(process, steps)
            assert process.returncode == -end


def test_goes_into_the_background(fake: Layout) -> None:
    with opened(fake.guard, fcntl.LOCK_EX) as lock:
        postgres_guard.main([str(fake.data_dir), str(lock), "user", str(fake.folder), "x"], fork=lambda: 1)
        assert fcntl.fcntl(lock, fcntl.F_GETFD) is not None


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_on_a_signal(fake: Layout, sign: signal.Signals) -> None:
    lock = os.open(fake.guard, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    socket_dir = fake.data_dir / "socket"
    socket_dir.mkdir()
    script = f"echo started; kill -{sign.value} $PPID; exec sleep 100"
    arguments = [str(fake.data_dir), str(lock), "user", str(socket_dir), "/bin/sh", "-c", script]
    with opened(fake.users, fcntl.LOCK_SH):
        postgres_guard.main(arguments, fork=lambda: 0)
    assert fake.log.read_text() == "started\n"
    assert not socket_dir.exists()
    with opened(fake.guard, fcntl.LOCK_EX):
        pass


def test_reads_only_a_whole_state(fake: Layout) -> None:
    for text in ("", "{", "[]", '{"guard": 1}'):
        fake.guard.write_text(text)
        assert read_state(fake) is None
    fake.guard.write_text(json.dumps({"guard": 1, "postgres": 2, "socket_dir": "/s"}))
    assert read_state(fake) == State(1, 2, "/s")
    fake.guard.unlink()
    assert read_state(fake) is None


def test_finds_servers_in_procfs(tmp_path: Path) -> None:
    cluster, elsewhere = tmp_path / "data", tmp_path / "other"
    cluster.mkdir()
    elsewhere.mkdir()
    for pid, exe, cwd in (
        (1, "/bin/postgres", cluster),
        (2, "/bin/postgres (deleted)", cluster),
        (3, "/bin/bash", cluster),
        (4, "/bin/postgres", elsewhere),
        (5, "/bin/postgres", tmp_path / "gone"),
    ):
        entry = tmp_path / "proc" / str(pid)
        entry.mkdir(parents=True)
        (entry / "exe").symlink_to(exe)
        (entry / "cwd").symlink_to(cwd)
    assert sorted(leftovers(cluster, tmp_path / "proc")) == [1, 2]
    assert leftovers(cluster, tmp_path / "no-procfs") == []


def test_forgets_only_strangers(fake: Layout) -> None:
    lock_file = fake.cluster / "postmaster.pid"
    proc = fake.data_dir / "proc"
    for pid, name, cwd in ((6, "bash", fake.cluster), (7, "postgres", fake.cluster), (8, "postgres", fake.data_dir)):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "comm").write_text(f"{name}\n")
        (proc / str(pid) / "cwd").symlink_to(cwd)
    for text, stays in (("7", True), ("9", True), ("nonsense", True), ("6", False), ("8", False)):
        lock_file.write_text(f"{text}\n")
        postgres_guard.forget_stranger(fake.cluster, fake.folder, proc)
        assert lock_file.exists() == stays


def test_moves_a_log_aside(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    postgres_guard.move_aside(log)
    assert list(tmp_path.iterdir()) == []
    log.write_text("said")
    postgres_guard.move_aside(log)
    assert (log.read_text(), (tmp_path / "server.log.1").read_text()) == ("", "said")


def recorder(calls: list[tuple[object, ...]]) -> SimpleNamespace:
    """The part of the module `os` that changes who a process is, which only takes notes."""
    names = ("unshare", "setgroups", "setgid", "setuid", "execv")
    noting = {name: lambda *args, name=name: calls.append((name, *args)) for name in names}
    return SimpleNamespace(geteuid=lambda: 0, getegid=lambda: 5, **noting)


def test_becomes_somebody_in_a_namespace(tmp_path: Path) -> None:
    calls: list[tuple[object, ...]] = []
    postgres_exec.become("namespace", system=recorder(calls), process=tmp_path)
    assert calls == [("unshare", 0x10000000)]
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {"setgroups": "deny", "uid_map": "65534 0 1", "gid_map": "65534 5 1"}


def test_becomes_another_user() -> None:
    calls: list[tuple[object, ...]] = []
    postgres_exec.become("12:34", system=recorder(calls))
    assert calls == [("setgroups", []), ("setgid", 34), ("setuid", 12)]


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts back what a program sets for itself."""
    before = {each: signal.getsignal(each) for each in signal.valid_signals()}
    yield
    for each, handler in before.items():
        if signal.getsignal(each) != handler:
            signal.signal(each, handler)


@pytest.mark.usefixtures("signals")
def test_stays_and_executes() -> None:
    calls: list[tuple[object, ...]] = []
    postgres_exec.main(["user", "0", str(os.getppid()), "/bin/x", "-y"], system=recorder(calls))
    assert calls == [("execv", "/bin/x", ["/bin/x", "-y"])]
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL


@pytest.mark.usefixtures("signals")
def test_says_why_it_can_not_execute() -> None:
    with pytest.raises(SystemExit, match=r"can't run /no/such as user: .*No such file"):
        postgres_exec.main(["user", "0", str(os.getppid()), "/no/such"])
    with pytest.raises(SystemExit, match=r"can't run /x as namespace: .*'unshare'"):
        postgres_exec.main(["namespace", "0", "1", "/x"], system=SimpleNamespace(geteuid=int, getegid=int))


def test_dies_with_its_parent() -> None:
    postgres_exec.die_with_parent(9, os.getppid(), platform="darwin")
    with pytest.raises(ProcessLookupError):
        postgres_exec.die_with_parent(9, 1 << 30, platform="darwin")
    with pytest.raises(OSError, match="PDEATHSIG"):
        postgres_exec.die_with_parent(9, os.getppid(), platform="linux", libc=SimpleNamespace(prctl=lambda *_: -1))

"""The child's code in this process, where coverage sees it; `test_sandbox.py` runs the real thing."""

import contextlib
import errno
import gc
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import child
from ringfence.documents.parsing.child import Handles, Zygote
from ringfence.documents.parsing.wire import Limits, Request, Walls


def frames_of(tmp_path: Path, data: bytes, media_type: str = sniff.PLAIN, build: Callable | None = None) -> list[dict]:
    path = tmp_path / "document"
    path.write_bytes(data)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(Request(media_type, None, Limits(max_pages=3)).encode())
        child.read_document(
            os.open(path, os.O_RDONLY), theirs, build or (lambda limits: Walls((str(limits.max_pages),)))
        )
        theirs.close()
        with ours.makefile("rb") as lines:
            return [json.loads(line) for line in lines]


def test_a_document_becomes_frames(tmp_path):
    assert frames_of(tmp_path, b"text") == [
        {"missing": ["3"]},
        {"pages": 1},
        {"page": 1, "start": 0, "text": "text"},
        {"end": True},
    ]


def test_a_failure_becomes_its_code(tmp_path):
    assert frames_of(tmp_path, b"a\fb\fc\fd")[1:] == [{"error": "too_many_pages"}]
    assert frames_of(tmp_path, b"%PDF- no", sniff.PDF)[1:] == [{"error": "document_damaged"}]


def test_out_of_memory_is_said(tmp_path):
    class Starved:
        """A file in whose reading the memory ends."""

        def seek(self, _: int) -> None: ...

        def read(self, _: int) -> bytes:
            raise MemoryError

    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as lines:
        child.send_document(Starved(), Request(sniff.PLAIN, None, Limits()), theirs)
        assert json.loads(lines.readline()) == {"error": "parser_memory"}


def test_a_parent_that_left_is_no_error(tmp_path):
    path = tmp_path / "document"
    path.write_bytes(b"x" * 10_000_000)
    ours, theirs = socket.socketpair()
    ours.sendall(Request(sniff.PLAIN, None, Limits()).encode())
    with theirs:
        child.read_document(os.open(path, os.O_RDONLY), theirs, lambda _: ours.close() or Walls(()))


class System:
    """Plays the module os for what this process must not do to itself."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name: str):
        return lambda *args: self.calls.append((name, *args))


def test_a_child_keeps_its_handles_alone():
    system = System()
    child.detach((9, 5, 7), system)
    *start, last = system.calls
    assert start == [
        ("setsid",),
        ("dup2", 1, 0),
        ("dup2", 1, 2),
        ("closerange", 3, 5),
        ("closerange", 6, 7),
        ("closerange", 8, 9),
    ]
    assert last[:2] == ("closerange", 10)
    assert last[2] >= 256


def test_a_child_lives_once_and_ends(tmp_path):
    path = tmp_path / "document"
    path.write_bytes(b"text")
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(Request(sniff.PLAIN, None, Limits()).encode())
        system = System()
        child.live(Handles(os.open(path, os.O_RDONLY), theirs.detach(), 99), system=system, build=lambda _: Walls(()))
        assert b'"end": true' in ours.recv(10_000)
    assert system.calls[-1] == ("_exit", 0)


def test_a_child_ends_whatever_happens():
    system = System()
    with pytest.raises(OSError, match="descriptor"):
        child.live(Handles(10_001, 10_002, 10_003), system=system)
    assert system.calls[-1] == ("_exit", 0)


def test_forking_returns_to_the_parent_alone():
    entered: list[Handles] = []
    handles = Handles(1, 2, 3)
    assert child.fork(handles, forker=lambda: 42, enter=entered.append) == 42
    assert entered == []
    assert child.fork(handles, forker=lambda: 0, enter=entered.append) == 0
    assert entered == [handles]


class Running:
    """A zygote in a thread whose children are other programs."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.pids: list[int] = []
        self.spawned: list[str] = []

    def start(self) -> socket.socket:
        """Ask for a child; returns the lifeline."""
        lifeline, theirs = socket.socketpair()
        channel, their_channel = socket.socketpair()
        document = os.open(os.devnull, os.O_RDONLY)
        socket.send_fds(self.control, [child.START], [document, their_channel.fileno(), theirs.fileno()])
        for end in (theirs, channel, their_channel):
            end.close()
        os.close(document)
        lifeline.settimeout(30)
        return lifeline


@contextlib.contextmanager
def zygote(*command: str, fails: bool = False) -> Iterator[Running]:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    running = Running(ours)

    def spawn(handles: Handles) -> int:
        if fails:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        keep = [(os.POSIX_SPAWN_DUP2, handles.alive, 9)]
        pid = os.posix_spawn(command[0], command, {}, file_actions=keep, setsid=True)
        running.pids.append(pid)
        return pid

    thread = threading.Thread(target=Zygote(theirs, spawn).run)
    thread.start()
    try:
        assert ours.recv(1) == child.READY
        yield running
    finally:
        ours.close()
        thread.join(30)
    assert not thread.is_alive()
    for pid in running.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_zygote_reports_an_exit():
    with zygote("/bin/sh", "-c", "exit 3") as running, running.start() as lifeline:
        assert os.waitstatus_to_exitcode(int(lifeline.recv(32))) == 3
        assert lifeline.recv(32) == b""


def test_the_zygote_reports_a_signal():
    with zygote("/bin/sh", "-c", "kill -XCPU $$") as running, running.start() as lifeline:
        assert os.waitstatus_to_exitcode(int(lifeline.recv(32))) == -signal.SIGXCPU


def test_letting_go_of_a_child_kills_it():
    with zygote("/bin/sleep", "600") as running:
        one, two = running.start(), running.start()
        one.close()
        two.close()
        with running.start() as third:
            third.shutdown(socket.SHUT_WR)
            assert os.waitstatus_to_exitcode(int(third.recv(32))) == -signal.SIGKILL


def test_a_child_that_pretends_to_be_gone_is_killed():
    with zygote("/bin/sh", "-c", "exec 9>&-; sleep 600") as running, running.start() as lifeline:
        assert os.waitstatus_to_exitcode(int(lifeline.recv(32))) == -signal.SIGKILL


def test_children_end_with_the_zygote_without_a_report():
    with zygote("/bin/sleep", "600") as running:
        lifeline = running.start()
        with running.start() as quick:
            quick.shutdown(socket.SHUT_WR)
            assert quick.recv(32)
    with lifeline:
        assert lifeline.recv(32) == b""


def test_a_fork_that_fails_ends_the_lifeline_alone():
    with zygote("/bin/true", fails=True) as running:
        for _ in range(2):
            with running.start() as lifeline:
                assert lifeline.recv(32) == b""


def test_a_burial_happens_once():
    ours, theirs = socket.socketpair()
    with ours:
        undertaker = Zygote(theirs)
        undertaker._bury(SimpleNamespace(pid=-7))
        theirs.close()


def test_main_serves_until_the_parent_leaves():
    ours, theirs = socket.socketpair()
    control = theirs.detach()
    ours.settimeout(60)
    thread = threading.Thread(target=child.main, args=(control,))
    thread.start()
    assert ours.recv(1) == child.READY
    ours.close()
    thread.join(30)
    gc.unfreeze()
    assert not thread.is_alive()

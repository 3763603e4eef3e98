"""Parsers of documents, forked off one process that has imported PyMuPDF already.

Importing takes a quarter of a second of each test that reads a document. That the real ones start from nothing is what
`tests/documents/parsing` and the tests of commands show.
"""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from unittest.mock import patch

from ringfence.documents.parsing import sandbox
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.parsing.wire import Limits
from tests.zygote import end_with_us

_MOTHER = """
import gc, os, signal, socket
from ringfence.documents.parsing import formats
from ringfence.documents.parsing.child import Zygote

formats.warm_up()
gc.collect()
gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how zygotes end
mother = socket.socket(fileno=0)
while True:
    wanted, descriptors, _, _ = socket.recv_fds(mother, 1, 1)
    if not wanted:
        os._exit(0)
    pid = os.fork()
    if not pid:
        break
    os.close(descriptors[0])
    mother.send(str(pid).encode())
mother.close()
os.setsid()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
try:
    Zygote(socket.socket(fileno=descriptors[0])).run()
finally:
    os._exit(0)
"""


class _Process:
    """What a sandbox wants of its zygote's process."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)
        self.pid = pid

    async def wait(self) -> None:
        """Return once it has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it said: nothing is kept of it."""
        return b"", b""

    def kill(self) -> None:
        """Kill it."""
        signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # there was no such process
            os.close(self._descriptor)


@functools.cache
def _mother() -> socket.socket:
    """A connection to the process that forks; it ends when the connection does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _MOTHER],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
    end_with_us(process, ours)
    return ours


def _born(theirs: socket.socket) -> int:
    socket.send_fds(_mother(), [b"?"], [theirs.fileno()])
    told = _mother().recv(20)
    if not told:
        _mother.cache_clear()
        raise OSError("the process that forks is gone")
    return int(told)


async def _execute(_: Sandbox) -> sandbox._Helper:
    with contextlib.ExitStack() as ours:
        control, theirs = socket.socketpair()
        ours.enter_context(control).settimeout(0)
        with theirs:
            process = _Process(_born(theirs))
        ours.pop_all()
    return sandbox._Helper(process, control)  # type: ignore[arg-type]  # as much of a process as it needs


@contextlib.asynccontextmanager
async def parser(processes: int = 1, limits: Limits | None = None) -> AsyncGenerator[Sandbox]:
    """A sandbox whose zygote is forked off."""
    with forked():
        async with Sandbox(processes=processes, limits=limits) as running:
            yield running


@contextlib.contextmanager
def forked() -> Iterator[None]:
    """Sandboxes' zygotes are forked off, while the context lasts."""
    with patch.object(Sandbox, "_execute", _execute):
        yield

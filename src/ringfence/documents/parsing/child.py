"""The zygote: a small process that imported PyMuPDF once and forks a fresh, confined child for each document.

Nothing of one document is there when the next is read, and a child that dies takes nobody with it. The parent talks to
the zygote over its standard input: one byte with three descriptors (document, channel, lifeline) starts a child. Frames
flow over the channel. The parent closing the lifeline kills the child; the zygote writes the child's wait status there.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from ringfence.documents.parsing import confine, formats
from ringfence.documents.parsing.wire import End, Failure, Limits, Request, Walls, encode
from ringfence.errors import RingfenceError

READY = b"R"
START = b"S"
_DESCRIPTORS = 3


@dataclass(frozen=True, slots=True)
class Handles:
    """The only descriptors that a child keeps.

    Attributes:
        document: to read it from.
        channel: a socket: the request comes in, frames go out.
        alive: a pipe's end that the kernel closes when the child is gone, which wakes the zygote.
    """

    document: int
    channel: int
    alive: int


def main(control: int = 0) -> None:
    """Be the zygote of the parent behind `control`, until the parent goes away."""
    formats.warm_up()
    gc.collect()
    gc.freeze()  # children then do not copy these pages just to look at them
    Zygote(socket.socket(fileno=control)).run()


def fork(
    handles: Handles, *, forker: Callable[[], int] = os.fork, enter: Callable[[Handles], object] | None = None
) -> int:
    """Fork a child that reads one document; returns its pid to the parent and never to the child."""
    pid = forker()
    if pid == 0:
        (enter or live)(handles)
    return pid


def live(handles: Handles, *, system: Any = os, build: Callable[[Limits], Walls] = confine.confine) -> None:
    """A child's whole life. `system` is the module `os`; tests hand in one that does less."""
    try:
        detach((handles.document, handles.channel, handles.alive), system)
        with socket.socket(fileno=handles.channel) as channel:
            read_document(handles.document, channel, build)
    finally:
        system._exit(0)  # never back into the zygote's loop


def detach(keep: tuple[int, ...], system: Any = os) -> None:
    """Leave the zygote's session and close all that a document must not see."""
    system.setsid()
    for standard in (0, 2):
        system.dup2(1, standard)  # the zygote's standard output is /dev/null
    low = 3
    for descriptor in sorted(keep):
        system.closerange(low, descriptor)
        low = descriptor + 1
    system.closerange(low, os.sysconf("SC_OPEN_MAX"))


def read_document(document: int, channel: socket.socket, build: Callable[[Limits], Walls]) -> None:
    """Obey one request: confine this process, read the document, send its frames."""
    with os.fdopen(document, "rb") as file, channel.makefile("rb") as requests, contextlib.suppress(OSError):
        request = Request.decode(requests.readline())
        channel.sendall(encode(build(request.limits)))
        send_document(file, request, channel)


def send_document(file: BinaryIO, request: Request, channel: socket.socket) -> None:
    """Send the document's frames, and why they end."""
    last: End | Failure = End()
    try:
        for frame in formats.extract(file, request.media_type, request.password, request.limits, request.view):
            channel.sendall(encode(frame))
    except RingfenceError as error:
        last = Failure(error.code)
    except MemoryError:
        last = Failure("parser_memory")
    channel.sendall(encode(last))


@dataclass(frozen=True, slots=True)
class _Job:
    pid: int
    lifeline: socket.socket
    alive: int


class Zygote:
    """Starts, kills and buries children as the parent asks.

    Args:
        control: the socket to the parent.
        spawn: starts a child and returns its pid.
    """

    def __init__(self, control: socket.socket, spawn: Callable[[Handles], int] = fork) -> None:
        self._control = control
        self._spawn = spawn
        self._jobs: dict[int, _Job] = {}
        self._selector = selectors.DefaultSelector()
        self._serving = True

    def run(self) -> None:
        """Say that all is loaded, then serve until the parent goes away; no child outlives that."""
        with self._control, self._selector:
            self._selector.register(self._control, selectors.EVENT_READ, self._accept)
            self._control.sendall(READY)
            try:
                while self._serving:
                    for key, _ in self._selector.select():
                        key.data()
            finally:
                for job in tuple(self._jobs.values()):
                    self._bury(job, report=False)

    def _accept(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._control, len(START), _DESCRIPTORS)
        if not message:
            self._serving = False
            return
        document, channel, lifeline = descriptors
        self._start(document, channel, socket.socket(fileno=lifeline))

    def _start(self, document: int, channel: int, lifeline: socket.socket) -> None:
        alive, theirs = os.pipe()
        try:
            pid = self._spawn(Handles(document, channel, theirs))
        except OSError:  # no more processes or memory: the parent finds a lifeline that ends without a status
            lifeline.close()
            os.close(alive)
            return
        finally:
            for descriptor in (document, channel, theirs):
                os.close(descriptor)
        job = self._jobs[pid] = _Job(pid, lifeline, alive)
        self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._bury(job))
        self._selector.register(alive, selectors.EVENT_READ, lambda: self._bury(job))

    def _bury(self, job: _Job, *, report: bool = True) -> None:
        """The parent let go of the child, or the child is gone or pretends to be: end it, report, forget it."""
        if self._jobs.pop(job.pid, None) is None:
            return
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(job.pid, signal.SIGKILL)
        _, status = os.waitpid(job.pid, 0)
        for source in (job.lifeline, job.alive):
            self._selector.unregister(source)
        with job.lifeline, contextlib.suppress(OSError):
            job.lifeline.sendall(str(status).encode() if report else b"")
        os.close(job.alive)

"""Commands of the engine as processes of their own, forked off one that has imported the engine already.

Importing takes most of the time that a command needs to start. That the real commands start from nothing is what
`tests/packaging` and `tests/cli` show.
"""

import asyncio
import atexit
import contextlib
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOM = 2**20


class Command:
    """One command, with the part of asyncio's `Process` that tests use; its output and its errors are one stream.

    Attributes:
        pid: of the process.
        stdout: what it writes.
        returncode: its exit code once it has ended, or less the number of the signal that ended it.
    """

    def __init__(self, pid: int, stdout: asyncio.StreamReader, status: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._end = asyncio.create_task(self._wait(status))

    async def _wait(self, status: asyncio.StreamReader) -> int:
        self.returncode = int(await status.readline())
        return self.returncode

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        """Send a signal.

        Raises:
            ProcessLookupError: it has ended.
        """
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


async def start(*arguments: str, environment: dict[str, str], folder: Path) -> Command:
    """Run `ringfence` with these arguments, this environment and nothing else, in a folder."""
    wanted = json.dumps({"arguments": arguments, "environment": environment, "folder": str(folder)}).encode()
    output, written = os.pipe()
    status, told = os.pipe()
    try:
        await asyncio.to_thread(socket.send_fds, _zygote(), [wanted], [written, told])
    finally:
        os.close(written)
        os.close(told)
    told_of = await _reader(status)
    return Command(int(await told_of.readline()), await _reader(output), told_of)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
    return reader


@functools.cache
def _zygote() -> socket.socket:
    """A connection to the process that forks; it ends when the connection does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        # OpenBLAS starts threads when it is imported, and threads do not survive a fork.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    theirs.close()
    end_with_us(process, ours)
    return ours


def end_with_us(process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
    """Have a process that ends with a connection to it do so when this one does, and wait for it."""

    def end() -> None:
        connection.close()
        process.wait()

    atexit.register(end)


# The other side.


def _serve(control: socket.socket) -> None:
    """Fork a supervisor for each command that is asked for; in the command's process this returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how supervisors end
    while True:
        wanted, descriptors, _, _ = socket.recv_fds(control, _ROOM, 2)
        if not wanted:
            os._exit(0)
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            if _supervised(*descriptors):
                _become(**json.loads(wanted))
                return
        for descriptor in descriptors:
            os.close(descriptor)


def _supervised(output: int, status: int) -> bool:
    """Fork once more: true in the command's process, while the other one tells its pid and its exit code."""
    if not (pid := os.fork()):
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        os.close(status)
        return True
    for mine in (0, 1, 2, output):
        os.close(mine)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, f"{pid}\n".encode())
        _, code = os.waitpid(pid, 0)
        os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def _become(arguments: Sequence[str], environment: dict[str, str], folder: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ringfence", *arguments]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # mypy does not know that it is a file


if __name__ == "__main__":
    from ringfence.cli import main

    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()

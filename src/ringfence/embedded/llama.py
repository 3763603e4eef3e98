"""The embedded chat server: llama.cpp behind its OpenAI-compatible API, in a child process on loopback.

A child, because llama.cpp may abort or be killed for its memory without taking the engine with it. The parent holds
the child's standard input open and says the API key there, as the first line; the child answers with one line of JSON,
`{"url": …}` or `{"error": …}`, on standard output, and ends when its standard input does, so never outlives its parent.
"""

import argparse
import asyncio
import ctypes
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from ringfence.errors import SetupError

START_SECONDS = 120.0
"""A model of 1.1 GB from a slow disk; from the page cache it takes two seconds."""

STOP_SECONDS = 5.0

_PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`."""


class LlamaServer:
    """A chat server of one model, for as long as the `async with` block lasts.

    Args:
        model: a GGUF file, verified.
        context: tokens that the prompt and the answer of one request may have together.
        parallel: requests answered at once; others wait. Each has memory for its whole context reserved.
        threads: CPUs used; unset: all.
        start_timeout: seconds for loading the model.
    """

    def __init__(
        self,
        model: Path,
        *,
        context: int = 8192,
        parallel: int = 2,
        threads: int | None = None,
        start_timeout: float = START_SECONDS,
    ) -> None:
        self._model = model
        self._options = {"context": context, "parallel": parallel, "threads": threads or os.cpu_count() or 1}
        self._start_timeout = start_timeout
        self._process: asyncio.subprocess.Process | None = None
        self.api_key = secrets.token_urlsafe(32)
        """What the server wants as bearer token, so that other users of the machine can't use it; new each time."""
        self.url = ""
        """Base URL of the API, with its version: `http://127.0.0.1:<port>/v1`."""

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        """Start the child and wait until it serves.

        Raises:
            SetupError: `chat_model_failed`: it can't load the model, was killed, or took too long.
        """
        try:
            async with asyncio.timeout(self._start_timeout):
                self.url = await self._start()
        except TimeoutError as error:
            await self._stop()
            raise _failed(self._model, f"it was not ready within {self._start_timeout:.0f} s") from error
        except BaseException:  # cancelled, too: no process is left behind
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the child; answers under way break off."""
        await self._stop()

    async def _start(self) -> str:
        options = [f"--{name}={value}" for name, value in self._options.items()]
        command = [sys.executable, "-P", "-m", "ringfence.embedded.llama", f"--model={self._model}", *options]
        process = self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
        )
        stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
        stdin.write(f"{self.api_key}\n".encode())  # a line fits into the pipe: nothing to drain
        line = await stdout.readline()
        if not line:
            raise _failed(self._model, _death(await process.wait()))
        said: dict[str, str] = json.loads(line)
        if "error" in said:
            raise _failed(self._model, said["error"])
        return said["url"]

    async def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        cast("asyncio.StreamWriter", process.stdin).close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _failed(model: Path, reason: str) -> SetupError:
    return SetupError("chat_model_failed", f"The chat model {model.name} did not start: {reason}.")


def _death(status: int) -> str:
    """What an exit without a word means."""
    if status == -signal.SIGKILL:
        return "it was killed, most likely because the machine has too little memory"
    return f"its process ended with status {status}"


def main(
    arguments: Sequence[str] | None = None,
    *,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
    serve: Callable[[argparse.Namespace, str], Any] | None = None,
    leave: Callable[[int], object] = os._exit,
) -> None:
    """The child: serve until standard input ends. See the module for what is said on which stream.

    Args:
        arguments: the command line; unset: this process's.
        stdin: where the key comes from, unset: standard input; its end ends the child.
        stdout: where the line goes; unset: standard output, which nobody else can write to from then on.
        serve: starts the server and returns it; it says its `listening_address`.
        leave: ends the process at once: llama.cpp's threads wait for nobody.
    """
    options = _options(arguments)
    die_with_parent()
    stdin, stdout = stdin or sys.stdin, stdout or take_stdout()
    key = stdin.readline().strip()
    try:
        server = (serve or start_server)(options, key)
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent has to hear it
        _say(stdout, error=str(error).rstrip("."))
        leave(1)
        return
    _say(stdout, url=f"{server.listening_address}/v1")
    stdin.read()
    leave(0)


def _say(stdout: TextIO, **line: str) -> None:
    stdout.write(json.dumps(line) + "\n")
    stdout.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ringfence.embedded.llama", description="Serve a chat model.")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--context", type=int, default=8192, help="tokens of one request")
    parser.add_argument("--parallel", type=int, default=2, help="requests at once")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPUs")
    return parser.parse_args(arguments)


def die_with_parent(platform: str = sys.platform) -> None:
    """Where the kernel offers it (Linux), be killed when the parent dies, even while the model still loads."""
    if platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def take_stdout() -> TextIO:
    """Keep standard output for ourselves: what native code prints there goes to standard error instead."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


def start_server(options: argparse.Namespace, key: str) -> Any:
    """Load the model and listen on a free port of 127.0.0.1.

    Raises:
        Exception: llama.cpp's reason, such as it is.
    """
    import xllamacpp  # noqa: PLC0415  # 100 MB of native code that only the child needs

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.n_parallel = options.parallel
    params.n_ctx = options.context * options.parallel  # llama.cpp divides it among the requests
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.cors_origins = ""
    params.endpoint_slots = False  # they would show one user's prompt to another
    # What one user's prompt left in the cache would answer another's sooner, and so tell what it was.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.verbosity = -1
    params.offline = True
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()

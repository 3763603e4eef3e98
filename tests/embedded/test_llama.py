"""The chat server in its child process. Uses the real weights of `smollm2-135m-instruct`, which `make test` pulls."""

import argparse
import asyncio
import contextlib
import ctypes
import io
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import platformdirs
import pytest

from ringfence.embedded import llama
from ringfence.embedded.llama import LlamaServer
from ringfence.embedded.weights import Weights
from ringfence.errors import SetupError


@pytest.fixture(scope="module")
def model() -> Path:
    folder = os.environ.get("RINGFENCE_TEST_MODELS_DIR") or platformdirs.user_cache_path("ringfence") / "models"
    return Weights(Path(folder)).paths("smollm2-135m-instruct")["model.gguf"]


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that stands where the interpreter is, to play children that go wrong."""
    script = tmp_path / "python"
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return script


def ask(content: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}], "stream": True, "max_tokens": 6, "temperature": 0}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(60):
        while not condition():  # another process sets no event
            await asyncio.sleep(0.02)


async def answer(server: LlamaServer, content: str) -> list[str]:
    """The pieces of a streamed answer."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with (
        httpx2.AsyncClient(timeout=120) as client,
        client.stream("POST", f"{server.url}/chat/completions", headers=headers, json=ask(content)) as response,
    ):
        assert response.status_code == 200
        events = [json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: {")]
    return [event["choices"][0]["delta"].get("content") or "" for event in events]


def gone(pid: int) -> bool:
    """Whether a process is no more, or a zombie that its new parent has not yet fetched."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def child_of(parent: int) -> int:
    """The process id of the chat server that another process started."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                command = path.with_name("cmdline").read_bytes()
                if b"ringfence.embedded.llama" in command:
                    return int(path.parent.name)
    pytest.fail("no chat server is running")


async def test_streams_answers_to_who_has_the_key(model: Path) -> None:
    async with LlamaServer(model, context=512, threads=1) as server:
        pid = child_of(os.getpid())
        assert server.url.startswith("http://127.0.0.1:")
        pieces = await answer(server, "Say hello.")
        assert len([piece for piece in pieces if piece]) > 1

        async with httpx2.AsyncClient(timeout=60) as client:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                response = await client.post(f"{server.url}/chat/completions", headers=headers, json=ask("Hello?"))
                assert response.status_code == 401
            right = {"Authorization": f"Bearer {server.api_key}"}
            assert (await client.get(server.url.replace("/v1", "/slots"), headers=right)).status_code != 200
    assert gone(pid)
    with pytest.raises(httpx2.ConnectError):
        await answer(server, "Hello?")


async def test_each_request_has_the_whole_context_and_no_other_ones_cache(model: Path) -> None:
    async with LlamaServer(model, context=256, parallel=2, threads=1) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        request = ask("word " * 150) | {"stream": False, "max_tokens": 1}
        async with httpx2.AsyncClient(timeout=120, headers=headers | {"Connection": "close"}) as client:
            for _ in range(2):
                response = await client.post(f"{server.url}/chat/completions", json=request)
                assert response.status_code == 200, response.text
                assert response.json()["timings"]["cache_n"] == 0
                assert response.json()["usage"]["prompt_tokens"] > 150


async def test_two_servers_have_different_keys(model: Path) -> None:
    assert LlamaServer(model).api_key != LlamaServer(model).api_key


@pytest.mark.parametrize("content", [None, b"not a model", b"GGUF" + b"\0" * 100])
async def test_says_when_the_model_can_not_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=r"bad\.gguf did not start") as caught:
        async with LlamaServer(path):
            pytest.fail("it started")
    assert caught.value.code == "chat_model_failed"


@pytest.mark.parametrize(
    ("last_words", "reason"), [("kill -9 $$", "too little memory"), ("exit 7", "its process ended with status 7")]
)
async def test_says_how_the_child_died(python: Path, last_words: str, reason: str) -> None:
    python.write_text(f"#!/bin/sh\nread -r key\n{last_words}\n")
    with pytest.raises(SetupError, match=reason):
        await LlamaServer(Path("any.gguf")).__aenter__()


async def test_gives_up_on_a_start_that_takes_too_long(python: Path, tmp_path: Path) -> None:
    python.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    with pytest.raises(SetupError, match="not ready within 2 s"):
        await LlamaServer(Path("any.gguf"), start_timeout=2).__aenter__()
    assert gone(int((tmp_path / "pid").read_text()))


async def test_a_cancelled_start_leaves_nothing_behind(python: Path, tmp_path: Path) -> None:
    python.write_text(
        f"#!/bin/sh\nread -r key\necho $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\ncat\n"
    )
    start = asyncio.create_task(LlamaServer(Path("any.gguf")).__aenter__())
    await until((tmp_path / "pid").exists)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert gone(int((tmp_path / "pid").read_text()))


async def test_stopping_twice_is_harmless(model: Path) -> None:
    server = LlamaServer(model)
    await server.__aexit__(None, None, None)
    assert not server.url


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_dies_with_its_killed_parent(model: Path, tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from ringfence.embedded.llama import LlamaServer\n"
        "async def main():\n"
        "    async with LlamaServer(pathlib.Path(sys.argv[1]), context=256, threads=1) as server:\n"
        "        print(server.url, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(model), stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline()
    child = child_of(parent.pid)
    parent.kill()
    await parent.wait()
    await until(lambda: gone(child))


# The code of the child, in this process.

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2


@pytest.fixture
def libc() -> Iterator[ctypes.CDLL]:
    """For what a child does to its process; undoes it here."""
    libc = ctypes.CDLL(None)
    yield libc
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, 0)


class Listening:
    """A server that says where it listens."""

    listening_address = "http://127.0.0.1:1234"


def run_child(stdin: io.StringIO, serve: Callable[[argparse.Namespace, str], object]) -> tuple[str, list[int]]:
    """What the child says, and with which statuses it leaves."""
    said = io.StringIO()
    statuses: list[int] = []
    arguments = ["--model=m.gguf", "--context=100", "--parallel=3", "--threads=1"]
    llama.main(arguments, stdin=stdin, stdout=said, serve=serve, leave=statuses.append)
    return said.getvalue(), statuses


def test_the_child_serves_until_its_input_ends(libc: ctypes.CDLL) -> None:
    seen: list[object] = []
    stdin = io.StringIO("secret\nmore\n")

    def serve(options: argparse.Namespace, key: str) -> Listening:
        seen.extend([options.model, options.context, options.parallel, options.threads, key, stdin.tell()])
        return Listening()

    said, statuses = run_child(stdin, serve)
    assert seen == [Path("m.gguf"), 100, 3, 1, "secret", 7]
    assert said == '{"url": "http://127.0.0.1:1234/v1"}\n'
    assert statuses == [0]
    assert not stdin.read()


def test_the_child_says_why_it_can_not_serve(libc: ctypes.CDLL) -> None:
    def serve(_options: argparse.Namespace, _key: str) -> Listening:
        raise RuntimeError("no such model.")

    assert run_child(io.StringIO("secret\n"), serve) == ('{"error": "no such model"}\n', [1])


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_the_kernel_is_asked_to_end_the_child_with_its_parent(libc: ctypes.CDLL) -> None:
    sent = ctypes.c_int(0)
    libc.prctl(PR_SET_PDEATHSIG, 0)
    llama.die_with_parent("darwin")
    libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(sent))
    assert sent.value == 0
    llama.die_with_parent("linux")
    libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(sent))
    assert sent.value == signal.SIGKILL


def test_only_the_child_itself_writes_to_its_standard_output(libc: ctypes.CDLL, tmp_path: Path) -> None:
    streams = [os.dup(1), os.dup(2)]
    files = [os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT) for name in ("out", "err")]
    try:
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        with llama.take_stdout() as stdout:
            os.write(1, b"native noise")
            stdout.write("ours")
    finally:
        os.dup2(streams[0], 1)
        os.dup2(streams[1], 2)
        for descriptor in (*streams, *files):
            os.close(descriptor)
    assert (tmp_path / "out").read_bytes() == b"ours"
    assert (tmp_path / "err").read_bytes() == b"native noise"


async def test_the_real_server_wants_the_key(model: Path) -> None:
    options = argparse.Namespace(model=model, context=256, parallel=1, threads=1)
    server = await asyncio.to_thread(llama.start_server, options, "secret")
    try:
        async with httpx2.AsyncClient(timeout=60) as client:
            url = f"{server.listening_address}/v1/models"
            assert (await client.get(url)).status_code == 401
            response = await client.get(
                url, headers={"Authorization": "Bearer secret", "Origin": "http://evil.example"}
            )
            assert response.status_code == 200
            assert not response.headers.get("access-control-allow-origin")
    finally:
        del server


def test_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["llama", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(llama.__file__, run_name="__main__")
    assert left.value.code == 0
    assert "--model" in capsys.readouterr().out

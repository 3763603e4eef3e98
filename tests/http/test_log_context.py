"""No log line of a request carries what an earlier one of the same connection bound.

uvicorn runs a connection's callbacks in the context of whatever registered them last. Under asyncio a large upload
makes the request's own task do so (it resumes the reading), and later requests then start with what it had bound by
then. Under uvloop they do where they are pipelined: the end of one starts the next.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
import uvloop

from ringfence.http.middleware import RequestContext
from ringfence.ids import UserId, new_user_id
from ringfence.telemetry.files import RotatingFile
from ringfence.telemetry.logs import logging_to
from tests.engine import access_token
from tests.processes import ended, started, until_logged

PAPER = b"The notice period is six weeks. " * (5 * 2**20 // 32)
ADD_USER = """
    insert into users (user_id, email, email_key, password_hash, verified_at)
    values ($1, $2, $2, '-', now())"""


@dataclass(frozen=True)
class Answer:
    status: int
    request_id: str
    body: bytes


def requests(*tokens: str | None) -> list[bytes]:
    """A 5 MB upload, then listings by others; a token that is None: by a stranger."""
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + PAPER + b"\r\n--x--\r\n"
    found = []
    for number, token in enumerate(tokens):
        sent = form if number == 0 else b""
        lines = ["GET /api/v1/documents HTTP/1.1" if number else "POST /api/v1/documents HTTP/1.1", "Host: a"]
        lines += [f"Content-Length: {len(sent)}", "Content-Type: multipart/form-data; boundary=x"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        found.append("\r\n".join([*lines, "", ""]).encode() + sent)
    return found


async def answer(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split()[1]), headers["x-request-id"], body)


async def probe(url: str, *tokens: str | None, pipelined: bool) -> list[Answer]:
    """These requests on one connection, one after the other or without waiting for answers."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answers = []
    if pipelined:
        writer.write(b"".join(requests(*tokens)))
    async with asyncio.timeout(60):
        for request in requests(*tokens):
            if not pipelined:
                writer.write(request)
            answers.append(await answer(reader))
    writer.close()
    await writer.wait_closed()
    return answers


def carried(file: Path, to: Answer, *ids: object) -> set[str]:
    """Which of these ids the log lines of a request hold, anywhere."""
    lines = [line for line in file.read_text().splitlines() if json.loads(line).get("request_id") == to.request_id]
    assert lines
    return {str(one) for one in ids if any(str(one) in line for line in lines)}


@pytest.fixture
async def tenants(admin) -> list[UserId]:
    found = [new_user_id(), new_user_id()]
    for user_id in found:
        await admin.execute(ADD_USER, user_id, f"{user_id}@example.org")
    return found


@pytest.fixture
async def tokens(db, tenants) -> list[str]:
    return [await access_token(db, user_id) for user_id in tenants]


def assert_apart(file: Path, tenants: list[UserId], answers: list[Answer]) -> None:
    assert [each.status for each in answers] == [202, 200, 401]
    document_id = json.loads(answers[0].body)["document_id"]
    found = [carried(file, each, *tenants, document_id) for each in answers]
    assert found == [{str(tenants[0]), document_id}, {str(tenants[1])}, set()]


@pytest.mark.parametrize("pipelined", [False, True])
async def test_ids_do_not_leak_between_requests_of_one_connection(settings, tenants, tokens, pipelined):
    """`ringfence serve` as it runs in production: uvloop, httptools, its own settings of uvicorn."""
    file = settings.data_dir / "logs" / "ringfence.jsonl"
    with started(settings, "serve") as server:
        await until_logged(file, "serving", server)
        url = next(line["url"] for line in map(json.loads, file.read_text().splitlines()) if "url" in line)
        answers = await probe(url, *tokens, None, pipelined=pipelined)
        await ended(server)
    assert_apart(file, tenants, answers)


@pytest.mark.parametrize("pipelined", [False, True])
async def test_nor_do_they_on_asyncios_own_loop(live, tenants, tokens, tmp_path, pipelined):
    with logged(tmp_path / "a.jsonl"):
        answers = await probe(live.url, *tokens, None, pipelined=pipelined)
    assert_apart(tmp_path / "a.jsonl", tenants, answers)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    file = RotatingFile(path, max_bytes=10**9, max_seconds=86400, keep=1)
    with Path(os.devnull).open("wb") as nowhere, logging_to(nowhere.fileno(), file=file):
        yield
    file.close()


async def core(scope: Any, receive: Any, send: Any) -> None:
    """An application that binds what it learns."""
    if scope["method"] == "POST":
        structlog.contextvars.bind_contextvars(user_id="ada-lovelace", document_id="her-document")
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    structlog.get_logger().info("request")
    await send({"type": "http.response.body", "body": b""})


async def careless(scope: Any, receive: Any, send: Any) -> None:
    """The same, behind what names each request as `RequestContext` does, but clears nothing."""
    request_id = os.urandom(8).hex()
    structlog.contextvars.bind_contextvars(request_id=request_id)

    async def send_named(message: Any) -> None:
        if "headers" in message:
            message["headers"].append((b"x-request-id", request_id.encode()))
        await send(message)

    await core(scope, receive, send_named)


class Server(uvicorn.Server):
    @property
    def url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"


@asynccontextmanager
async def served(app: Any, *, reset: bool) -> AsyncGenerator[str]:
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, lifespan="off", reset_contextvars=reset, http="httptools"
    )
    server = Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.url
    server.should_exit = True
    await serving


@pytest.mark.parametrize(
    ("loop", "pipelined"),
    [(asyncio.new_event_loop, False), (asyncio.new_event_loop, True), (uvloop.new_event_loop, True)],
    ids=["asyncio", "asyncio pipelined", "uvloop pipelined"],
)
@pytest.mark.parametrize(
    ("app", "reset", "leaks"),
    [
        (careless, False, {"ada-lovelace", "her-document"}),
        (careless, True, set()),
        (RequestContext(core), False, set()),
        (RequestContext(core), True, set()),
    ],
    ids=["neither", "uvicorn's reset", "our clearing", "both"],
)
def test_the_probe_sees_a_leak_and_either_remedy_ends_it(
    tmp_path: Path,
    app: Any,
    reset: bool,
    leaks: set[str],
    loop: Callable[[], asyncio.AbstractEventLoop],
    pipelined: bool,
) -> None:
    async def probed() -> list[Answer]:
        async with served(app, reset=reset) as url:
            return await probe(url, None, None, None, pipelined=pipelined)

    with logged(tmp_path / "a.jsonl"), asyncio.Runner(loop_factory=loop) as runner:
        upload, *others = runner.run(probed())
    assert carried(tmp_path / "a.jsonl", upload, "ada-lovelace", "her-document") == {"ada-lovelace", "her-document"}
    for later in others:
        assert carried(tmp_path / "a.jsonl", later, "ada-lovelace", "her-document") == leaks

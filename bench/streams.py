"""Many streams at once: a whole `ringfence serve` with stubbed models, clients that read streams, a process's CPU."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from bench.chat_stub import SENTENCES
from bench.harness import ROOT
from ringfence.accounts.sessions import Device
from ringfence.cli.local import with_database
from ringfence.documents.texts import Text, Texts
from ringfence.ids import UserId, new_document_id, new_user_id
from ringfence.services import open_services
from ringfence.settings import Settings

QUESTION = "When does the ferry to Holm leave?"
_USER = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, $3, now())"


def spawn(arguments: Sequence[str], *, environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """A Python process that ends with its standard input, or when it is killed."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def told_url(process: "subprocess.Popen[str]") -> str:
    """What a process says first."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """What a process has used until now, itself and the system for it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Serving:
    """A running engine, or a peer."""

    name: str
    port: int
    pid: int
    token: str = ""


@dataclass(frozen=True)
class Engine:
    """A running engine with what a benchmark needs of its inside."""

    serving: Serving
    settings: Settings
    user_id: UserId
    email: str


@asynccontextmanager
async def engine(chat_url: str, *, password_hash: str = "", cost: int = 12) -> AsyncGenerator[Engine]:
    """`ringfence serve` in a process of its own, with a tenant that has a document of `SENTENCES`."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringfence-bench-")))
        embedding = stack.enter_context(_ended(spawn(["-m", "bench.embedding_stub"])))
        wanted = Settings(
            _env_file=None,
            data_dir=folder,
            secret_key=SecretStr("a secret for this run alone, 0123456789abcdef"),
            embedding_provider="openai",
            embedding_url=told_url(embedding),
            embedding_model="stub",
            chat_provider="openai",
            chat_url=chat_url,
            chat_model="stub",
            chat_at_once=1000,
            relevance_floor=-1,
            requests_per_minute=0,
            quota_questions_per_day=0,
            access_token_seconds=86_400,
            smtp_host="localhost",
            bcrypt_cost=cost,
            trusted_proxies=["127.0.0.1"],
            port=free_port(),
            metrics_port=free_port(),
            db_connect_timeout=30,  # hundreds of questions begin at once
            db_command_timeout=30,
        )
        settings = await with_database(wanted, stack)
        user_id, email, token = await _tenant(settings, password_hash)
        process = stack.enter_context(_ended(spawn(["-m", "ringfence", "serve"], environment=_environment(settings))))
        await _reachable(settings.port)
        yield Engine(Serving("Ringfence", settings.port, process.pid, token), settings, user_id, email)


async def _tenant(settings: Settings, password_hash: str) -> tuple[UserId, str, str]:
    assert settings.database_url is not None
    user_id = new_user_id()
    email = f"{user_id}@example.org"
    admin = await asyncpg.connect(settings.database_url.get_secret_value())
    await admin.execute(_USER, user_id, email, password_hash)
    await admin.close()
    async with open_services(settings) as services:
        texts = Texts(services.db, services.embedder, chunk_tokens=200, chunk_overlap_tokens=0)
        await texts.add(user_id, [Text(new_document_id(), "island.txt", "", " ".join(SENTENCES))])
        async with services.db.system() as tx:
            begun = await services.people.sessions.begin(tx, user_id, Device("127.0.0.1", "bench"))
        token = (await services.people.sessions.tokens(begun)).access
    return user_id, email, token


def _environment(settings: Settings) -> dict[str, str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    for name in settings.model_fields_set - {"database_url"}:
        value = getattr(settings, name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            plain = ",".join(plain) if isinstance(plain, list | tuple) else plain
            environment[f"RINGFENCE_{name.upper()}"] = str(plain)
    return environment


class _ended:  # noqa: N801  # reads as what it does
    """Ends a process with the block."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __enter__(self) -> "subprocess.Popen[str]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def peer(kind: str, name: str, chat_url: str) -> AsyncGenerator[Serving]:
    """One of `bench.stream_peers`."""
    port = free_port()
    with _ended(spawn(["-m", "bench.stream_peers", kind, chat_url, str(port)])) as process:
        await _reachable(port)
        yield Serving(name, port, process.pid)


@asynccontextmanager
async def chat_stub(rate: float = 50.0) -> AsyncGenerator[str]:
    """The base URL of a chat server of its own process."""
    with _ended(spawn(["-m", "bench.chat_stub", str(rate)])) as process:
        yield told_url(process)


async def _reachable(port: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


class Reader(asyncio.Protocol):
    """Reads one stream: how many tokens came, and when the last one did.

    A token is a word with its blank; an event may bring several. What is passed on unread is counted as it is.
    """

    def __init__(self, request: bytes, gaps: list[float] | None = None) -> None:
        self._request = request
        self._gaps = gaps
        self._rest = b""
        self.tokens = 0
        self.last = 0.0
        self.first = asyncio.get_running_loop().create_future()
        self.status = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.status:
            self.status = data[:12]
        *events, self._rest = (self._rest + data).split(b"\n\n")
        found = sum(map(_tokens, events))
        if not found:
            return
        now = time.perf_counter()
        if self.tokens == 0 and not self.first.done():
            self.first.set_result(now)
        elif self._gaps is not None:
            self._gaps.append(now - self.last)
        self.tokens += found
        self.last = now

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.first.done():
            self.first.cancel()


_TOKEN, _DELTA = b'"type":"token","text":"', b'"delta": {"content": "'


def _tokens(event: bytes) -> int:
    event = event.replace(b'"type": "token", "text": "', _TOKEN)
    for mark in (_TOKEN, _DELTA):
        at = event.find(mark)
        if at >= 0:
            return event.count(b" ", at + len(mark), event.rfind(b'"')) if mark is _TOKEN else 1
    return 0


def asking(serving: Serving) -> bytes:
    """A request for a stream."""
    body = f'{{"question": "{QUESTION}"}}'.encode()
    head = (
        f"POST /api/v1/answers HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {serving.token}\r\n"
        f"Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def streaming(
    serving: Serving, count: int, gaps: list[float] | None = None, *, patience: float = 60
) -> AsyncGenerator[list[Reader]]:
    """So many streams, once each has had its first token, or `patience` is over: what does not come counts as that."""
    loop, request = asyncio.get_running_loop(), asking(serving)
    readers: list[Reader] = []
    try:
        while len(readers) < count:
            for _ in range(10):
                _, reader = await loop.create_connection(lambda: Reader(request, gaps), "127.0.0.1", serving.port)
                readers.append(reader)
            await asyncio.sleep(0.2)
        await asyncio.wait([reader.first for reader in readers], timeout=patience)
        yield readers
    finally:
        for reader in readers:
            reader.transport.close()
            reader.first.cancel()


@dataclass
class Window:
    """What happened in a while."""

    tokens: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    gaps: list[float] = field(default_factory=list)


async def watch(serving: Serving, count: int, seconds: float, settle: float = 2.0) -> Window:
    """CPU and tokens of so many streams, once all of them run."""
    window = Window()
    async with streaming(serving, count) as readers:
        await asyncio.sleep(settle)
        began, before = time.perf_counter(), sum(reader.tokens for reader in readers)
        cpu = cpu_seconds(serving.pid)
        await asyncio.sleep(seconds)
        window.tokens = sum(reader.tokens for reader in readers) - before
        window.seconds = time.perf_counter() - began
        window.cpu = cpu_seconds(serving.pid) - cpu
    await asyncio.sleep(0.5)
    return window

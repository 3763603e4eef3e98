"""`ingest-e2e`: pages a second from a PDF to stored chunks and vectors, beside LangChain and beside reading alone."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np
import pymupdf as _pymupdf
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from langchain_postgres import PGVector
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pydantic import SecretStr
from pypdf import PdfReader

from bench import corpus
from bench.harness import ROOT, Goal, Series, find, measure, ratio
from ringfence import migrations
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.documents.service import Library
from ringfence.embedded import postgres
from ringfence.ids import UserId, new_user_id
from ringfence.services import role_passwords
from ringfence.settings import Settings
from ringfence.storage.local import LocalStorage

pymupdf: Any = _pymupdf  # partly typed upstream
OURS = "Ringfence, two workers"
LANGCHAIN = f"LangChain: pypdf {version('pypdf')}, RecursiveCharacterTextSplitter, PGVector"
RAW = f"PyMuPDF {version('pymupdf')}, text alone, one process"
WORKERS = 2
_SECRET = "a secret for this run alone, 0123456789abcdef"  # noqa: S105  # of a server that lives as long as the run
_USER = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, '', now())"
_LEFT = "select count(*) from documents where user_id = $1 and state in ('queued', 'processing')"
_FAILED = "select name, reason_code from documents where user_id = $1 and state <> 'ready'"
_PAGES = "select sum(pages) from documents where user_id = $1"


def _readable(path: Path) -> bool:
    """Whether it opens without a password and holds text; what has none ends as failed, and nobody stores it."""
    with pymupdf.open(path) as document:
        return not document.needs_pass and any(page.get_text().strip() for page in document)


def _made(target: Path, documents: int, pages: int) -> list[Path]:
    """PDFs whose every page says something else, as much as a page of a book."""
    random, paths = np.random.default_rng(7), []
    words = sorted({word for page in corpus.plain_pages()[20:120] for word in page.split() if word.isalpha()})
    for number in range(documents):
        with pymupdf.open() as document:
            for page in range(pages):
                lines = [" ".join(random.choice(words, 11)) + "." for _ in range(34)]
                heading = f"Chapter {page // 5 + 1}" if page % 5 == 0 else ""
                document.new_page().insert_text((60, 70), [heading, *lines], fontsize=10)
            paths.append(target / f"made-{number}.pdf")
            document.save(paths[-1], deflate=True)
    return paths


def _read(paths: list[Path]) -> int:
    pages = 0
    for path in paths:
        with pymupdf.open(path) as document:
            pages += sum(1 for page in document if page.get_text() is not None)
    return pages


def _langchain(paths: list[Path], store: PGVector) -> int:
    splitter, pages = RecursiveCharacterTextSplitter(chunk_size=800, chunk_overlap=120), 0
    for path in paths:
        read = [
            Document(page.extract_text().replace("\0", ""), metadata={"source": path.name, "page": number})
            for number, page in enumerate(PdfReader(path).pages, 1)
        ]
        store.add_documents(splitter.split_documents(read))
        pages += len(read)
    return pages


@dataclass(frozen=True, slots=True)
class Engine:
    """A database, two workers at work on it, and a door for documents."""

    admin: "asyncpg.Connection[asyncpg.Record]"
    library: Library


@asynccontextmanager
async def _engine(url: str, stub: str, folder: Path) -> AsyncGenerator[Engine]:
    settings = Settings(_env_file=None, data_dir=folder, secret_key=SecretStr(_SECRET))  # type: ignore[call-arg]  # Pydantic's own
    app, system = (role_url(url, *pair) for pair in zip((APP_ROLE, SYSTEM_ROLE), role_passwords(settings), strict=True))
    await migrations.migrate(url, *role_passwords(settings))
    environment = {
        "PATH": os.environ["PATH"],
        "RINGFENCE_DATA_DIR": str(folder),
        "RINGFENCE_SECRET_KEY": _SECRET,
        "RINGFENCE_APP_DATABASE_URL": app,
        "RINGFENCE_SYSTEM_DATABASE_URL": system,
        "RINGFENCE_EMBEDDING_PROVIDER": "openai",
        "RINGFENCE_EMBEDDING_URL": stub,
        "RINGFENCE_EMBEDDING_MODEL": "stub",
        "RINGFENCE_LOG_FILE": "off",
        "RINGFENCE_SMTP_HOST": "localhost",
        "RINGFENCE_OCR": "off",
        **{name: value for name, value in os.environ.items() if name.startswith("RINGFENCE_BENCH_WORKER_")},
    }
    workers = _started(environment, folder)
    admin = await asyncpg.connect(url)
    db = Database(app, system, DatabaseOptions())
    await db.open()
    try:
        yield Engine(admin, Library(db, LocalStorage(folder / "files"), 2**30))
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)
        await db.close()
        await admin.close()


def _started(environment: dict[str, str], folder: Path) -> "list[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "ringfence", "worker"]
    with (folder / "workers.log").open("wb") as log:
        return [subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log) for _ in range(WORKERS)]


async def _upload(library: Library, user_id: UserId, path: Path) -> None:
    async with library.receive(user_id) as incoming:
        with path.open("rb") as file:
            while piece := file.read(2**20):
                await incoming.write(piece)
        await library.add(user_id, path.name, incoming)


async def _ingested(engine: Engine, paths: list[Path]) -> int:
    """A new user's documents, from the upload to all of them ready; how many pages."""
    user_id = new_user_id()
    await engine.admin.execute(_USER, user_id, f"{user_id}@example.org")
    for path in paths:
        await _upload(engine.library, user_id, path)
    while await engine.admin.fetchval(_LEFT, user_id):  # noqa: ASYNC110  # another process sets no event
        await asyncio.sleep(0.02)
    if failed := await engine.admin.fetch(_FAILED, user_id):
        raise RuntimeError(f"not ingested: {failed}")
    return int(await engine.admin.fetchval(_PAGES, user_id))


def _speed(run: Callable[[], int]) -> Callable[[], float]:
    def score() -> float:
        start = time.perf_counter()
        pages = run()
        return pages / (time.perf_counter() - start)

    return score


def _measure(runner: asyncio.Runner, stack: AsyncExitStack, folder: Path, *, quick: bool) -> list[Series]:
    wellformed = [path for path in sorted((corpus.folder() / "wellformed").glob("*.pdf")) if _readable(path)]
    paths = wellformed + _made(folder, 6 if quick else 40, 25)
    stub = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "bench.embedding_stub"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert stub.stdout is not None
    url = stub.stdout.readline().strip()
    server = runner.run(stack.enter_async_context(runner.run(postgres.start(folder / "server"))))
    (folder / "data").mkdir()
    engine = runner.run(stack.enter_async_context(_engine(server.url, url, folder / "data")))
    admin = runner.run(asyncpg.connect(server.url))
    runner.run(admin.execute("create database langchain"))
    runner.run(admin.close())
    store = PGVector(
        OpenAIEmbeddings(base_url=url, api_key=SecretStr("none"), model="stub", check_embedding_ctx_length=False),
        connection=_sqlalchemy(server.url, "langchain"),
    )
    contestants = {
        OURS: lambda: runner.run(_ingested(engine, paths)),
        RAW: lambda: _read(paths),
        LANGCHAIN: lambda: _langchain(paths, store),
    }
    pages = _read(paths)
    group = f"{len(paths)} PDFs, {pages} pages"
    return measure(group, "pages/s", {name: _speed(run) for name, run in contestants.items()}, rounds=1 if quick else 5)


def _sqlalchemy(url: str, database: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme="postgresql+psycopg", path=f"/{database}"))


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer documents and rounds."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            series = _measure(runner, stack, Path(name), quick=quick)
        finally:
            runner.run(stack.aclose())
    ours = find(series, series[0].group, OURS)
    goals = [
        Goal(f"{OURS} over {name}", bound, least=True, got=ratio(ours, find(series, series[0].group, name)))
        for name, bound in ((LANGCHAIN, 8.0), (RAW, 1.0))
    ]
    return series, goals, _NOTES


_NOTES = [
    (
        "The well-formed PDFs of the evaluation documents that open without a password and hold text, and made ones "
        "whose pages all say something else. From the files to rows that a search can see. PostgreSQL, the embedding "
        "server and all contestants share the machine's cores."
    ),
    (
        "The embedding server answers at once with vectors of 384 dimensions that were made beforehand, so what is "
        "measured is everything but the model. Ringfence: two `ringfence worker`, default settings, uploads included. "
        "LangChain: one process, 800 characters and 120 overlap, which makes about as many chunks."
    ),
]

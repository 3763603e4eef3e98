"""`insert`: rows of chunks and vectors a second, with and without row level security, in bulk and row by row."""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np

from bench import corpus
from bench.harness import Goal, Series, find, measure, ratio
from ringfence import migrations
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, TenantTx, role_url
from ringfence.documents import queries
from ringfence.documents.chunker import Chunk, Chunker
from ringfence.embedded import postgres
from ringfence.ids import DocumentId, UserId, new_document_id, new_user_id
from ringfence.models.base import Vectors

DIMENSIONS = 384
BATCH = 32
FENCED = "Ringfence: add_chunks, row level security"
OPEN = "add_chunks, no row level security"
ROWS_IN_ONE = "row by row, one transaction"
ROWS = "row by row, a transaction each"
_PASSWORD = "for this run alone"  # noqa: S105  # of a server that lives as long as the run
_USER = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, '', now())"
_MODEL = "insert into embedding_models (name, dimensions) values ('bench', $1) returning model_id"
_CHUNK = "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, $3, $4, $5)"
_VECTOR = "insert into embeddings (user_id, document_id, number, model_id, embedding) values ($1, $2, $3, $4, $5)"


@dataclass(frozen=True, slots=True)
class Store:
    """A migrated database with one tenant and one embedding model; `admin` is a superuser's connection to it."""

    db: Database
    admin: "asyncpg.Connection[asyncpg.Record]"
    user_id: UserId
    model_id: int


type Insert = Callable[[Store, DocumentId, list[Chunk], Vectors], Awaitable[None]]


@asynccontextmanager
async def store(server: str, name: str, *, fenced: bool) -> AsyncGenerator[Store]:
    """Such a database on a server of this run."""
    admin = await asyncpg.connect(server)
    await admin.execute(f"create database {name}")
    await admin.close()
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    await migrations.migrate(url, _PASSWORD, _PASSWORD)
    user_id = new_user_id()
    admin = await asyncpg.connect(url)
    await admin.execute(_USER, user_id, "bench@example.org")
    model_id = await admin.fetchval(_MODEL, DIMENSIONS)
    if not fenced:
        for table in ("users", "documents", "chunks", "embeddings"):
            await admin.execute(f"alter table {table} no force row level security, disable row level security")
    options = DatabaseOptions(command_timeout=120)
    db = Database(role_url(url, APP_ROLE, _PASSWORD), role_url(url, SYSTEM_ROLE, _PASSWORD), options)
    await db.open()
    try:
        yield Store(db, admin, user_id, model_id)
    finally:
        await db.close()
        await admin.close()


async def _bulk(store: Store, document_id: DocumentId, chunks: list[Chunk], vectors: Vectors) -> None:
    async with store.db.tenant(store.user_id) as tx:
        for at in range(0, len(chunks), BATCH):
            end = at + BATCH
            await queries.add_chunks(tx, document_id, chunks[at:end], {store.model_id: vectors[at:end]})


async def _row(tx: TenantTx, document_id: DocumentId, model_id: int, chunk: Chunk, vector: Vectors) -> None:
    spans = [number for span in chunk.spans for number in span]
    await tx.execute(_CHUNK, tx.user_id, document_id, chunk.number, spans, chunk.text)
    await tx.execute(_VECTOR, tx.user_id, document_id, chunk.number, model_id, vector)


async def _rows_in_one(store: Store, document_id: DocumentId, chunks: list[Chunk], vectors: Vectors) -> None:
    async with store.db.tenant(store.user_id) as tx:
        for chunk, vector in zip(chunks, vectors, strict=True):
            await _row(tx, document_id, store.model_id, chunk, vector)


async def _rows(store: Store, document_id: DocumentId, chunks: list[Chunk], vectors: Vectors) -> None:
    for chunk, vector in zip(chunks, vectors, strict=True):
        async with store.db.tenant(store.user_id) as tx:
            await _row(tx, document_id, store.model_id, chunk, vector)


async def _score(store: Store, insert: Insert, chunks: list[Chunk], vectors: Vectors) -> float:
    await store.admin.execute("truncate documents cascade")  # every run begins with empty tables
    await store.admin.execute("checkpoint")
    document_id = new_document_id()
    digest = hashlib.sha256(document_id.bytes).digest()
    async with store.db.tenant(store.user_id) as tx:
        await queries.add(tx, document_id, name="bench.pdf", media_type="application/pdf", size=1, sha256=digest)
    start = time.perf_counter()
    await insert(store, document_id, chunks, vectors)
    return len(chunks) / (time.perf_counter() - start)


def _chunks() -> list[Chunk]:
    chunker = Chunker()
    found = [chunk for number, text in enumerate(corpus.engine_pages(), 1) for chunk in chunker.add(number, text)]
    return found + chunker.finish()


_CONTESTANTS: dict[str, tuple[Insert, bool]] = {
    FENCED: (_bulk, True),
    OPEN: (_bulk, False),
    ROWS_IN_ONE: (_rows_in_one, True),
    ROWS: (_rows, True),
}


def _contestant(
    runner: asyncio.Runner, store: Store, insert: Insert, chunks: list[Chunk], vectors: Vectors
) -> Callable[[], float]:
    return lambda: runner.run(_score(store, insert, chunks, vectors))


def _measure(runner: asyncio.Runner, stack: AsyncExitStack, server: str, rounds: int) -> list[Series]:
    """Each contestant has a database of its own, so that none works on what another left behind."""
    chunks = _chunks()
    vectors = np.random.default_rng(1).standard_normal((len(chunks), DIMENSIONS)).astype(np.float32)
    contestants = {}
    for number, (name, (insert, fenced)) in enumerate(_CONTESTANTS.items()):
        opened = runner.run(stack.enter_async_context(store(server, f"bench_{number}", fenced=fenced)))
        contestants[name] = _contestant(runner, opened, insert, chunks, vectors)
    group = f"{len(chunks)} chunks of two books, {DIMENSIONS} dimensions"
    return measure(group, "chunks/s", contestants, rounds=rounds)


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer rounds."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            server = runner.run(stack.enter_async_context(runner.run(postgres.start(Path(name) / "server"))))
            series = _measure(runner, stack, server.url, rounds=3 if quick else 15)
        finally:
            runner.run(stack.aclose())
    return series, _goals(series), _NOTES


_NOTES = [
    (
        "A chunk is two rows: the chunk, and its vector. Bulk is `documents.queries.add_chunks` in ingestion's batches "
        f"of {BATCH}, in one transaction. The embedded server with its own settings, over a Unix socket."
    ),
    "`no row level security`: the same statements by the same role in a database where it is switched off.",
    "The goal says `row by row` without saying in how many transactions, so both are judged.",
]


def _goals(series: list[Series]) -> list[Goal]:
    group = series[0].group
    ours = find(series, group, FENCED)
    bounds = ((0.8, OPEN), (10.0, ROWS_IN_ONE), (10.0, ROWS))
    return [
        Goal(
            f"bulk under row level security over {name}", bound, least=True, got=ratio(ours, find(series, group, name))
        )
        for bound, name in bounds
    ]

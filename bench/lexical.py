"""`lexical`: the lexical index of one tenant among others: size, inserts, merging, deletion and latency by size."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np

from bench import corpus
from bench.harness import Goal, Series, find, ratio
from ringfence import migrations
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.documents.chunker import Chunker
from ringfence.embedded import postgres
from ringfence.ids import UserId, new_document_id, new_user_id
from ringfence.lexical import queries
from ringfence.lexical.postings import Segment, Writer
from ringfence.lexical.service import LexicalIndex
from ringfence.lexical.terms import analysis_of, query_terms, words
from ringfence.search import queries as search
from ringfence.search.queries import Wanted, Words
from ringfence.search.tiers import Tiers

SIZES = (1_000, 20_000, 100_000)
DOCUMENT_CHUNKS = (3, 10, 20, 40, 100, 400)
QUERIES = 30
DIMENSIONS = 384
_PASSWORD = "for this run alone"  # noqa: S105  # of a server that lives as long as the run
_USER = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, '', now())"
_DOCUMENT = """
insert into documents (user_id, document_id, name, media_type, size, sha256, state, chunks)
values ($1, $2, 'bench.txt', 'text/plain', 1, $3, 'ready', $4)
"""
_MODEL = """
insert into embedding_models (name, dimensions) values ('bench', 384)
on conflict (name) do update set dimensions = 384 returning model_id
"""
_VECTOR = "insert into embeddings (user_id, document_id, number, model_id, embedding) values ($1, $2, $3, $4, $5)"
_DELETE = "delete from documents where user_id = $1 and document_id = $2"
_SIZE = "select sum(pg_total_relation_size(oid))::float8 from pg_class where relname like 'lexical%' and relkind = 'r'"


@asynccontextmanager
async def _database(server: str, name: str) -> AsyncGenerator[tuple[Database, "asyncpg.Connection[asyncpg.Record]"]]:
    admin = await asyncpg.connect(server)
    await admin.execute(f"create database {name}")
    await admin.close()
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    await migrations.migrate(url, _PASSWORD, _PASSWORD)
    admin = await asyncpg.connect(url)
    options = DatabaseOptions(command_timeout=300)
    db = Database(role_url(url, APP_ROLE, _PASSWORD), role_url(url, SYSTEM_ROLE, _PASSWORD), options)
    await db.open()
    yield db, admin
    await db.close()
    await admin.close()


def _texts() -> list[str]:
    chunker = Chunker()
    found = [chunk for number, text in enumerate(corpus.engine_pages(), 1) for chunk in chunker.add(number, text)]
    return [chunk.text for chunk in found + chunker.finish()]


async def _tenant(admin: "asyncpg.Connection[asyncpg.Record]") -> UserId:
    user_id = new_user_id()
    await admin.execute(_USER, user_id, f"{user_id}@example.org")
    return user_id


def _documents(texts: list[str], chunks: int) -> list[list[Segment]]:
    """Segments of documents that have so many chunks together, of texts in any order."""
    rnd, made = random.Random(chunks), []
    while chunks:
        size = min(rnd.choice(DOCUMENT_CHUNKS), chunks)
        made.append(Writer("bench.txt").segments(list(enumerate(rnd.choices(texts, k=size)))))
        chunks -= size
    return made


async def _insert(db: Database, user_id: UserId, documents: list[list[Segment]]) -> float:
    """Store them, a transaction for each segment, as ingestion does; seconds."""
    ids = [new_document_id() for _ in documents]
    start = time.perf_counter()
    for document_id, segments in zip(ids, documents, strict=True):
        for segment in segments:
            async with db.tenant(user_id) as tx:
                await queries.add(tx, document_id, [segment])
    took = time.perf_counter() - start
    for document_id, segments in zip(ids, documents, strict=True):
        async with db.tenant(user_id) as tx:
            chunks = sum(segment.chunks for segment in segments)
            await tx.execute(_DOCUMENT, user_id, document_id, document_id.bytes * 2, chunks)
    return took


def _queries(texts: list[str], count: int) -> list[str]:
    """Queries of so many different words of one chunk."""
    rnd, found = random.Random(count), list[str]()
    while len(found) < QUERIES:
        several = sorted(set(words(rnd.choice(texts), analysis_of("en"))))
        if len(several) >= count:
            found.append(" ".join(rnd.sample(several, count)))
    return found


async def _latencies(db: Database, user_id: UserId, asked: list[str]) -> tuple[float, ...]:
    """Milliseconds of each query, the second time that it is asked."""
    taken = []
    async with db.call(user_id) as call:
        for query in [*asked, *asked]:
            words = Words(query_terms(query), 1.2, 0.75, 100, None)
            start = time.perf_counter()
            await search.lexical(call, words)
            taken.append((time.perf_counter() - start) * 1000)
    return tuple(taken[len(asked) :])


async def _both(
    db: Database, admin: "asyncpg.Connection[asyncpg.Record]", user_id: UserId, asked: list[str], group: str
) -> list[Series]:
    """The exact dense part alone, and the whole hybrid search, in turns."""
    model_id = await admin.fetchval(_MODEL)
    rows = await admin.fetch("select document_id, chunks from documents where user_id = $1", user_id)
    random_vectors = np.random.default_rng(1)
    async with db.tenant(user_id) as tx:
        for document_id, chunks in rows:
            vectors = random_vectors.standard_normal((chunks, DIMENSIONS)).astype(np.float32)
            await tx.executemany(_VECTOR, [(user_id, document_id, n, model_id, row) for n, row in enumerate(vectors)])
    await admin.execute("vacuum analyze embeddings")
    alone, whole = list[float](), list[float]()
    async with db.call(user_id) as call:
        for query in [*asked, *asked]:
            wanted = Wanted(model_id, random_vectors.standard_normal(DIMENSIONS).astype(np.float32), 100, None)
            words, start = Words(query_terms(query), 1.2, 0.75, 100, None), time.perf_counter()
            await search.nearest(call, wanted, Tiers())
            alone.append((time.perf_counter() - start) * 1000)
            start = time.perf_counter()
            await search.hybrid(call, wanted, words, Tiers(), limit=10, alpha=0.25)
            whole.append((time.perf_counter() - start) * 1000)
    return [
        Series(group, "exact dense search alone", "ms", tuple(alone[len(asked) :])),
        Series(group, "hybrid search, 10 terms", "ms", tuple(whole[len(asked) :])),
    ]


async def _one_size(
    db: Database, admin: "asyncpg.Connection[asyncpg.Record]", texts: list[str], size: int
) -> list[Series]:
    user_id, index, group = await _tenant(admin), LexicalIndex(db), f"{size} chunks"
    before = await admin.fetchval(_SIZE)
    documents = _documents(texts, size)
    took = await _insert(db, user_id, documents)
    await admin.execute("analyze")
    found = [Series(group, "inserted", "chunks/s", (size / took,))]
    if size <= SIZES[1]:
        found.append(
            Series(group, "10 terms, nothing merged", "ms", await _latencies(db, user_id, _queries(texts, 10)))
        )
    start = time.perf_counter()
    await index.merge(user_id)
    found.append(Series(group, "merged", "chunks/s", (size / (time.perf_counter() - start),)))
    await admin.execute("vacuum full analyze lexical_fresh")
    await admin.execute("vacuum analyze")
    found.append(Series(group, "size when merged", "bytes/chunk", ((await admin.fetchval(_SIZE) - before) / size,)))
    found += [
        Series(group, f"{count} terms", "ms", await _latencies(db, user_id, _queries(texts, count)))
        for count in (3, 10)
    ]
    if size <= SIZES[1]:
        found += await _both(db, admin, user_id, _queries(texts, 10), group)
    found += await _deletion(db, admin, user_id, texts, group)
    await admin.execute("delete from users where user_id = $1", user_id)
    await admin.execute("vacuum full lexical_blocks, lexical_fresh, lexical_segments")
    return found


async def _deletion(
    db: Database, admin: "asyncpg.Connection[asyncpg.Record]", user_id: UserId, texts: list[str], group: str
) -> list[Series]:
    """A document of 400 chunks is deleted; a search with what is left of it; what is left goes."""
    segments = Writer("bench.txt").segments(list(enumerate(texts[:400])))
    await _insert(db, user_id, [segments])
    await LexicalIndex(db).merge(user_id)
    newest = "select document_id from lexical_segments where user_id = $1 order by segment desc limit 1"
    document_id = await admin.fetchval(newest, user_id)
    start = time.perf_counter()
    async with db.tenant(user_id) as tx:
        await tx.execute(_DELETE, user_id, document_id)
    deleted = (time.perf_counter() - start) * 1000
    dead = await _latencies(db, user_id, _queries(texts, 10))
    start = time.perf_counter()
    await LexicalIndex(db).clean(user_id)
    cleaned = (time.perf_counter() - start) * 1000
    return [
        Series(group, "10 terms, with postings of a deleted document", "ms", dead),
        Series(group, "a document of 400 chunks deleted", "ms", (deleted,)),
        Series(group, "and cleaned away, in the background", "ms", (cleaned,)),
    ]


async def _writers(db: Database, admin: "asyncpg.Connection[asyncpg.Record]", texts: list[str]) -> Series:
    """Six writers of one tenant at once, and one who merges; any deadlock would end the run."""
    user_id = await _tenant(admin)
    several = [_documents(texts[n::6], 1_000) for n in range(6)]
    start = time.perf_counter()

    async def merging() -> None:
        while True:
            await LexicalIndex(db).merge(user_id)
            await asyncio.sleep(0.1)

    merger = asyncio.create_task(merging())
    await asyncio.gather(*(_insert(db, user_id, documents) for documents in several))
    merger.cancel()
    await asyncio.gather(merger, return_exceptions=True)
    return Series("six writers of one tenant", "inserted", "chunks/s", (6_000 / (time.perf_counter() - start),))


async def _measure(server: str, *, quick: bool) -> list[Series]:
    texts = _texts()
    start = time.perf_counter()
    for at in range(0, len(texts), 32):
        Writer("bench.txt").segments(list(enumerate(texts[at : at + 32])))
    series = [Series("texts to postings", "in Python", "chunks/s", (len(texts) / (time.perf_counter() - start),))]
    async with _database(server, "bench_lexical") as (db, admin):
        await _insert(db, await _tenant(admin), _documents(texts, 2_000))  # a neighbour, and warm
        for size in SIZES[: 1 if quick else None]:
            series += await _one_size(db, admin, texts, size)
        series.append(await _writers(db, admin, texts))
    return series


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: the smallest size alone."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            server = runner.run(stack.enter_async_context(runner.run(postgres.start(Path(name) / "server"))))
            series = runner.run(_measure(server.url, quick=quick))
        finally:
            runner.run(stack.aclose())
    return series, _goals(series), _NOTES


_NOTES = [
    (
        "Chunks of up to 800 characters of two books, drawn again and again, in documents of 3 to 400 chunks. The "
        "embedded server with its own settings, over a Unix socket, under row level security. A value a query."
    ),
    "Inserted: segments of up to 32 chunks, a transaction for each, postings made before. Terms: of one chunk.",
    "Latencies: a call that ranks 100 chunks and reads their texts (of which there are none here); vectors are random.",
]


def _goals(series: list[Series]) -> list[Goal]:
    goals = []
    for one in series:
        middle = statistics.median(one.values)
        if one.name == "inserted" and one.group != "six writers of one tenant":
            goals.append(Goal(f"{one.group}: inserted, chunks/s", 4_000, least=True, got=middle))
        if one.group == f"{SIZES[0]} chunks" and one.name != "inserted" and "deleted" not in one.name:
            continue  # there a vocabulary and what each call costs are shared by too few
        if one.name == "hybrid search, 10 terms":
            alone = find(series, one.group, "exact dense search alone")
            goals.append(Goal(f"{one.group}: hybrid over exact dense", 1.6, least=False, got=ratio(one, alone)))
        if one.name == "size when merged":
            goals.append(Goal(f"{one.group}: bytes a chunk when merged", 1_500, least=False, got=middle))
        if one.name == "a document of 400 chunks deleted":
            goals.append(Goal(f"{one.group}: a document deleted, ms", 250, least=False, got=middle))
    return goals

"""One database for the benchmarks of search: tenants of very different sizes, and the same vectors in the peers' form.

It is made once, in `.tools/bench-data`, and used by all of them; another form of it, or of the schema, makes another
one.
"""

import asyncio
import functools
import hashlib
import json
import shutil
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import numpy as np

from bench import corpus, vectors
from bench.vectors import CACHE, DIMENSIONS, Real, Vectors
from ringfence import migrations
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, decode_halfvec, encode_halfvec, role_url
from ringfence.documents.chunker import Chunker
from ringfence.embedded import postgres
from ringfence.ids import UserId, user_id_from_record
from ringfence.migrations.owner import owner
from ringfence.search.maintenance import LOCK, Maintenance
from ringfence.search.tiers import Tiers

type Connection = asyncpg.Connection[asyncpg.Record]

PASSWORD = "for this folder alone"  # noqa: S105
PER_DOCUMENT = 25
_FORM = 2  # another number where what is made here, or its vectors, has changed
_BATCH = 400  # documents written together
_CONFIG = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "1GB",
    "max_connections": "50",
    "fsync": "off",
    "max_wal_size": "8GB",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How many tenants there are of each size.

    Attributes:
        classes: (name, vectors of each, how many).
        tiny: how many tenants more, of 1 to 20 vectors, few at a time being the most frequent.
        promote_at: from which size a tenant has an index of its own.
    """

    classes: tuple[tuple[str, int, int], ...]
    tiny: int
    promote_at: int

    @property
    def tiers(self) -> Tiers:
        return Tiers(promote_at=self.promote_at, demote_at=self.promote_at // 2)


FULL = Shape((("100k", 100_000, 1), ("20k", 20_000, 4), ("10k", 10_000, 2), ("1k", 1000, 60)), 9933, 20_000)
QUICK = Shape((("10k", 10_000, 1), ("2k", 2000, 4), ("1k", 1000, 2), ("100", 100, 60)), 933, 2000)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of a class, and where its vectors are among all."""

    user_id: UserId
    kind: str
    first: int
    count: int


@dataclass(slots=True)
class Store:
    """The database of the engine, and connections to look behind the policies.

    Attributes:
        url: the administrator's.
        db: the engine's.
        admin: a superuser's connection.
        tenants: all of them.
        vectors: all of them, as they are stored; row `first + n` is a tenant's n-th chunk.
        real: queries.
        shape: sizes and limits.
        notes: seconds that making it took.
    """

    url: str
    db: Database
    admin: Connection
    tenants: list[Tenant]
    vectors: Vectors
    real: Real
    shape: Shape
    notes: dict[str, float] = field(default_factory=dict)

    def of(self, kind: str) -> list[Tenant]:
        return [tenant for tenant in self.tenants if tenant.kind == kind]

    def kinds(self) -> list[str]:
        return ["tiny", *(name for name, _, _ in reversed(self.shape.classes))]

    def nearest(self, tenant: Tenant, query: Vectors, limit: int) -> set[tuple[UUID, int]]:
        """By brute force: documents' ids and chunks' numbers."""
        mine = self.vectors[tenant.first : tenant.first + tenant.count].astype(np.float64)
        cosines = mine @ query.astype(np.float16).astype(np.float64) / np.linalg.norm(mine, axis=1)
        best = np.argsort(-cosines, kind="stable")[:limit]
        return {(document_id(tenant, int(n)), int(n) % PER_DOCUMENT) for n in best}


def document_id(tenant: Tenant, number: int) -> UUID:
    """Of the document in which a tenant's n-th chunk is."""
    return UUID(int=(tenant.user_id.int ^ (number // PER_DOCUMENT + 1)))


def with_database(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def connect(url: str) -> Connection:
    connection = await asyncpg.connect(url, command_timeout=3600)
    await connection.set_type_codec(
        "halfvec", schema="public", encoder=encode_halfvec, decoder=decode_halfvec, format="binary"
    )
    return connection


def people(shape: Shape, seed: int = 1) -> list[Tenant]:
    """The tenants of a shape, always the same ones."""
    random = np.random.default_rng(seed)
    sizes = [(name, size) for name, size, count in shape.classes for _ in range(count)]
    tiny = np.minimum(random.zipf(1.3, shape.tiny) + random.integers(0, 15, shape.tiny), 20)
    sizes += [("tiny", int(size)) for size in tiny]
    found, first = [], 0
    for name, size in sizes:
        found.append(Tenant(user_id_from_record(UUID(bytes=random.bytes(16), version=4)), name, first, size))
        first += size
    return found


def _documents(tenants: Sequence[Tenant], seed: int) -> list[tuple[Tenant, int]]:
    """All documents as (tenant, first chunk), in an order as they might have arrived: tenants mixed."""
    found = [(tenant, at) for tenant in tenants for at in range(0, tenant.count, PER_DOCUMENT)]
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[i] for i in order]


async def migrate(server: str, name: str) -> str:
    """A fresh, migrated database with one model and no foreign key's check; its URL."""
    admin = await asyncpg.connect(server)
    await admin.execute(f"drop database if exists {name} with (force)")
    await admin.execute(f"create database {name}")
    await admin.close()
    url = with_database(server, name)
    await migrations.migrate(url, PASSWORD, PASSWORD)
    admin = await asyncpg.connect(url)
    await admin.execute("insert into embedding_models (name, dimensions) values ('bench', $1)", DIMENSIONS)
    await admin.close()
    return url


async def load(admin: Connection, tenants: Sequence[Tenant], stored: Vectors, seed: int = 1) -> None:
    """Write all that tenants have, document by document, as it might have arrived."""
    await admin.execute("set session_replication_role = replica")  # keys are right by construction
    await admin.copy_records_to_table(
        "users",
        records=[(t.user_id, "a@b.c", str(t.user_id), "x") for t in tenants],
        columns=["user_id", "email", "email_key", "password_hash"],
    )
    documents = _documents(tenants, seed)
    for at in range(0, len(documents), _BATCH):
        some = documents[at : at + _BATCH]
        await admin.copy_records_to_table("documents", records=list(_rows(some)), columns=_DOCUMENT)
        await admin.copy_records_to_table("chunks", records=list(_chunks(some)), columns=_CHUNK)
        await admin.copy_records_to_table("embeddings", records=list(_vectors(some, stored)), columns=_VECTOR)
    await admin.execute("set session_replication_role = origin")
    await admin.execute("vacuum analyze documents, chunks, embeddings_shared")


_DOCUMENT = ["user_id", "document_id", "name", "media_type", "size", "sha256", "state", "chunks"]
_CHUNK = ["user_id", "document_id", "number", "spans", "text"]
_VECTOR = ["user_id", "document_id", "number", "model_id", "embedding"]


def _rows(documents: list[tuple[Tenant, int]]) -> Iterator[tuple[object, ...]]:
    for tenant, at in documents:
        key, count = document_id(tenant, at), min(PER_DOCUMENT, tenant.count - at)
        yield tenant.user_id, key, "a.txt", "text/plain", 1, hashlib.sha256(key.bytes).digest(), "ready", count


def _chunks(documents: list[tuple[Tenant, int]]) -> Iterator[tuple[object, ...]]:
    for tenant, at in documents:
        for n in range(at, min(at + PER_DOCUMENT, tenant.count)):
            yield tenant.user_id, document_id(tenant, n), n % PER_DOCUMENT, [1, 0, 9], text_of(tenant, n)


def text_of(tenant: Tenant, number: int) -> str:
    """A chunk's text: one of two books, drawn again and again; it has nothing to do with the chunk's vector."""
    found = _texts()
    return found[(tenant.first + number) * 7919 % len(found)]


@functools.cache
def _texts() -> list[str]:
    chunker = Chunker()
    found = [chunk for number, page in enumerate(corpus.engine_pages(), 1) for chunk in chunker.add(number, page)]
    return [chunk.text for chunk in found + chunker.finish()]


def _vectors(documents: list[tuple[Tenant, int]], stored: Vectors) -> Iterator[tuple[object, ...]]:
    for tenant, at in documents:
        for n in range(at, min(at + PER_DOCUMENT, tenant.count)):
            yield tenant.user_id, document_id(tenant, n), n % PER_DOCUMENT, 1, stored[tenant.first + n]


def maintenance(url: str, db: Database, tiers: Tiers) -> Maintenance:
    return Maintenance(db, lambda: owner(url, LOCK), tiers)


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Database]:
    urls = role_url(url, APP_ROLE, PASSWORD), role_url(url, SYSTEM_ROLE, PASSWORD)
    db = Database(*urls, DatabaseOptions(pool_size=10, connect_timeout=30, command_timeout=600))
    await db.open()
    try:
        yield db
    finally:
        await db.close()


def _digest(shape: Shape) -> str:
    schema = "".join(sql for _, sql in migrations.scripts())
    return hashlib.sha256(f"{schema}{_FORM}{json.dumps(asdict(shape))}".encode()).hexdigest()[:16]


@asynccontextmanager
async def server(name: str) -> AsyncGenerator[str]:
    """The administrator's URL of a server of its own, in a folder that stays."""
    async with await postgres.start(CACHE / name, config=_CONFIG, timeout=600) as found:
        yield found.url


@asynccontextmanager
async def store(*, quick: bool) -> AsyncGenerator[Store]:
    """The database, made if it is not there."""
    shape = QUICK if quick else FULL
    folder = f"tenants-{_digest(shape)}" + ("-quick" if quick else "")
    for old in CACHE.glob("tenants-*"):
        if old.name != folder and old.name.endswith("-quick") == quick:
            shutil.rmtree(old)
    real = await asyncio.to_thread(vectors.real)
    tenants = people(shape)
    stored = real.more(sum(t.count for t in tenants), 1).astype(np.float16).astype(np.float32)
    done = CACHE / folder / "made.json"
    async with server(folder) as server_url:
        if not done.exists():
            notes = await _make(server_url, shape, tenants, stored)
            done.write_text(json.dumps(notes), encoding="utf-8")
        url = with_database(server_url, "tenants")
        admin = await connect(url)
        async with opened(url) as db:
            yield Store(url, db, admin, tenants, stored, real, shape, json.loads(done.read_text(encoding="utf-8")))
        await admin.close()


async def _make(server_url: str, shape: Shape, tenants: list[Tenant], stored: Vectors) -> dict[str, float]:
    notes: dict[str, float] = {}

    async def timed(name: str, work: "asyncio._CoroutineLike[object]") -> None:
        print(f"  {name} ...", flush=True)
        began = time.perf_counter()
        await work
        notes[name] = round(time.perf_counter() - began, 1)

    url = await migrate(server_url, "tenants")
    admin = await connect(url)
    await timed("the engine's rows", load(admin, tenants, stored))
    async with opened(url) as db:
        await timed("promotion", maintenance(url, db, shape.tiers).round())
    await timed("the global index", _global(admin, tenants, stored))
    await timed("LangChain's rows", _langchain(url, admin))
    await timed("fewer neighbours", _fewer(server_url, shape, tenants, stored))
    await admin.execute("checkpoint")
    await admin.close()
    return notes


async def _global(admin: Connection, tenants: list[Tenant], stored: Vectors) -> None:
    """One table, one index for all, as tutorials have it."""
    await admin.execute(
        f"create table everybody (user_id uuid, document_id uuid, number integer, embedding halfvec({DIMENSIONS}))"
    )
    documents = _documents(tenants, 1)
    for at in range(0, len(documents), _BATCH):
        rows = [(u, d, n, v) for u, d, n, _, v in _vectors(documents[at : at + _BATCH], stored)]
        await admin.copy_records_to_table("everybody", records=rows)
    await admin.execute("set max_parallel_maintenance_workers = 1")
    await admin.execute("create index everybody_all on everybody using hnsw (embedding halfvec_cosine_ops)")
    await admin.execute("vacuum analyze everybody")


def langchain(url: str) -> "object":
    """LangChain's store over this database, with its own tables."""
    from langchain_core.embeddings import Embeddings  # noqa: PLC0415 (of the peers' environment alone)
    from langchain_postgres import PGVector  # noqa: PLC0415

    class Given(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise NotImplementedError

        def embed_query(self, text: str) -> list[float]:
            raise NotImplementedError

    parts = urlsplit(url)
    address = urlunsplit(parts._replace(scheme="postgresql+psycopg"))
    return PGVector(Given(), connection=address, embedding_length=DIMENSIONS, create_extension=False)


async def _langchain(url: str, admin: Connection) -> None:
    await asyncio.to_thread(langchain, url)  # makes its tables
    collection = await admin.fetchval("select uuid from langchain_pg_collection")
    await admin.execute(
        "insert into langchain_pg_embedding (id, collection_id, embedding, document, cmetadata) "  # noqa: S608
        f"select document_id || '-' || number, $1, embedding::vector({DIMENSIONS}), text, "
        "jsonb_build_object('user_id', user_id, 'document_id', document_id, 'number', number) "
        "from everybody join chunks using (user_id, document_id, number)",
        collection,
    )
    await admin.execute("vacuum analyze langchain_pg_embedding")


async def _fewer(server_url: str, shape: Shape, tenants: list[Tenant], stored: Vectors) -> None:
    """A second database: one tenant of each class, and a tenth of its neighbours."""
    url = await migrate(server_url, "fewer")
    admin = await connect(url)
    await load(admin, fewer(shape, tenants), stored)
    async with opened(url) as db:
        await maintenance(url, db, shape.tiers).round()
    await admin.close()


def fewer(shape: Shape, tenants: list[Tenant]) -> list[Tenant]:
    """The first of each class, and others, smallest first, up to a tenth of all other vectors."""
    firsts = {kind: next(t for t in tenants if t.kind == kind) for kind in ("tiny", *(n for n, _, _ in shape.classes))}
    chosen = list(firsts.values())
    left = (sum(t.count for t in tenants) - sum(t.count for t in chosen)) // 10
    for tenant in reversed(tenants):
        if tenant not in chosen and tenant.count <= left:
            chosen.append(tenant)
            left -= tenant.count
    return chosen

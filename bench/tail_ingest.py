"""`tail-ingest`: vectors a second that small tenants store, beside a bare table and beside one index for all."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

from bench import tenants
from bench.harness import Goal, Series, find, ratio
from bench.tenants import Connection, Store, Tenant
from bench.vectors import DIMENSIONS, Vectors
from ringfence.db import Database, OwnerTx, encode_halfvec
from ringfence.migrations.roles import OWNER_ROLE
from ringfence.search import tier_queries
from ringfence.search.tier_queries import Size

OURS = "Ringfence"
BESIDE = "Ringfence, 200 promoted tenants beside"
BARE = "a bare table, the same keys, no policy"
ALL = "one HNSW for all"
_BATCH = 32
_NUMBERS = list(range(_BATCH))
_ROUND, _ROUND_OF_ALL = 100, 5  # batches
_PROMOTED = 200
_IN_EACH = 100
# As `documents.queries` has it.
_VECTORS = """
insert into embeddings (user_id, document_id, number, model_id, embedding)
select $1, $2, e.number, $3, e.embedding from unnest($4::integer[], $5::halfvec[]) e (number, embedding)
"""
_BARE = """
create table bare (
  user_id uuid not null, document_id uuid not null, number integer not null, model_id smallint not null
  references embedding_models, embedding halfvec storage plain not null,
  primary key (user_id, document_id, number, model_id), foreign key (user_id, document_id) references documents)
"""
_GLOBAL = """
insert into everybody (user_id, document_id, number, embedding)
select $1, $2, e.number, e.embedding from unnest($3::integer[], $4::halfvec[]) e (number, embedding)
"""
_DOCUMENT = """
insert into documents (user_id, document_id, name, media_type, size, sha256)
select u, d, 'x', 'x', 1, uuid_send(d) || uuid_send(d) from unnest($1::uuid[], $2::uuid[]) as x (u, d)
"""

type Batch = tuple[Tenant, UUID, Vectors]


async def _fenced(db: Database, batches: list[Batch]) -> None:
    for who, document, vectors in batches:
        async with db.tenant(who.user_id) as tx:
            await tx.execute(_VECTORS, who.user_id, document, 1, _NUMBERS, [encode_halfvec(row) for row in vectors])


async def _bare(connection: Connection, batches: list[Batch]) -> None:
    statement = _VECTORS.replace("embeddings", "bare", 1)
    for who, document, vectors in batches:
        async with connection.transaction():
            rows = [encode_halfvec(row) for row in vectors]
            await connection.execute(statement, who.user_id, document, 1, _NUMBERS, rows)


async def _everybody(connection: Connection, batches: list[Batch]) -> None:
    for who, document, vectors in batches:
        async with connection.transaction():
            rows = [encode_halfvec(row) for row in vectors]
            await connection.execute(_GLOBAL, who.user_id, document, _NUMBERS, rows)


async def _promoted(server: str, store: Store) -> str:
    """A database with 200 tenants that have an index of their own, and the store's small ones, without vectors."""
    url = await tenants.migrate(server, "promoted")
    admin = await tenants.connect(url)
    for number in range(_PROMOTED):
        user_id = tenants.user_id_from_record(uuid4())
        await admin.execute("insert into users (user_id, email, email_key, password_hash) values ($1, 'a', $2, 'x')",
                            user_id, str(user_id))  # fmt: skip
        document = uuid4()
        await admin.execute(_DOCUMENT, [user_id], [document])
        await admin.execute(f"set role {OWNER_ROLE}")
        await tier_queries.create_table(OwnerTx(admin), user_id)
        await admin.execute("reset role")
        rows = store.vectors[number * _IN_EACH : (number + 1) * _IN_EACH]
        await admin.executemany(
            "insert into embeddings (user_id, document_id, number, model_id, embedding, part) "
            "values ($1, $2, $3, 1, $4, 1)",
            [(user_id, document, n, row) for n, row in enumerate(rows)],
        )
        await admin.execute(tier_queries.build_index(user_id, Size(1, DIMENSIONS, 0, _IN_EACH)))
    ids = [(t.user_id, str(t.user_id)) for t in store.of("tiny")[:50]]
    await admin.executemany(
        "insert into users (user_id, email, email_key, password_hash) values ($1, 'a', $2, 'x')", ids
    )
    await admin.close()
    return url


async def _score(
    admin: Connection, who: list[Tenant], vectors: Vectors, insert: Callable[[list[Batch]], Awaitable[None]]
) -> float:
    several = vectors.reshape(-1, _BATCH, DIMENSIONS)
    batches = [(who[n % len(who)], uuid4(), rows) for n, rows in enumerate(several)]
    await admin.execute(_DOCUMENT, [t.user_id for t, _, _ in batches], [d for _, d, _ in batches])
    began = time.perf_counter()
    await insert(batches)
    return len(vectors) / (time.perf_counter() - began)


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    group = "vectors stored by small tenants, 32 in a transaction"
    async with tenants.store(quick=quick) as store:
        who, rounds = store.of("tiny")[:50], 5 if quick else 15
        vectors = store.real.more((rounds + 1) * _ROUND * _BATCH, 2).reshape(rounds + 1, -1, DIMENSIONS)
        url = await _promoted(tenants.with_database(store.url, "postgres"), store)
        beside_admin = await tenants.connect(url)
        await store.admin.execute(f"drop table if exists bare; {_BARE}")
        async with tenants.opened(url) as beside:
            contestants = {
                OURS: (store.admin, _ROUND, lambda b: _fenced(store.db, b)),
                BESIDE: (beside_admin, _ROUND, lambda b: _fenced(beside, b)),
                BARE: (store.admin, _ROUND, lambda b: _bare(store.admin, b)),
                ALL: (store.admin, _ROUND_OF_ALL, lambda b: _everybody(store.admin, b)),
            }
            values: dict[str, list[float]] = {name: [] for name in contestants}
            for number, these in enumerate(vectors):  # the first one warms up
                for name, (admin, count, insert) in contestants.items():
                    score = await _score(admin, who, these[: count * _BATCH], insert)
                    if number:
                        values[name].append(score)
        await beside_admin.close()
        await _clean(store)
    series = [Series(group, name, "vectors/s", tuple(values[name])) for name in contestants]
    return series, _goals(series, group), _NOTES


async def _clean(store: Store) -> None:
    """Leave the store as it was."""
    await store.admin.execute(
        "drop table bare; delete from everybody where (user_id, document_id) in "
        "(select user_id, document_id from documents where name = 'x'); delete from documents where name = 'x'"
    )
    await store.admin.execute("vacuum documents, embeddings_shared")


def _goals(series: list[Series], group: str) -> list[Goal]:
    bounds = ((OURS, ALL, 100.0), (OURS, BARE, 0.7), (BESIDE, BARE, 0.7))
    return [
        Goal(f"{one} over {other}", bound, least=True, got=ratio(find(series, group, one), find(series, group, other)))
        for one, other, bound in bounds
    ]


_NOTES = [
    (
        "The bare table has the same columns, keys; it is written by a superuser, in transactions "
        "of the same size. Ringfence's vectors pass the policy, and find their part of the table. All store a batch by "
        "one statement, and no vector twice."
    ),
    f"Beside: a database in which {_PROMOTED} tenants have an index of their own, of {_IN_EACH} vectors each.",
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: a tenth of everything, and fewer rounds."""
    return asyncio.run(_run(quick=quick))

"""`cost`: what one tenant's vectors take, in time and in space, from ten thousand on."""

import asyncio
import statistics
import time

import asyncpg
import numpy as np

from bench import tenants, vectors
from bench.harness import Goal, Series
from bench.tenants import Connection, Tenant
from bench.vectors import Vectors
from ringfence.db import Database
from ringfence.ids import new_user_id
from ringfence.search import queries, tier_queries
from ringfence.search.queries import Wanted
from ringfence.search.tiers import Tiers

_SIZES = (10_000, 100_000, 1_000_000)
_NEVER = Tiers(promote_at=10**9, demote_at=10**8)
_ALWAYS = Tiers(promote_at=1000, demote_at=500)
_BYTES = "select pg_table_size($1::regclass), pg_relation_size($2::regclass)"


async def _p50(db: Database, who: Tenant, asked: Vectors, tiers: Tiers, count: int) -> float:
    times = []
    for query in asked[:count]:
        began = time.perf_counter()
        async with db.call(who.user_id) as call:
            await queries.nearest(call, Wanted(1, query, 10, None), tiers)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def _one(server: str, size: int, real: vectors.Real) -> list[Series]:
    url = await tenants.migrate(server, f"cost_{size}")
    admin = await tenants.connect(url)
    who = Tenant(new_user_id(), "one", 0, size)
    await tenants.load(admin, [who], real.more(size, 1).astype(np.float16))
    async with tenants.opened(url) as db:
        await _p50(db, who, real.on_topic, _NEVER, 3)
        exact = await _p50(db, who, real.on_topic, _NEVER, 15)
        began = time.perf_counter()
        await tenants.maintenance(url, db, _ALWAYS).round()
        build = time.perf_counter() - began
        await _p50(db, who, real.on_topic, _ALWAYS, 200)
        index = await _p50(db, who, real.on_topic, _ALWAYS, 200)
    table = f"embeddings_{who.user_id.hex}"
    sizes = await admin.fetchrow(_BYTES, table, tier_queries.index_name(who.user_id, 1))
    await _drop(admin, server, f"cost_{size}")
    name = f"Ringfence, {size:,} vectors"
    return [
        Series("exact search, p50", name, "ms", (exact,)),
        Series("search in an index, p50", name, "ms", (index,)),
        Series("promotion: move and index, one core", name, "s", (build,)),
        Series("table", name, "MiB", (sizes[0] / 2**20,)),
        Series("index", name, "MiB", (sizes[1] / 2**20,)),
    ]


async def _drop(admin: Connection, server: str, name: str) -> None:
    await admin.close()
    other = await asyncpg.connect(server)
    await other.execute(f"drop database {name} with (force)")
    await other.close()


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    real, found = vectors.real(), list[Series]()
    async with tenants.server("cost") as server:
        for size in _SIZES[:2] if quick else _SIZES:
            print(f"  {size:,} vectors ...", flush=True)
            found += await _one(server, size, real)
    return sorted(found, key=lambda one: one.group), [], _NOTES


_NOTES = [
    (
        "One tenant alone in a database, 384 dimensions. The index is built as maintenance does it: by one process, "
        "concurrently, with up to 1 GiB of memory."
    ),
    "On paper, 1,000,000,000 vectors: docs/decisions/0027-benchmarks-of-search.md.",
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: without the largest."""
    return asyncio.run(_run(quick=quick))

"""`tenant-latency`: time to a tenant's ten nearest passages, by its size, beside what others do on the same server."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from bench import tenants
from bench.harness import Goal, Series, find, ratio
from bench.tenants import Connection, Store, Tenant
from bench.vectors import DIMENSIONS, Vectors
from ringfence.search import queries
from ringfence.search.queries import Wanted

OURS = "Ringfence"
LANGCHAIN = "LangChain PGVector, filter on metadata"
GLOBAL = "one HNSW for all, iterative scan, ef 200"
FEW, MANY = "Ringfence, a tenth of the neighbours", "Ringfence, all neighbours"
_GLOBAL = f"""
select document_id, number from everybody where user_id = $1
order by embedding <=> $2::halfvec({DIMENSIONS}) limit 10
"""  # noqa: S608  # a constant
_RELAXED = """
set hnsw.iterative_scan = relaxed_order; set hnsw.ef_search = 200; set enable_seqscan = off;
set max_parallel_workers_per_gather = 0
"""

type Ask = Callable[[Tenant, Vectors], Awaitable[object]]


def _ours(store: Store) -> Ask:
    async def ask(who: Tenant, query: Vectors) -> object:
        async with store.db.call(who.user_id) as call:
            return await queries.nearest(call, Wanted(1, query, 10, None), store.shape.tiers)

    return ask


def _langchain(store: Store) -> Ask:
    found: Any = tenants.langchain(store.url)

    async def ask(who: Tenant, query: Vectors) -> object:
        # It is a synchronous library: its time is that of the call, without a thread around it.
        return found.similarity_search_by_vector(query.tolist(), k=10, filter={"user_id": {"$eq": str(who.user_id)}})

    return ask


def _global(connection: Connection) -> Ask:
    async def ask(who: Tenant, query: Vectors) -> object:
        return await connection.fetch(_GLOBAL, who.user_id, query)

    return ask


async def _times(ask: Ask, chosen: list[Tenant], asked: Vectors, count: int) -> list[float]:
    """Milliseconds of single searches, one after the other."""
    found = []
    for number in range(count):
        who, query = chosen[number % len(chosen)], asked[number % len(asked)]
        began = time.perf_counter()
        await ask(who, query)
        found.append((time.perf_counter() - began) * 1000)
    return found


async def _rounds(
    group: str, contestants: dict[str, tuple[Ask, int]], chosen: list[Tenant], asked: Vectors, rounds: int
) -> list[Series]:
    """Medians, and 99th percentiles, of each round; contestants take turns. Each says how many searches a round has."""
    middle: dict[str, list[float]] = {name: [] for name in contestants}
    tail: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(-1, rounds):  # the first one warms up
        for name, (ask, count) in contestants.items():
            times = await _times(ask, chosen, np.roll(asked, 17 * number, axis=0), count)
            if number >= 0:
                middle[name].append(statistics.median(times))
                tail[name].append(float(np.percentile(times, 99)))
    return [Series(f"{group}, p50", name, "ms", tuple(middle[name])) for name in contestants] + [
        Series(f"{group}, p99", name, "ms", tuple(tail[name])) for name in contestants
    ]


async def _beside(store: Store, rounds: int) -> tuple[list[Series], list[Goal]]:
    connection = await tenants.connect(store.url)
    await connection.execute(_RELAXED)
    asked = np.concatenate([store.real.on_topic, store.real.off_topic])
    asked = asked[np.random.default_rng(1).permutation(len(asked))]
    contestants = {OURS: (_ours(store), 60), LANGCHAIN: (_langchain(store), 5), GLOBAL: (_global(connection), 20)}
    series, goals = [], []
    for kind in store.kinds():
        group = f"tenants of {kind}"
        found = await _rounds(group, contestants, store.of(kind)[:50], asked, rounds)
        series += found
        got = ratio(find(found, f"{group}, p50", OURS), find(found, f"{group}, p50", LANGCHAIN))
        goals.append(Goal(f"{group}: p50 of Ringfence over LangChain", 1 / 50, least=False, got=got))
    await connection.close()
    return series, goals


async def _neighbours(store: Store, rounds: int) -> tuple[list[Series], list[Goal]]:
    series, goals = [], []
    asked = store.real.on_topic
    async with tenants.opened(tenants.with_database(store.url, "fewer")) as db:
        few = Store(store.url, db, store.admin, store.tenants, store.vectors, store.real, store.shape)
        for kind in store.kinds():
            who, group = store.of(kind)[:1], f"one tenant of {kind}"
            found = await _rounds(group, {FEW: (_ours(few), 60), MANY: (_ours(store), 60)}, who, asked, 3 * rounds)
            series += found
            got = ratio(find(found, f"{group}, p50", MANY), find(found, f"{group}, p50", FEW))
            goals.append(Goal(f"{group}: p50 with ten times the neighbours, over before", 1.15, least=False, got=got))
    return series, goals


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    async with tenants.store(quick=quick) as store:
        rounds = 3 if quick else 7
        series, goals = await _beside(store, rounds)
        more_series, more_goals = await _neighbours(store, rounds)
        made = ", ".join(f"{name} {seconds:g} s" for name, seconds in store.notes.items())
        counted = [f"{len(store.of(kind)):,} of {kind}" for kind in store.kinds()]
        notes = [
            (
                f"{len(store.tenants):,} tenants ({', '.join(counted)}), {len(store.vectors):,} vectors of "
                f"{DIMENSIONS} dimensions, row level security on, rows as they arrived (documents of 25 chunks, mixed)."
            ),
            f"From {store.shape.promote_at:,} vectors on a tenant has an index of its own. Made once, in: {made}.",
            *_NOTES,
        ]
        return series + more_series, goals + more_goals, notes


_NOTES = [
    (
        "A value is the median (or 99th percentile) of a round's searches, on and off topic, each for another tenant "
        "of the class; contestants take turns. Ringfence and LangChain give passages with texts, the global index ids."
    ),
    (
        "LangChain's store is as it makes itself: `vector`, metadata in jsonb, the tenant as a filter on them. The "
        "global index may pass over 20,000 vectors (pgvector's default), after which it gives up, with less than ten."
    ),
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: a tenth of everything, and fewer rounds."""
    return asyncio.run(_run(quick=quick))

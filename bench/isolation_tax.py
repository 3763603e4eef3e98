"""`isolation-tax`: a search under row level security beside the same statement by a role that needs no policy."""

import asyncio
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import numpy as np

from bench import tenants
from bench.harness import Goal, Series, find, ratio
from bench.tenants import Connection, Store, Tenant
from bench.vectors import Vectors
from ringfence.db import decode_halfvec, encode_halfvec
from ringfence.ids import UserId
from ringfence.search import queries
from ringfence.search.queries import Wanted

OURS = "Ringfence: one call"
BARE = "the same statement, no policy"
FOUR = "a transaction with its tenant, four round trips"
# What `search_dense` runs, with the statement of `dense_shared` in its place.
_BARE = """
select f.document_id, f.number, d.name, c.text, c.spans, c.context, 1 - f.distance as score
from ({dense}) f
cross join lateral (
    select x.name from documents x where x.user_id = $1 and x.document_id = f.document_id offset 0) d
cross join lateral (
    select x.text, x.spans, x.context from chunks x
    where x.user_id = $1 and x.document_id = f.document_id and x.number = f.number
    offset 0) c
order by f.distance, f.document_id, f.number
"""
_SETTINGS = dict.fromkeys(("enable_seqscan", "enable_nestloop", "enable_mergejoin", "jit"), "off") | {
    "max_parallel_workers_per_gather": "0"
}
_SOURCE = "select prosrc from pg_proc where proname = 'dense_shared'"

type Ask = Callable[[UserId, Vectors], Awaitable[object]]


async def _statement(store: Store) -> str:
    source = await store.admin.fetchval(_SOURCE)
    [dense] = re.findall(r"-- explained\n(.*?)-- end\n", source, re.DOTALL)
    return _BARE.format(dense=dense)


async def _contestants(store: Store, stack: AsyncExitStack) -> dict[str, Ask]:
    statement = await _statement(store)

    async def codec(connection: Connection) -> None:
        await connection.set_type_codec(
            "halfvec", schema="public", encoder=encode_halfvec, decoder=decode_halfvec, format="binary"
        )

    async def keep(_connection: object) -> None:
        pass

    pool = await stack.enter_async_context(
        asyncpg.create_pool(store.url, min_size=0, max_size=10, init=codec, reset=keep, server_settings=dict(_SETTINGS))
    )

    async def ours(user_id: UserId, query: Vectors) -> object:
        async with store.db.call(user_id) as call:
            return await queries.nearest(call, Wanted(1, query, 10, None), store.shape.tiers)

    async def bare(user_id: UserId, query: Vectors) -> object:
        async with pool.acquire() as connection:
            return await connection.fetch(statement, user_id, 1, query, 10)

    async def four(user_id: UserId, query: Vectors) -> object:
        async with store.db.tenant(user_id) as tx:
            return await tx.fetch(statement, user_id, 1, query, 10)

    return {OURS: ours, BARE: bare, FOUR: four}


async def _median(ask: Ask, chosen: list[Tenant], asked: Vectors, count: int) -> float:
    times = []
    for number in range(count):
        began = time.perf_counter()
        await ask(chosen[number % len(chosen)].user_id, asked[number % len(asked)])
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    series, goals = [], []
    async with tenants.store(quick=quick) as store, AsyncExitStack() as stack:
        contestants = await _contestants(store, stack)
        asked = np.roll(store.real.on_topic, 5, axis=0)
        for kind in ("tiny", "1k"):
            group, chosen = f"pooled search, tenants of {kind}, p50", store.of(kind)[:50]
            values: dict[str, list[float]] = {name: [] for name in contestants}
            for number in range(-1, 5 if quick else 15):
                for name, ask in contestants.items():
                    median = await _median(ask, chosen, asked, 100)
                    if number >= 0:
                        values[name].append(median)
            found = [Series(group, name, "ms", tuple(values[name])) for name in contestants]
            series += found
            got = ratio(find(found, group, OURS), find(found, group, BARE))
            goals.append(Goal(f"{group}: under row level security over without", 1.4, least=False, got=got))
    return series, goals, _NOTES


_NOTES = [
    (
        "The bare one is the statement of the engine's function, prepared, by a superuser over a pool whose "
        "connections are not reset, under the same settings; it may keep its plan."
    ),
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: a tenth of everything, and fewer rounds."""
    return asyncio.run(_run(quick=quick))

"""`tenant-recall`: recall@10 of the engine's search against brute force, by size of tenant, on its topics and off."""

import asyncio

from bench import tenants
from bench.harness import Goal, Series
from bench.tenants import Store, Tenant
from bench.vectors import Vectors

_AMONG = 10
# As `search_dense`, with the chunks' numbers instead of their texts.
_FUNCTION = """
create or replace function bench_ranked(
  u uuid, m smallint, q halfvec, n integer, docs uuid[], few integer, ef integer)
returns table (document_id uuid, number integer) language plpgsql as $$
begin
    perform set_config('app.user_id', u::text, true);
    return query select f.document_id, f.number from dense(u, m, q, n, docs, few, ef) f;
end
$$
"""
_RANKED = "select document_id, number from bench_ranked($1, $2, $3, $4, $5, $6, $7)"


async def _recall(store: Store, who: Tenant, query: Vectors) -> float:
    async with store.db.call(who.user_id) as call:
        tiers = store.shape.tiers
        rows = await call.fetch(_RANKED, 1, query, _AMONG, None, tiers.demote_at, tiers.ef_search)
    found = {(row["document_id"], row["number"]) for row in rows}
    best = store.nearest(who, query, _AMONG)
    return len(best & found) / len(best)


async def _of(store: Store, kind: str, asked: Vectors, most: int) -> list[float]:
    """A round for each tenant: the average over some queries."""
    found = []
    chosen = store.of(kind)[:most]
    for number, who in enumerate(chosen):
        mine = asked[number :: len(chosen)] if len(chosen) > 1 else asked
        found.append(sum([await _recall(store, who, query) for query in mine]) / len(mine))
    return found


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    async with tenants.store(quick=quick) as store:
        await store.admin.execute(_FUNCTION)
        series, goals = [], []
        sizes = {name: size for name, size, _ in store.shape.classes} | {"tiny": 20}
        for topic, asked, least in (("on topic", store.real.on_topic, 0.98), ("off topic", store.real.off_topic, 0.95)):
            for kind in store.kinds():
                values = await _of(store, kind, asked, 50)
                name = f"Ringfence, tenants of {kind}"
                series.append(Series(f"recall@10, queries {topic}", name, "of 1", tuple(values)))
                exact = sizes[kind] < store.shape.promote_at
                mean = sum(values) / len(values)
                goals.append(Goal(f"recall@10 of {kind}, {topic}", 1.0 if exact else least, least=True, got=mean))
        return series, goals, _NOTES


_NOTES = [
    (
        "Queries are of the collections from whose texts the vectors are (on topic), and of four others (off topic). "
        "The vectors: all-MiniLM-L6-v2 of 4,800 texts of the evaluation data, and points between (`bench/vectors.py`)."
    ),
    (
        "A round is a tenant, and its value the average over its share of 200 queries. The truth is brute force over "
        "the stored half-precision vectors."
    ),
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: a tenth of everything."""
    return asyncio.run(_run(quick=quick))

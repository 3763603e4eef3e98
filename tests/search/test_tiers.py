"""The tiers of search: plans, recall, what is live, and what explains it."""

import asyncio
import re

import numpy as np
import pytest
from asyncpg import DataError

from ringfence.ids import new_user_id
from ringfence.migrations.owner import owner
from ringfence.search import queries
from ringfence.search.maintenance import LOCK, Maintenance
from ringfence.search.queries import Wanted
from ringfence.search.tiers import Tiers, Way, reason
from tests.migrations.later import QUICK
from tests.search.conftest import fill, new_tenant, points

_NESTED_PLANS = (
    "load 'auto_explain'",
    "set auto_explain.log_min_duration = 0",
    "set auto_explain.log_nested_statements = on",
    "set auto_explain.log_level = notice",
)
TIERS = Tiers(promote_at=400, demote_at=200, promoted_most=3, ef_search=100)


def brute(vectors, vector, limit):
    """The numbers of the vectors that are nearest by cosine, at the stored precision."""
    stored = vectors.astype(np.float16).astype(np.float64)
    asked = vector.astype(np.float16).astype(np.float64)
    cosines = stored @ asked / np.linalg.norm(stored, axis=1)
    return [str(n) for n in np.argsort(-cosines)[:limit]]


async def found(db, user_id, model_id, vector, limit=10, documents=None, tiers=TIERS):
    async with db.call(user_id) as call:
        passages = await queries.nearest(call, Wanted(model_id, vector, limit, documents), tiers)
    return [passage.text for passage in passages]


async def way_and_plan(db, user_id, model_id, vector, documents=None):
    wanted = Wanted(model_id, vector, 10, documents)
    async with db.tenant(user_id) as tx:
        way = await queries.way(tx, wanted, TIERS)
        plan = await queries.plan(tx, await queries.adopt(tx, queries.function_of(way, wanted)), wanted)
    return way, "\n".join(plan)


@pytest.fixture
def maintenance(db, database_url):
    return Maintenance(db, lambda: owner(database_url, LOCK, pace=QUICK), TIERS)


@pytest.fixture
async def neighbour(bulk, model_id):
    """Somebody with the very same vectors, and more of them."""
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(700, seed=1))
    return user_id


async def test_a_small_tenant_is_searched_exactly_through_the_primary_key(db, bulk, model_id, neighbour):
    user_id, vectors = await new_tenant(bulk), points(150, seed=1)
    documents = await fill(bulk, user_id, model_id, vectors)
    await bulk.execute("analyze")
    for vector in points(10, seed=2):
        assert await found(db, user_id, model_id, vector) == brute(vectors, vector, 10)
    way, plan = await way_and_plan(db, user_id, model_id, vector)
    assert way is Way.SMALL
    assert "Bitmap Index Scan on embeddings_shared_pkey" in plan or "Index Scan using embeddings_shared_pkey" in plan
    assert "Hash Join" in plan
    assert [part for part in ("Seq Scan", "Nested Loop", "embeddings_own") if part in plan] == []
    narrow_way, plan = await way_and_plan(db, user_id, model_id, vector, documents[:1])
    assert narrow_way is Way.SMALL
    assert "Index Scan using embeddings_shared_pkey on embeddings_shared" in plan
    assert "Seq Scan" not in plan
    assert (
        await found(db, user_id, model_id, vector, documents=documents[:1])
        == [n for n in brute(vectors, vector, 150) if int(n) < 25][:10]
    )


async def test_a_search_keeps_more_candidates_in_a_larger_index(bulk, model_id, maintenance):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(450, seed=1))
    await maintenance.round()
    call = "select from dense_index($1, $2, $3, 10, null, 100)"
    for rows, kept in ((-1, 100), (450, 100), (25_000, 100), (100_000, 200), (10**8, 1000)):
        table = f"embeddings_{user_id.hex}"
        assert await bulk.execute("update pg_class set reltuples = $1 where relname = $2", rows, table) == "UPDATE 1"
        async with bulk.transaction():
            assert len(await bulk.fetch(call, user_id, model_id, points(1, seed=2)[0])) == 10
            assert await bulk.fetchval("select current_setting('hnsw.ef_search')") == str(kept)


@pytest.mark.parametrize("name", ["search_dense", "dense"])
async def test_it_is_joined_by_hash_whoever_calls(bulk, model_id, name):
    """What a function switches off is off in those that it calls: the plan is taken from inside of a real call."""
    user_id, plans = await new_tenant(bulk), []
    await fill(bulk, user_id, model_id, points(150, seed=1), per_document=5)
    for statement in _NESTED_PLANS:
        await bulk.execute(statement)
    bulk.add_log_listener(lambda _, message: plans.append(message.message))
    call = f"select document_id from {name}($1, $2, $3, 10, null, 100, 100)"
    assert len(await bulk.fetch(call, user_id, model_id, points(1, seed=2)[0])) == 10
    await asyncio.sleep(0)  # listeners are called by the loop
    [plan] = [plan for plan in plans if "embeddings_shared" in plan]
    assert "Hash Join" in plan
    assert [part for part in ("Nested Loop", "Merge Join", "Disabled: true") if part in plan] == []


async def test_a_large_tenant_is_searched_by_its_own_index(db, bulk, model_id, maintenance):
    """Beside another large one with the same vectors: no foreign id, and recall as promised, on topic and off it."""
    vectors = points(2000, seed=1, spread=1.0)
    mine, other = await new_tenant(bulk), await new_tenant(bulk)
    documents = await fill(bulk, mine, model_id, vectors)
    await fill(bulk, other, model_id, vectors[:500])
    assert await maintenance.round()
    for seed, least in ((2, 0.98), (None, 0.95)):
        asked = points(40, seed=seed) if seed else np.random.default_rng(3).standard_normal((40, 32)).astype(np.float32)
        hits = [set(await found(db, mine, model_id, one)) & set(brute(vectors, one, 10)) for one in asked]
        assert sum(map(len, hits)) / 400 >= least
    async with db.call(mine) as call:
        passages = await queries.nearest(call, Wanted(model_id, asked[0], 100, None), TIERS)
    assert len(passages) == 100
    assert {passage.document_id for passage in passages} <= set(documents)
    way, plan = await way_and_plan(db, mine, model_id, asked[0])
    assert way is Way.INDEX
    assert f"Index Scan using embeddings_{mine.hex}_m{model_id} on embeddings_{mine.hex}" in plan
    assert "Seq Scan" not in plan
    assert other.hex not in plan


async def test_until_its_index_is_whole_a_large_tenant_is_searched_exactly(db, bulk, model_id, maintenance):
    """In both parts: what was moved already, and what came since."""
    vectors, user_id = points(450, seed=1), await new_tenant(bulk)
    await fill(bulk, user_id, model_id, vectors[:425])
    await maintenance.round()
    await fill(bulk, user_id, model_id, vectors[425:])
    index = f"embeddings_{user_id.hex}_m{model_id}"
    await bulk.execute(f"alter index {index} rename to {index}_building")
    for vector in [*points(5, seed=2), vectors[430]]:
        best = [str(int(n) - 425 if int(n) >= 425 else n) for n in brute(vectors, vector, 10)]
        assert await found(db, user_id, model_id, vector) == best
    way, plan = await way_and_plan(db, user_id, model_id, vector)
    assert way is Way.BOTH
    assert "embeddings_shared" in plan
    assert f"embeddings_{user_id.hex}_pkey" in plan


async def test_a_narrowed_search_of_a_large_tenant(db, bulk, model_id, maintenance):
    """Exact where few chunks are meant; else the index goes on until it has enough of them."""
    vectors, user_id = points(800, seed=1), await new_tenant(bulk)
    documents = await fill(bulk, user_id, model_id, vectors)
    await maintenance.round()
    few, many = documents[:4], documents[::3]
    among = {str(n) for n in range(800) if (n // 25) % 3 == 0}
    hits = 0
    for vector in points(20, seed=4):
        assert (
            await found(db, user_id, model_id, vector, 10, few)
            == [n for n in brute(vectors, vector, 800) if int(n) < 100][:10]
        )
        got = await found(db, user_id, model_id, vector, 10, many)
        assert len(got) == 10
        hits += len(set(got) & set([n for n in brute(vectors, vector, 800) if n in among][:10]))
    assert hits / 200 >= 0.98
    assert (await way_and_plan(db, user_id, model_id, vector, few))[0] is Way.FEW
    way, plan = await way_and_plan(db, user_id, model_id, vector, many)
    assert way is Way.INDEX
    assert f"_m{model_id}" in plan


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    "change",
    ["state = 'processing'", "deleted_at = now()", "first_chunk = 1000", "chunks = 0"],
)
async def test_only_live_chunks_are_found(db, bulk, model_id, maintenance, large, change):
    vectors, user_id = points(450 if large else 60, seed=1), await new_tenant(bulk)
    documents = await fill(bulk, user_id, model_id, vectors)
    await maintenance.round()
    await bulk.execute(f"update documents set {change} where document_id = any($1)", documents[:-1])
    last = {str(n) for n in range((len(documents) - 1) * 25, len(vectors))}
    assert set(await found(db, user_id, model_id, vectors[0], 100)) == last
    assert await found(db, user_id, model_id, vectors[0], 100, documents[:-1]) == []


async def test_a_new_version_is_seen_from_its_first_chunk_on(db, bulk, model_id):
    user_id = await new_tenant(bulk)
    [document_id] = await fill(bulk, user_id, model_id, points(20, seed=1))
    await bulk.execute("update documents set first_chunk = 12, chunks = 5 where document_id = $1", document_id)
    assert sorted(await found(db, user_id, model_id, points(1, seed=2)[0], 50)) == ["12", "13", "14", "15", "16"]


async def test_what_was_uploaded_since_is_found_before_it_is_in_the_index(db, bulk, model_id, maintenance):
    user_id, vectors = await new_tenant(bulk), points(500, seed=1)
    await fill(bulk, user_id, model_id, vectors)
    await maintenance.round()
    fresh = points(30, seed=9)
    [one, _] = await fill(bulk, user_id, model_id, fresh)
    everything = np.concatenate([vectors, fresh])
    async with db.call(user_id) as call:
        [first, *_] = await queries.nearest(call, Wanted(model_id, fresh[3], 10, None), TIERS)
    assert (first.document_id, first.text) == (one, "3")
    in_order = await found(db, user_id, model_id, fresh[3], 10)
    assert in_order == [str(int(n) - 500 if int(n) >= 500 else n) for n in brute(everything, fresh[3], 10)]
    assert await bulk.fetchval("select count(*) from embeddings_shared where user_id = $1", user_id) == 30
    await maintenance.round()
    assert await bulk.fetchval("select count(*) from embeddings_shared where user_id = $1", user_id) == 0
    assert await found(db, user_id, model_id, fresh[3], 10) == in_order


async def test_a_plan_tells_no_values_and_nothing_of_others(db, bulk, model_id, neighbour):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(30, seed=1))
    _, plan = await way_and_plan(db, user_id, model_id, points(1, seed=2)[0])
    assert str(user_id) not in plan
    assert "'" not in plan
    assert not re.search(r"cost=|Removed|Buffers|Heap|Memory", plan)
    assert "Execution Time" in plan


@pytest.mark.parametrize(
    ("way", "vectors", "words"),
    [
        (Way.INDEX, 500, "500 vectors, which have an index"),
        (Way.FEW, 500, "narrowed to 200"),
        (Way.SMALL, 399, "399 vectors are fewer than 400"),
        (Way.SMALL, 400, "400 vectors wait for an index"),
        (Way.BOTH, 400, "of 400 vectors are being made, or taken back"),
    ],
)
def test_reasons(way, vectors, words):
    assert words in reason(way, vectors, TIERS)


async def test_the_functions_run_as_their_caller_and_not_for_everybody(admin):
    rows = await admin.fetch(
        "select proname::text as name, prosecdef, proacl::text from pg_proc where proname in "
        "('dense_way', 'dense', 'dense_shared', 'dense_index', 'search_dense')"
    )
    assert len(rows) == 5
    assert {row["prosecdef"] for row in rows} == {False}
    assert all("ringfence_app=X" in row["proacl"] and "{=X" not in row["proacl"] for row in rows)


async def test_a_tenant_of_nothing_finds_nothing(db, model_id):
    assert await found(db, new_user_id(), model_id, points(1, seed=1)[0]) == []


async def test_what_the_database_refuses_otherwise_is_a_defect(db, bulk, model_id):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(3, seed=1))
    with pytest.raises(DataError, match="dimensions"):
        await found(db, user_id, model_id, np.ones(5, np.float32))

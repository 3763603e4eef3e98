"""The functions by which search finds things: each names its tenant, and the policies hold without that."""

import re

import pytest

from ringfence.migrations.owner import owner
from ringfence.search import queries
from ringfence.search.maintenance import LOCK, Maintenance
from ringfence.search.queries import Wanted
from ringfence.search.tiers import Tiers
from tests.isolation.tenants import widen
from tests.search.conftest import bulk, fill, model_id, new_tenant, points

__all__ = ["bulk", "model_id"]

TIERS = Tiers(promote_at=100, demote_at=50)
FUNCTIONS = ("dense_way", "dense", "dense_index", "dense_shared", "search_dense", "lexical", "search_passages")
_PREDICATE = re.compile(r"\b\w+\.user_id = (?:u|\$1)")
_OPEN = """
alter policy tenant on embeddings using (true); alter policy tenant on documents using (true);
alter policy tenant on chunks using (true)
"""


@pytest.fixture(params=["small", "large"])
async def two(request, db, database_url, bulk, model_id):
    """Two tenants with the same vectors; mine and theirs, and the ids of my documents."""
    await widen(bulk)
    vectors = points(120 if request.param == "large" else 30, seed=1)
    mine, theirs = await new_tenant(bulk), await new_tenant(bulk)
    documents = await fill(bulk, mine, model_id, vectors)
    foreign = await fill(bulk, theirs, model_id, vectors)
    await Maintenance(db, lambda: owner(database_url, LOCK), TIERS).round()
    assert await bulk.fetchval("select count(*) from embeddings where part = 1") == (
        240 if request.param == "large" else 0
    )
    return mine, documents, foreign, vectors[3]


async def strip(admin) -> None:
    """Take the tenant out of the functions' statements."""
    for name in FUNCTIONS:
        definition = await admin.fetchval("select pg_get_functiondef(oid) from pg_proc where proname = $1", name)
        stripped, count = _PREDICATE.subn("($1 is not null)" if "$1" in definition else "(u is not null)", definition)
        assert count
        await admin.execute(stripped)


async def found(db, mine, model_id, vector, documents=None):
    async with db.call(mine) as call:
        hits = await queries.nearest(call, Wanted(model_id, vector, 100, documents), TIERS)
    return {hit.document_id for hit in hits}


async def test_without_their_where_the_policy_still_holds(db, bulk, model_id, two):
    mine, documents, foreign, vector = two
    await strip(bulk)
    assert await found(db, mine, model_id, vector) <= set(documents)
    assert await found(db, mine, model_id, vector, foreign) == set()


async def test_without_policy_their_where_still_holds(db, bulk, model_id, two):
    mine, documents, foreign, vector = two
    await bulk.execute(_OPEN)
    assert await found(db, mine, model_id, vector) <= set(documents)
    assert await found(db, mine, model_id, vector, foreign) == set()


async def test_without_where_and_policy_they_leak(db, bulk, model_id, two):
    """So the tests above can fail."""
    mine, documents, _, vector = two
    await strip(bulk)
    await bulk.execute(_OPEN)
    assert not await found(db, mine, model_id, vector) <= set(documents)

"""Search by words: its statements name the tenant, and the policies hold without that."""

import pytest

from ringfence.lexical.service import LexicalIndex
from ringfence.lexical.terms import query_terms
from ringfence.search import queries
from ringfence.search.queries import Words
from tests.isolation.tenants import widen
from tests.isolation.test_search import strip
from tests.lexical.conftest import Shelf
from tests.search.stored import tenant

TABLES = ("documents", "chunks", "lexical_segments", "lexical_fresh", "lexical_blocks")


@pytest.fixture(params=["stored", "merged"])
async def two(request, db, admin):
    """Two tenants with the same text; what is mine, and the ids of their documents."""
    await widen(admin)
    mine, theirs = [Shelf(db, admin, await tenant(admin)) for _ in range(2)]
    document_id, foreign = [await shelf.put(["the oven", "another oven"]) for shelf in (mine, theirs)]
    if request.param == "merged":
        for shelf in (mine, theirs):
            await LexicalIndex(db).merge(shelf.user_id)
    return mine, {document_id}, foreign


async def found(db, shelf, documents=None):
    async with db.call(shelf.user_id) as call:
        hits = await queries.lexical(call, Words(query_terms("oven"), 1.2, 0.75, 100, documents))
    return {hit.document_id for hit in hits}


async def open_policies(admin) -> None:
    for table in TABLES:
        await admin.execute("alter policy tenant on TABLE using (true)".replace("TABLE", table))


async def test_without_their_where_the_policy_still_holds(db, admin, two):
    mine, documents, foreign = two
    await strip(admin)
    assert await found(db, mine) == documents
    assert await found(db, mine, [foreign]) == set()


async def test_without_policy_their_where_still_holds(db, admin, two):
    mine, documents, foreign = two
    await open_policies(admin)
    assert await found(db, mine) == documents
    assert await found(db, mine, [foreign]) == set()


async def test_without_where_and_policy_they_leak(db, admin, two):
    """So the tests above can fail."""
    mine, documents, _ = two
    await strip(admin)
    await open_policies(admin)
    assert await found(db, mine) > documents

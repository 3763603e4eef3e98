"""When the lexical index is merged and cleaned."""

import pytest

from ringfence.documents import indexing, queries
from ringfence.lexical import queries as lexical
from ringfence.lexical.postings import Writer
from ringfence.lexical.service import MOST_WAITING, LexicalIndex
from tests.search.stored import store, tenant

_PROMISED = """
select payload ->> 'step', extract(epoch from run_after - now()) > 1 from jobs where kind = 'index' order by job_id
"""


@pytest.fixture
async def user_id(admin):
    return await tenant(admin)


async def promised(admin):
    return [tuple(row) for row in await admin.fetch(_PROMISED)]


async def test_it_is_merged_once_enough_waits_and_once_for_all(db, admin, embedder, user_id):
    document_id = await store(db, embedder, user_id, ["oven"] * (MOST_WAITING + 1), indexed=False)
    async with db.tenant(user_id) as tx:
        for number in range(MOST_WAITING):
            await lexical.add(tx, document_id, Writer("a.txt").segments([(number, "oven")]))
        await indexing.merge_soon(tx)
    assert await promised(admin) == []
    async with db.tenant(user_id) as tx:
        await lexical.add(tx, document_id, Writer("a.txt").segments([(MOST_WAITING, "oven")]))
        await indexing.merge_soon(tx)
        await indexing.merge_soon(tx)
    assert await promised(admin) == [("merge", True)]
    await LexicalIndex(db).run(user_id, await admin.fetchval("select payload::text from jobs where kind = 'index'"))
    async with db.tenant(user_id) as tx:
        assert not await lexical.waiting(tx, 0)


async def test_what_is_cleared_is_cleaned_later(db, admin, embedder, user_id):
    document_id = await store(db, embedder, user_id, ["oven"])
    async with db.tenant(user_id) as tx:
        await queries.clear(tx, document_id)
        await queries.clear(tx, document_id)
        await indexing.clean_later(tx)
    assert await promised(admin) == [("clean", True)]

"""Another name: the index against plain Python while it is made anew, merged, cleaned, and after yet another one."""

import asyncio

import pytest

from ringfence.documents.renaming import RetitlePayload, Retitling
from ringfence.lexical.postings import SEGMENT_CHUNKS
from tests.lexical.test_index import ENGLISH, all_agree, counted, texts

COUNT = 600


@pytest.fixture
def retitle(db, shelf):
    """Runs the job of a document."""

    async def run(document_id):
        await Retitling(db).run(shelf.user_id, RetitlePayload(document_id=document_id).model_dump_json())

    return run


@pytest.mark.parametrize("merged", [False, True])
async def test_a_document_is_found_by_its_new_name_and_throughout(admin, shelf, index, retitle, merged):
    document_id = await shelf.put(texts(3, COUNT, ENGLISH), name="Harbour.txt")
    other = await shelf.put(["harbour"], name="Oven.txt")
    if merged:
        await index.merge(shelf.user_id)
    assert len(await shelf.agrees("harbour")) == COUNT + 1
    await shelf.rename(document_id, "Lighthouse.txt")
    retitling = asyncio.create_task(retitle(document_id))
    while not retitling.done():
        assert len(await shelf.search("house")) == COUNT
    await retitling
    assert len(await shelf.agrees("lighthouse")) == COUNT
    assert [(found, number) for found, number, _ in await shelf.agrees("harbour")] == [(other, 0)]
    found = await all_agree(shelf)
    await index.clean(shelf.user_id)
    assert await all_agree(shelf) == found
    assert (await counted(admin, shelf))[0] == len(range(0, COUNT, SEGMENT_CHUNKS)) + 1


async def test_of_two_names_the_later_one_wins(shelf, retitle):
    document_id = await shelf.put(texts(3, COUNT, ENGLISH), name="Harbour.txt")
    await shelf.rename(document_id, "Pier.txt")
    first = asyncio.create_task(retitle(document_id))
    while not await shelf.search("pier"):
        await asyncio.sleep(0)  # each look is a round trip, in which the job goes on; this keeps the loop fair to it
    await shelf.rename(document_id, "Lighthouse.txt")
    await asyncio.gather(first, retitle(document_id))
    assert len(await shelf.agrees("lighthouse")) == COUNT
    assert await shelf.agrees("harbour pier") == []


async def test_what_changes_the_document_waits_for_a_step(db, admin, shelf, retitle, database_url):
    """Chunks that are cleared meanwhile would else leave postings that no later look at them takes out."""
    document_id = await shelf.put(["harbour"] * 3, name="Harbour.txt")
    await shelf.rename(document_id, "Lighthouse.txt")
    async with db.tenant(shelf.user_id) as tx:
        sql = "select from documents where user_id = $1 and document_id = $2 for update"
        await tx.execute(sql, shelf.user_id, document_id)
        retitling = asyncio.create_task(retitle(document_id))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(retitling), 0.3)
        await tx.execute("delete from chunks where user_id = $1", shelf.user_id)
    await retitling
    shelf.forget(document_id)
    assert (await counted(admin, shelf))[0] == 1  # the one of before, and none of chunks that are not there


async def test_a_document_that_is_gone_gets_no_name(admin, shelf, index, retitle):
    document_id = await shelf.put(["harbour"])
    await shelf.remove(document_id)
    await retitle(document_id)
    assert await shelf.agrees("harbour") == []
    await index.clean(shelf.user_id)
    assert await counted(admin, shelf) == [0, 0, 0]

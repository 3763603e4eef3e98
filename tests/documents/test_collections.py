"""Collections: names, members, and what is left when one is dissolved."""

import asyncio
from uuid import uuid4

import pytest

from ringfence.documents import collections as module
from ringfence.documents.labels import labels
from ringfence.documents.listing import Listing
from ringfence.errors import Conflict, Invalid, NotFound, Unauthenticated
from ringfence.filters import Filter
from ringfence.ids import new_user_id
from tests.documents.shelf import put


async def test_a_collection_is_made_named_filled_and_dissolved(library, collections, user):
    made = await collections.add(user, "  Con\u200btracts\t2026 ")
    assert (made.name, made.documents) == ("Contracts 2026", 0)
    other = await collections.add(user, "archive")
    document = await put(library, user, labels=labels([made.collection_id, other.collection_id]))
    assert document.collections == tuple(sorted([made.collection_id, other.collection_id]))
    listed = await collections.all(user)
    assert [(one.name, one.documents) for one in listed] == [("archive", 1), ("Contracts 2026", 1)]
    assert (await collections.rename(user, made.collection_id, "Contracts 2026")).name == "Contracts 2026"
    renamed = await collections.rename(user, made.collection_id, "Old contracts")
    assert renamed == await collections.get(user, made.collection_id)
    assert (renamed.name, renamed.documents) == ("Old contracts", 1)
    await collections.delete(user, made.collection_id)
    document = await library.get(user, document.document_id)
    assert document.collections == (other.collection_id,)
    of_gone = Listing(filter=Filter(collections=(made.collection_id,)))
    assert (await library.listed(user, of_gone, 10)).documents == []
    await library.delete(user, document.document_id)
    assert (await collections.get(user, other.collection_id)).documents == 0
    for call in (collections.get, collections.delete, lambda *ids: collections.rename(*ids, "x")):
        with pytest.raises(NotFound, match="collection_not_found"):
            await call(user, made.collection_id)


async def test_two_of_one_name_there_are_not_but_at_two_tenants(collections, user, stranger):
    one = await collections.add(user, "One")
    two = await collections.add(user, "one")
    with pytest.raises(Conflict, match="collection_exists"):
        await collections.add(user, "One ")
    with pytest.raises(Conflict, match="collection_exists"):
        await collections.rename(user, two.collection_id, "One")
    assert (await collections.add(stranger, "One")).name == "One"
    with pytest.raises(NotFound, match="collection_not_found"):
        await collections.rename(stranger, one.collection_id, "Mine now")


async def test_of_many_at_once_one_gets_the_name(collections, user):
    made = await asyncio.gather(*(collections.add(user, "One") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, Conflict) for one in made) == 7


@pytest.mark.parametrize("name", ["", " \t", "\u200b", "x" * 101])
async def test_what_is_no_name_is_refused(collections, user, name):
    with pytest.raises(Invalid, match="bad_collection_name"):
        await collections.add(user, name)


async def test_there_is_an_end_to_collections(admin, collections, user):
    await admin.execute(
        "insert into collections select $1, gen_random_uuid(), n::text from generate_series(2, $2::int) n",
        user,
        module.MAX_COLLECTIONS,
    )
    made = await asyncio.gather(*(collections.add(user, f"more {n}") for n in range(3)), return_exceptions=True)
    assert sum(isinstance(one, Conflict) for one in made) == 2
    assert len(await collections.all(user)) == module.MAX_COLLECTIONS


async def test_nobody_without_an_account_has_any(collections):
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await collections.add(new_user_id(), "x")


async def test_a_document_can_t_be_put_into_what_is_not_there_or_another_s(admin, library, collections, user, stranger):
    theirs = await collections.add(stranger, "Theirs")
    document = await put(library, user)
    for unknown in (theirs.collection_id, uuid4()):
        with pytest.raises(Invalid, match="unknown_collection: There is no such collection"):
            await library.change(user, document.document_id, labels=labels([unknown]))
        with pytest.raises(Invalid, match="unknown_collection: There is no such collection"):
            await put(library, user, b"more", labels=labels([unknown]))
    assert (await library.get(user, document.document_id)).collections == ()
    assert await admin.fetchval("select count(*) from documents") == 1

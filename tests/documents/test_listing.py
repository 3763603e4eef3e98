"""Lists: every order, page by page, whatever comes and goes between two pages; names; places that are none."""

import base64
import json
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from ringfence.documents.labels import labels
from ringfence.documents.listing import Listing, read
from ringfence.errors import Invalid
from ringfence.filters import Filter
from tests.documents.shelf import put

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["a.txt", "A.txt", "b", "B%", "%", "_", "a_b", "a\\b", "ä", "Z", "\U0001f600", "100% sure.txt"]


async def shelve(admin, user, count, seed=1, deleted=False):
    """Documents of which many are alike in name, size and time."""
    chance = random.Random(seed)
    rows = [
        (user, uuid4(), chance.choice(NAMES), chance.randint(1, 4), uuid4().bytes * 2,
         BEGAN + timedelta(hours=chance.randint(0, 3)), BEGAN if deleted else None)
        for _ in range(count)
    ]  # fmt: skip
    await admin.executemany(
        "insert into documents (user_id, document_id, name, media_type, size, sha256, created_at, deleted_at)"
        " values ($1, $2, $3, 'text/plain', $4, $5, $6, $7)",
        rows,
    )
    return {row[1] for row in rows}


async def walked(library, user, listing, limit, between=None):
    """All documents of a list, page by page; `between` runs between two pages."""
    found, cursor = [], None
    while True:
        page = await library.listed(user, listing, limit, cursor)
        found += page.documents
        assert len(page.documents) == limit or page.next_cursor is None
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor
        if between:
            await between()


def key(listing):
    return {"created": lambda d: d.created_at, "name": lambda d: d.name.lower(), "size": lambda d: d.size}[listing.sort]


ORDERS = [Listing(sort=sort, order=order) for sort in ("created", "name", "size") for order in ("asc", "desc")]


def ids_of(documents):
    return [document.document_id for document in documents]


@pytest.mark.parametrize("listing", ORDERS, ids=lambda one: f"{one.sort}-{one.order}")
async def test_pages_make_up_the_list_and_stay_whole_when_others_come_and_go(admin, library, user, stranger, listing):
    ids, more = await shelve(admin, user, 40), iter(range(2, 99))
    await shelve(admin, stranger, 5)
    await shelve(admin, user, 3, deleted=True)
    whole = await walked(library, user, listing, 1000)
    assert set(ids_of(whole)) == ids
    assert ids_of(await walked(library, user, listing, 7)) == ids_of(whole)
    found = [(key(listing)(document), document.document_id) for document in whole]
    if listing.sort != "name":  # whose order is the database's
        assert found == sorted(found, reverse=listing.order == "desc")

    async def change():
        await shelve(admin, user, 3, next(more))
        gone = ids.pop()
        await admin.execute("delete from documents where document_id = $1", gone)

    seen = ids_of(await walked(library, user, listing, 6, between=change))
    assert len(set(seen)) == len(seen)
    assert ids <= set(seen)


async def test_names_are_ordered_whatever_their_case(admin, library, user):
    await shelve(admin, user, 40)
    names = [document.name.lower() for document in await walked(library, user, Listing(sort="name", order="asc"), 6)]
    expected = await admin.fetch("select lower(name) from documents order by 1")
    assert names == [row[0] for row in expected]
    back = [document.name.lower() for document in await walked(library, user, Listing(sort="name", order="desc"), 6)]
    assert back == names[::-1]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("%", {"%", "B%", "100% sure.txt"}),
        ("_", {"_", "a_b"}),
        ("\\", {"a\\b"}),
        ("A", {"a.txt", "A.txt", "a_b", "a\\b"}),
        ("b%", {"B%"}),
        ("TXT", {"a.txt", "A.txt", "100% sure.txt"}),
        ("\U0001f600", {"\U0001f600"}),
        ("'; drop table documents; --", set()),
    ],
)
async def test_a_part_of_a_name_is_taken_as_it_is(admin, library, user, part, found):
    for name in NAMES:
        await admin.execute(
            "insert into documents (user_id, document_id, name, media_type, size, sha256)"
            " values ($1, $2, $3, 'text/plain', 1, $4)", user, uuid4(), name, uuid4().bytes * 2,
        )  # fmt: skip
    documents = (await library.listed(user, Listing(name=part), 100)).documents
    assert {document.name for document in documents} == found
    assert len((await library.listed(user, Listing(name=""), 100)).documents) == len(NAMES)


async def test_states_the_bin_and_filters_narrow_a_list(admin, library, user):
    one = await put(library, user, b"one", labels=labels(tags=["x"], metadata={"year": 2026}))
    two = await put(library, user, b"two", "b.txt")
    await admin.execute("update documents set state = 'ready' where document_id = $1", one.document_id)

    async def listed(**wanted):
        return ids_of((await library.listed(user, Listing(**wanted), 10)).documents)

    assert await listed() == [two.document_id, one.document_id]
    assert await listed(states=("ready",)) == await listed(filter=Filter(tags=("x",))) == [one.document_id]
    assert await listed(states=("ready", "queued")) == [two.document_id, one.document_id]
    assert await listed(states=("failed",)) == []
    await library.delete(user, two.document_id)
    assert await listed() == await listed(sort="size") == [one.document_id]
    assert await listed(deleted=True) == [two.document_id]
    assert await listed(deleted=True, filter=Filter(tags=("x",))) == []


def cursor_of(**place):
    known = {"sort": "created", "order": "desc", "value": "2026-01-01T00:00:00+00:00", "document_id": str(UUID(int=1))}
    return base64.urlsafe_b64encode(json.dumps(known | place).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("cursor", "listing"),
    [
        ("", Listing()),
        ("%%%", Listing()),
        ("aaaaa", Listing()),
        ("\u00e4", Listing()),
        (cursor_of(more=1), Listing()),
        (cursor_of(document_id="x"), Listing()),
        (cursor_of(), Listing(order="asc")),
        (cursor_of(), Listing(sort="size")),
        (cursor_of(value="yesterday"), Listing()),
        (cursor_of(value="0001-01-01T00:00:00+23:00"), Listing()),
        (cursor_of(sort="size", value="x"), Listing(sort="size")),
        (cursor_of(sort="size", value="-1"), Listing(sort="size")),
        (cursor_of(sort="size", value=str(2**63)), Listing(sort="size")),
        (cursor_of(sort="size", value="9" * 5000), Listing(sort="size")),
        (cursor_of(sort="name", value="a\0"), Listing(sort="name")),
        (cursor_of(sort="name", value="\ud800"), Listing(sort="name")),
    ],
)
def test_what_is_no_place_is_refused(cursor, listing):
    with pytest.raises(Invalid, match="bad_cursor"):
        read(listing, cursor)


async def test_a_made_up_place_shows_no_more_than_there_is(library, user, stranger):
    await put(library, stranger, b"theirs")
    mine = await put(library, user, b"mine")
    for cursor in (cursor_of(value="2126-01-01T00:00:00+00:00"), cursor_of(sort="name", order="asc", value="")):
        listing = (
            Listing() if "desc" in base64.b64decode(cursor + "===").decode() else Listing(sort="name", order="asc")
        )
        page = await library.listed(user, listing, 10, cursor)
        assert ids_of(page.documents) == [mine.document_id]
        assert page.next_cursor is None

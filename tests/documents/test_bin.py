"""The bin: what is deleted is out of sight, counts, comes back whole, and goes for good when its time has come."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from ringfence.documents import library_queries
from ringfence.documents.labels import labels
from ringfence.documents.listing import Listing
from ringfence.documents.service import Library
from ringfence.errors import Invalid, NotFound, QuotaExceeded
from ringfence.ids import DocumentId
from ringfence.limits import Quota, Quotas
from ringfence.search.service import How, Search
from tests.documents.conftest import DAY
from tests.documents.shelf import claimed, due, files, put, replace, upload, work
from tests.engine import waits_for_a_lock

WORDS = b"The notice period is six weeks."


async def in_bin(library, user):
    return (await library.listed(user, Listing(deleted=True), 100)).documents


async def counts(admin):
    return [
        await admin.fetchval(f"select count(*) from {name}")
        for name in ("documents", "chunks", "embeddings", "replacements")
    ]


async def found(search, user):
    """The documents that any way of searching finds: the same in each."""
    seen = [
        [
            one.document_id
            for one in (await search.find(user, "notice period", 5, how=How(mode=mode, expand=n))).passages
        ]
        for mode in ("dense", "lexical", "hybrid")
        for n in (0, 2)
    ]
    assert all(ids == seen[0] for ids in seen)
    assert (await search.explain(user, "notice period", 5)).passages == len(seen[0])
    return seen[0]


@pytest.fixture
def search(db, embedder):
    return Search(db, embedder)


async def test_what_is_deleted_is_out_of_sight_and_comes_back_whole(db, admin, library, ingestion, search, user):
    document = await put(library, user, WORDS, labels=labels(tags=["x"], metadata={"a": 1}))
    await work(db, library, ingestion)
    document = await library.get(user, document.document_id)
    assert await found(search, user)
    await library.delete(user, document.document_id)
    assert await found(search, user) == []
    assert await library.newest(user, 10) == []
    for call in (
        library.get,
        library.delete,
        library.retry,
        lambda *ids: library.change(*ids, name="b.txt"),
    ):
        with pytest.raises(NotFound, match="document_not_found"):
            await call(user, document.document_id)
    [binned] = await in_bin(library, user)
    assert binned.deleted_at is not None
    assert await counts(admin) == [1, 1, 1, 0]
    restored = await library.restore(user, document.document_id)
    assert (restored.state, restored.deleted_at, restored.tags) == ("ready", None, ("x",))
    assert await library.restore(user, document.document_id) == restored
    assert await found(search, user) == [document.document_id]
    assert await in_bin(library, user) == []


async def test_it_goes_for_good_a_day_later_with_its_file(db, admin, library, ingestion, user, clock, tmp_path):
    first, second = [await put(library, user, content) for content in (b"one", b"two")]
    await work(db, library, ingestion)
    await library.delete(user, first.document_id)
    clock.time += DAY / 2
    await library.delete(user, second.document_id)
    [delay] = [row[0] for row in await admin.fetch("select run_after - now() from jobs where kind = 'purge'")]
    assert DAY - timedelta(minutes=5) < delay <= DAY
    clock.time += DAY / 2 - timedelta(seconds=1)
    await due(admin)
    assert await work(db, library, ingestion) == ["purge"]
    assert len(await in_bin(library, user)) == 2
    clock.time += timedelta(seconds=1)
    await due(admin)
    assert await work(db, library, ingestion) == ["purge", "erase"]
    assert [binned.document_id for binned in await in_bin(library, user)] == [second.document_id]
    assert len(files(tmp_path)) == 1
    clock.time += DAY
    await due(admin)
    assert await work(db, library, ingestion) == ["purge", "erase"]
    assert await counts(admin) == [0, 0, 0, 0]
    assert await admin.fetchval("select count(*) from jobs where kind <> 'index'") == 0
    assert files(tmp_path) == []


async def test_what_was_restored_in_time_stays(db, admin, library, ingestion, user, clock, tmp_path):
    document = await put(library, user, WORDS)
    await work(db, library, ingestion)
    await library.delete(user, document.document_id)
    await library.restore(user, document.document_id)
    clock.time += 2 * DAY
    await due(admin)
    assert await work(db, library, ingestion) == ["purge"]
    assert (await library.get(user, document.document_id)).state == "ready"
    assert len(files(tmp_path)) == 1


async def test_a_purge_that_meets_a_restoration_leaves_it(db, admin, library, user, clock):
    document = await put(library, user, WORDS)
    await library.delete(user, document.document_id)
    clock.time += 2 * DAY
    async with db.tenant(user) as tx:
        await tx.fetch(
            "update documents set deleted_at = null where user_id = $1 returning document_id", user
        )  # not committed yet
        purge = asyncio.create_task(library.purge(user))
        await waits_for_a_lock(admin)
    await purge
    assert (await library.get(user, document.document_id)).deleted_at is None


async def test_what_comes_into_the_bin_beside_a_purge_has_its_turn_too(db, admin, library, user, clock):
    """It relies on a purge that was promised, and that is over before it is in the bin."""
    document = await put(library, user, WORDS)
    async with db.tenant(user) as tx:
        await library_queries.lock_bin(tx)
        await library_queries.put_into_bin(tx, [document.document_id], clock())
        purge = asyncio.create_task(library.purge(user))
        await waits_for_a_lock(admin)
    await purge
    assert await admin.fetchval("select count(*) from jobs where kind = 'purge' and run_after > now()") == 1


async def test_the_same_content_again_takes_it_out_of_the_bin(db, library, ingestion, search, user, tmp_path):
    document = await put(library, user, WORDS, labels=labels(tags=["x"]))
    await work(db, library, ingestion)
    await library.delete(user, document.document_id)
    again = await upload(library, user, WORDS, "other.txt", labels=labels(tags=["y"]))
    assert not again.created
    assert (again.document.document_id, again.document.name) == (document.document_id, "a.txt")
    assert (again.document.state, again.document.tags, again.document.deleted_at) == ("ready", ("x",), None)
    assert await found(search, user)
    assert len(files(tmp_path)) == 1


async def test_one_that_had_failed_is_tried_again_out_of_the_bin(db, library, ingestion, user):
    document = await put(library, user, b" \n")
    await work(db, library, ingestion)
    await library.delete(user, document.document_id)
    restored = await library.restore(user, document.document_id)
    assert (restored.state, restored.reason_code) == ("failed", "no_text")
    await library.delete(user, document.document_id)
    again = await upload(library, user, b" \n")
    assert (again.created, again.document.state, again.document.deleted_at) == (False, "queued", None)
    assert await work(db, library, ingestion) == ["ingest"]


@pytest.mark.parametrize("by", ["restoring", "upload"])
async def test_what_was_not_read_yet_is_read_when_it_comes_back(db, admin, library, ingestion, user, models, by):
    document = await put(library, user, WORDS)
    [job] = await claimed(db)
    models.script_embeddings(first_delay=600)
    run = asyncio.create_task(ingestion.run(job))
    await models.wait_for(lambda: bool(models.embeddings))
    await library.delete(user, document.document_id)
    await asyncio.wait_for(run, 20)  # it is let go
    models.script_embeddings()
    if by == "restoring":
        restored = await library.restore(user, document.document_id)
    else:
        restored = (await upload(library, user, WORDS)).document
    assert restored.state == "queued"
    await admin.execute("delete from jobs where state = 'running'")
    assert await work(db, library, ingestion) == ["ingest"]
    assert (await library.get(user, document.document_id)).state == "ready"
    assert await counts(admin) == [1, 1, 1, 0]


async def test_what_is_purged_is_gone_at_once_from_the_bin_too(db, admin, library, ingestion, user, tmp_path):
    one, two = [await put(library, user, content) for content in (b"one", b"two")]
    await work(db, library, ingestion)
    await library.delete(user, one.document_id)
    for document in (one, two):
        await library.delete(user, document.document_id, purge=True)
        with pytest.raises(NotFound):
            await library.delete(user, document.document_id, purge=True)
        with pytest.raises(NotFound):
            await library.restore(user, document.document_id)
    assert await counts(admin) == [0, 0, 0, 0]
    assert await work(db, library, ingestion) == ["erase", "erase"]
    assert files(tmp_path) == []


async def test_several_at_once_say_what_became_of_each(library, user, stranger):
    mine = [await put(library, user, str(n).encode()) for n in range(3)]
    theirs = await put(library, stranger, b"theirs")
    ids = [mine[0].document_id, theirs.document_id, DocumentId(uuid4()), mine[1].document_id, mine[0].document_id]
    fates = ["deleted", "not_found", "not_found", "deleted", "deleted"]
    assert await library.delete_many(user, ids) == fates
    assert await library.delete_many(user, ids) == ["not_found"] * 5
    assert len(await in_bin(library, user)) == 2
    ids.append(mine[2].document_id)
    fates = ["purged", "not_found", "not_found", "purged", "purged", "purged"]
    assert await library.delete_many(user, ids, purge=True) == fates
    assert await in_bin(library, user) == []
    assert (await library.get(stranger, theirs.document_id)).name == "a.txt"


@pytest.mark.parametrize("purge", [False, True])
async def test_a_thousand_go_at_once(admin, library, user, purge):
    ids = [DocumentId(uuid4()) for _ in range(1000)]
    await admin.executemany(
        "insert into documents (user_id, document_id, name, media_type, size, sha256)"
        " values ($1, $2, 'a', 'text/plain', 1, $3)",
        [(user, one, one.bytes * 2) for one in ids],
    )
    both = await asyncio.gather(
        library.delete_many(user, ids, purge=purge), library.delete_many(user, ids[::-1], purge=purge)
    )
    done = "purged" if purge else "deleted"  # by one of the two
    assert all({first, second} == {done, "not_found"} for first, second in zip(both[0], both[1][::-1], strict=True))
    kinds = await admin.fetch("select kind, count(*) from jobs where kind <> 'index' group by kind")
    assert dict(kinds) == ({"erase": 1000} if purge else {"purge": 1})


async def test_a_library_without_a_bin_deletes_for_good(db, admin, storage, user):
    library = Library(db, storage, 1000)
    document = await put(library, user)
    assert await library.delete_many(user, [document.document_id]) == ["purged"]
    assert await counts(admin) == [0, 0, 0, 0]


async def test_the_bin_counts_until_it_is_emptied_and_has_room_for_what_comes_back(db, storage, user, clock):
    library = Library(db, storage, 1000, Quotas(Quota(documents=2, bytes=100)), trash=DAY, now=clock)
    one, _ = await put(library, user, b"1" * 40), await put(library, user, b"2" * 40)
    await library.delete(user, one.document_id)
    assert (await library.usage(user)).documents == 2
    with pytest.raises(QuotaExceeded, match="Delete some for good first"):
        await put(library, user, b"3" * 40)
    assert (await upload(library, user, b"1" * 40)).document.document_id == one.document_id
    await library.delete(user, one.document_id, purge=True)
    await put(library, user, b"3" * 40)
    assert (await library.usage(user)).bytes == 80


async def test_a_stranger_can_not_restore_or_purge(library, user, stranger):
    document = await put(library, user)
    await library.delete(user, document.document_id)
    for call in (library.restore, lambda *ids: library.delete(*ids, purge=True)):
        for unknown in (document.document_id, DocumentId(uuid4())):
            with pytest.raises(NotFound, match="document_not_found: There is no such document"):
                await call(stranger, unknown)
    assert await in_bin(library, stranger) == []
    assert len(await in_bin(library, user)) == 1


async def test_a_purge_takes_what_was_on_its_way_too(db, admin, library, versions, ingestion, user, tmp_path):
    document = await put(library, user, WORDS)
    await work(db, library, ingestion)
    await replace(versions, user, document.document_id, b"other words")
    assert len(files(tmp_path)) == 2
    await library.delete(user, document.document_id, purge=True)
    assert set(await work(db, library, ingestion)) == {"replace", "erase"}
    assert await counts(admin) == [0, 0, 0, 0]
    assert files(tmp_path) == []


async def test_names_and_labels_are_changed_one_by_one(library, collections, user):
    collection = (await collections.add(user, "One")).collection_id
    document = await put(library, user, labels=labels([collection], ["a"], {"x": 1}))
    document = await library.change(user, document.document_id, name="../dir/New\u202e name.txt")
    assert (document.name, document.tags, document.collections) == ("New name.txt", ("a",), (collection,))
    document = await library.change(user, document.document_id, labels=labels(tags=[]))
    assert (document.tags, document.metadata) == ((), {"x": 1})
    document = await library.change(user, document.document_id, labels=labels([], metadata={"y": [1, "z"]}))
    assert (document.collections, document.metadata, document.name) == ((), {"y": [1, "z"]}, "New name.txt")
    assert await library.change(user, document.document_id) == await library.get(user, document.document_id)
    with pytest.raises(Invalid, match="bad_name"):
        await library.change(user, document.document_id, name="..")

"""A file and its row come and go together, whatever dies in between; shown of both storages."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from ringfence import jobs
from ringfence.documents import queries
from ringfence.documents.intake import STORE, ErasePayload
from ringfence.documents.service import Library
from ringfence.errors import NotFound, Unauthenticated, Unavailable
from ringfence.ids import new_user_id
from ringfence.storage.base import unavailable
from ringfence.storage.local import LocalStorage
from ringfence.storage.s3 import S3Storage
from tests.storage.conftest import now

LEASE = timedelta(seconds=60)


class Held:
    """A storage whose next files are kept only when a test says so."""

    def __init__(self):
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    def from_now_on(self):
        self.reached.clear()
        self.go_on.clear()

    async def hold(self):
        self.reached.set()
        await self.go_on.wait()


class HeldFolder(LocalStorage):
    async def keep(self, *args):
        await self.held.hold()
        await super().keep(*args)


class HeldBucket(S3Storage):
    async def keep(self, *args):
        await self.held.hold()
        await super().keep(*args)


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        storage = HeldFolder(tmp_path / "files")
    else:
        storage = HeldBucket(request.getfixturevalue("s3").bucket(), tmp_path / "scratch", now)
    storage.held = Held()
    return storage


@pytest.fixture
def library(db, storage):
    return Library(db, storage, 10_000_000)


@pytest.fixture
async def user(admin):
    user_id = new_user_id()
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', 'a@b.c', 'x')", user_id
    )
    return user_id


async def put(library, user, content=b"some words", name="a.txt"):
    async with library.receive(user) as incoming:
        await incoming.write(content)
        return await library.add(user, name, incoming)


async def is_stored(storage, user, sha256):
    try:
        return b"".join([piece async for piece in storage.read(user, sha256)]) != b""
    except NotFound:
        return False


async def kinds(admin):
    return [row["kind"] for row in await admin.fetch("select kind from jobs order by kind")]


async def due(db, admin, kind):
    """The job of a kind, which an hour later a worker has."""
    await admin.execute("update jobs set run_after = now()")
    async with db.system() as tx:
        return next(job for job in await jobs.claim(tx, 100, LEASE) if job.kind == kind)


def sha256_of(upload):
    return upload.document.sha256


async def test_nothing_is_promised_any_more_when_it_is_done(db, admin, library, storage, user):
    upload = await put(library, user)
    assert await kinds(admin) == ["ingest"]
    assert await is_stored(storage, user, sha256_of(upload))
    assert not (await put(library, user)).created
    assert await kinds(admin) == ["ingest"]


async def test_a_file_whose_upload_died_before_its_row_is_erased(db, admin, library, storage, user):
    async with library.receive(user) as incoming:
        await incoming.write(b"some words")
        sha256 = await incoming.finish()
        async with db.tenant(user) as tx:
            await queries.promise_erasure(tx, STORE, ErasePayload(sha256=sha256.hex()), timedelta(hours=1))
        await storage.keep(incoming, user, sha256)  # here its process is killed
    assert await is_stored(storage, user, sha256)
    job = await due(db, admin, STORE)
    await library.erase(user, job.payload)
    assert not await is_stored(storage, user, sha256)


async def test_a_promise_that_comes_due_spares_a_file_with_a_row(db, admin, library, storage, user):
    async with db.tenant(user) as tx:
        payload = ErasePayload(sha256=sha256_of(await put(library, user)).hex())
        await queries.promise_erasure(tx, STORE, payload, timedelta(hours=1))
    job = await due(db, admin, STORE)
    await library.erase(user, job.payload)
    assert await is_stored(storage, user, bytes.fromhex(payload.sha256))


async def test_a_deleted_document_does_not_take_the_file_of_the_same_content_that_comes_just_now(
    db, admin, library, storage, user
):
    first = await put(library, user)
    await library.delete(user, first.document.document_id)
    erase = await due(db, admin, "erase")
    storage.held.from_now_on()
    again = asyncio.create_task(put(library, user))
    await storage.held.reached.wait()
    await library.erase(user, erase.payload)
    assert await is_stored(storage, user, sha256_of(first))
    storage.held.go_on.set()
    assert (await again).created
    assert await is_stored(storage, user, sha256_of(first))
    assert "store" not in await kinds(admin)


async def test_an_upload_that_took_too_long_is_refused_and_leaves_nothing(db, admin, library, storage, user):
    storage.held.from_now_on()
    slow = asyncio.create_task(put(library, user))
    async with asyncio.timeout(30):
        await storage.held.reached.wait()
    job = await due(db, admin, STORE)
    await library.erase(user, job.payload)
    storage.held.go_on.set()
    with pytest.raises(Unavailable, match="took too long"):
        await slow
    assert await admin.fetchval("select count(*) from documents") == 0
    assert not await is_stored(storage, user, bytes.fromhex(ErasePayload.model_validate_json(job.payload).sha256))


async def test_an_account_that_goes_meanwhile_keeps_no_file(db, admin, library, storage, user):
    storage.held.from_now_on()
    late = asyncio.create_task(put(library, user))
    await storage.held.reached.wait()
    payload = await admin.fetchval("select payload from jobs where kind = 'store'")
    await admin.execute("delete from users")
    storage.held.go_on.set()
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await late
    assert not await is_stored(storage, user, bytes.fromhex(ErasePayload.model_validate_json(payload).sha256))
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await put(library, user)


async def test_an_upload_whose_account_and_files_go_meanwhile_is_told_so(admin, library, storage, user):
    storage.held.from_now_on()
    late = asyncio.create_task(put(library, user))
    await storage.held.reached.wait()
    await storage.delete_all(user)  # in a folder, what is being received as well
    await admin.execute("delete from users")
    storage.held.go_on.set()
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await late


async def test_an_upload_whose_file_can_not_be_kept_says_so_while_the_account_is_there(admin, library, storage, user):
    async def full():
        raise unavailable()

    storage.held.hold = full
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await put(library, user)
    assert await kinds(admin) == []
    assert await admin.fetchval("select count(*) from documents") == 0


async def test_an_upload_that_is_cancelled_while_it_is_stored_leaves_nothing(db, admin, library, storage, user):
    storage.held.from_now_on()
    task = asyncio.create_task(put(library, user))
    await storage.held.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kinds(admin) == []


async def test_many_at_once_make_one_document(admin, library, storage, user):
    uploads = await asyncio.gather(*(put(library, user) for _ in range(12)))
    assert sum(upload.created for upload in uploads) == 1
    assert await kinds(admin) == ["ingest"]
    assert await is_stored(storage, user, sha256_of(uploads[0]))


async def test_uploads_and_deletions_of_one_content_at_once_never_part_a_row_from_its_file(
    db, admin, library, storage, user
):
    async def churn():
        upload = await put(library, user)
        with suppress(NotFound):  # another was faster
            await library.delete(user, upload.document.document_id)
        async with db.system() as tx:
            for job in await jobs.claim(tx, 5, LEASE):
                if job.kind == "erase":
                    await library.erase(user, job.payload)

    for _ in range(4):
        await asyncio.gather(*(churn() for _ in range(4)))
        upload = await put(library, user)
        assert await is_stored(storage, user, sha256_of(upload))

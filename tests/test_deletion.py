"""An account that was closed is deleted to the last row and file, whatever breaks that off."""

import asyncio
import hashlib
from contextlib import aclosing
from datetime import timedelta
from uuid import uuid4

import pytest

from ringfence import jobs
from ringfence.accounts import leaving
from ringfence.deletion import Deletion
from ringfence.documents.ingest import Ingestion
from ringfence.documents.service import Library
from ringfence.errors import RingfenceError, Unavailable
from ringfence.ids import UserId
from ringfence.models.openai import OpenAIEmbedder
from ringfence.services.work import _pseudonymous
from ringfence.storage.local import LocalStorage
from tests import traces_of
from tests.engine import waits_for_a_lock
from tests.isolation.tenants import Tenant, fingerprint
from tests.parsers import parser

TEXT = b"Marmalade, said the zebrafinch. " * 40
MARKER = "zebrafinch"


FORGET = _pseudonymous("a secret of an installation, 0123456789")


@pytest.fixture
async def ada(admin):
    tenant = Tenant("ada-zebrafinch")
    await tenant.seed(admin)
    await admin.execute("update audit_events set event_id = gen_random_uuid()")  # as it is, and no document's id
    return tenant


@pytest.fixture
async def bob(admin):
    tenant = Tenant("bob-9f8e")
    await tenant.seed(admin)
    return tenant


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "files")


@pytest.fixture
def library(db, storage):
    return Library(db, storage, 10_000_000)


@pytest.fixture
def deletion(db, library, storage):
    return Deletion(db, library, storage, [FORGET])


async def put(library, user_id, content=TEXT, name="zebrafinch.txt"):
    async with library.receive(user_id) as incoming:
        await incoming.write(content)
        return await library.add(user_id, name, incoming)


async def closed(db, tenant) -> jobs.Job:
    """The job that an account's closing began."""
    async with db.system() as tx:
        await leaving.close(tx, tenant.user_id)
        (job,) = await tx.fetch("select job_id, payload from jobs where user_id = $1", tenant.user_id)
    return jobs.Job(tenant.user_id, job["job_id"], leaving.KIND, job["payload"], 1, uuid4())


async def claimed(db, kind) -> jobs.Job:
    async with db.system() as tx:
        (job,) = [job for job in await jobs.claim(tx, 100, timedelta(seconds=60)) if job.kind == kind]
    return job


def signs(tenant):
    documents = [*map(str, tenant.documents.values()), *(tenant.digest(state) for state in tenant.documents)]
    return [str(tenant.user_id), str(tenant.token), tenant.text, MARKER, hashlib.sha256(TEXT).digest(), *documents]


async def left(admin, tmp_path, tenant):
    return await traces_of.in_tables(admin, signs(tenant)), traces_of.in_folder(tmp_path / "files", signs(tenant))


async def test_nothing_is_left_and_the_neighbour_is_untouched(db, admin, tmp_path, library, deletion, ada, bob):
    await put(library, ada.user_id)
    await put(library, bob.user_id, b"Bob's own words.", "bob.txt")
    half = tmp_path / "files" / "incoming" / f"{ada.user_id}.0123"
    half.write_bytes(TEXT)
    rows, files = await left(admin, tmp_path, ada)
    assert {"public.users", "public.chunks", "public.embeddings", "public.jobs", "public.answers"} <= set(rows)
    assert len(files) == 3  # a folder, a file in it, and what is half received
    theirs = await fingerprint(admin, bob), traces_of.contents(tmp_path / "files" / str(bob.user_id))
    await deletion.run(await closed(db, ada))
    assert await left(admin, tmp_path, ada) == ({}, [])
    assert (await fingerprint(admin, bob), traces_of.contents(tmp_path / "files" / str(bob.user_id))) == theirs


@pytest.mark.parametrize(
    "forgotten",
    [
        "create table notes as select 1 as n, 'for zebrafinch' as note",
        "create table notes as select jsonb_build_object('of', jsonb_build_array('ada-zebrafinch')) as note",
        "create table notes as select user_id as whose from users where email like 'ada-%'",
        "create table notes as select convert_to('x ada-zebrafinch y', 'utf8') as data",
        "create schema more; create table more.notes as select array['a', 'ada-zebrafinch@example.org'] as many",
    ],
)
async def test_a_row_that_was_forgotten_is_found(db, admin, tmp_path, deletion, ada, forgotten):
    await admin.execute(forgotten)
    await deletion.run(await closed(db, ada))
    rows, files = await left(admin, tmp_path, ada)
    assert [table.rpartition(".")[2] for table in rows] == ["notes"]
    assert files == []


@pytest.mark.parametrize("name", ["cache/USER", "cache/page-of-zebrafinch.png", "cache/other"])
async def test_a_file_that_was_forgotten_is_found(db, admin, tmp_path, deletion, ada, name):
    path = tmp_path / "files" / name.replace("USER", str(ada.user_id))
    path.parent.mkdir(parents=True)
    path.write_bytes(TEXT if name == "cache/other" else b"")
    await deletion.run(await closed(db, ada))
    assert await left(admin, tmp_path, ada) == ({}, [str(path.relative_to(tmp_path / "files"))])


async def test_what_breaks_off_is_taken_up_again(db, admin, tmp_path, library, storage, ada):
    """The last step fails: files are gone by then, rows are not, and another try finishes."""
    seen = []

    async def farewell(tx, user_id):
        seen.append((user_id, await tx.fetchval("select count(*) from users where user_id = $1", user_id)))
        if len(seen) == 1:
            raise Unavailable("database_unavailable", "Gone.")

    await put(library, ada.user_id)
    deletion = Deletion(db, library, storage, [farewell, FORGET])
    job = await closed(db, ada)
    with pytest.raises(Unavailable):
        await deletion.run(job)
    assert await admin.fetchval("select count(*) from jobs where user_id = $1", ada.user_id) == 1
    await deletion.run(job)
    assert seen == [(ada.user_id, 0), (ada.user_id, 0)]
    assert await left(admin, tmp_path, ada) == ({}, [])


async def test_an_account_that_is_not_closed_is_left_alone(db, admin, tmp_path, library, deletion, ada):
    await put(library, ada.user_id)
    before = await fingerprint(admin, ada), traces_of.contents(tmp_path)
    await deletion.run(jobs.Job(ada.user_id, 1, leaving.KIND, "{}", 1, ada.token))
    assert (await fingerprint(admin, ada), traces_of.contents(tmp_path)) == before


async def test_two_workers_at_once_do_no_harm(db, admin, tmp_path, library, deletion, ada, bob):
    await put(library, ada.user_id)
    job, before = await closed(db, ada), await fingerprint(admin, bob)
    await asyncio.gather(deletion.run(job), deletion.run(job))
    await deletion.run(job)
    assert await left(admin, tmp_path, ada) == ({}, [])
    assert await fingerprint(admin, bob) == before


async def test_who_finds_that_another_worker_was_faster_stops(db, admin, tmp_path, ada):
    class Slow(LocalStorage):
        async def delete_all(self, user_id):
            await super().delete_all(user_id)
            if job := waiting.pop("job", None):
                await deletion.run(job)

    storage = Slow(tmp_path / "files")
    library = Library(db, storage, 10_000_000)
    deletion, waiting = Deletion(db, library, storage, [FORGET]), {}
    await put(library, ada.user_id)
    job = waiting["job"] = await closed(db, ada)
    await deletion.run(job)
    assert waiting == {}
    assert await left(admin, tmp_path, ada) == ({}, [])


async def test_closing_again_begins_the_deletion_anew(db, admin, tmp_path, deletion, ada):
    lost = await closed(db, ada)
    await admin.execute("update jobs set state = 'parked'")
    again = await closed(db, ada)
    assert again.job_id != lost.job_id
    assert await admin.fetchval("select array_agg(state) from jobs") == ["ready"]
    await deletion.run(again)
    assert await left(admin, tmp_path, ada) == ({}, [])


async def test_closing_nobody_does_nothing(db, admin):
    async with db.system() as tx:
        await leaving.close(tx, UserId(Tenant("nobody").user_id))
    assert await admin.fetchval("select count(*) from jobs") == 0


async def test_a_disk_that_fails_is_tried_again(db, admin, tmp_path, deletion, ada):
    (tmp_path / "files").touch()
    job = await closed(db, ada)
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await deletion.run(job)
    (tmp_path / "files").unlink()
    await deletion.run(job)
    assert await left(admin, tmp_path, ada) == ({}, [])


# What goes on meanwhile


async def outcome(call):
    try:
        await call
    except RingfenceError as error:
        return error.code
    return "ok"


async def test_an_upload_that_comes_last_leaves_no_file(db, admin, tmp_path, library, storage, ada):
    """It waits for the account's row, which is gone then."""
    await closed(db, ada)
    async with db.system() as tx:
        assert await leaving.hold(tx, ada.user_id)
        task = asyncio.create_task(outcome(put(library, ada.user_id)))
        await waits_for_a_lock(admin)
        await storage.delete_all(ada.user_id)
        await FORGET(tx, ada.user_id)
        await leaving.remove(tx, ada.user_id)
    assert await task == "unknown_account"
    assert await left(admin, tmp_path, ada) == ({}, [])


class LateStorage(LocalStorage):
    """One more upload gets through, after the files are deleted and before the account's row is locked."""

    late = False

    async def delete_all(self, user_id):
        await super().delete_all(user_id)
        if not self.late:
            self.late = True
            path = self.path(user_id, hashlib.sha256(TEXT).digest())
            path.parent.mkdir()
            path.write_bytes(TEXT)


async def test_an_upload_that_comes_last_but_one_leaves_no_file_either(db, admin, tmp_path, ada):
    storage = LateStorage(tmp_path / "files")
    await Deletion(db, Library(db, storage, 1_000_000), storage, [FORGET]).run(await closed(db, ada))
    assert storage.late
    assert await left(admin, tmp_path, ada) == ({}, [])


async def test_a_failed_document_that_is_tried_again_waits_likewise(db, admin, tmp_path, library, storage, ada):
    await put(library, ada.user_id)
    await admin.execute("update documents set state = 'failed' where user_id = $1", ada.user_id)
    await closed(db, ada)
    async with db.system() as tx:
        assert await leaving.hold(tx, ada.user_id)
        await storage.delete_all(ada.user_id)
        task = asyncio.create_task(outcome(put(library, ada.user_id)))
        await waits_for_a_lock(admin)
        assert not (tmp_path / "files" / str(ada.user_id)).exists()
    assert await task == "ok"


async def test_uploads_all_the_while_leave_nothing(db, admin, tmp_path, library, deletion, ada):
    await put(library, ada.user_id)
    await admin.execute("update documents set state = 'failed' where user_id = $1", ada.user_id)
    job = await closed(db, ada)
    uploads = [
        asyncio.create_task(outcome(put(library, ada.user_id, TEXT + b"." * (n % 3), "zebrafinch.txt")))
        for n in range(30)
    ]
    async with asyncio.timeout(60):
        while await admin.fetchval("select count(*) from users where user_id = $1", ada.user_id):
            await outcome(deletion.run(job))
    outcomes = set(await asyncio.gather(*uploads))
    assert outcomes <= {"ok", "unknown_account", "database_unavailable"}
    assert await left(admin, tmp_path, ada) == ({}, [])


async def test_an_ingestion_that_runs_stops_and_brings_nothing_back(
    db, admin, tmp_path, library, storage, deletion, models, ada
):
    await put(library, ada.user_id, b"".join(b"zebrafinch%d " % n for n in range(5000)))
    await admin.execute("delete from live_models; delete from embeddings")  # of models that are not set up here
    ingest = await claimed(db, "ingest")
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    async with parser() as sandbox:
        ingestion = Ingestion(db, storage, sandbox, embedder, chunk_tokens=68, chunk_overlap_tokens=13)
        running = asyncio.create_task(ingestion.run(ingest))
        async with asyncio.timeout(30):
            while not await admin.fetchval("select count(*) from chunks where text like 'zebrafinch%'"):
                assert not running.done(), running.result()
                await asyncio.sleep(0.005)
        assert not running.done()
        await deletion.run(await closed(db, ada))
        await running
        await ingestion.give_up(ingest, "internal", "zebrafinch")
    await embedder.close()
    assert await left(admin, tmp_path, ada) == ({}, [])


async def test_an_export_that_runs_brings_nothing_back(db, admin, tmp_path, library, deletion, ada):
    document = (await put(library, ada.user_id, TEXT * 3000)).document
    async with aclosing(library.original(ada.user_id, document)) as original:
        first = await anext(original)
        await deletion.run(await closed(db, ada))
        assert first + b"".join([piece async for piece in original]) == TEXT * 3000
    assert await left(admin, tmp_path, ada) == ({}, [])

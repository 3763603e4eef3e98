"""Ingestion with a real database, a real sandbox and a real model server."""

import asyncio
from datetime import timedelta

import pymupdf
import pytest
from asyncpg import UndefinedTableError

from ringfence import jobs
from ringfence.documents.ingest import Ingestion
from ringfence.documents.parsing.wire import Limits
from ringfence.documents.service import IngestPayload, Library
from ringfence.errors import Invalid, NotFound, Unauthenticated, Unavailable, Unsupported
from ringfence.ids import DocumentId, new_document_id, new_user_id
from ringfence.models.openai import OpenAIEmbedder
from ringfence.storage.local import LocalStorage
from tests.parsers import parser

LEASE = timedelta(seconds=60)


def pdf(*pages: str) -> bytes:
    with pymupdf.open() as document:
        for text in pages:
            document.new_page().insert_textbox((50, 50, 550, 800), text)
        return document.tobytes()


@pytest.fixture
async def user(db):
    user_id = new_user_id()
    async with db.system() as tx:
        await tx.execute(
            "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', $2, 'x')",
            user_id,
            str(user_id),
        )
    return user_id


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "files")


@pytest.fixture
def library(db, storage):
    return Library(db, storage, 10_000_000)


@pytest.fixture
async def ingestion(db, storage, models):
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    async with parser() as sandbox:
        yield Ingestion(db, storage, sandbox, embedder, chunk_tokens=68, chunk_overlap_tokens=13)
    await embedder.close()


async def put(library, user, name, content):
    async with library.receive(user) as incoming:
        await incoming.write(content)
        return await library.add(user, name, incoming)


async def claim(db) -> jobs.Job:
    async with db.system() as tx:
        [job] = await jobs.claim(tx, 1, LEASE)
    return job


async def rows(admin, table):
    return await admin.fetchval(f"select count(*) from {table}")


async def test_a_pdf_becomes_ready_with_pages_chunks_and_vectors(db, admin, library, ingestion, user):
    document = (await put(library, user, "a.pdf", pdf("Alpha on page one. " * 30, "Beta on page two. " * 30))).document
    assert document.state == "queued"
    await ingestion.run(await claim(db))
    document = await library.get(user, document.document_id)
    assert (document.state, document.pages, document.pages_done) == ("ready", 2, 2)
    assert document.chunks == await rows(admin, "chunks") == await rows(admin, "embeddings") > 2
    first, last = await admin.fetchrow("select min(spans[1]), max(spans[1]) from chunks")
    assert (first, last) == (1, 2)


async def test_headings_are_kept_and_embedded_with_their_chunks(db, admin, library, ingestion, user, models):
    text = "# Guide\n\nIt begins.\n\n## Use\n\n" + " ".join(f"Gate {n} opens at eight." for n in range(200))
    await put(library, user, "a.md", text.encode())
    await ingestion.run(await claim(db))
    rows = await admin.fetch("select context, text from chunks order by number")
    assert (rows[0]["context"], rows[0]["text"][:7]) == ("", "# Guide")
    assert {row["context"] for row in rows[2:]} == {"Guide \u203a Use"}
    sent = [text for request in models.embeddings for text in request.body["input"]]
    assert sent[-1] == f"Guide \u203a Use\n{rows[-1]['text']}"
    assert len(rows) == len(sent) > 20


async def test_running_twice_stores_nothing_twice(db, admin, library, ingestion, user):
    await put(library, user, "a.txt", b"words " * 500)
    job = await claim(db)
    await ingestion.run(job)
    before = await rows(admin, "chunks")
    await ingestion.run(job)
    assert await rows(admin, "chunks") == before == await rows(admin, "embeddings")


async def test_a_try_that_broke_off_is_wiped_by_the_next(db, admin, library, ingestion, user, models):
    await put(library, user, "a.txt", b"".join(b"word%d " % n for n in range(3000)))
    job = await claim(db)
    models.script_embeddings(times=3)  # when the fourth batch is asked for, the first is stored
    models.script_embeddings(status=503, times=1)
    with pytest.raises(Unavailable):
        await ingestion.run(job)
    assert 32 <= await rows(admin, "chunks") <= 96
    await ingestion.run(job)
    numbers = [row[0] for row in await admin.fetch("select number from chunks order by number")]
    assert numbers == list(range(len(numbers)))
    assert (await library.newest(user, 1))[0].state == "ready"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("damaged.pdf", b"%PDF-1.7\nnothing here", "document_damaged"),
        ("blank.txt", b" \n \n", "no_text"),
    ],
)
async def test_what_cannot_be_read_ends_as_failed_with_its_reason(db, library, ingestion, user, name, content, code):
    document = (await put(library, user, name, content)).document
    await ingestion.run(await claim(db))
    failed = await library.get(user, document.document_id)
    assert (failed.state, failed.reason_code) == ("failed", code)
    assert failed.reason


async def test_a_failed_document_is_tried_again_when_uploaded_again(db, library, ingestion, user):
    document = (await put(library, user, "x.txt", b" ")).document
    await ingestion.run(await claim(db))
    again = await put(library, user, "x.txt", b" ")
    assert not again.created
    assert (again.document.document_id, again.document.state) == (document.document_id, "queued")


async def test_the_same_content_is_the_same_document(db, library, user):
    first, second = await put(library, user, "a.txt", b"same"), await put(library, user, "b.txt", b"same")
    assert (first.created, second.created) == (True, False)
    assert first.document == second.document
    async with db.system() as tx:
        assert len(await jobs.claim(tx, 9, LEASE)) == 1


async def test_many_uploads_of_one_file_at_once_make_one_document(library, user):
    uploads = await asyncio.gather(*(put(library, user, "a.txt", b"same") for _ in range(20)))
    assert sum(upload.created for upload in uploads) == 1
    assert len({upload.document.document_id for upload in uploads}) == 1


async def test_bad_uploads_are_refused_and_leave_nothing(admin, library, user, tmp_path):
    with pytest.raises(Invalid, match="empty_file"):
        await put(library, user, "a.txt", b"")
    with pytest.raises(Unsupported, match="unsupported_type"):
        await put(library, user, "a.pdf", b"PK\x03\x04 not a pdf")
    assert await rows(admin, "documents") == await rows(admin, "jobs") == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_deleting_takes_everything_and_then_the_file(db, admin, library, ingestion, user, tmp_path):
    document = (await put(library, user, "a.txt", b"words " * 100)).document
    await ingestion.run(await claim(db))
    async with db.system() as tx:
        await tx.execute("delete from jobs")
    await library.delete(user, document.document_id)
    assert await rows(admin, "chunks") == await rows(admin, "embeddings") == await rows(admin, "documents") == 0
    erase = await claim(db)
    await library.erase(user, erase.payload)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(NotFound):
        await library.get(user, document.document_id)
    with pytest.raises(NotFound):
        await library.delete(user, document.document_id)


async def test_a_file_that_was_uploaded_again_is_not_erased(db, library, user):
    document = (await put(library, user, "a.txt", b"same")).document
    await library.delete(user, document.document_id)
    again = (await put(library, user, "a.txt", b"same")).document
    async with db.system() as tx:
        erase = next(job for job in await jobs.claim(tx, 9, LEASE) if job.kind == "erase")
    await library.erase(user, erase.payload)
    assert b"".join([piece async for piece in library.original(user, again)]) == b"same"


async def test_a_document_deleted_meanwhile_is_let_go(db, admin, library, ingestion, user, models):
    document = (await put(library, user, "a.txt", b"words " * 500)).document
    job = await claim(db)
    models.script_embeddings(delay=0.3)
    run = asyncio.create_task(ingestion.run(job))
    await models.wait_for(lambda: bool(models.embeddings))
    await library.delete(user, document.document_id)
    await run
    assert await rows(admin, "chunks") == await rows(admin, "embeddings") == 0
    await ingestion.run(job)


async def test_what_nobody_wants_any_more_is_not_waited_for(db, admin, library, ingestion, user, models):
    """The vectors never come; after some looks at the document it is deleted."""
    document = (await put(library, user, "a.txt", b"words " * 500)).document
    job = await claim(db)
    models.script_embeddings(first_delay=600)
    impatient = Ingestion(
        db,
        ingestion._storage,
        ingestion._sandbox,
        ingestion._models.newest,
        chunk_tokens=60,
        chunk_overlap_tokens=8,
        beat=0.05,
    )
    run = asyncio.create_task(impatient.run(job))
    await models.wait_for(lambda: bool(models.embeddings))
    await asyncio.sleep(0.3)  # of six beats, none ends it
    assert not run.done()
    await library.delete(user, document.document_id)
    await asyncio.wait_for(run, 20)
    await models.wait_for(lambda: models.disconnects == 1)
    assert await rows(admin, "chunks") == await rows(admin, "documents") == 0


async def test_a_worker_that_lost_its_lease_stores_nothing_more(db, admin, library, ingestion, user, models):
    document = (await put(library, user, "a.txt", b"words " * 200)).document
    job = await claim(db)
    models.script_embeddings(first_delay=3)  # longer than the statement below may ever take
    run = asyncio.create_task(ingestion.run(job))
    await models.wait_for(lambda: bool(models.embeddings))
    await admin.execute("update documents set ingest_token = gen_random_uuid()")
    await run
    assert await rows(admin, "chunks") == 0
    assert (await library.get(user, document.document_id)).state == "processing"


async def test_losing_the_lease_before_the_last_step_is_noticed(db, admin, library, ingestion, user):
    await admin.execute(
        "create function steal() returns trigger language plpgsql as "
        "$$begin update public.documents set ingest_token = null; return null; end$$"
    )
    await admin.execute("create trigger steal after insert on embeddings for each statement execute function steal()")
    document = (await put(library, user, "a.txt", b"words")).document
    await ingestion.run(await claim(db))
    assert (await library.get(user, document.document_id)).state == "processing"


async def test_a_document_that_fails_half_way_leaves_nothing_stored(db, admin, library, storage, user, models):
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    document = (await put(library, user, "a.txt", b"words " * 20_000)).document
    async with parser(limits=Limits(max_chars=100_000)) as sandbox:
        await Ingestion(db, storage, sandbox, embedder, chunk_tokens=68, chunk_overlap_tokens=13).run(await claim(db))
    await embedder.close()
    failed = await library.get(user, document.document_id)
    assert (failed.state, failed.reason_code, failed.chunks) == ("failed", "too_much_text", 0)
    assert models.embeddings  # it had come some way
    assert await rows(admin, "chunks") == await rows(admin, "embeddings") == 0


async def test_a_worker_that_lost_its_lease_before_it_began_does_not_begin(db, admin, library, ingestion, user):
    await put(library, user, "a.txt", b"words")
    late = await claim(db)
    await admin.execute("update jobs set lease_until = '2020-01-01'")
    current = await claim(db)
    await ingestion.run(late)
    assert (await library.newest(user, 1))[0].state == "queued"
    await ingestion.give_up(late, "worker_died", "…")
    assert (await library.newest(user, 1))[0].state == "queued"
    await ingestion.run(current)
    assert (await library.newest(user, 1))[0].state == "ready"


async def test_a_file_whose_row_could_not_be_written_is_removed(admin, library, user, tmp_path):
    await admin.execute("alter table jobs rename to away")
    with pytest.raises(UndefinedTableError):
        await put(library, user, "a.txt", b"words")
    await admin.execute("alter table away rename to jobs")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_an_account_that_is_gone_can_not_upload(admin, library, user, tmp_path):
    await admin.execute("delete from users")
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await put(library, user, "a.txt", b"words")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_giving_up_tells_why(db, library, ingestion, user):
    document = (await put(library, user, "a.txt", b"words")).document
    await ingestion.give_up(await claim(db), "worker_died", "Processing was broken off too often.")
    failed = await library.get(user, document.document_id)
    assert (failed.state, failed.reason_code) == ("failed", "worker_died")


async def test_a_model_that_changes_its_dimensions_is_refused(db, library, ingestion, user, models):
    await put(library, user, "a.txt", b"one")
    await ingestion.run(await claim(db))
    models.script_embeddings(vectors=[[1.0, 0.0]])
    other = (await put(library, user, "b.txt", b"two")).document
    fresh = Ingestion(
        db, ingestion._storage, ingestion._sandbox, ingestion._models.newest, chunk_tokens=68, chunk_overlap_tokens=1
    )
    async with db.system() as tx:
        job = next(job for job in await jobs.claim(tx, 9, LEASE))
    with pytest.raises(Unavailable, match="model_dimensions"):  # an operator's to mend: the document waits
        await fresh.run(job)
    assert (await library.get(user, other.document_id)).state == "processing"


async def test_another_tenant_sees_nothing(library, user, db):
    document = (await put(library, user, "a.txt", b"mine")).document
    stranger = new_user_id()
    assert await library.newest(stranger, 10) == []
    for unknown in (document.document_id, new_document_id()):
        with pytest.raises(NotFound, match="document_not_found: There is no such document"):
            await library.get(stranger, DocumentId(unknown))
        with pytest.raises(NotFound, match="document_not_found: There is no such document"):
            await library.delete(stranger, DocumentId(unknown))


async def test_a_deleted_file_is_not_found(library, user, storage):
    document = (await put(library, user, "a.txt", b"mine")).document
    await storage.delete(user, document.sha256)
    with pytest.raises(NotFound, match="file_not_found"):
        await anext(library.original(user, document))


async def test_no_dump_of_the_queue_holds_a_password(db, admin, storage, user):
    library = Library(db, storage, 10_000_000, password_key=b"k" * 32)
    async with library.receive(user) as incoming:
        await incoming.write(b"%PDF-1.7")
        await library.add(user, "a.pdf", incoming, "geheim-42")
    payload = await admin.fetchval("select payload::text from jobs")
    assert "sealed_password" in payload
    assert "geheim-42" not in payload


async def test_without_a_key_a_password_goes_nowhere(db, admin, library, user):
    async with library.receive(user) as incoming:
        await incoming.write(b"%PDF-1.7")
        await library.add(user, "a.pdf", incoming, "geheim-42")
    assert IngestPayload.model_validate_json(await admin.fetchval("select payload from jobs")).sealed_password is None

"""Versions: the live one answers until the next one is whole, whatever is killed, deleted or sent again meanwhile."""

import asyncio
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import pytest

from ringfence import jobs
from ringfence.documents import claims, queries
from ringfence.documents.claims import Claim
from ringfence.documents.events import ProgressEvent
from ringfence.documents.labels import labels
from ringfence.documents.progress import Progress
from ringfence.documents.progress_queries import Counts
from ringfence.documents.service import REPLACE, Library, ReplacePayload
from ringfence.documents.versions import Versions
from ringfence.documents.watching import Pace, Watch
from ringfence.errors import Conflict, NotFound, QuotaExceeded, Unavailable
from ringfence.ids import DocumentId
from ringfence.limits import Quota, Quotas
from ringfence.search import tier_queries
from ringfence.search.service import How, Search
from tests.documents.conftest import DAY
from tests.documents.shelf import claimed, due, files, put, replace, work
from tests.engine import waits_for_a_lock

OLD = b"".join(b"The red notice number %d hangs here.\n\n" % n for n in range(60))
NEW = b"".join(b"The blue notice number %d hangs here.\n\n" % n for n in range(300))
NEWER = b"".join(b"The green notice number %d hangs here.\n\n" % n for n in range(250))


@pytest.fixture
def search(db, embedder):
    return Search(db, embedder)


@pytest.fixture
async def document(db, library, ingestion, user):
    made = await put(library, user, OLD, "old.txt", labels=labels(tags=["x"]))
    await work(db, library, ingestion)
    return await library.get(user, made.document_id)


async def texts(search, user, **how):
    """What answers, in one way of searching."""
    found = await search.find(user, "the red blue green notice", 100, how=How(**how))
    return [passage.text for passage in found.passages]


def colours_of(texts):
    return {colour for text in texts for colour in ("red", "blue", "green") if colour in text}


async def colours(search, user):
    """Which versions answer, in any way of searching, with what stands around it."""
    seen = [colours_of(await texts(search, user, mode=mode)) for mode in ("dense", "lexical", "hybrid")]
    seen.append(colours_of(await texts(search, user, expand=5)))
    assert all(colours == seen[0] for colours in seen)
    return seen[0]


async def exactly(admin, library, user, document, colour):
    """The document has this one version and nothing else is there."""
    live = await library.get(user, document.document_id)
    assert (live.state, live.replacement) == ("ready", None)
    rows = await admin.fetch("select number, text from chunks order by number")
    first = await admin.fetchval("select first_chunk from documents")
    assert [row["number"] for row in rows] == list(range(first, first + live.chunks))
    assert all(colour in row["text"] for row in rows)
    numbers = await admin.fetch("select number from embeddings order by number")
    assert [row[0] for row in numbers] == [row["number"] for row in rows]
    assert await admin.fetchval("select count(*) from replacements") == 0
    await indexed(admin, live)
    return live


async def indexed(admin, live):
    """What the lexical index has that is alive is each of the live chunks, once."""
    rows = await admin.fetch("select first, width from lexical_segments where document_id is not null order by first")
    alive = [number for row in rows for number in range(row["first"], row["first"] + row["width"])]
    first = await admin.fetchval("select first_chunk from documents where document_id = $1", live.document_id)
    assert [number for number in alive if number >= first] == list(range(first, first + live.chunks))


async def test_another_content_takes_the_place_of_the_live_one(
    db, admin, library, versions, ingestion, search, user, document, tmp_path
):
    replaced = await replace(versions, user, document.document_id, NEW, "new.md")
    assert replaced.coming
    coming = replaced.document.replacement
    assert (coming.state, coming.size, coming.media_type, coming.chunks) == ("queued", len(NEW), "text/markdown", 0)
    assert (replaced.document.sha256, replaced.document.version) == (document.sha256, 1)
    assert await colours(search, user) == {"red"}
    assert set(await work(db, library, ingestion)) == {"replace", "erase"}
    assert await colours(search, user) == {"blue"}
    live = await exactly(admin, library, user, document, "blue")
    assert (live.name, live.version, live.tags, live.pages_done) == ("old.txt", 2, ("x",), 1)
    assert (live.size, live.media_type) == (len(NEW), "text/markdown")
    assert live.created_at == document.created_at
    assert files(tmp_path) == [live.sha256.hex()]
    await replace(versions, user, document.document_id, NEWER)
    await work(db, library, ingestion)
    assert (await exactly(admin, library, user, document, "green")).version == 3
    await replace(versions, user, document.document_id, OLD)
    await work(db, library, ingestion)
    assert (await exactly(admin, library, user, document, "red")).version == 4
    assert await colours(search, user) == {"red"}


async def test_searches_see_one_version_whole_at_every_moment(
    db, admin, library, versions, ingestion, search, user, document, models
):
    """Asked without a pause, while one content after another takes the place of the former."""
    stop, seen = asyncio.Event(), []

    async def ask(mode):
        while not stop.is_set():
            found = await texts(search, user, mode=mode)
            live = await library.get(user, document.document_id)
            seen.append(colours_of(found))
            assert live.state == "ready"
            assert len(set(found)) == len(found) > 5

    asking = [asyncio.create_task(ask(mode)) for mode in ("dense", "lexical", "hybrid")]
    for content in (NEW, NEWER, OLD, NEW):
        await replace(versions, user, document.document_id, content)
        await work(db, library, ingestion)
    stop.set()
    await asyncio.gather(*asking)
    assert all(len(colours) == 1 for colours in seen)
    assert {"red", "blue", "green"} == set().union(*seen)
    await exactly(admin, library, user, document, "blue")


async def test_the_same_content_again_changes_nothing(db, library, versions, user, document):
    replaced = await replace(versions, user, document.document_id, OLD)
    assert replaced == type(replaced)(document, coming=False)
    assert await claimed(db) == []


async def test_the_same_content_again_lets_nothing_else_take_its_place(
    db, admin, library, versions, ingestion, user, document, models, tmp_path
):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    models.script_embeddings(times=1)
    models.script_embeddings(first_delay=600)
    before = len(models.embeddings)
    run = asyncio.create_task(ingestion.run_replacement(job))
    await models.wait_for(lambda: len(models.embeddings) == before + 2)
    replaced = await replace(versions, user, document.document_id, OLD)
    assert (replaced.coming, replaced.document.replacement) == (False, None)
    await asyncio.wait_for(run, 20)
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "red")
    assert files(tmp_path) == [document.sha256.hex()]


async def test_what_is_on_its_way_already_is_not_begun_anew(db, versions, user, document):
    first = await replace(versions, user, document.document_id, NEW)
    again = await replace(versions, user, document.document_id, NEW)
    assert again == first
    assert len(await claimed(db)) == 1


async def test_of_two_the_later_one_wins_and_the_earlier_stops(
    db, admin, library, versions, ingestion, search, user, document, models, tmp_path
):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    before = len(models.embeddings)
    models.script_embeddings(times=1)
    models.script_embeddings(first_delay=600, times=1)
    run = asyncio.create_task(ingestion.run_replacement(job))
    await models.wait_for(lambda: len(models.embeddings) == before + 2)
    async with asyncio.timeout(20):  # it comes some way
        while await admin.fetchval("select max(number) from chunks") < document.chunks:
            await asyncio.sleep(0.01)
    await replace(versions, user, document.document_id, NEWER)
    await asyncio.wait_for(run, 20)
    assert await colours(search, user) == {"red"}
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "green")
    assert len(files(tmp_path)) == 1


async def test_many_at_once_end_with_one_of_them(db, admin, library, versions, ingestion, user, document, tmp_path):
    contents = [b"The %s notice.\n\n" % str(n).encode() * 40 for n in range(6)]
    replaced = await asyncio.gather(*(replace(versions, user, document.document_id, one) for one in contents))
    assert all(one.coming for one in replaced)
    await work(db, library, ingestion)
    live = await exactly(admin, library, user, document, "notice")
    assert live.version == 2
    assert files(tmp_path) == [live.sha256.hex()]


@pytest.mark.parametrize(("content", "code"), [(b" \n", "no_text"), (b"%PDF-1.7\nnothing here", "document_damaged")])
async def test_what_can_t_be_read_leaves_the_live_one_and_says_why(
    db, admin, library, versions, ingestion, search, user, document, content, code, tmp_path
):
    await replace(versions, user, document.document_id, content, "x.pdf" if content[0] == 37 else "x.txt")
    assert await work(db, library, ingestion) == ["replace", "erase"]
    live = await library.get(user, document.document_id)
    assert (live.state, live.version, live.sha256) == ("ready", 1, document.sha256)
    assert (live.replacement.state, live.replacement.reason_code) == ("failed", code)
    assert live.replacement.reason
    assert await colours(search, user) == {"red"}
    assert files(tmp_path) == [document.sha256.hex()]
    again = await replace(versions, user, document.document_id, content, "x.pdf" if content[0] == 37 else "x.txt")
    assert (again.coming, again.document.replacement.state) == (True, "queued")
    await replace(versions, user, document.document_id, NEW)
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")


async def test_a_job_that_is_given_up_leaves_the_live_one_and_says_why(
    db, admin, library, versions, ingestion, user, document, models
):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    models.script_embeddings(times=1)
    models.script_embeddings(status=503, times=1)
    with pytest.raises(Unavailable):
        await ingestion.run_replacement(job)
    await ingestion.give_up_replacement(job, "worker_died", "Processing was broken off too often.")
    live = await library.get(user, document.document_id)
    assert (live.state, live.replacement.state, live.replacement.reason_code) == ("ready", "failed", "worker_died")
    assert await admin.fetchval("select count(*) from chunks") == document.chunks
    await ingestion.give_up_replacement(job, "other", "…")  # which is not its turn any more
    assert (await library.get(user, document.document_id)).replacement.reason_code == "worker_died"


async def test_a_try_that_broke_off_is_wiped_by_the_next(
    db, admin, library, versions, ingestion, user, document, models
):
    await replace(versions, user, document.document_id, NEW * 5)
    [job] = await claimed(db)
    models.script_embeddings(times=3)  # while the third batch is embedded, the first one is stored
    models.script_embeddings(status=503, times=1)
    with pytest.raises(Unavailable):
        await ingestion.run_replacement(job)
    coming = (await library.get(user, document.document_id)).replacement
    assert (coming.state, coming.pages) == ("processing", 1)
    assert coming.chunks > 0
    await ingestion.run_replacement(job)
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")


class Killed(Exception):
    """A worker's end between two steps."""


async def test_whatever_step_is_the_last_one_the_next_worker_ends_with_one_version(
    db, admin, library, versions, ingestion, search, user, document, tmp_path
):
    """The steps of a worker, one more at each try, and then a kill: nothing after them happens."""
    await replace(versions, user, document.document_id, NEW)
    payload = ReplacePayload.model_validate_json(await admin.fetchval("select payload from jobs"))

    async def started(claim):
        async with db.tenant(user) as tx:
            return await claims.start(tx, claim)

    async def half_written(claim):
        source = await started(claim)
        async with db.tenant(user) as tx:
            assert await claims.progress(tx, claim, pages=1, done=1, chunks=1)
            await tx.execute(
                "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, $3, '{1,0,4}', 'blue')",
                user,
                claim.document_id,
                source.first,
            )

    async def half_swapped(claim):
        await half_written(claim)
        with suppress(Killed):
            async with db.tenant(user) as tx:
                await claims.ready(tx, claim, claims.Source("old.txt", "text/plain", 1, b"\0" * 32, 0))
                raise Killed

    for steps in (started, half_written, half_swapped):
        await admin.execute("update jobs set state = 'ready', crashes = 0, lease_until = null where kind = 'replace'")
        [job] = await claimed(db)
        await steps(Claim(user, document.document_id, job.token, payload.replacement_id))
        assert await colours(search, user) == {"red"}
    await admin.execute("update jobs set lease_until = '2020-01-01'")
    [job] = await claimed(db)
    await ingestion._run(Claim(user, document.document_id, job.token, payload.replacement_id), payload)
    assert await colours(search, user) == {"blue"}  # and here it is killed before it has cleared up
    assert await admin.fetchval("select min(number) from chunks") == 0
    await ingestion.run_replacement(job)
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")
    assert len(files(tmp_path)) == 1


async def test_vectors_that_are_being_moved_are_not_deleted_meanwhile(
    db, admin, library, versions, ingestion, user, document
):
    """A row that goes to another part of its table while it is deleted would be an error."""
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    claim = Claim(user, document.document_id, job.token)
    for deletes in (lambda: ingestion.run_replacement(job), lambda: claims.trim(db, claim)):
        async with db.tenant(user) as tx:
            assert await tier_queries.hold_documents(tx, 0, DocumentId(UUID(int=0)), 9) == [document.document_id]
            run = asyncio.create_task(deletes())
            await waits_for_a_lock(admin)
        await run
    await exactly(admin, library, user, document, "blue")


async def test_a_worker_that_lost_its_lease_swaps_nothing(db, admin, library, versions, ingestion, user, document):
    await replace(versions, user, document.document_id, NEW)
    late = (await claimed(db))[0]
    await admin.execute(
        "create function steal() returns trigger language plpgsql as "
        "$$begin update public.replacements set ingest_token = null; return null; end$$"
    )
    await admin.execute("create trigger steal after insert on embeddings for each statement execute function steal()")
    await ingestion.run_replacement(late)
    assert (await library.get(user, document.document_id)).version == 1
    await admin.execute("drop trigger steal on embeddings")
    await admin.execute("update jobs set lease_until = '2020-01-01'")
    [current] = await claimed(db)
    await ingestion.run_replacement(late)
    assert (await library.get(user, document.document_id)).replacement.state == "processing"
    await ingestion.run_replacement(current)
    await exactly(admin, library, user, document, "blue")


async def test_a_document_that_is_deleted_meanwhile_waits_for_its_replacement_in_the_bin(
    db, admin, library, versions, ingestion, user, document, models, clock
):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    models.script_embeddings(first_delay=600)
    before = len(models.embeddings)
    run = asyncio.create_task(ingestion.run_replacement(job))
    await models.wait_for(lambda: len(models.embeddings) > before)
    await library.delete(user, document.document_id)
    await asyncio.wait_for(run, 20)
    models.script_embeddings()
    await admin.execute("delete from jobs where kind = 'replace'")
    restored = await library.restore(user, document.document_id)
    assert (restored.state, restored.version, restored.replacement.state) == ("ready", 1, "queued")
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")


async def test_a_deletion_at_the_last_moment_keeps_the_swap_away(
    db, admin, library, versions, ingestion, user, document
):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    claim = Claim(user, document.document_id, job.token, ReplacePayload.model_validate_json(job.payload).replacement_id)
    async with db.tenant(user) as tx:
        source = await claims.start(tx, claim)
    await library.delete(user, document.document_id)
    async with db.tenant(user) as tx:
        assert not await claims.held(tx, claim)
        assert not await claims.progress(tx, claim, pages=1, done=1, chunks=1)
        assert not await claims.ready(tx, claim, source)
    assert (await library.restore(user, document.document_id)).version == 1


async def test_content_of_another_document_is_refused(
    db, admin, library, versions, ingestion, user, document, tmp_path
):
    other = await put(library, user, NEW, "other.txt")
    with pytest.raises(Conflict, match="content_exists"):
        await replace(versions, user, document.document_id, NEW)
    await library.delete(user, other.document_id)
    with pytest.raises(Conflict, match="content_exists"):
        await replace(versions, user, document.document_id, NEW)
    await library.delete(user, other.document_id, purge=True)
    await work(db, library, ingestion)
    await replace(versions, user, document.document_id, NEW)
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")


async def test_content_that_another_document_gets_meanwhile_is_refused_at_the_swap(
    db, admin, library, versions, ingestion, search, user, document, tmp_path
):
    await replace(versions, user, document.document_id, NEW)
    other = await put(library, user, NEW, "other.txt")
    await work(db, library, ingestion)
    live = await library.get(user, document.document_id)
    assert (live.version, live.replacement.state, live.replacement.reason_code) == (1, "failed", "content_exists")
    assert (await library.get(user, other.document_id)).state == "ready"
    assert await colours(search, user) == {"red", "blue"}
    assert files(tmp_path) == sorted([live.sha256.hex(), other.sha256.hex()])
    numbers = await admin.fetchval("select count(*) from chunks where document_id = $1", document.document_id)
    assert numbers == document.chunks


@pytest.mark.parametrize("state", ["queued", "failed"])
async def test_a_document_that_is_not_ready_gets_its_content_at_once(
    db, admin, library, versions, ingestion, user, tmp_path, state
):
    document = await put(library, user, OLD if state == "queued" else b" \n")
    late = await claimed(db)
    if state == "failed":
        await ingestion.run(late[0])
    replaced = await replace(versions, user, document.document_id, NEW)
    assert (replaced.coming, replaced.document.state, replaced.document.replacement) == (True, "queued", None)
    await ingestion.run(late[0])  # a second job of one document does no harm
    await work(db, library, ingestion)
    live = await exactly(admin, library, user, document, "blue")
    assert (live.version, files(tmp_path)) == (1, [live.sha256.hex()])


async def test_the_same_content_of_what_failed_is_tried_again_and_of_what_waits_is_not(
    db, library, versions, ingestion, user
):
    document = await put(library, user, b" \n")
    assert not (await replace(versions, user, document.document_id, b" \n")).coming
    await work(db, library, ingestion)
    again = await replace(versions, user, document.document_id, b" \n")
    assert (again.coming, again.document.state) == (True, "queued")


async def test_a_worker_of_the_former_content_stops(db, admin, library, versions, ingestion, user, models):
    document = await put(library, user, OLD)
    [job] = await claimed(db)
    models.script_embeddings(first_delay=600)
    run = asyncio.create_task(ingestion.run(job))
    await models.wait_for(lambda: bool(models.embeddings))
    await replace(versions, user, document.document_id, NEW)
    await asyncio.wait_for(run, 20)
    models.script_embeddings()
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")


async def test_what_is_not_there_can_t_be_replaced(library, versions, user, stranger, document):
    for whose, document_id in ((stranger, document.document_id), (user, DocumentId(uuid4()))):
        with pytest.raises(NotFound, match="document_not_found: There is no such document"):
            await replace(versions, whose, document_id, NEW)
    async with versions.receive(user, document.document_id) as incoming:
        await incoming.write(NEW)
        await library.delete(user, document.document_id)
        with pytest.raises(NotFound):
            await versions.replace(user, document.document_id, "b.txt", incoming)


@asynccontextmanager
async def while_stored(library, happens):
    """A storage in which something happens once, before a file has its name."""

    class Slow:
        def __getattr__(self, name):
            return getattr(storage, name)

        async def keep(self, *args):
            library.intake._storage = storage
            await happens()
            await storage.keep(*args)

    storage, library.intake._storage = library.intake._storage, Slow()
    try:
        yield
    finally:
        library.intake._storage = storage


async def test_a_document_that_goes_while_the_file_is_stored_leaves_nothing(
    db, admin, library, versions, ingestion, user, document, tmp_path
):
    with pytest.raises(NotFound):
        async with while_stored(library, lambda: library.delete(user, document.document_id, purge=True)):
            await replace(versions, user, document.document_id, NEW)
    await work(db, library, ingestion)
    assert files(tmp_path) == []
    assert await admin.fetchval("select count(*) from jobs where kind <> 'index'") == 0


async def test_the_same_content_that_comes_while_the_file_is_stored_makes_one_replacement(
    db, admin, library, versions, ingestion, user, document, tmp_path
):
    async with while_stored(library, lambda: replace(versions, user, document.document_id, NEW)):
        late = await replace(versions, user, document.document_id, NEW)
    assert late.coming
    assert await admin.fetchval("select count(*) from jobs where kind = 'replace'") == 1
    await work(db, library, ingestion)
    await exactly(admin, library, user, document, "blue")
    assert len(files(tmp_path)) == 1


async def test_two_of_the_same_content_at_once_make_one_replacement(db, versions, user, document):
    both = await asyncio.gather(*(replace(versions, user, document.document_id, NEW) for _ in range(4)))
    assert {one.document.replacement.sha256 for one in both} == {both[0].document.replacement.sha256}
    assert len(await claimed(db, REPLACE)) == 1


async def test_what_is_larger_takes_more_room_while_it_comes(db, storage, ingestion, user, clock):
    library = Library(db, storage, 10_000, Quotas(Quota(documents=1, bytes=1000)), trash=DAY, now=clock)
    versions = Versions(db, library)
    document = await put(library, user, b"word " * 80)
    await work(db, library, ingestion)
    with pytest.raises(QuotaExceeded, match="quota_exceeded"):
        await replace(versions, user, document.document_id, b"more " * 201)
    assert (await library.usage(user)).bytes == 400
    await replace(versions, user, document.document_id, b"more " * 200)
    assert ((await library.usage(user)).documents, (await library.usage(user)).bytes) == (1, 1000)
    await replace(versions, user, document.document_id, b"less " * 10)
    assert (await library.usage(user)).bytes == 400  # the live one is still there
    await work(db, library, ingestion)
    assert (await library.usage(user)).bytes == 50


async def test_a_swap_and_a_purge_at_once_wait_for_each_other(db, admin, library, versions, ingestion, user, document):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    claim = Claim(user, document.document_id, job.token, ReplacePayload.model_validate_json(job.payload).replacement_id)
    async with db.tenant(user) as tx:
        await claims.start(tx, claim)
    async with db.tenant(user) as tx:
        assert await claims.progress(tx, claim, pages=1, done=1, chunks=0)
        purge = asyncio.create_task(library.delete(user, document.document_id, purge=True))
        await waits_for_a_lock(admin)
        assert await queries.get(tx, document.document_id)
        await tx.execute(  # needs a share of the document's row, which the purge wants for itself
            "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, 999, '{1,0,4}', 'blue')",
            user,
            document.document_id,
        )
    await purge
    assert await admin.fetchval("select count(*) from chunks") == 0


async def test_a_backup_has_the_file_of_what_is_coming(db, versions, user, document):
    from ringfence.backup import queries as backup

    replaced = await replace(versions, user, document.document_id, NEW)
    async with db.tenant(user) as tx:
        found = await backup.files(tx)
    assert {sha256.hex() for sha256 in found} == {document.sha256.hex(), replaced.document.replacement.sha256}


async def test_a_promised_job_is_withdrawn_when_nothing_has_to_be_stored(db, admin, versions, user, document):
    """Two at once, of which the second finds at its commit that the first was faster."""
    await asyncio.gather(*(replace(versions, user, document.document_id, NEW) for _ in range(3)))
    assert await admin.fetchval("select count(*) from jobs where kind = 'store'") == 0
    async with db.tenant(user) as tx:
        assert not await jobs.promised(tx, "store", ReplacePayload(document_id=uuid4(), replacement_id=uuid4()))


async def test_progress_tells_how_far_the_other_content_is(db, library, versions, ingestion, user, document, models):
    progress = Progress(db, Watch(db))
    await replace(versions, user, document.document_id, NEW)
    said = await progress.document(user, document.document_id)
    assert (said.stage, said.size, said.pages, said.chunks) == ("queued", len(NEW), None, 0)
    overview = await progress.overview(user)
    assert (overview.counts, overview.documents) == (Counts(queued=1, working=0), [said])
    [job] = await claimed(db)
    models.script_embeddings(first_delay=600)
    before = len(models.embeddings)
    run = asyncio.create_task(ingestion.run_replacement(job))
    await models.wait_for(lambda: len(models.embeddings) > before)
    said = await progress.document(user, document.document_id)
    assert (said.stage, said.final) == ("parsing", False)
    assert (await progress.overview(user)).counts == Counts(queued=0, working=1)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert (await progress.document(user, document.document_id)).stage == "queued"  # it waits for a worker again
    models.script_embeddings()
    await ingestion.run_replacement(job)
    live, said = await library.get(user, document.document_id), await progress.document(user, document.document_id)
    assert (said.stage, said.size, said.chunks, said.chunks_done) == ("ready", len(NEW), live.chunks, live.chunks)
    assert (await progress.overview(user)).counts == Counts(queued=0, working=0)


async def test_progress_says_why_the_former_content_stays(db, library, versions, ingestion, user, document):
    progress = Progress(db, Watch(db))
    await replace(versions, user, document.document_id, b" \n")
    await work(db, library, ingestion)
    said = await progress.document(user, document.document_id)
    assert (said.stage, said.reason_code, said.size, said.chunks) == ("ready", "no_text", len(OLD), document.chunks)
    assert said.reason
    assert (await progress.overview(user)).documents == []


async def test_a_stream_goes_on_until_the_other_content_has_taken_its_place(
    db, library, versions, ingestion, user, document
):
    watch = Watch(db, pace=Pace(poll=0.01, slow=0.05))
    await replace(versions, user, document.document_id, NEW)
    stages = []
    async with asyncio.timeout(20):
        async for event in Progress(db, watch).follow(user, [document.document_id]):
            if isinstance(event, ProgressEvent):
                stages.append(event.document.stage)
                if len(stages) == 1:
                    await work(db, library, ingestion)
    await watch.close()
    assert (stages[0], stages[-1]) == ("queued", "ready")


@pytest.mark.parametrize("ended_by", ["the same content", "other content", "deletion"])
async def test_nothing_is_in_hand_of_what_is_not_wanted_any_more(
    db, admin, library, versions, user, document, ended_by
):
    """Though its worker was killed, and can't say so."""
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    claim = Claim(user, document.document_id, job.token, ReplacePayload.model_validate_json(job.payload).replacement_id)
    async with db.tenant(user) as tx:
        await claims.start(tx, claim)
    assert await admin.fetchval("select count(*) from ingestions where ended_at is null") == 1
    if ended_by == "deletion":
        await library.delete(user, document.document_id)
    else:
        await replace(versions, user, document.document_id, OLD if ended_by == "the same content" else NEWER)
    assert await admin.fetchval("select count(*) from ingestions where ended_at is null") == 0


async def test_what_is_left_of_a_version_is_in_nobodys_index(db, admin, library, versions, ingestion, user, document):
    """Once the index was cleaned: neither of the former content, nor of what did not take its place."""
    for content in (NEW, b" \n", OLD, NEWER):
        await replace(versions, user, document.document_id, content)
        await work(db, library, ingestion)
    await due(admin)
    await work(db, library, ingestion)
    live = await exactly(admin, library, user, document, "green")
    assert await admin.fetchval("select sum(width) from lexical_segments") == live.chunks
    postings = "select count(distinct y >> 31) from lexical_blocks, unnest(postings) y"
    segments = await admin.fetchval("select count(*) from lexical_segments where merged")
    assert await admin.fetchval(postings) == segments


async def test_who_has_lost_the_claim_at_the_last_moment_swaps_nothing(db, admin, library, versions, user, document):
    await replace(versions, user, document.document_id, NEW)
    [job] = await claimed(db)
    claim = Claim(user, document.document_id, job.token, ReplacePayload.model_validate_json(job.payload).replacement_id)
    async with db.tenant(user) as tx:
        source = await claims.start(tx, claim)
    await admin.execute("update replacements set ingest_token = gen_random_uuid()")
    async with db.tenant(user) as tx:
        assert not await claims.ready(tx, claim, source)
    assert (await library.get(user, document.document_id)).version == 1

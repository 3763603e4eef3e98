"""How far documents and batches have come: estimates, what is written down, and what is told of it to whom."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from ringfence import jobs
from ringfence.db import Database, DatabaseOptions
from ringfence.documents import ingestion_queries, queries
from ringfence.documents.events import BatchEvent, CountsEvent, EndEvent, GoneEvent, ProgressEvent
from ringfence.documents.progress import Progress, progress_of, totals
from ringfence.documents.progress_queries import Batch, Step
from ringfence.documents.service import IngestPayload, Library
from ringfence.documents.tracking import Track, let_go
from ringfence.documents.watching import Pace, Watch
from ringfence.errors import NotFound, RateLimited, Unavailable
from ringfence.ids import new_batch_id, new_document_id, new_user_id
from ringfence.storage.local import LocalStorage
from tests.documents.test_ingest import LEASE, claim, ingestion, library, put, storage, user  # noqa: F401  # fixtures
from tests.fakes.tcp_proxy import tcp_proxy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAST = Pace(poll=0.01, slow=0.05, beat=30, life=10)


def step(**values):
    known = {"document_id": new_document_id(), "name": "a.pdf", "size": 100, "sha256": b"", "state": "processing"}
    known |= {"reason_code": None, "reason": None, "stage": "parsing", "pages": 10, "pages_done": 4, "chunks": 8}
    return Step(**known | {"chunks_done": 2, "updated_at": NOW, "elapsed": 6.0} | values)


@pytest.mark.parametrize(
    ("values", "stage", "eta"),
    [
        ({}, "parsing", 9.0),  # 6 s for 4 of 10
        ({"pages_done": 0}, "parsing", None),
        ({"pages": None, "pages_done": 0}, "parsing", None),
        ({"stage": "embedding"}, "embedding", 18.0),  # 6 s for 2 of 8
        ({"stage": "embedding", "chunks_done": 0}, "embedding", None),
        ({"stage": "embedding", "chunks": 0, "chunks_done": 0}, "embedding", None),
        ({"stage": "storing", "chunks_done": 8}, "storing", 0.0),
        ({"pages_done": 12}, "parsing", 0.0),
        ({"elapsed": -3.0}, "parsing", 0.0),  # a clock that was set back
        ({"stage": None, "state": "queued", "elapsed": None}, "queued", None),
        ({"stage": None, "elapsed": None}, "queued", None),  # it waits for another try
        ({"stage": None, "state": "ready", "elapsed": None}, "ready", 0.0),
        ({"stage": None, "state": "failed", "elapsed": None}, "failed", 0.0),
        ({"stage": "parsing", "state": "ready"}, "parsing", 9.0),  # a new version of what can be asked already
    ],
)
def test_stage_and_estimate(values, stage, eta):
    said = progress_of(step(**values))
    assert (said.stage, said.eta_seconds) == (stage, eta)
    assert said.final == (stage in {"ready", "failed"})


def batch_of(*steps, gone=0, age=10.0):
    ids = [one.document_id for one in steps] + [new_document_id() for _ in range(gone)]
    return Batch(new_batch_id(), ids, NOW, age)


def test_a_batch_is_estimated_by_bytes():
    large = step(size=300, pages=10, pages_done=5)
    small = step(size=100, state="ready", stage=None, pages=2, pages_done=2, chunks=4, chunks_done=4)
    said = totals(batch_of(large, small, gone=1), [large, small])
    assert said.stages == {"parsing": 1, "ready": 1}
    assert (said.gone, said.pages, said.pages_done, said.chunks, said.chunks_done) == (1, 12, 7, 12, 6)
    assert said.eta_seconds == 6.0  # 10 s for 250 of 400 bytes


def test_what_was_there_before_a_batch_says_nothing_of_its_pace():
    before = step(size=900, state="ready", stage=None, updated_at=NOW - timedelta(seconds=1))
    waiting = step(stage=None, state="queued", pages=None, pages_done=0)
    assert totals(batch_of(before, waiting), [before, waiting]).eta_seconds is None
    assert totals(batch_of(before), [before]).eta_seconds == 0
    assert totals(batch_of(), []).eta_seconds == 0


def test_the_stage_is_the_first_part_that_is_not_done():
    track = Track()
    assert track.stage == "parsing"
    track.chunks, track.parsed = 3, True
    assert track.stage == "embedding"
    track.chunks_embedded = 3
    assert track.stage == "storing"


@pytest.fixture
async def watch(db):
    watch = Watch(db, pace=FAST)
    yield watch
    await watch.close()


@pytest.fixture
def progress(db, watch):
    return Progress(db, watch)


async def begun(db, user, library, name="a.txt"):  # noqa: F811
    """A document that a worker has in hand, and the token."""
    document = (await put(library, user, name, name.encode())).document
    job = await claim(db)
    async with db.tenant(user) as tx:
        await queries.start(tx, document.document_id, job.token)
    return document.document_id, job


async def recorded(db, user, document_id, token, **values):  # noqa: F811
    known = {"stage": "parsing", "pages": 10, "pages_done": 1, "chunks": 0, "chunks_done": 0}
    async with db.tenant(user) as tx:
        await ingestion_queries.record(tx, document_id, token, **known | values)


async def test_a_document_is_told_from_queue_to_end(db, library, progress, user):  # noqa: F811
    document = (await put(library, user, "a.txt", b"words")).document
    assert (await progress.document(user, document.document_id)).stage == "queued"
    job = await claim(db)
    async with db.tenant(user) as tx:
        await queries.start(tx, document.document_id, job.token)
    await recorded(db, user, document.document_id, job.token, pages_done=5)
    said = await progress.document(user, document.document_id)
    assert (said.stage, said.pages, said.pages_done) == ("parsing", 10, 5)
    assert said.eta_seconds is not None
    assert said.eta_seconds >= 0
    async with db.tenant(user) as tx:
        assert await queries.ready(tx, document.document_id, job.token)
        assert not await queries.ready(tx, document.document_id, job.token)
    assert (await progress.document(user, document.document_id)).stage == "ready"


async def test_a_failed_document_says_why(db, library, progress, user):  # noqa: F811
    document_id, job = await begun(db, user, library)
    async with db.tenant(user) as tx:
        await queries.fail(tx, document_id, "no_text", "Nothing to read.", job.token)
    said = await progress.document(user, document_id)
    assert (said.stage, said.reason_code, said.reason) == ("failed", "no_text", "Nothing to read.")


async def test_who_lost_the_document_says_nothing_more_of_it(db, library, progress, user):  # noqa: F811
    document_id, job = await begun(db, user, library)
    other = (await begun(db, user, library, "b.txt"))[1]
    await recorded(db, user, document_id, other.token, pages_done=7)
    await let_go(db, user, document_id, other.token)
    said = await progress.document(user, document_id)
    assert (said.stage, said.pages_done) == ("parsing", 0)
    await let_go(db, user, document_id, job.token)
    assert (await progress.document(user, document_id)).stage == "queued"


async def test_a_pipeline_writes_down_how_far_it_is_when_that_changes(db, library, progress, user):  # noqa: F811
    document_id, job = await begun(db, user, library)
    track = Track(pages=9, pages_done=3, chunks=5, chunks_done=2)
    noting = asyncio.create_task(track.keep(db, user, document_id, job.token, 0.001))
    async with asyncio.timeout(10):
        while (await progress.document(user, document_id)).pages_done != 3:
            pass
        track.pages_done = 4
        while (said := await progress.document(user, document_id)).pages_done != 4:
            pass
    noting.cancel()
    assert (said.pages, said.chunks, said.chunks_done) == (9, 5, 2)


async def test_ingestion_is_followed_to_its_end(db, library, ingestion, progress, user, models):  # noqa: F811
    document = (await put(library, user, "a.txt", b"".join(b"word%d " % n for n in range(3000)))).document
    ingestion._track_every = 0.001
    models.script_embeddings(delay=0.05)
    async with aclosing(progress.follow(user, [document.document_id])) as events:
        told = [await anext(events)]
        running = asyncio.create_task(ingestion.run(await claim(db)))
        told += [event async for event in events]
    await running
    assert told.pop() == EndEvent(reason="finished")
    stages = [event.document.stage for event in told]
    assert stages[0] == "queued"
    assert stages[-1] == "ready"
    assert set(stages) >= {"queued", "embedding", "ready"}
    done = [event.document.chunks_done for event in told]
    assert done == sorted(done)
    assert done[-1] == told[-1].document.chunks > 32


async def test_a_try_that_breaks_off_waits_again(db, library, ingestion, progress, user, models):  # noqa: F811
    document = (await put(library, user, "a.txt", b"words " * 500)).document
    models.script_embeddings(status=503)
    with pytest.raises(Unavailable):
        await ingestion.run(await claim(db))
    assert (await progress.document(user, document.document_id)).stage == "queued"


async def test_a_deleted_document_ends_its_stream(library, progress, user):  # noqa: F811
    document = (await put(library, user, "a.txt", b"words")).document
    async with aclosing(progress.follow(user, [document.document_id])) as events:
        assert (await anext(events)).document.stage == "queued"
        await library.delete(user, document.document_id)
        assert [event async for event in events] == [
            GoneEvent(document_id=document.document_id), EndEvent(reason="finished"),
        ]  # fmt: skip


async def test_all_documents_on_their_way_are_followed(db, library, progress, user):  # noqa: F811
    ready, job = await begun(db, user, library, "ready.txt")
    async with db.tenant(user) as tx:
        await queries.ready(tx, ready, job.token)
    async with db.system() as tx:
        await jobs.finish(tx, job)
    async with aclosing(progress.follow(user)) as events:
        assert await anext(events) == CountsEvent(queued=0, working=0)
        document = (await put(library, user, "a.txt", b"words")).document
        assert await anext(events) == CountsEvent(queued=1, working=0)
        assert (await anext(events)).document.document_id == document.document_id
        job = await claim(db)
        async with db.tenant(user) as tx:
            await queries.start(tx, document.document_id, job.token)
        assert await anext(events) == CountsEvent(queued=0, working=1)
        assert (await anext(events)).document.stage == "parsing"
        async with db.tenant(user) as tx:
            await queries.ready(tx, document.document_id, job.token)
        assert await anext(events) == CountsEvent(queued=0, working=0)
        assert (await anext(events)).document.stage == "ready"
        deleted = (await put(library, user, "b.txt", b"more words")).document
        assert (await anext(events)).type == "counts"
        assert (await anext(events)).document.stage == "queued"
        await library.delete(user, deleted.document_id)
        assert (await anext(events)).type == "counts"
        assert await anext(events) == GoneEvent(document_id=deleted.document_id)


async def test_what_comes_and_ends_between_two_looks_is_told_and_what_had_ended_is_not(db, library, user):  # noqa: F811
    watch = Watch(db, pace=replace(FAST, poll=0.2, slow=60))
    before, job = await begun(db, user, library, "before.txt")
    async with db.tenant(user) as tx:
        await queries.ready(tx, before, job.token)
    async with aclosing(Progress(db, watch).follow(user)) as events:
        await anext(events)
        document_id, job = await begun(db, user, library)
        async with db.tenant(user) as tx:
            await queries.fail(tx, document_id, "no_text", "Nothing to read.", job.token)
        said = (await anext(events)).document
        assert (said.document_id, said.stage) == (document_id, "failed")
        async with db.tenant(user) as tx:
            await queries.requeue(tx, document_id)
            await jobs.enqueue(tx, user, "ingest", IngestPayload(document_id=document_id))
        said = [(await anext(events)) for _ in range(2)]
        assert [one.type for one in said] == ["counts", "progress"]
        assert said[1].document.stage == "queued"
    async with asyncio.timeout(10):
        while watch._looking:  # nobody follows anything
            await asyncio.sleep(0.01)
    await watch.close()


async def test_what_ended_long_ago_is_forgotten(db, library, user, admin):  # noqa: F811
    document_id, job = await begun(db, user, library)
    async with db.tenant(user) as tx:
        await queries.ready(tx, document_id, job.token)
    await admin.execute("update ingestions set ended_at = ended_at - interval '3 minutes'")
    other, _ = await begun(db, user, library, "b.txt")
    assert [row[0] for row in await admin.fetch("select document_id from ingestions")] == [other]


async def test_an_overview_has_the_first_of_those_that_wait(db, library, watch, user):  # noqa: F811
    working, _ = await begun(db, user, library, "first.txt")
    waiting = [(await put(library, user, name, name.encode())).document for name in ("b.txt", "c.txt", "d.txt")]
    overview = await Progress(db, watch, window=2).overview(user)
    assert (overview.counts.queued, overview.counts.working) == (3, 1)
    assert [one.document_id for one in overview.documents] == [working, waiting[0].document_id]


async def test_a_document_beyond_the_window_is_told_when_it_is_worked_on(db, library, user):  # noqa: F811
    watch = Watch(db, pace=FAST, window=1)
    await put(library, user, "a.txt", b"a")
    second = (await put(library, user, "b.txt", b"b")).document
    first_job, second_job = await claim(db), await claim(db)
    async with aclosing(Progress(db, watch).follow(user)) as events:
        assert (await anext(events)).queued == 2
        assert (await anext(events)).document.name == "a.txt"
        async with db.tenant(user) as tx:
            await queries.start(tx, second.document_id, second_job.token)
        assert (await anext(events)).working == 1
        assert (await anext(events)).document.name == "b.txt"
    assert first_job
    await watch.close()


async def test_a_batch_is_followed(db, library, progress, user):  # noqa: F811
    documents = [(await put(library, user, name, name.encode())).document.document_id for name in ("a.txt", "b.txt")]
    took = timedelta(seconds=5)
    batch_id = await progress.add_batch(user, [*documents, documents[0]], took)
    async with aclosing(progress.follow_batch(user, batch_id)) as events:
        assert [(await anext(events)).document.stage for _ in documents] == ["queued", "queued"]
        assert (await anext(events)).batch.stages == {"queued": 2}
        job = await claim(db)
        async with db.tenant(user) as tx:
            await queries.start(tx, documents[0], job.token)
            await queries.ready(tx, documents[0], job.token)
        assert (await anext(events)).document.stage == "ready"
        said = (await anext(events)).batch
        assert said.stages == {"queued": 1, "ready": 1}
        assert said.eta_seconds >= 5
        await library.delete(user, documents[1])
        told = [event.type async for event in events]
        assert [one for one in told if one != "batch"] == ["gone", "end"]  # the time left may be told anew before
        assert told[-2:] == ["batch", "end"]
    totals, found = await progress.batch(user, batch_id)
    assert (totals.gone, totals.stages, [one.document_id for one in found]) == (1, {"ready": 1}, documents[:1])


async def test_a_batch_without_documents_is_at_its_end(progress, user):  # noqa: F811
    batch_id = await progress.add_batch(user, [], timedelta(0))
    events = [event async for event in progress.follow_batch(user, batch_id)]
    assert [type(event) for event in events] == [BatchEvent, EndEvent]


async def test_old_batches_are_forgotten(admin, progress, user):  # noqa: F811
    old = await progress.add_batch(user, [], timedelta(days=31))
    await progress.batch(user, old)
    await progress.add_batch(user, [], timedelta(0))
    with pytest.raises(NotFound, match="batch_not_found"):
        await progress.batch(user, old)
    with pytest.raises(NotFound, match="batch_not_found"):
        await anext(progress.follow_batch(user, old))
    assert await admin.fetchval("select count(*) from batches") == 1


async def test_a_stream_on_which_nothing_happens_lives_and_ends(db, library, user):  # noqa: F811
    watch = Watch(db, pace=replace(FAST, beat=0.01, life=0.1))
    document = (await put(library, user, "a.txt", b"words")).document
    events = [event async for event in Progress(db, watch).follow(user, [document.document_id])]
    batch_id = await Progress(db, watch).add_batch(user, [document.document_id], timedelta(0))
    of_batch = [event async for event in Progress(db, watch).follow_batch(user, batch_id)]
    await watch.close()
    for told in (events, of_batch):
        assert isinstance(told[0], ProgressEvent)
        assert told[-2:] == [None, EndEvent(reason="again")]


async def test_streams_of_one_user_are_limited(db, user):  # noqa: F811
    watch = Watch(db, pace=FAST, streams=2)
    async with aclosing(watch.follow(user)) as first, aclosing(watch.follow(user)) as second:
        await anext(first)
        await anext(second)
        with pytest.raises(RateLimited, match="too_many_streams"):
            await anext(watch.follow(user))
        await second.aclose()
        async with aclosing(watch.follow(user)) as third:
            await anext(third)
    assert not watch._watched
    await watch.close()


async def test_known_contents_are_told(library, progress, user):  # noqa: F811
    document = (await put(library, user, "a.txt", b"words")).document
    known = await progress.known(user, [document.sha256, b"\0" * 32])
    assert {sha256: one.document_id for sha256, one in known.items()} == {document.sha256: document.document_id}


class Counted(Database):
    """A database that counts its transactions."""

    tenants = systems = 0

    def tenant(self, user_id, **options):
        self.tenants += 1
        return super().tenant(user_id, **options)

    def system(self):
        self.systems += 1
        return super().system()


async def users(admin, count):
    ids = [new_user_id() for _ in range(count)]
    rows = [(one, str(one)) for one in ids]
    await admin.executemany(
        "insert into users (user_id, email, email_key, password_hash) values ($1, $2, $2, 'x')", rows
    )
    return ids


async def test_what_streams_cost_is_what_runs_and_not_how_many_there_are(app_url, system_url, admin, tmp_path):
    """500 streams of 100 users over one connection: a look at the queue, and one user's documents, whose job runs."""
    db = Counted(app_url, system_url, DatabaseOptions(pool_size=1, connect_timeout=10, command_timeout=30))
    await db.open()
    ids = await users(admin, 100)
    library = Library(db, LocalStorage(tmp_path), 1000)  # noqa: F811
    document = (await put(library, ids[0], "a.txt", b"words")).document
    watch = Watch(db, pace=replace(FAST, slow=60, life=60))
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(aclosing(watch.follow(one))) for one in ids * 5]
        await asyncio.gather(*(anext(stream) for stream in streams))
        job = await claim(db)
        async with db.tenant(ids[0]) as tx:
            await queries.start(tx, document.document_id, job.token)
        waiting = [asyncio.create_task(anext(stream)) for stream in streams]
        async with asyncio.timeout(10):
            for one in waiting[::100]:
                assert (await one).steps[0].stage == "parsing"
        assert sum(one.done() for one in waiting) == 5  # nobody else heard of it
        before, looks = db.tenants, db.systems
        async with asyncio.timeout(10):
            while db.systems < looks + 10:
                await asyncio.sleep(0)  # whoever looks is a task of this loop
        assert 9 <= db.tenants - before <= 11
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert db._app.get_size() == 1
    await watch.close()
    await db.close()


async def test_streams_outlast_an_outage_of_the_database(db, library, user, app_url, system_url):  # noqa: F811
    document = (await put(library, user, "a.txt", b"words")).document
    async with tcp_proxy(app_url) as proxy:
        through = Database(proxy.url(app_url), proxy.url(system_url), DatabaseOptions())
        await through.open()
        watch = Watch(through, pace=replace(FAST, beat=0.01))
        async with aclosing(Progress(through, watch).follow(user, [document.document_id])) as events:
            await anext(events)
            await proxy.cut()
            with pytest.raises(Unavailable):
                await anext(watch.follow(user))
            assert [await anext(events) for _ in range(20)] == [None] * 20
            await proxy.restore()
            await library.delete(user, document.document_id)
            assert [event.type async for event in events if event] == ["gone", "end"]
        await watch.close()
        await through.close()


@pytest.mark.parametrize("table", ["job_lanes", "ingestions"])  # of the look at the queue; of that at one tenant
async def test_streams_outlast_a_defect(library, progress, user, admin, table):  # noqa: F811
    document = (await put(library, user, "a.txt", b"words")).document
    async with aclosing(progress.follow(user, [document.document_id])) as events:
        await anext(events)
        with capture_logs() as logs:
            await admin.execute(f"alter table {table} rename to hidden")
            async with asyncio.timeout(10):
                while not any(line["event"] == "watch_failed" for line in logs):
                    await asyncio.sleep(0.01)
            await admin.execute(f"alter table hidden rename to {table}")
            await library.delete(user, document.document_id)
            assert [event.type async for event in events] == ["gone", "end"]

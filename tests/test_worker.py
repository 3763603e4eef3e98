"""The worker's loop on a real queue."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from ringfence import jobs
from ringfence.db import Database, DatabaseOptions
from ringfence.errors import Invalid, Unavailable
from ringfence.ids import new_user_id
from ringfence.jobs import Handler
from ringfence.worker import Worker
from tests.fakes.tcp_proxy import tcp_proxy


class Payload(BaseModel):
    n: int = 0


@pytest.fixture
async def user(admin):
    user_id = new_user_id()
    await admin.execute("insert into users values ($1, 'a@b.c', $2, 'x')", user_id, str(user_id))
    return user_id


class Recorder:
    """A handler that does what a test tells it, and remembers."""

    def __init__(self, behaviour=None):
        self.behaviour = behaviour
        self.ran = []
        self.gave_up = []

    async def run(self, job):
        self.ran.append(job)
        if self.behaviour:
            await self.behaviour(job)

    async def give_up(self, job, code, reason):
        self.gave_up.append((code, reason))


@asynccontextmanager
async def working(db, recorder, **options):
    worker = Worker(
        db, {"task": Handler(recorder.run, recorder.give_up)}, **{"slots": 2, "lease": 30, "poll": 0.05, **options}
    )
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def enqueue(db, user, count=1, kind="task"):
    async with db.tenant(user) as tx:
        for n in range(count):
            await jobs.enqueue(tx, user, kind, Payload(n=n))


async def until(condition):
    async with asyncio.timeout(15):
        while not await condition():
            await asyncio.sleep(0.01)


def states(admin, *wanted):
    async def look():
        found = [tuple(row) for row in await admin.fetch("select state, reason from jobs order by job_id")]
        return found == list(wanted)

    return look


async def test_jobs_run_once_and_are_gone(db, admin, user):
    recorder = Recorder()
    async with working(db, recorder):
        await enqueue(db, user, 20)
        await until(states(admin))
    assert len(recorder.ran) == 20


async def test_a_notification_wakes_the_worker(db, admin, user):
    recorder = Recorder()
    async with working(db, recorder, poll=3600):
        await until_listening(admin)
        await enqueue(db, user)
        await until(states(admin))


async def until_listening(admin):
    async def look():
        return await admin.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'"
        )

    await until(look)


async def test_a_free_slot_wakes_the_worker(db, admin, user):
    recorder = Recorder()
    await enqueue(db, user, 10)
    async with working(db, recorder, poll=3600, slots=1):
        await until(states(admin))
    assert len(recorder.ran) == 10


async def test_what_may_pass_is_tried_again_later(db, admin, user):
    async def fail(job):
        raise Unavailable("model_silent", "Silent.")

    recorder = Recorder(fail)
    await enqueue(db, user)
    async with working(db, recorder):
        await until(states(admin, ("ready", "model_silent")))
        await admin.execute("update jobs set run_after = now()")
        await until(lambda: two(recorder))
    assert [job.attempts for job in recorder.ran][:2] == [1, 2]


async def two(recorder):
    return len(recorder.ran) >= 2


async def test_what_fails_for_too_long_is_given_up_and_parked(db, admin, user):
    async def fail(job):
        raise Unavailable("model_silent", "Silent.")

    recorder = Recorder(fail)
    await enqueue(db, user)
    await admin.execute("update jobs set created_at = now() - '2 hours'::interval")
    async with working(db, recorder):
        await until(states(admin, ("parked", "model_silent")))
    assert recorder.gave_up == [("model_silent", "Silent.")]


async def test_what_can_never_work_is_given_up_at_once(db, admin, user):
    async def fail(job):
        raise Invalid("mail_refused", "No such mailbox.")

    recorder = Recorder(fail)
    await enqueue(db, user)
    async with working(db, recorder):
        await until(states(admin, ("parked", "mail_refused")))
    assert recorder.gave_up == [("mail_refused", "No such mailbox.")]


async def test_a_job_that_killed_its_workers_is_given_up_without_running(db, admin, user):
    recorder = Recorder()
    await enqueue(db, user)
    await admin.execute(
        "update jobs set crashes = $1, state = 'running', token = gen_random_uuid(), lease_until = '2020-01-01'",
        jobs.MAX_CRASHES,
    )
    async with working(db, recorder):
        await until(states(admin, ("parked", "worker_died")))
    assert recorder.ran == []
    assert recorder.gave_up[0][0] == "worker_died"


async def test_a_defect_is_logged_and_retried(db, admin, user):
    async def fail(job):
        raise ZeroDivisionError

    recorder = Recorder(fail)
    await enqueue(db, user)
    async with working(db, recorder):
        await until(states(admin, ("ready", "internal")))


async def test_a_defect_that_stays_is_given_up(db, admin, user):
    async def fail(job):
        raise ZeroDivisionError

    recorder = Recorder(fail)
    await enqueue(db, user)
    await admin.execute("update jobs set attempts = $1", jobs.MAX_DEFECTS - 1)
    async with working(db, recorder):
        await until(states(admin, ("parked", "internal")))
    assert recorder.gave_up[0][0] == "internal"


async def test_the_longest_pause_is_five_minutes(db, admin, user):
    async def fail(job):
        raise Unavailable("model_silent", "Silent.")

    await enqueue(db, user)
    await admin.execute("update jobs set attempts = 5000")
    async with working(db, Recorder(fail)):
        await until(states(admin, ("ready", "model_silent")))
    assert 100 < await admin.fetchval("select extract(epoch from run_after - now()) from jobs") <= 300


async def test_a_foreign_error_of_the_database_ends_neither_claims_nor_beats(db, admin, user):
    """The table is out of the way for a moment: PostgreSQL says "undefined table", which is no outage."""
    release = asyncio.Event()

    async def slow(job):
        await release.wait()

    recorder = Recorder(slow)
    await enqueue(db, user)
    async with working(db, recorder, lease=1.5, poll=0.05):
        first = await lease(admin)
        with capture_logs() as logs:
            await admin.execute("alter table jobs rename to away")
            async with asyncio.timeout(15):
                while not {"claim_failed", "beat_failed"} <= {line["event"] for line in logs}:
                    await asyncio.sleep(0.02)
            await admin.execute("alter table away rename to jobs")
        await until(lambda: later(admin, first))
        release.set()
        await until(states(admin))
    assert recorder.gave_up == []


async def test_a_job_that_is_claimed_during_a_beat_is_left_alone(db, admin, user):
    """The beat's statement waits for a row; meanwhile another job is claimed, which the beat had not asked about."""
    release, cancelled = asyncio.Event(), []

    async def slow(job):
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled.append(job)
            raise

    recorder = Recorder(slow)
    await enqueue(db, user)
    async with working(db, recorder, lease=3, poll=0.05):
        await lease(admin)
        async with admin.transaction():
            await admin.execute("select from jobs for update")
            await until(lambda: blocked(admin))
            await enqueue(db, user)
            await until(lambda: two(recorder))
        await asyncio.sleep(0.5)  # the beat ends, and would cancel now
        assert cancelled == []
        release.set()
        await until(states(admin))


async def blocked(admin):
    return await admin.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )


async def test_a_kind_that_nobody_knows_is_parked(db, admin, user):
    await enqueue(db, user, kind="other")
    async with working(db, Recorder()):
        await until(states(admin, ("parked", "unknown_kind")))


async def test_a_stopping_worker_hands_back_what_it_runs_uncharged(db, admin, user):
    started = asyncio.Event()

    async def hang(job):
        started.set()
        await asyncio.Event().wait()

    await enqueue(db, user)
    async with working(db, Recorder(hang)):
        await started.wait()
    assert tuple(await admin.fetchrow("select state, attempts, token from jobs")) == ("ready", 0, None)


async def test_the_heartbeat_keeps_a_lease(db, admin, user):
    release = asyncio.Event()

    async def slow(job):
        await release.wait()

    recorder = Recorder(slow)
    await enqueue(db, user)
    async with working(db, recorder, lease=0.6):
        first = await lease(admin)
        await until(lambda: later(admin, first))
        release.set()
        await until(states(admin))
    assert len(recorder.ran) == 1


async def lease(admin):
    async with asyncio.timeout(10):
        while not (value := await admin.fetchval("select lease_until from jobs where state = 'running'")):
            await asyncio.sleep(0.01)
    return value


async def later(admin, first):
    value = await admin.fetchval("select lease_until from jobs")
    return value is not None and (value - first).total_seconds() > 1


async def test_a_job_that_another_worker_took_over_is_dropped(db, admin, user):
    cancelled = asyncio.Event()

    async def hang(job):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    recorder = Recorder(hang)
    await enqueue(db, user)
    async with working(db, recorder, lease=0.9):
        await lease(admin)
        await admin.execute("update jobs set token = gen_random_uuid(), lease_until = now() + '1 hour'::interval")
        await asyncio.wait_for(cancelled.wait(), 10)
    assert await admin.fetchval("select state from jobs") == "running"


async def test_a_lost_database_stops_nothing_for_good(database_url, app_url, system_url, admin, user):
    """Connections are cut while the worker listens, polls, beats and saves a result; afterwards it goes on."""
    release = asyncio.Event()

    async def slow(job):
        await release.wait()

    recorder = Recorder(slow)
    async with tcp_proxy(database_url) as proxy:
        db = Database(proxy.url(app_url), proxy.url(system_url), DatabaseOptions())
        await db.open()
        await enqueue(db, user)
        async with working(db, recorder, lease=1, poll=0.02):
            await lease(admin)
            await proxy.cut()
            release.set()
            await until(lambda: lapsed(admin))
            await proxy.restore()
            await until(states(admin))
        await db.close()
    assert len(recorder.ran) >= 2


async def test_without_notifications_the_worker_polls(database_url, app_url, system_url, admin, user):
    recorder = Recorder()
    async with tcp_proxy(database_url) as proxy:
        db = Database(proxy.url(app_url), proxy.url(system_url), DatabaseOptions())
        await db.open()
        await proxy.cut()
        async with working(db, recorder, poll=0.02):
            await asyncio.sleep(0.1)  # it finds no database to listen to
            await proxy.restore()
            await enqueue(db, user)
            await until(states(admin))
        await db.close()
    assert len(recorder.ran) == 1


async def lapsed(admin):
    return await admin.fetchval("select lease_until < now() from jobs")

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
from tests.engine import waits_for_a_lock
from tests.fakes.tcp_proxy import tcp_proxy
from tests.scraping import Deltas, of_this_process


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
    assert recorder.gave_up == [("worker_died", "Processing it was broken off 6 times; it was given up.")]


async def test_a_suspect_runs_alone_and_the_others_wait_for_it(db, admin, user):
    """It is there from the start, then it turns up while the worker is busy, which takes no more until it is idle."""
    beside, most, gates = [], [0], {n: asyncio.Event() for n in range(4)}

    async def look(job):
        beside.append(job.job_id)
        most[0] = max(most[0], len(beside))
        if job.suspect:
            assert beside == [job.job_id]
        await gates[(job.job_id - 1) % 4].wait()
        if job.suspect:
            assert beside == [job.job_id]
        beside.remove(job.job_id)

    recorder = Recorder(look)
    await admin.execute("alter table jobs alter job_id restart with 1")
    await enqueue(db, user, 4)
    await crashed(admin, 1)
    async with working(db, recorder, slots=3):
        await until(lambda: ran_so_far(recorder, [1]))
        await asyncio.sleep(0.3)  # several looks at the queue
        assert await ran_so_far(recorder, [1])
        gates[0].set()
        await until(lambda: ran_so_far(recorder, [1, 2, 3, 4]))
        await enqueue(db, user, 2)  # 5 may go at once, 6 at its end
        await crashed(admin, 6)
        await asyncio.sleep(0.3)
        assert await ran_so_far(recorder, [1, 2, 3, 4])
        for gate in gates.values():
            gate.set()
        await until(states(admin))
    assert [job.job_id for job in recorder.ran] == [1, 2, 3, 4, 6, 5]
    assert most == [3]
    assert recorder.gave_up == []


async def crashed(admin, job_id):
    """A worker died over a job."""
    await admin.execute(
        "update jobs set state = 'running', token = gen_random_uuid(), lease_until = '2020-01-01' where job_id = $1",
        job_id,
    )


async def ran_so_far(recorder, wanted):
    return [job.job_id for job in recorder.ran] == wanted


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
            await waits_for_a_lock(admin)
            await enqueue(db, user)
            await until(lambda: two(recorder))
        await asyncio.sleep(0.5)  # the beat ends, and would cancel now
        assert cancelled == []
        release.set()
        await until(states(admin))


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


async def test_what_ended_while_the_database_was_silent_is_not_the_jobs_fault(
    database_url, app_url, system_url, admin, user
):
    """It is handed back at the first beat that is heard, with no crash counted, long before its lease ends."""
    release = asyncio.Event()

    async def slow(job):
        await release.wait()

    recorder = Recorder(slow)
    async with tcp_proxy(database_url) as proxy:
        db = Database(proxy.url(app_url), proxy.url(system_url), DatabaseOptions())
        await db.open()
        await enqueue(db, user)
        async with working(db, recorder, lease=1.5, poll=0.02):
            await lease(admin)
            await admin.execute("update jobs set lease_until = now() + '1 hour'::interval")
            with capture_logs() as logs:
                await proxy.cut()
                release.set()
                async with asyncio.timeout(15):
                    while "job_result_unsaved" not in [line["event"] for line in logs]:
                        await asyncio.sleep(0.02)
            await proxy.restore()
            await until(states(admin))
        await db.close()
    assert [(job.attempts, job.crashes) for job in recorder.ran] == [(1, 0), (1, 0)]


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


async def test_a_worker_that_is_stopped_while_the_database_is_silent_ends_all_the_same(
    database_url, app_url, system_url, admin, user
):
    began = asyncio.Event()

    async def slow(job):
        began.set()
        await asyncio.Event().wait()

    async with tcp_proxy(database_url) as proxy:
        db = Database(proxy.url(app_url), proxy.url(system_url), DatabaseOptions(command_timeout=600))
        await db.open()
        await enqueue(db, user)
        async with asyncio.timeout(30), working(db, Recorder(slow), lease=1):
            await began.wait()
            proxy.hold()
        proxy.release()
        await db.close()
    await until(lambda: lapsed(admin))  # so another may take over


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


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "done"),
        (Unavailable("model_silent", "Silent."), "retried"),
        (Invalid("model_rejected", "No."), "parked"),
        (ValueError("a defect"), "retried"),
    ],
)
async def test_how_a_job_ends_is_counted(db, user, error, outcome):
    async def behave(job):
        if error:
            raise error

    deltas = Deltas(await of_this_process())
    await enqueue(db, user)
    async with working(db, Recorder(behave)):
        expected = {
            f"ringfence_jobs_total{{kind=task,outcome={outcome}}}": 1,
            "ringfence_job_duration_seconds_count{kind=task}": 1,
        }
        await deltas.until(expected, "ringfence_job")


async def test_a_kind_that_nobody_knows_is_no_label_of_its_own(db, user):
    deltas = Deltas(await of_this_process())
    await enqueue(db, user, kind="made up")
    async with working(db, Recorder()):
        await deltas.until({"ringfence_jobs_total{kind=unknown,outcome=parked}": 1}, "ringfence_jobs")


@pytest.mark.parametrize(("taken_over", "outcome"), [(False, "handed_back"), (True, "lost")])
async def test_a_job_that_a_stopping_worker_had_is_counted(db, admin, user, taken_over, outcome):
    async def hang(job):
        await asyncio.Event().wait()

    recorder = Recorder(hang)
    deltas = Deltas(await of_this_process())
    await enqueue(db, user)
    async with working(db, recorder):
        await until(lambda: ran(recorder))
        if taken_over:
            await admin.execute("update jobs set token = gen_random_uuid()")
    await deltas.until({f"ringfence_jobs_total{{kind=task,outcome={outcome}}}": 1}, "ringfence_jobs")


async def test_a_job_whose_lease_has_passed_is_lost_though_it_is_done(db, admin, user):
    async def behave(job):
        await admin.execute("update jobs set token = gen_random_uuid()")

    deltas = Deltas(await of_this_process())
    await enqueue(db, user)
    async with working(db, Recorder(behave)):
        await deltas.until({"ringfence_jobs_total{kind=task,outcome=lost}": 1}, "ringfence_jobs")


async def ran(recorder):
    return bool(recorder.ran)

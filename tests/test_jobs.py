import asyncio
import json
from datetime import timedelta
from functools import partial
from uuid import uuid4

import asyncpg
import pytest
from pydantic import BaseModel

from ringfence import jobs
from ringfence.db import Database, DatabaseOptions
from ringfence.ids import new_user_id
from ringfence.jobs import Job, claim, enqueue, extend, figures, finish, park, release, retry

LEASE = timedelta(minutes=5)
LAPSED = timedelta(seconds=-1)
ADD_USER = "insert into users (user_id, email, email_key, password_hash) values ($1, $2, $2, 'x')"


class Payload(BaseModel):
    number: int = 0


@pytest.fixture
async def user(admin):
    return await add_user(admin)


async def add_user(admin):
    user_id = new_user_id()
    await admin.execute(ADD_USER, user_id, f"{user_id}@example.org")
    return user_id


async def add(db, user, count=1, kind="k"):
    async with db.tenant(user) as tx:
        return [await enqueue(tx, user, kind, Payload(number=number)) for number in range(count)]


async def take(db, limit=1, lease=LEASE):
    async with db.system() as tx:
        return await claim(tx, limit, lease)


async def do(db, step, *args):
    async with db.system() as tx:
        return await step(tx, *args)


async def state(admin, job):
    return await admin.fetchrow("select * from jobs where user_id = $1 and job_id = $2", job.user_id, job.job_id)


# Enqueue.


async def test_a_job_comes_with_its_cause(db, admin, user):
    (job_id,) = await add(db, user)
    (job,) = await take(db)
    assert (job.user_id, job.job_id, job.kind, job.attempts) == (user, job_id, "k", 1)
    assert Payload.model_validate_json(job.payload) == Payload(number=0)
    row = await state(admin, job)
    assert (row["state"], row["token"]) == ("running", job.token)


async def test_no_job_without_its_cause(db, user):
    async def fail():
        async with db.tenant(user) as tx:
            await enqueue(tx, user, "k", Payload())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await take(db) == []


async def test_the_system_may_enqueue_as_well(db, user):
    await do(db, enqueue, user, "k", Payload())
    assert len(await take(db)) == 1


async def test_nobody_enqueues_for_another_tenant(db, admin, user):
    other = await add_user(admin)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.tenant(user) as tx:
            await enqueue(tx, other, "k", Payload())
    assert await admin.fetchval("select count(*) from job_lanes") == 0


async def test_a_tenant_sees_its_own_jobs_and_claims_none(db, admin, user):
    await add(db, user)
    await add(db, await add_user(admin))
    async with db.tenant(user) as tx:
        assert [row["user_id"] for row in await tx.fetch("select user_id from jobs")] == [user]
    job = Job(user, 1, "k", "{}", 1, uuid4())
    for step, args in (
        (claim, (1, LEASE)),
        (extend, ([job.token], LEASE)),
        (finish, (job,)),
        (retry, (job, "r", LEASE)),
        (release, (job,)),
        (park, (job, "r")),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.tenant(user) as tx:
                await step(tx, *args)


async def test_a_promised_job_is_withdrawn_or_comes_due(db, admin, user):
    async with db.tenant(user) as tx:
        first = await jobs.promise(tx, "store", Payload(), timedelta(hours=1))
        second = await jobs.promise(tx, "store", Payload(number=2), timedelta(hours=1))
        assert await jobs.promised(tx, "store", Payload(number=2))
        assert await jobs.withdraw(tx, first)
        assert not await jobs.withdraw(tx, first)
    assert await take(db) == []
    async with db.system() as tx:
        assert await jobs.figures(tx) == []  # nobody waits for it
    await admin.execute("update jobs set run_after = now()")
    [job] = await take(db)
    assert (job.job_id, job.kind) == (second, "store")
    async with db.tenant(user) as tx:
        assert not await jobs.promised(tx, "store", Payload(number=2))
        assert not await jobs.withdraw(tx, second)
    assert await state(admin, job)


async def test_a_tenant_withdraws_its_own_promises_alone(db, admin, user):
    other = await add_user(admin)
    async with db.tenant(other) as tx:
        theirs = await jobs.promise(tx, "store", Payload(), timedelta(hours=1))
    [mine] = await add(db, user)
    async with db.tenant(user) as tx:
        assert not await jobs.promised(tx, "store", Payload())
        for number in (theirs, mine):
            assert not await jobs.withdraw(tx, number)
        assert await tx.execute("delete from jobs where job_id = any($1)", [theirs, mine]) == 0


async def test_many_enqueuers_of_one_tenant_do_not_deadlock(app_url, system_url, user):
    options = DatabaseOptions(pool_size=36, connect_timeout=60, command_timeout=60)
    database = Database(app_url, system_url, options)
    await database.open()
    found = await asyncio.gather(*(add(database, user, 5) for _ in range(36)))
    assert len({number for numbers in found for number in numbers}) == 180
    assert len(await take(database, 1000)) == 180
    await database.close()


async def test_a_new_job_wakes_the_workers(db, user):
    async with db.listen(jobs.CHANNEL) as event:
        await add(db, user)
        await asyncio.wait_for(event.wait(), 20)


# Order.


async def test_one_tenants_jobs_come_in_order(db, user):
    numbers = await add(db, user, 10)
    assert [job.job_id for job in await take(db, 4)] + [job.job_id for job in await take(db, 100)] == numbers


async def test_one_job_does_not_wait_behind_anothers_thousand(db, admin, user):
    await admin.execute("insert into job_lanes values ($1, 1000)", user)
    await admin.execute(
        "insert into jobs (user_id, kind, payload, tag) select $1, 'k', '{}', n from generate_series(1, 1000) n", user
    )
    await take(db, 10)
    other = await add_user(admin)
    await add(db, other)
    order = [job.user_id for job in await take(db, 5)]
    assert other in order[:2]


async def test_two_busy_tenants_take_turns(db, admin, user):
    other = await add_user(admin)
    await add(db, user, 20)
    await add(db, other, 20)
    order = [(await take(db))[0].user_id for _ in range(20)]
    assert order.count(user) == order.count(other) == 10
    assert all(order[turn] != order[turn + 1] for turn in range(0, 20, 2))


async def test_an_idle_tenant_saves_up_nothing(db, admin, user):
    """Whoever was away for long does not overtake all others for as long: the clock has gone on."""
    other = await add_user(admin)
    await add(db, other)  # tag 1
    await take(db)
    await add(db, user, 30)
    await take(db, 20)  # the clock says 20 or more
    await add(db, other, 10)
    order = [job.user_id for job in await take(db, 20)]
    assert other in order[:2]
    assert order[:10].count(user) >= 4


# Claims.


async def test_claims_skip_what_others_are_claiming(db, admin, user):
    first, second = await add(db, user, 2)
    async with db.system() as tx:
        locked = await tx.fetchval("select job_id from jobs where job_id = $1 for update", first)
        assert [job.job_id for job in await asyncio.wait_for(take(db, 5), 20)] == [second]
    assert locked == first
    assert [job.job_id for job in await take(db, 5)] == [first]


async def test_six_claimers_never_get_the_same_job(db, admin, user):
    other = await add_user(admin)
    wanted = {*await add(db, user, 60), *await add(db, other, 60)}
    got = []

    async def work():
        while found := await take(db, 3):
            for job in found:
                got.append(job.job_id)
                assert await do(db, finish, job)

    await asyncio.gather(*(work() for _ in range(6)))
    got += [job.job_id for job in await take(db, 1000)]  # where a claimer gave up while the rest was locked
    assert sorted(got) == sorted(wanted)


async def test_a_lapsed_lease_passes_on_and_its_token_opens_nothing(db, admin, user):
    await add(db, user)
    (old,) = await take(db, lease=LAPSED)
    (new,) = await take(db)
    assert (new.job_id, new.attempts) == (old.job_id, 2)
    assert new.token != old.token
    before = await state(admin, new)
    assert not await do(db, finish, old)
    assert not await do(db, retry, old, "r", LEASE)
    assert not await do(db, release, old)
    assert not await do(db, park, old, "r")
    assert await do(db, extend, [old.token], LEASE) == set()
    assert await state(admin, new) == before
    assert await do(db, finish, new)
    assert await state(admin, new) is None


async def test_a_suspect_is_given_to_an_idle_worker_and_alone(db, user):
    (suspect,) = await add(db, user)
    await take(db, lease=LAPSED)
    others = await add(db, user, 3)
    assert await do(db, partial(claim, idle=False), 9, LEASE) == []  # it waits for a worker to become idle
    (job,) = await take(db, 9)
    assert (job.job_id, job.suspect, job.crashes) == (suspect, True, 1)
    # While it runs somewhere, the others are everybody's.
    assert [job.job_id for job in await do(db, partial(claim, idle=False), 1, LEASE)] == others[:1]
    assert [(job.job_id, job.suspect) for job in await take(db, 9)] == [(number, False) for number in others[1:]]


async def test_a_suspect_that_was_put_back_is_one_still(db, admin, user):
    (suspect,) = await add(db, user)
    await take(db, lease=LAPSED)
    (job,) = await take(db)
    assert await do(db, retry, job, "busy", timedelta(hours=1))
    (other,) = await add(db, user)
    assert [job.job_id for job in await take(db, 9)] == [other]  # nobody waits while it is not due
    await admin.execute("update jobs set run_after = now()")
    assert await do(db, partial(claim, idle=False), 9, LEASE) == []
    (again,) = await take(db, 9)
    assert (again.job_id, again.suspect, again.crashes) == (suspect, True, 1)


async def test_the_least_suspected_goes_first(db, admin, user):
    worst, lapsed, back, better = await add(db, user, 4)
    await take(db, 4, lease=LAPSED)
    await admin.execute("update jobs set crashes = 3 where job_id = $1", worst)
    await admin.execute(
        "update jobs set state = 'ready', token = null, crashes = 2 - (job_id = $2)::int where job_id = any($1)",
        [back, better],
        better,
    )
    assert [(await take(db, 9))[0].job_id for _ in range(4)] == [lapsed, better, back, worst]


async def test_six_idle_workers_share_out_the_suspects(db, user):
    wanted = await add(db, user, 12)
    await take(db, 12, lease=LAPSED)
    got = []

    async def work():
        while found := await take(db, 5):
            got.extend(job.job_id for job in found)
            assert len(found) == 1

    await asyncio.gather(*(work() for _ in range(6)))
    while found := await take(db, 5):  # where one gave up while the rest was locked
        got.extend(job.job_id for job in found)
    assert sorted(got) == sorted(wanted)


async def test_a_running_job_is_nobody_elses(db, user):
    await add(db, user)
    assert len(await take(db)) == 1
    assert await take(db) == []


async def test_extend_keeps_the_lease(db, admin, user):
    await add(db, user, 2)
    mine, lost = await take(db, 2, lease=LAPSED)
    assert await do(db, extend, [mine.token], LEASE) == {mine.token}
    assert [job.job_id for job in await take(db, 9)] == [lost.job_id]
    assert await do(db, extend, {mine.token, lost.token}, LEASE) == {mine.token}
    assert await do(db, extend, [], LEASE) == set()
    assert await admin.fetchval("select lease_until > now() from jobs where token = $1", mine.token)


# Ends.


async def test_retry_waits(db, admin, user):
    await add(db, user)
    (job,) = await take(db)
    assert await do(db, retry, job, "busy", timedelta(hours=1))
    row = await state(admin, job)
    assert (row["state"], row["reason"], row["token"], row["lease_until"]) == ("ready", "busy", None, None)
    assert await take(db) == []
    await admin.execute("update jobs set run_after = now()")
    (again,) = await take(db)
    assert (again.job_id, again.attempts) == (job.job_id, 2)
    assert await do(db, retry, again, "busy", timedelta(0))
    assert (await take(db))[0].attempts == 3


async def test_release_does_not_count(db, user):
    await add(db, user)
    (job,) = await take(db)
    assert await do(db, release, job)
    (again,) = await take(db)
    assert (again.job_id, again.attempts) == (job.job_id, 1)


async def test_a_parked_job_rests(db, admin, user):
    await add(db, user)
    (job,) = await take(db)
    assert await do(db, park, job, "broken")
    row = await state(admin, job)
    assert (row["state"], row["reason"], row["token"]) == ("parked", "broken", None)
    assert await take(db) == []


async def test_attempts_count_at_the_claim(db, user):
    """A worker that dies again and again without a word is counted too."""
    await add(db, user)
    attempts = [(await take(db, lease=LAPSED))[0].attempts for _ in range(5)]
    assert attempts == list(range(1, 6))


async def test_an_ended_job_takes_no_second_end(db, user):
    await add(db, user)
    (job,) = await take(db)
    assert await do(db, finish, job)
    assert not await do(db, finish, job)
    assert not await do(db, retry, job, "r", timedelta(0))
    assert await take(db) == []


async def test_what_was_set_aside_of_the_same_work_is_done_with_it(db, admin, user):
    other = await add_user(admin)
    for whose, kind in ((user, "k"), (user, "else"), (other, "k")):
        await add(db, whose, kind=kind)
        (job,) = await take(db)
        await do(db, park, job, "broken")
    (same,) = await add(db, user)  # tried again by its owner
    (number,) = (await add(db, user, 2))[1:]  # other work of the same kind
    job = (await take(db))[0]
    assert job.job_id == same
    assert await do(db, finish, job)
    rows = await admin.fetch("select user_id, kind, state from jobs order by job_id")
    assert [tuple(row) for row in rows][:2] == [(user, "else", "parked"), (other, "k", "parked")]
    assert await admin.fetchval("select count(*) from jobs where job_id = $1", number) == 1


# Speed.


def plans(node, key):
    found = [node[key]] if key in node else []
    return found + [value for child in node.get("Plans", []) for value in plans(child, key)]


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        (jobs._CLAIM, {"jobs_ready", "jobs_running", "jobs_suspect"}),
        (jobs._CLAIM_SUSPECT, {"jobs_running", "jobs_suspect"}),
    ],
)
async def test_claims_use_the_partial_indexes(db, admin, user, statement, wanted):
    await admin.execute("insert into job_lanes values ($1, 1)", user)
    await admin.execute(
        "insert into jobs (user_id, kind, payload, tag) select $1, 'k', '{}', n from generate_series(1, 20000) n", user
    )
    await take(db, 5)
    await admin.execute("vacuum analyze jobs")
    async with db.system() as tx:
        rows = await tx.connection.fetch("explain (format json) " + statement, 5, LEASE)
    (plan,) = json.loads(rows[0][0])
    assert wanted <= set(plans(plan["Plan"], "Index Name"))
    assert "Seq Scan" not in [kind for kind, name in scans(plan["Plan"]) if name == "jobs"]


def scans(node):
    found = [(node["Node Type"], node["Relation Name"])] if "Relation Name" in node else []
    return found + [scan for child in node.get("Plans", []) for scan in scans(child)]


# Figures.


async def test_the_queue_by_kind_and_state_with_the_age_of_the_oldest(db, admin, user):
    assert await do(db, figures) == []
    await add(db, user, 3, kind="a")
    await add(db, await add_user(admin), 2, kind="b")
    await admin.execute("update jobs set created_at = now() - job_id * interval '100 s'")
    oldest = await admin.fetchval("select max(job_id) * 100 from jobs where kind = 'b'")
    (job,) = await take(db)
    await do(db, park, job, "why")
    found = await do(db, figures)
    assert [row[:3] for row in found] == [("a", "parked", 1), ("a", "ready", 2), ("b", "ready", 2)]
    assert oldest <= found[2][3] < oldest + 60

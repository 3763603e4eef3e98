"""The queue: jobs committed with their cause, leased with a fencing token, fair between tenants.

A job is delivered at least once. Attempts are counted when it is claimed, and apart from them how often a worker fell
silent over it, so one that kills its workers can't loop for ever; such a suspect is given to an idle worker alone.
Whoever runs a job holds its token; once the lease has passed to another worker the old token opens nothing.
Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996): a job's tag is the greater of its tenant's last tag and
the clock, plus one.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel

from ringfence.db import OwnerTx, SystemTx, TenantTx
from ringfence.ids import UserId, user_id_from_record

CHANNEL = "jobs"
MAX_CRASHES = 5
"""Workers that may fall silent over a job. The first may be anybody's fault; at the others it ran alone."""

MAX_DEFECTS = 5

_ENQUEUE = """
with lane as (
  insert into job_lanes as l (user_id, tag) values ($1, (select value from job_clock) + 1)
  on conflict (user_id) do update set tag = greatest(l.tag, (select value from job_clock)) + 1
  returning tag)
insert into jobs (user_id, kind, payload, tag) select $1, $2, $3::jsonb, tag from lane returning job_id
"""
# Of no weight in its tenant's lane: most of them are withdrawn before they are due.
_PROMISE = """
insert into jobs (user_id, kind, payload, tag, run_after) select $1, $2, $3::jsonb, value, now() + $4 from job_clock
returning job_id
"""
_PROMISED = """
select user_id from jobs
where user_id = $1 and kind = $2 and payload = $3::jsonb and state = 'ready' and attempts = 0 and run_after > now()
limit 1
"""
_WITHDRAW = "delete from jobs where user_id = $1 and job_id = $2 and state = 'ready' and attempts = 0"
_WAITS = "select distinct user_id from jobs where user_id = $1 and kind = $2 and state = 'ready'"
_WITHDRAW_ALL = "delete from jobs where user_id = $1 and kind = $2 and state in ('ready', 'parked')"
_TAKE = """
got as (
  update jobs j set state = 'running', attempts = attempts + 1, crashes = crashes + (j.state = 'running')::int,
    token = gen_random_uuid(), lease_until = now() + $2
  from pick where j.user_id = pick.user_id and j.job_id = pick.job_id
  returning j.user_id, j.job_id, j.kind, j.payload, j.attempts, j.token, j.crashes, now() - j.created_at as age, j.tag),
tick as (
  update job_clock set value = m.tag from (select max(tag) as tag from got) m where value < m.tag)
select user_id, job_id, kind, payload, attempts, token, crashes, age from got order by tag, job_id
"""
# A suspect that is due keeps new jobs back, so that some worker becomes idle for it.
_CLAIM = f"""
with pick as (
  select user_id, job_id from jobs where state = 'ready' and crashes = 0 and run_after <= now()
    and not exists (select from jobs where state = 'running' and lease_until < now())
    and not exists (select from jobs where state = 'ready' and crashes > 0 and run_after <= now())
  order by tag, job_id limit $1 for update skip locked), {_TAKE}
"""  # noqa: S608  # a constant, as below
# The least suspected first: who stood beside a job that kills its workers does not wait until that one is given up.
_CLAIM_SUSPECT = f"""
with lapsed as (
  select user_id, job_id, crashes + 1 as crashes, tag from jobs where state = 'running' and lease_until < now()
  order by crashes, tag, job_id limit $1 for update skip locked),
back as (
  select user_id, job_id, crashes, tag from jobs where state = 'ready' and crashes > 0 and run_after <= now()
  order by crashes, tag, job_id limit $1 for update skip locked),
pick as (
  select user_id, job_id from (
    select user_id, job_id, crashes, tag from lapsed union all select user_id, job_id, crashes, tag from back) s
  order by crashes, tag, job_id limit $1), {_TAKE}
"""  # noqa: S608
# Locked in a fixed order, so that it can't deadlock with an account's deletion.
_EXTEND = """
with held as (
  select user_id, job_id from jobs where token = any($1::uuid[]) and state = 'running'
  order by user_id, job_id for update)
update jobs j set lease_until = now() + $2 from held h where j.user_id = h.user_id and j.job_id = h.job_id
returning j.token
"""
# What was set aside of the same work is done with it. Locked without waiting: see _EXTEND.
_FINISH = """
with done as (
  delete from jobs where user_id = $1 and job_id = $2 and token = $3 returning kind, payload),
twins as (
  delete from jobs where (user_id, job_id) in (
    select j.user_id, j.job_id from jobs j join done d on j.kind = d.kind and j.payload = d.payload
    where j.user_id = $1 and j.state = 'parked' for update of j skip locked))
select count(*) from done
"""
_RETRY = """
update jobs set state = 'ready', token = null, lease_until = null, reason = $4, run_after = now() + $5
where user_id = $1 and job_id = $2 and token = $3
"""
_RELEASE = """
update jobs set state = 'ready', token = null, lease_until = null, attempts = attempts - 1
where user_id = $1 and job_id = $2 and token = $3
"""
_RELEASE_ALL = """
update jobs set state = 'ready', token = null, lease_until = null, attempts = attempts - 1 where state = 'running'
"""
_PARK = """
update jobs set state = 'parked', token = null, lease_until = null, reason = $4
where user_id = $1 and job_id = $2 and token = $3
"""
_LISTED = """
select job_id, user_id, kind, state, reason, attempts, crashes, created_at, run_after
from jobs where state = any($1) order by job_id limit $2
"""
# As if it were new; its turn stays the old one, which nobody has to wait behind.
_UNPARK = """
update jobs set state = 'ready', reason = null, attempts = 0, crashes = 0, run_after = now(), created_at = now()
where job_id = any($1) and state = 'parked' returning job_id
"""
_FORGET_PARKED = """
delete from jobs where (user_id, job_id) in (
  select user_id, job_id from jobs where state = 'parked' and kind = $1 and created_at < $2
  limit 500 for update skip locked)
"""
# In the order of _EXTEND.
_CANCEL_ALL = """
with held as (select user_id, job_id from jobs where user_id = $1 order by user_id, job_id for update)
delete from jobs j using held h where j.user_id = h.user_id and j.job_id = h.job_id
"""
# What is not due yet for the first time waits for nobody.
_FIGURES = """
select kind, state, count(*), extract(epoch from now() - min(created_at))::float8 from jobs
where not (state = 'ready' and attempts = 0 and run_after > now()) group by 1, 2 order by 1, 2
"""
# A lane's tag grows with each job that comes; that one began or ended, its token or the number of jobs tells. They are
# not counted to the end: who has many has some that run.
_MARKS = """
with running as (
  select user_id, array_agg(token order by token) as tokens from jobs where state = 'running' group by user_id)
select l.user_id, l.tag, r.tokens,
  (select count(*) from (select from jobs j where j.user_id = l.user_id limit 100) few) as jobs
from job_lanes l left join running r on r.user_id = l.user_id where l.user_id = any($1::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """How a user's jobs stand: it is another one once a job came, began or ended.

    Attributes:
        tag: of the user's last job.
        running: tokens of the jobs that run.
        jobs: how many there are, counted to a hundred.
    """

    tag: int
    running: tuple[UUID, ...]
    jobs: int


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job.

    Attributes:
        user_id: whose it is.
        job_id: its number.
        kind: which handler runs it.
        payload: the JSON text that its cause enqueued.
        attempts: how often it was claimed, this time included.
        token: opens the job for whoever holds its lease.
        crashes: how often a worker fell silent over it.
        age: since it was enqueued.
    """

    user_id: UserId
    job_id: int
    kind: str
    payload: str
    attempts: int
    token: UUID
    crashes: int = 0
    age: timedelta = timedelta(0)

    @property
    def suspect(self) -> bool:
        """Whether it may be what silenced a worker, and therefore has to run alone."""
        return self.crashes > 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A job as operators see it: no payload."""

    job_id: int
    user_id: UUID
    kind: str
    state: str
    reason: str | None
    attempts: int
    crashes: int
    created_at: datetime
    run_after: datetime


@dataclass(frozen=True, slots=True)
class Handler:
    """What runs a kind of job, what is told (code, reason) when one is given up, and for how long one is tried.

    A job that fails with `Unavailable` is tried again until it is `patience` old, at least each `longest_delay`.
    """

    run: Callable[[Job], Awaitable[None]]
    give_up: Callable[[Job, str, str], Awaitable[None]]
    patience: timedelta = timedelta(hours=1)
    longest_delay: timedelta = timedelta(minutes=5)


async def figures(tx: SystemTx) -> list[tuple[str, str, int, float]]:
    """How many jobs of each kind are in each state, and the age of the oldest of them in seconds."""
    return [(kind, state, count, age) for kind, state, count, age in await tx.fetch(_FIGURES)]


async def marks(tx: SystemTx, users: Collection[UserId]) -> dict[UserId, Mark]:
    """How the jobs of these users stand; nothing of those who never had one. One look at few rows, for all of them."""
    rows = await tx.fetch(_MARKS, list(users))
    return {
        user_id_from_record(row["user_id"]): Mark(row["tag"], tuple(row["tokens"] or ()), row["jobs"]) for row in rows
    }


async def enqueue(tx: TenantTx | SystemTx, user_id: UserId, kind: str, payload: BaseModel) -> int:
    """Add a job in the transaction of its cause; the job's number."""
    return int(await tx.fetchval(_ENQUEUE, user_id, kind, payload.model_dump_json()))


async def promise(tx: TenantTx, kind: str, payload: BaseModel, delay: timedelta) -> int:
    """Add a job that runs after `delay`, unless whoever added it is alive and withdraws it; its number."""
    return int(await tx.fetchval(_PROMISE, tx.user_id, kind, payload.model_dump_json(), delay))


async def promised(tx: TenantTx, kind: str, payload: BaseModel) -> bool:
    """Whether the tenant has such a job that is not due yet."""
    return await tx.fetchval(_PROMISED, tx.user_id, kind, payload.model_dump_json()) is not None


async def promise_once(tx: TenantTx, kind: str, payload: BaseModel, delay: timedelta) -> None:
    """The same, where the tenant has no such job that is not due yet."""
    if not await promised(tx, kind, payload):
        await promise(tx, kind, payload, delay)


async def withdraw(tx: TenantTx, job_id: int) -> bool:
    """Remove a job that was promised; False if it has begun or is gone."""
    return bool(await tx.execute(_WITHDRAW, tx.user_id, job_id))


async def waits(tx: TenantTx, kind: str) -> bool:
    """Whether a job of this kind waits for its turn in the tenant's lane."""
    return await tx.fetchval(_WAITS, tx.user_id, kind) is not None


async def withdraw_all(tx: SystemTx, user_id: UserId, kind: str) -> int:
    """Remove a user's jobs of a kind that wait or were set aside; how many. One that runs goes on."""
    return await tx.execute(_WITHDRAW_ALL, user_id, kind)


async def claim(tx: SystemTx, limit: int, lease: timedelta, *, idle: bool = True) -> list[Job]:
    """Take jobs that are due, in fair order, or one over which a worker fell silent.

    Args:
        tx: of the queue.
        limit: how many at most.
        lease: how long they are the caller's.
        idle: whether the caller runs no other job. Only then is it given a suspect (`Job.suspect`), and beside that
            nothing; nobody is given anything else while one is due.
    """
    rows = await tx.fetch(_CLAIM_SUSPECT, 1, lease) if idle else []
    rows = rows or await tx.fetch(_CLAIM, limit, lease)
    return [Job(user_id_from_record(row["user_id"]), *tuple(row)[1:]) for row in rows]


async def extend(tx: SystemTx, tokens: Collection[UUID], lease: timedelta) -> set[UUID]:
    """Prolong the leases of running jobs; the tokens that are still good. The others belong to another worker now."""
    return {row["token"] for row in await tx.fetch(_EXTEND, list(tokens), lease)}


async def finish(tx: SystemTx, job: Job) -> bool:
    """Remove a job that is done, and what was set aside of the same work; False if its lease had passed to another."""
    return bool(await tx.fetchval(_FINISH, job.user_id, job.job_id, job.token))


async def retry(tx: SystemTx, job: Job, reason: str, delay: timedelta) -> bool:
    """Put a job back for later; False if its lease had passed to another worker."""
    return bool(await tx.execute(_RETRY, job.user_id, job.job_id, job.token, reason, delay))


async def release(tx: SystemTx, job: Job) -> bool:
    """Hand a job back untouched, its attempt uncounted (the worker is stopping)."""
    return bool(await tx.execute(_RELEASE, job.user_id, job.job_id, job.token))


async def release_all(tx: OwnerTx) -> None:
    """Hand back every running job: the queue was restored from a backup, and no worker of it has one."""
    await tx.execute(_RELEASE_ALL)


async def park(tx: SystemTx, job: Job, reason: str) -> bool:
    """Set a job aside for a person to look at, with the reason."""
    return bool(await tx.execute(_PARK, job.user_id, job.job_id, job.token, reason))


async def listed(tx: SystemTx, states: Collection[str], limit: int) -> list[Listed]:
    """The jobs in these states, the oldest first."""
    return [Listed(**dict(row)) for row in await tx.fetch(_LISTED, list(states), limit)]


async def unpark(tx: SystemTx, job_ids: Collection[int]) -> set[int]:
    """Let jobs that were set aside run again, as if they were new; which of these were set aside."""
    return {row["job_id"] for row in await tx.fetch(_UNPARK, list(job_ids))}


async def forget_parked(tx: SystemTx, kind: str, before: datetime) -> int:
    """Remove up to 500 jobs of a kind that were set aside and are older than that; how many."""
    return await tx.execute(_FORGET_PARKED, kind, before)


async def cancel_all(tx: SystemTx, user_id: UserId) -> int:
    """Remove all jobs of a user; those that run are broken off at their worker's next beat. How many there were."""
    return await tx.execute(_CANCEL_ALL, user_id)

"""The queue: jobs committed with their cause, leased with a fencing token, fair between tenants.

A job is delivered at least once. Attempts are counted when it is claimed, and apart from them how often a worker fell
silent over it, so one that kills its workers can't loop for ever. Whoever runs a job holds its token; once the lease
has passed to another worker the old token opens nothing.
Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996): a job's tag is the greater of its tenant's last tag and
the clock, plus one.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel

from ringfence.db import SystemTx, TenantTx
from ringfence.ids import UserId, user_id_from_record

CHANNEL = "jobs"
MAX_CRASHES = 5
MAX_DEFECTS = 5

_ENQUEUE = """
with lane as (
  insert into job_lanes as l (user_id, tag) values ($1, (select value from job_clock) + 1)
  on conflict (user_id) do update set tag = greatest(l.tag, (select value from job_clock)) + 1
  returning tag)
insert into jobs (user_id, kind, payload, tag) select $1, $2, $3::jsonb, tag from lane returning job_id
"""
_CLAIM = """
with expired as (
  select user_id, job_id from jobs where state = 'running' and lease_until < now()
  order by tag, job_id limit $1 for update skip locked),
ready as (
  select user_id, job_id from jobs where state = 'ready' and run_after <= now()
  order by tag, job_id limit $1 for update skip locked),
pick as (select * from expired union all select * from ready limit $1),
got as (
  update jobs j set state = 'running', attempts = attempts + 1, crashes = crashes + (j.state = 'running')::int,
    token = gen_random_uuid(), lease_until = now() + $2
  from pick where j.user_id = pick.user_id and j.job_id = pick.job_id
  returning j.user_id, j.job_id, j.kind, j.payload, j.attempts, j.token, j.crashes, now() - j.created_at as age, j.tag),
tick as (
  update job_clock set value = m.tag from (select max(tag) as tag from got) m where value < m.tag)
select user_id, job_id, kind, payload, attempts, token, crashes, age from got order by tag, job_id
"""
# Locked in a fixed order, so that it can't deadlock with an account's deletion.
_EXTEND = """
with held as (
  select user_id, job_id from jobs where token = any($1::uuid[]) and state = 'running'
  order by user_id, job_id for update)
update jobs j set lease_until = now() + $2 from held h where j.user_id = h.user_id and j.job_id = h.job_id
returning j.token
"""
_FINISH = "delete from jobs where user_id = $1 and job_id = $2 and token = $3"
_RETRY = """
update jobs set state = 'ready', token = null, lease_until = null, reason = $4, run_after = now() + $5
where user_id = $1 and job_id = $2 and token = $3
"""
_RELEASE = """
update jobs set state = 'ready', token = null, lease_until = null, attempts = attempts - 1
where user_id = $1 and job_id = $2 and token = $3
"""
_PARK = """
update jobs set state = 'parked', token = null, lease_until = null, reason = $4
where user_id = $1 and job_id = $2 and token = $3
"""


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


@dataclass(frozen=True, slots=True)
class Handler:
    """What runs a kind of job, what is told (code, reason) when one is given up, and for how long one is tried.

    A job that fails with `Unavailable` is tried again until it is `patience` old.
    """

    run: Callable[[Job], Awaitable[None]]
    give_up: Callable[[Job, str, str], Awaitable[None]]
    patience: timedelta = timedelta(hours=1)


async def enqueue(tx: TenantTx | SystemTx, user_id: UserId, kind: str, payload: BaseModel) -> int:
    """Add a job in the transaction of its cause; the job's number."""
    return int(await tx.fetchval(_ENQUEUE, user_id, kind, payload.model_dump_json()))


async def claim(tx: SystemTx, limit: int, lease: timedelta) -> list[Job]:
    """Take up to `limit` jobs that are due, or whose worker fell silent, in fair order."""
    rows = await tx.fetch(_CLAIM, limit, lease)
    return [Job(user_id_from_record(row["user_id"]), *tuple(row)[1:]) for row in rows]


async def extend(tx: SystemTx, tokens: Collection[UUID], lease: timedelta) -> set[UUID]:
    """Prolong the leases of running jobs; the tokens that are still good. The others belong to another worker now."""
    return {row["token"] for row in await tx.fetch(_EXTEND, list(tokens), lease)}


async def finish(tx: SystemTx, job: Job) -> bool:
    """Remove a job that is done; False if its lease had passed to another worker."""
    return bool(await tx.execute(_FINISH, job.user_id, job.job_id, job.token))


async def retry(tx: SystemTx, job: Job, reason: str, delay: timedelta) -> bool:
    """Put a job back for later; False if its lease had passed to another worker."""
    return bool(await tx.execute(_RETRY, job.user_id, job.job_id, job.token, reason, delay))


async def release(tx: SystemTx, job: Job) -> bool:
    """Hand a job back untouched, its attempt uncounted (the worker is stopping)."""
    return bool(await tx.execute(_RELEASE, job.user_id, job.job_id, job.token))


async def park(tx: SystemTx, job: Job, reason: str) -> bool:
    """Set a job aside for a person to look at, with the reason."""
    return bool(await tx.execute(_PARK, job.user_id, job.job_id, job.token, reason))

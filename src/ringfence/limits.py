"""Limits, kept in PostgreSQL, so that all processes share them: how often something may be done, and how much kept.

Rates follow the generic cell rate algorithm (ITU-T I.371), one row and one statement a bucket: the row holds the time
at which the bucket will be empty again. Each try moves that time on by one interval, unless it would lie further ahead
than the bucket is deep. So a full bucket allows its count at once, and as many again while it refills: nearly twice the
count within the first period. The statement is the function `limits_take` (0017_limits_clearing.sql), so that another
one can call it.

Quotas are the installation's, or a user's own where an operator has set some. Who keeps something counts it, in the
transaction that stores it.
"""

import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringfence.db import Database, SystemTx, TenantTx
from ringfence.errors import NotFound, QuotaExceeded, RateLimited
from ringfence.ids import UserId

_ROUNDING = 1e-6  # of floating point: what is whole stays whole
_TAKE = "select limits_take($1, $2, $3, $4)"
_GIVE_BACK = "update limits set full_at = full_at - $2::interval where bucket = $1"
_CLEAR = "delete from limits where bucket = $1"
_FORGET = """
delete from limits where bucket in (select bucket from limits where full_at < $1 limit 500 for update skip locked)
"""
_QUOTA = "select user_id, documents, bytes, questions from quotas where user_id = $1"
_SET_QUOTA = """
insert into quotas as q (user_id, documents, bytes, questions)
select user_id, $2, $3, $4 from users where user_id = $1 for key share
on conflict (user_id) do update set documents = coalesce($2, q.documents), bytes = coalesce($3, q.bytes),
  questions = coalesce($4, q.questions)
"""
_CLEAR_QUOTA = "delete from quotas where user_id = $1"


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may happen: `count` times at once, and as many again in `seconds`."""

    name: str
    count: int
    seconds: float

    @property
    def interval(self) -> timedelta:
        """After which one more try is allowed."""
        return timedelta(seconds=self.seconds / self.count)

    @property
    def depth(self) -> timedelta:
        """After which all of them are allowed again."""
        return timedelta(seconds=self.seconds)

    @property
    def policy(self) -> str:
        """As the header field `RateLimit-Policy` says it (draft-ietf-httpapi-ratelimit-headers-10)."""
        return f'"{self.name}";q={self.count};w={round(self.seconds)}'


def rate(name: str, count: int, seconds: float) -> Rate | None:
    """A rate, or none where the count is 0: there is no limit then."""
    return Rate(name, count, seconds) if count else None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limit stands for whoever was just counted.

    Attributes:
        rate: the limit.
        remaining: how many more are allowed at once.
        reset: seconds until all of them are again.
    """

    rate: Rate
    remaining: int
    reset: float


type Note = Callable[[Standing], object]
"""Is told how a limit stands, so that the caller can be told."""


def unsaid(_standing: Standing) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one subject's tries at a rate are counted in: with the time, the arguments of `limits_take`."""

    rate: Rate
    name: bytes

    def standing(self, level: float) -> Standing | None:
        """What the function's result means; None: the try was not counted, and may be made again `-level` s later."""
        if level < 0:
            return None
        room = (self.rate.seconds - level) / self.rate.seconds * self.rate.count
        return Standing(self.rate, math.floor(room + _ROUNDING), level)

    def admit(self, level: float) -> Standing:
        """Let a request go on, or not, after the statement that let its caller in has counted it.

        Raises:
            RateLimited: `too_many_requests`.
        """
        if standing := self.standing(level):
            return standing
        message = "These are too many requests. Please wait a moment."
        raise RateLimited("too_many_requests", message, retry_after=-level, policy=self.rate.policy)


class RateLimits:
    """Buckets, each for a rate and a subject (an account, a network address).

    Args:
        key: 32 bytes, under which subjects become the buckets' names.
        now: the clock.
    """

    def __init__(self, key: bytes, now: Callable[[], datetime]) -> None:
        self._key = key
        self._now = now

    async def take(self, tx: SystemTx, rate: Rate, *subject: str) -> Standing:
        """Count a try.

        Raises:
            RateLimited: `too_many_tries`; it was not counted. Says after how many seconds one will be.
        """
        bucket, level = await self._level(tx, rate, subject)
        if standing := bucket.standing(level):
            return standing
        message = "This was tried too often. Please wait a while."
        raise RateLimited("too_many_tries", message, retry_after=-level, policy=rate.policy)

    async def try_take(self, tx: SystemTx, rate: Rate, *subject: str) -> bool:
        """Count a try; False, and not counted, where there were too many."""
        bucket, level = await self._level(tx, rate, subject)
        return bucket.standing(level) is not None

    async def _level(self, tx: SystemTx, rate: Rate, subject: tuple[str, ...]) -> tuple[Bucket, float]:
        bucket = self.bucket(rate, *subject)
        return bucket, await tx.fetchval(_TAKE, bucket.name, self._now(), rate.interval, rate.depth)

    async def give_back(self, tx: SystemTx, rate: Rate, *subject: str) -> None:
        """Uncount a try that was in order."""
        await tx.execute(_GIVE_BACK, self.bucket(rate, *subject).name, rate.interval)

    async def clear(self, tx: SystemTx, rate: Rate, *subject: str) -> None:
        """Forget all tries."""
        await tx.execute(_CLEAR, self.bucket(rate, *subject).name)

    def bucket(self, rate: Rate, *subject: str) -> Bucket:
        """Where a subject's tries are counted."""
        name = "\0".join((rate.name, *subject)).encode("utf-8", "surrogatepass")
        return Bucket(rate, hmac.digest(self._key, name, "sha256"))


async def forget_buckets(tx: SystemTx, empty_since: datetime) -> int:
    """Remove up to 500 buckets that have been empty for so long; how many."""
    return await tx.execute(_FORGET, empty_since)


class Requests:
    """How many requests a caller may make: counted by the very statement that lets them in.

    Args:
        limits: names the buckets.
        rate: how many; None: as many as they like.
    """

    def __init__(self, limits: RateLimits, rate: Rate | None) -> None:
        self._limits = limits
        self._rate = rate

    def bucket(self, *subject: str) -> Bucket | None:
        """Where a caller's requests are counted; None: nowhere."""
        return self._limits.bucket(self._rate, *subject) if self._rate else None


class Gate:
    """Lets so many through, each counted in a transaction of its own.

    Args:
        db: where the buckets are.
        limits: names them.
        rate: how many; None: as many as come.
    """

    def __init__(self, db: Database, limits: RateLimits, rate: Rate | None) -> None:
        self._db = db
        self._limits = limits
        self._rate = rate

    async def admit(self, *subject: str, note: Note = unsaid) -> None:
        """Let one through.

        Raises:
            RateLimited: `too_many_tries`.
        """
        if self._rate:
            async with self._db.system() as tx:
                standing = await self._limits.take(tx, self._rate, *subject)
            note(standing)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a user may have: documents, their bytes, and questions a day. 0: no limit."""

    documents: int = 0
    bytes: int = 0
    questions: int = 0


@dataclass(frozen=True, slots=True)
class OwnQuota:
    """What an operator has set for one user. None: the installation's default; 0: no limit."""

    documents: int | None = None
    bytes: int | None = None
    questions: int | None = None


class Quotas:
    """How much each user may have.

    Args:
        default: of those for whom nothing else is set.
    """

    def __init__(self, default: Quota) -> None:
        self._default = default

    async def of(self, tx: TenantTx) -> Quota:
        """The tenant's own, or the default, item by item."""
        return self.merged(await own_quota(tx, tx.user_id))

    def merged(self, own: OwnQuota) -> Quota:
        """The default, but for what was set for one user."""
        default = self._default
        return Quota(
            default.documents if own.documents is None else own.documents,
            default.bytes if own.bytes is None else own.bytes,
            default.questions if own.questions is None else own.questions,
        )


async def own_quota(tx: TenantTx | SystemTx, user_id: UserId) -> OwnQuota:
    """What was set for a user."""
    row = await tx.fetchrow(_QUOTA, user_id)
    return OwnQuota(*tuple(row)[1:]) if row else OwnQuota()


async def set_quota(tx: SystemTx, user_id: UserId, own: OwnQuota) -> None:
    """Set what is given, and leave the rest as it is.

    Raises:
        NotFound: `user_not_found`.
    """
    if not await tx.execute(_SET_QUOTA, user_id, own.documents, own.bytes, own.questions):
        raise NotFound("user_not_found", "There is no such user.")


async def clear_quota(tx: SystemTx, user_id: UserId) -> bool:
    """Let the installation's default hold for a user again; False if it did so before."""
    return bool(await tx.execute(_CLEAR_QUOTA, user_id))


def require_room(quota: Quota, *, documents: int, size: int, more: int) -> None:
    """Refuse what would pass a quota.

    Args:
        quota: how much one may keep.
        documents: how many one keeps.
        size: their bytes.
        more: bytes of one document more.

    Raises:
        QuotaExceeded: `quota_exceeded`, says which, its limit and what is used.
    """
    if quota.documents and documents >= quota.documents:
        message = f"You may keep {quota.documents} documents, and keep {documents}. Delete some for good first."
        raise QuotaExceeded("quota_exceeded", message, quota="documents", limit=quota.documents, used=documents)
    if quota.bytes and size + more > quota.bytes:
        message = f"You may keep {quota.bytes} bytes, and keep {size}. Delete some documents for good first."
        raise QuotaExceeded("quota_exceeded", message, quota="bytes", limit=quota.bytes, used=size)

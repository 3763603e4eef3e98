"""SQL of what proves who somebody is: one-time codes, passwords and addresses."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from ringfence.accounts.codes import MAX_ATTEMPTS, CodePurpose, NewCode
from ringfence.accounts.emails import Email
from ringfence.db import SystemTx
from ringfence.ids import UserId, user_id_from_record

NO_PASSWORD = "*"  # noqa: S105  # what stands in the place of a hash
"""Marks the row of a recovery: like a registration it is of an address and nobody's account, but it never becomes one.

A recovery has a row of its own so that one of an unknown address does and leaves the same as one of a known address.
"""

_PUT_CODE = """
insert into one_time_codes (user_id, purpose, digest, created_at, expires_at, email, email_key)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (user_id, purpose) do update set digest = $3, attempts = 0, created_at = $4, expires_at = $5, email = $6,
  email_key = $7
"""
_HOLD_USER = "select user_id from users where user_id = $1 for key share"
_HOLD_CODE = """
select u.user_id, u.email, c.digest, c.created_at, c.expires_at
from one_time_codes c join users u on u.user_id = c.user_id
where c.user_id = $1 and c.purpose = $2
for update of c
"""
_RENEW_CODE = """
update one_time_codes set digest = $3, attempts = 0, created_at = $4, expires_at = $5
where user_id = $1 and purpose = $2
"""
_SAME_CODE = """
select exists (
  select from one_time_codes where user_id = $1 and purpose = $2 and email_key = $3 and created_at > $4)
"""
_COUNT_ATTEMPT = """
update one_time_codes c set attempts = attempts + 1
from users u
where c.user_id = $1 and c.purpose = $2 and c.attempts < $3 and c.expires_at > $4 and u.user_id = c.user_id
returning c.user_id, c.digest, coalesce(c.email, u.email) as email, coalesce(c.email_key, u.email_key) as email_key
"""
_COUNT_RECOVERY_ATTEMPT = f"""
update one_time_codes c set attempts = attempts + 1
from users u
where u.email_key = $1 and u.verified_at is null and u.password_hash = '{NO_PASSWORD}' and u.user_id = c.user_id
  and c.purpose = $2 and c.attempts < $3 and c.expires_at > $4
returning c.user_id, c.digest, u.email, u.email_key
"""  # noqa: S608  # a constant, as below
_USE_CODE = "delete from one_time_codes where user_id = $1 and purpose = $2 and digest = $3"
_REMOVE_CODES = "delete from one_time_codes where user_id = $1"
_RECOVERING = f"""
select exists (
  select from users u join one_time_codes c on c.user_id = u.user_id
  where u.email_key = $1 and u.verified_at is null and u.password_hash = '{NO_PASSWORD}' and c.created_at > $2)
"""  # noqa: S608
_ADD_RECOVERY = f"""
insert into users (user_id, email, email_key, password_hash, created_at) values ($1, $2, $3, '{NO_PASSWORD}', $4)
"""  # noqa: S608
_END_RECOVERIES = f"""
delete from users where email_key = $1 and verified_at is null and password_hash = '{NO_PASSWORD}'
"""  # noqa: S608
_HOLD_ACCOUNT = """
select user_id from users
where user_id = $1 and email_key = $2 and password_hash = $3 and verified_at is not null and disabled_at is null
for no key update
"""
_REPLACE_HASH = "update users set password_hash = $3 where user_id = $1 and password_hash = $2"
_SET_PASSWORD = """
update users set password_hash = $2 where user_id = $1 and email_key = $3 and verified_at is not null
"""  # noqa: S105  # no password
_IDENTITY = "select email, email_key, password_hash from users where user_id = $1"
_HOLD_IDENTITY = "select email, email_key, password_hash from users where user_id = $1 for no key update"
_MOVE = """
update users set email = $2, email_key = $3
where user_id = $1 and verified_at is not null and disabled_at is null
  and not exists (select from users where email_key = $3 and verified_at is not null)
"""


_FORGET_UNVERIFIED = """
delete from users where user_id in (
  select user_id from users where verified_at is null and created_at < $1 limit 500 for update skip locked)
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A counted attempt at a code: the digest that the right code has, and the address that it proves."""

    user_id: UserId
    digest: bytes = field(repr=False)
    email: str
    email_key: str


@dataclass(frozen=True, slots=True)
class AwaitedCode:
    """A code that somebody waits for: whose, at which address, which one, since when and until when."""

    user_id: UserId
    email: str
    digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Proofs:
    """What an account is known by: its address, and what its password is checked against."""

    email: str
    email_key: str
    password_hash: str = field(repr=False)


async def put_code(tx: SystemTx, user_id: UserId, code: NewCode, moving_to: Email | None = None) -> None:
    """Keep the digest of a user's code; an older one for the same purpose dies.

    Args:
        tx: commits it.
        user_id: whose it is.
        code: what was mailed.
        moving_to: the address that it proves, where that is not the user's own.
    """
    shown, key = (moving_to.shown, moving_to.key) if moving_to else (None, None)
    await tx.execute(_PUT_CODE, user_id, code.purpose, code.digest, code.created_at, code.expires_at, shown, key)


async def hold_code(tx: SystemTx, user_id: UUID, purpose: CodePurpose) -> AwaitedCode | None:
    """The code of a user, dead or alive, locked so that nobody else replaces it meanwhile.

    Their row is locked first, as by who removes it with its codes.
    """
    await tx.execute(_HOLD_USER, user_id)
    row = await tx.fetchrow(_HOLD_CODE, user_id, purpose)
    return AwaitedCode(user_id_from_record(row["user_id"]), *tuple(row)[1:]) if row else None


async def renew_code(tx: SystemTx, user_id: UserId, code: NewCode) -> None:
    """Put a fresh code in the place of one that died before it was mailed, under `hold_code`; it proves the same."""
    await tx.execute(_RENEW_CODE, user_id, code.purpose, code.digest, code.created_at, code.expires_at)


async def is_moving(tx: SystemTx, user_id: UserId, to: Email, since: datetime) -> bool:
    """Whether a user has asked since then to move to this very address."""
    return bool(await tx.fetchval(_SAME_CODE, user_id, CodePurpose.CHANGE_EMAIL, to.key, since))


async def count_attempt(tx: SystemTx, user_id: UUID, purpose: CodePurpose, now: datetime) -> Attempt | None:
    """Use up one of the five attempts at a code. None: there is no such code, it has expired, or none is left."""
    return _attempt(await tx.fetchrow(_COUNT_ATTEMPT, user_id, purpose, MAX_ATTEMPTS, now))


async def count_recovery_attempt(tx: SystemTx, email_key: str, now: datetime) -> Attempt | None:
    """The same, at the code of an address's recovery."""
    return _attempt(await tx.fetchrow(_COUNT_RECOVERY_ATTEMPT, email_key, CodePurpose.RESET, MAX_ATTEMPTS, now))


async def use_code(tx: SystemTx, attempt: Attempt, purpose: CodePurpose) -> bool:
    """Remove a code whose digest was shown; False if another call did so first."""
    return bool(await tx.execute(_USE_CODE, attempt.user_id, purpose, attempt.digest))


async def remove_codes(tx: SystemTx, user_id: UserId) -> None:
    """Remove all codes of a user."""
    await tx.execute(_REMOVE_CODES, user_id)


async def is_recovering(tx: SystemTx, email_key: str, since: datetime) -> bool:
    """Whether a code of this address's recovery was made since then, under `queries.lock_email`."""
    return bool(await tx.fetchval(_RECOVERING, email_key, since))


async def add_recovery(tx: SystemTx, user_id: UserId, email: Email, now: datetime) -> None:
    """Begin a recovery of an address, known or not."""
    await tx.execute(_ADD_RECOVERY, user_id, email.shown, email.key, now)


async def end_recoveries(tx: SystemTx, email_key: str) -> None:
    """Let no code reset the password of this address any more, and remove its mail that still waits."""
    await tx.execute(_END_RECOVERIES, email_key)


async def hold_password(tx: SystemTx, user_id: UserId, email_key: str, password_hash: str) -> bool:
    """Let nobody change an account whose password was just found right.

    False if somebody has changed the password or the address, or has disabled, closed or removed the account.
    """
    return await tx.fetchval(_HOLD_ACCOUNT, user_id, email_key, password_hash) is not None


async def replace_hash(tx: SystemTx, user_id: UserId, old: str, new: str) -> bool:
    """Keep another hash; False if the password was changed meanwhile."""
    return bool(await tx.execute(_REPLACE_HASH, user_id, old, new))


async def set_password(tx: SystemTx, user_id: UserId, email_key: str, password_hash: str) -> bool:
    """Give an account another password; False if it has moved to another address, or was closed, meanwhile."""
    return bool(await tx.execute(_SET_PASSWORD, user_id, password_hash, email_key))


async def proofs(tx: SystemTx, user_id: UserId) -> Proofs | None:
    """What an account is known by; None where there is none."""
    return _proofs(await tx.fetchrow(_IDENTITY, user_id))


async def hold_proofs(tx: SystemTx, user_id: UserId) -> Proofs | None:
    """The same, and nobody changes it until the transaction ends."""
    return _proofs(await tx.fetchrow(_HOLD_IDENTITY, user_id))


async def move(tx: SystemTx, attempt: Attempt) -> bool:
    """Give an account the address that it has proved, under `queries.lock_email`; False if another account has it."""
    return bool(await tx.execute(_MOVE, attempt.user_id, attempt.email, attempt.email_key))


async def forget_unverified(tx: SystemTx, before: datetime) -> int:
    """Remove up to 500 registrations and recoveries that nobody has completed since then; how many."""
    return await tx.execute(_FORGET_UNVERIFIED, before)


def _attempt(row: Record | None) -> Attempt | None:
    if row is None:
        return None
    return Attempt(user_id_from_record(row["user_id"]), row["digest"], row["email"], row["email_key"])


def _proofs(row: Record | None) -> Proofs | None:
    return Proofs(row["email"], row["email_key"], row["password_hash"]) if row else None

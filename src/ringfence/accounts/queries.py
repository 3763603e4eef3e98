"""SQL of `users` and `one_time_codes`: this module alone writes them."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from ringfence.accounts.codes import MAX_ATTEMPTS, CodePurpose
from ringfence.accounts.emails import Email
from ringfence.db import SystemTx, TenantTx
from ringfence.ids import UserId, user_id_from_record

_ADD_USER = "insert into users (user_id, email, email_key, password_hash) values ($1, $2, $3, $4)"
_ADD_CODE = "insert into one_time_codes (user_id, purpose, digest, expires_at) values ($1, $2, $3, $4)"
_CREDENTIALS = "select user_id, password_hash from users where email_key = $1 and verified_at is not null"
_COUNT_ATTEMPT = """
update one_time_codes c set attempts = attempts + 1
from users u
where c.user_id = $1 and c.purpose = $2 and c.attempts < $3 and c.expires_at > $4 and u.user_id = c.user_id
returning c.user_id, c.digest, u.email_key
"""
_LOCK_EMAIL = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
_USE_CODE = "delete from one_time_codes where user_id = $1 and purpose = $2 and digest = $3"
_MARK_VERIFIED = """
update users set verified_at = $3
where user_id = $1 and verified_at is null
  and not exists (select from users where email_key = $2 and verified_at is not null)
"""
_REMOVE_UNVERIFIED = "delete from users where email_key = $1 and verified_at is null"
_ACCOUNT = "select user_id, email, created_at from users where user_id = $1 and verified_at is not null"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs in to a verified account."""

    user_id: UserId
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A counted attempt at a code: the digest that the right code has, and the address that it proves."""

    user_id: UserId
    digest: bytes = field(repr=False)
    email_key: str


@dataclass(frozen=True, slots=True)
class Account:
    """What a user may know of their own account."""

    user_id: UserId
    email: str
    created_at: datetime


async def add_user(tx: SystemTx, user_id: UserId, email: Email, password_hash: str) -> None:
    """Add a registration, not verified yet."""
    await tx.execute(_ADD_USER, user_id, email.shown, email.key, password_hash)


async def add_code(tx: SystemTx, user_id: UserId, purpose: CodePurpose, digest: bytes, expires_at: datetime) -> None:
    """Add the code that a registration awaits."""
    await tx.execute(_ADD_CODE, user_id, purpose, digest, expires_at)


async def credentials(tx: SystemTx, email_key: str) -> Credentials | None:
    """The verified account of an address, if there is one."""
    row = await tx.fetchrow(_CREDENTIALS, email_key)
    return Credentials(user_id_from_record(row["user_id"]), row["password_hash"]) if row else None


async def count_attempt(tx: SystemTx, registration_id: UUID, purpose: CodePurpose, now: datetime) -> Attempt | None:
    """Use up one of the five attempts at a code. None: there is no such code, it has expired, or none is left."""
    row = await tx.fetchrow(_COUNT_ATTEMPT, registration_id, purpose, MAX_ATTEMPTS, now)
    return Attempt(user_id_from_record(row["user_id"]), row["digest"], row["email_key"]) if row else None


async def use_code(tx: SystemTx, attempt: Attempt, purpose: CodePurpose) -> bool:
    """Remove a code whose digest was shown; False if another call did so first."""
    return bool(await tx.execute(_USE_CODE, attempt.user_id, purpose, attempt.digest))


async def lock_email(tx: SystemTx, email_key: str) -> None:
    """Let nobody else settle whose this address is until the transaction ends."""
    await tx.execute(_LOCK_EMAIL, email_key)


async def mark_verified(tx: SystemTx, attempt: Attempt, now: datetime) -> bool:
    """Give the address to this registration, under `lock_email`; False if an account has it already."""
    return bool(await tx.execute(_MARK_VERIFIED, attempt.user_id, attempt.email_key, now))


async def remove_unverified(tx: SystemTx, email_key: str) -> None:
    """Remove the registrations of an address that never proved it, with their codes and mail."""
    await tx.execute(_REMOVE_UNVERIFIED, email_key)


async def account(tx: TenantTx) -> Account | None:
    """The tenant's own account."""
    row = await tx.fetchrow(_ACCOUNT, tx.user_id)
    return Account(user_id_from_record(row["user_id"]), row["email"], row["created_at"]) if row else None

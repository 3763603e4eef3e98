"""SQL of accounts, their sessions and keys; that of codes, passwords and addresses is in `credential_queries`."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from asyncpg import ForeignKeyViolationError, Record

from ringfence.accounts.emails import Email
from ringfence.accounts.opaque import Opaque
from ringfence.db import SystemTx, TenantTx
from ringfence.errors import Invalid
from ringfence.ids import ApiKeyId, Identity, SessionId, UserId, identity_from_record, user_id_from_record
from ringfence.limits import Bucket

_ADD_USER = "insert into users (user_id, email, email_key, password_hash) values ($1, $2, $3, $4)"
_CREDENTIALS = """
select user_id, password_hash, disabled_at is not null as disabled from users
where email_key = $1 and verified_at is not null
"""
_LOCK_EMAIL = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
_MARK_VERIFIED = """
update users set verified_at = $3
where user_id = $1 and verified_at is null
  and not exists (select from users where email_key = $2 and verified_at is not null)
"""
_REMOVE_UNVERIFIED = "delete from users where email_key = $1 and verified_at is null"
_ADD_SESSION = """
insert into sessions (user_id, session_id, address, agent, created_at, used_at, expires_at, cookie_digest)
values ($1, $2, $3, $4, $5, $5, $6, $7)
"""
_LOCK_SESSION = """
select s.user_id, s.session_id from sessions s
where s.user_id = $1 and s.session_id = $2 and s.expires_at > $3
  and exists (select from users u where u.user_id = $1 and u.disabled_at is null)
for update
"""
# Whoever comes in is counted by the statement that lets them in ($4: the bucket; none, no limit), which costs no round
# trip more. Its commit does not wait for the disk: what a crash forgets is half a second of requests.
_STANDS = """
select case when $4::bytea is null then 0 else limits_take($4, $3, $5, $6) end as level,
  set_config('synchronous_commit', 'off', true)
from sessions s join users u on u.user_id = s.user_id
where s.user_id = $1 and s.session_id = $2 and s.expires_at > $3 and u.disabled_at is null
"""
_COOKIE_STANDS = """
select s.user_id, s.session_id, s.used_at,
  case when $4::bytea is null then 0 else limits_take($4, $3, $5, $6) end as level,
  set_config('synchronous_commit', 'off', true)
from sessions s join users u on u.user_id = s.user_id
where s.user_id = $1 and s.session_id = $2 and s.cookie_digest = $7 and s.expires_at > $3 and u.disabled_at is null
"""
_TOUCH_SESSION = "update sessions set used_at = $3, address = $4, agent = $5 where user_id = $1 and session_id = $2"
_SESSIONS = """
select session_id, address, agent, created_at, used_at, expires_at from sessions
where user_id = $1 and expires_at > $2 order by used_at desc, session_id
"""
_END_SESSION = "delete from sessions where user_id = $1 and session_id = $2"
_END_SESSIONS = "delete from sessions where user_id = $1 and session_id is distinct from $2"
_FORGET_SESSIONS = """
delete from sessions where (user_id, session_id) in (
  select user_id, session_id from sessions where expires_at < $1 limit 500 for update skip locked)
"""
_ADD_REFRESH = """
insert into refresh_tokens (user_id, session_id, digest) values ($1, $2, $3) on conflict do nothing
"""
_REFRESH = "select used_at from refresh_tokens where user_id = $1 and session_id = $2 and digest = $3"
_USE_REFRESH = """
update refresh_tokens set used_at = $4 where user_id = $1 and session_id = $2 and digest = $3 and used_at is null
"""
_SIGNING_KEYS = "select key_id, public_key, sealed, created_at, retired_at from signing_keys order by created_at"
_LOCK_SIGNING_KEYS = "select pg_advisory_xact_lock(hashtextextended('signing_keys', 0))"
_ADD_SIGNING_KEY = """
insert into signing_keys (key_id, public_key, sealed, created_at, retired_at) values ($1, $2, $3, $4, $5)
"""
_RETIRE_SIGNING_KEYS = "update signing_keys set retired_at = $1 where retired_at is null"
_FORGET_SIGNING_KEYS = "delete from signing_keys where retired_at < $1"
# No address has a key with a blank in it, and no password an empty hash.
_CLOSE_ACCOUNT = """
update users set email = '', email_key = 'closed ' || user_id, password_hash = '',
  disabled_at = coalesce(disabled_at, now())
where user_id = $1
"""
_LOCK_CLOSED = "select from users where user_id = $1 and password_hash = '' for update"
_REMOVE_ACCOUNT = "delete from users where user_id = $1"
_COUNT_API_KEYS = "select count(*) from api_keys where user_id = $1"
_ADD_API_KEY = """
insert into api_keys (user_id, key_id, name, prefix, digest, scopes, expires_at, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_API_KEYS = """
select key_id, name, prefix, scopes, expires_at, used_at, created_at from api_keys
where user_id = $1 order by created_at desc, key_id
"""
_REMOVE_API_KEY = "delete from api_keys where user_id = $1 and key_id = $2"
_API_KEY = """
select k.user_id, k.key_id, k.scopes, k.digest, k.used_at,
  case when $4::bytea is null or k.digest <> $7 then 0 else limits_take($4, $3, $5, $6) end as level,
  set_config('synchronous_commit', 'off', true)
from api_keys k join users u on u.user_id = k.user_id
where k.user_id = $1 and k.key_id = $2 and (k.expires_at is null or k.expires_at > $3)
  and u.verified_at is not null and u.disabled_at is null
"""
_TOUCH_API_KEY = """
update api_keys set used_at = $3 where user_id = $1 and key_id = $2 and (used_at is null or used_at <= $4)
"""
_ACCOUNT = "select user_id, email, created_at from users where user_id = $1 and verified_at is not null"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs in to a verified account."""

    user_id: UserId
    password_hash: str = field(repr=False)
    disabled: bool


@dataclass(frozen=True, slots=True)
class Account:
    """What a user may know of their own account."""

    user_id: UserId
    email: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of a user, as they recognise it.

    Attributes:
        session_id: names it.
        address: from where it was used last.
        agent: what the program called itself.
        created_at: the sign-in.
        used_at: when its tokens were renewed last, or its cookie was shown, to the quarter of an hour.
        expires_at: when it ends by itself.
    """

    session_id: SessionId
    address: str
    agent: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class CookieSession:
    """The session of a cookie that was shown.

    Attributes:
        identity: whose it is.
        used_at: when it was last noted that it was used.
        level: how the user's bucket stands then (`Bucket.standing`).
    """

    identity: Identity
    used_at: datetime
    level: float


@dataclass(frozen=True, slots=True)
class StoredRefreshToken:
    """What is known of a refresh token: when it was exchanged, if it was."""

    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as the database holds it.

    Attributes:
        key_id: its name in tokens.
        public_key: 32 bytes.
        sealed: the private key, encrypted.
        created_at: since when it may sign.
        retired_at: since when another one signs.
    """

    key_id: str
    public_key: bytes
    sealed: bytes = field(repr=False)
    created_at: datetime
    retired_at: datetime | None


class Scope(StrEnum):
    """What an API key may be allowed."""

    READ = "read"
    WRITE = "write"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner sees it.

    Attributes:
        key_id: names it.
        name: what its owner calls it.
        prefix: how its text begins.
        scopes: what it allows.
        expires_at: since when it opens nothing; None: never.
        used_at: when it was last shown, to the minute; None: never.
        created_at: when it was made.
    """

    key_id: ApiKeyId
    name: str
    prefix: str
    scopes: frozenset[Scope]
    expires_at: datetime | None
    used_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """Who shows an API key, which one it is, and what it allows."""

    user_id: UserId
    key_id: ApiKeyId
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class StoredApiKey:
    """A key that may still be used: what it allows whoever shows the secret of this digest.

    Attributes:
        grant: what it allows.
        digest: of its secret.
        used_at: when it was last shown.
        level: how its bucket stands, where the right secret was shown (`Bucket.standing`).
    """

    grant: Grant
    digest: bytes = field(repr=False)
    used_at: datetime | None
    level: float


async def add_user(tx: SystemTx, user_id: UserId, email: Email, password_hash: str) -> None:
    """Add a registration, not verified yet."""
    await tx.execute(_ADD_USER, user_id, email.shown, email.key, password_hash)


async def credentials(tx: SystemTx, email_key: str) -> Credentials | None:
    """The verified account of an address, if there is one."""
    row = await tx.fetchrow(_CREDENTIALS, email_key)
    return Credentials(user_id_from_record(row["user_id"]), row["password_hash"], row["disabled"]) if row else None


async def lock_email(tx: SystemTx, email_key: str) -> None:
    """Let nobody else settle whose this address is until the transaction ends."""
    await tx.execute(_LOCK_EMAIL, email_key)


async def mark_verified(tx: SystemTx, user_id: UserId, email_key: str, now: datetime) -> bool:
    """Give the address to this registration, under `lock_email`; False if an account has it already."""
    return bool(await tx.execute(_MARK_VERIFIED, user_id, email_key, now))


async def remove_unverified(tx: SystemTx, email_key: str) -> None:
    """Remove the registrations of an address that never proved it, with their codes and mail."""
    await tx.execute(_REMOVE_UNVERIFIED, email_key)


async def account(tx: TenantTx) -> Account | None:
    """The tenant's own account."""
    row = await tx.fetchrow(_ACCOUNT, tx.user_id)
    return Account(user_id_from_record(row["user_id"]), row["email"], row["created_at"]) if row else None


async def signing_keys(tx: SystemTx) -> list[StoredKey]:
    """All signing keys, oldest first; at most one of them is not retired."""
    return [StoredKey(*row) for row in await tx.fetch(_SIGNING_KEYS)]


async def lock_signing_keys(tx: SystemTx) -> None:
    """Let nobody else make a signing key until the transaction ends."""
    await tx.execute(_LOCK_SIGNING_KEYS)


async def add_signing_key(tx: SystemTx, key: StoredKey) -> None:
    """Add a key, under `lock_signing_keys`."""
    await tx.execute(_ADD_SIGNING_KEY, key.key_id, key.public_key, key.sealed, key.created_at, key.retired_at)


async def retire_signing_keys(tx: SystemTx, now: datetime) -> None:
    """Let none of the keys sign any more."""
    await tx.execute(_RETIRE_SIGNING_KEYS, now)


async def forget_signing_keys(tx: SystemTx, retired_before: datetime) -> None:
    """Remove keys that were retired so long ago that no token of theirs is alive."""
    await tx.execute(_FORGET_SIGNING_KEYS, retired_before)


async def add_session(tx: SystemTx, identity: Identity, session: Session, cookie_digest: bytes | None) -> None:
    """Add a session, which a cookie carries on if there is a digest of one.

    Raises:
        Invalid: `invalid_grant`, the account was deleted meanwhile.
    """
    values = (session.address, session.agent, session.created_at, session.expires_at)
    try:
        await tx.execute(_ADD_SESSION, identity.user_id, identity.session_id, *values, cookie_digest)
    except ForeignKeyViolationError:
        raise Invalid("invalid_grant", "This account no longer exists.") from None


async def lock_session(tx: SystemTx, user_id: UUID, session_id: UUID, now: datetime) -> Identity | None:
    """Let nobody else renew a session's tokens until the transaction ends; None if it has ended."""
    row = await tx.fetchrow(_LOCK_SESSION, user_id, session_id, now)
    return identity_from_record(row["user_id"], row["session_id"]) if row else None


async def session_stands(tx: SystemTx, identity: Identity, now: datetime, bucket: Bucket | None) -> float | None:
    """Count a request of a session, and how its bucket stands then; None if the session has ended."""
    row = await tx.fetchrow(_STANDS, identity.user_id, identity.session_id, now, *_counted(bucket))
    return row["level"] if row else None


async def cookie_stands(tx: SystemTx, shown: Opaque, now: datetime, bucket: Bucket | None) -> CookieSession | None:
    """Count a request by a cookie, and whose it is; None if there is no such cookie or its session has ended."""
    row = await tx.fetchrow(_COOKIE_STANDS, shown.user_id, shown.record_id, now, *_counted(bucket), shown.digest)
    if row is None:
        return None
    return CookieSession(identity_from_record(row["user_id"], row["session_id"]), row["used_at"], row["level"])


async def touch_session(tx: SystemTx, identity: Identity, now: datetime, address: str, agent: str) -> None:
    """Note when and from where a session was used."""
    await tx.execute(_TOUCH_SESSION, identity.user_id, identity.session_id, now, address, agent)


async def sessions(tx: TenantTx, now: datetime) -> list[Session]:
    """The tenant's own sessions, the one used last first."""
    rows = await tx.fetch(_SESSIONS, tx.user_id, now)
    return [Session(SessionId(row["session_id"]), *tuple(row)[1:]) for row in rows]


async def end_session(tx: SystemTx, identity: Identity) -> bool:
    """End a session with its tokens; False if there is none."""
    return bool(await tx.execute(_END_SESSION, identity.user_id, identity.session_id))


async def end_sessions(tx: SystemTx, user_id: UserId, but: SessionId | None) -> int:
    """End all sessions of a user but one; how many."""
    return await tx.execute(_END_SESSIONS, user_id, but)


async def forget_sessions(tx: SystemTx, now: datetime) -> int:
    """Remove up to 500 sessions that have ended by themselves, with their tokens; how many."""
    return await tx.execute(_FORGET_SESSIONS, now)


async def add_refresh_token(tx: SystemTx, identity: Identity, digest: bytes) -> None:
    """Add a token that a session may show next."""
    await tx.execute(_ADD_REFRESH, identity.user_id, identity.session_id, digest)


async def refresh_token(tx: SystemTx, identity: Identity, digest: bytes) -> StoredRefreshToken | None:
    """A token that a session was given."""
    row = await tx.fetchrow(_REFRESH, identity.user_id, identity.session_id, digest)
    return StoredRefreshToken(row["used_at"]) if row else None


async def use_refresh_token(tx: SystemTx, identity: Identity, digest: bytes, now: datetime) -> None:
    """Mark a token as exchanged."""
    await tx.execute(_USE_REFRESH, identity.user_id, identity.session_id, digest, now)


async def close_account(tx: SystemTx, user_id: UserId) -> bool:
    """Forget an account's address and password, and let nothing open it any more; False if it is gone."""
    return bool(await tx.execute(_CLOSE_ACCOUNT, user_id))


async def lock_closed(tx: SystemTx, user_id: UserId) -> bool:
    """Lock a closed account's row, so that nothing can refer to it; False where there is none."""
    return await tx.fetchrow(_LOCK_CLOSED, user_id) is not None


async def remove_account(tx: SystemTx, user_id: UserId) -> None:
    """Remove a user's row, and with it every row that refers to it."""
    await tx.execute(_REMOVE_ACCOUNT, user_id)


async def count_api_keys(tx: SystemTx, user_id: UserId) -> int:
    """How many keys a user has."""
    return int(await tx.fetchval(_COUNT_API_KEYS, user_id))


async def add_api_key(tx: SystemTx, user_id: UserId, key: ApiKey, digest: bytes) -> None:
    """Add a key that was never used, under `credential_queries.hold_password`."""
    values = (key.name, key.prefix, digest, sorted(key.scopes), key.expires_at, key.created_at)
    await tx.execute(_ADD_API_KEY, user_id, key.key_id, *values)


async def api_keys(tx: TenantTx) -> list[ApiKey]:
    """The tenant's own keys, newest first."""
    rows = await tx.fetch(_API_KEYS, tx.user_id)
    return [ApiKey(**{**row, "key_id": ApiKeyId(row["key_id"]), "scopes": _scopes(row)}) for row in rows]


async def remove_api_key(tx: TenantTx, key_id: ApiKeyId) -> bool:
    """Remove one of the tenant's keys; False if there is none."""
    return bool(await tx.execute(_REMOVE_API_KEY, tx.user_id, key_id))


async def api_key(tx: SystemTx, shown: Opaque, now: datetime, bucket: Bucket | None) -> StoredApiKey | None:
    """A key that has not expired, of a user who may come in. A request is counted if the right secret was shown."""
    row = await tx.fetchrow(_API_KEY, shown.user_id, shown.record_id, now, *_counted(bucket), shown.digest)
    if row is None:
        return None
    grant = Grant(user_id_from_record(row["user_id"]), ApiKeyId(row["key_id"]), _scopes(row))
    return StoredApiKey(grant, row["digest"], row["used_at"], row["level"])


async def touch_api_key(tx: SystemTx, grant: Grant, now: datetime, noted_before: datetime) -> None:
    """Note that a key was used, unless another call has since `noted_before`."""
    await tx.execute(_TOUCH_API_KEY, grant.user_id, grant.key_id, now, noted_before)


def _counted(bucket: Bucket | None) -> tuple[bytes | None, timedelta | None, timedelta | None]:
    return (bucket.name, bucket.rate.interval, bucket.rate.depth) if bucket else (None, None, None)


def _scopes(row: Record) -> frozenset[Scope]:
    return frozenset(Scope(scope) for scope in row["scopes"])

"""SQL of the audit log, and of what an operator may see and change of users."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from ringfence.db import SystemTx, TenantTx
from ringfence.ids import UserId, user_id_from_record

_ADD_EVENT = """
insert into audit_events (user_id, event_id, kind, address, agent, detail) values ($1, $2, $3, $4, $5, $6::jsonb)
"""
_EVENTS = """
select event_id, kind, address, agent, detail, created_at from audit_events
where user_id = $1 order by created_at desc, event_id desc limit $2
"""
_EVENTS_BEFORE = """
select event_id, kind, address, agent, detail, created_at from audit_events
where user_id = $1 and (created_at, event_id) <
  (select created_at, event_id from audit_events where user_id = $1 and event_id = $3)
order by created_at desc, event_id desc limit $2
"""
_EVENTS_OF = """
select event_id, kind, address, agent, detail, created_at from audit_events
where user_id = any($1::uuid[]) order by created_at desc, event_id desc limit $2
"""
_PSEUDONYMISE = "update audit_events set user_id = $2, address = '', agent = '' where user_id = $1"
_FORGET_EVENTS = """
delete from audit_events where (user_id, event_id) in (
  select user_id, event_id from audit_events where user_id = $1 and created_at < $2 limit 500 for update skip locked)
"""
_USER_STATE = """
select u.user_id, u.email, u.verified_at, u.disabled_at, u.created_at,
  (select e.created_at from audit_events e where e.user_id = u.user_id and e.kind = 'signed_in'
    order by e.created_at desc, e.event_id desc limit 1) as signed_in_at,
  (select count(*) from sessions s where s.user_id = u.user_id and s.expires_at > $1) as sessions
from users u
"""
_USERS = _USER_STATE + "where u.password_hash <> '*' order by u.created_at desc, u.user_id limit $2"
_FIND_USER = _USER_STATE + "where u.user_id = $2 or (u.email_key = $3 and u.verified_at is not null)"
_DISABLE_USER = "update users set disabled_at = $2 where user_id = $1 and disabled_at is null"
# A closed account has an empty hash, and is not to be opened again.
_ENABLE_USER = """
update users set disabled_at = null where user_id = $1 and disabled_at is not null and password_hash <> ''
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an account.

    Attributes:
        event_id: names it.
        kind: what happened.
        address: from where; empty where an operator did it, and once the account is gone.
        agent: what the program called itself.
        detail: ids, counts and fixed words.
        created_at: when.
    """

    event_id: UUID
    kind: str
    address: str
    agent: str
    detail: dict[str, str | int]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserState:
    """What an operator may know of a user.

    Attributes:
        user_id: names them.
        email: as it was registered.
        verified_at: since when the address is proved.
        disabled_at: since when they may not come in.
        created_at: the registration.
        signed_in_at: the last sign-in.
        sessions: how many stand.
    """

    user_id: UserId
    email: str
    verified_at: datetime | None
    disabled_at: datetime | None
    created_at: datetime
    signed_in_at: datetime | None
    sessions: int


def _event(row: Record) -> Event:
    return Event(**{**{name: row[name] for name in Event.__slots__}, "detail": json.loads(row["detail"])})


def _user_state(row: Record) -> UserState:
    values = {name: row[name] for name in UserState.__slots__}
    return UserState(**{**values, "user_id": user_id_from_record(row["user_id"])})


async def add_event(
    tx: TenantTx | SystemTx, user_id: UUID, event_id: UUID, *, kind: str, address: str, agent: str, detail: str
) -> None:
    """Add an event to a user's log; the detail is a JSON object."""
    await tx.execute(_ADD_EVENT, user_id, event_id, kind, address, agent, detail)


async def events(tx: TenantTx, limit: int, before: UUID | None) -> list[Event]:
    """The tenant's own events, newest first; only those before one of them, if it is named."""
    if before is None:
        rows = await tx.fetch(_EVENTS, tx.user_id, limit)
    else:
        rows = await tx.fetch(_EVENTS_BEFORE, tx.user_id, limit, before)
    return [_event(row) for row in rows]


async def events_of(tx: SystemTx, names: Sequence[UUID], limit: int) -> list[Event]:
    """The events of a user under any of their names (ids and pseudonyms), newest first."""
    return [_event(row) for row in await tx.fetch(_EVENTS_OF, names, limit)]


async def pseudonymise(tx: SystemTx, user_id: UserId, pseudonym: UUID) -> None:
    """Keep the events of an account that is being deleted, under another name and without addresses and agents."""
    await tx.execute(_PSEUDONYMISE, user_id, pseudonym)


async def forget_events(tx: SystemTx, nobody: UUID, before: datetime) -> int:
    """Remove up to 500 events of nobody; of anybody else's, the database lets none go. How many there were."""
    return await tx.execute(_FORGET_EVENTS, nobody, before)


async def users(tx: SystemTx, limit: int, now: datetime) -> list[UserState]:
    """Accounts and registrations, newest first."""
    return [_user_state(row) for row in await tx.fetch(_USERS, now, limit)]


async def find_user(tx: SystemTx, user_id: UUID | None, email_key: str, now: datetime) -> UserState | None:
    """The user of an id, or the one whose verified address this is."""
    row = await tx.fetchrow(_FIND_USER, now, user_id, email_key)
    return _user_state(row) if row else None


async def disable_user(tx: SystemTx, user_id: UserId, now: datetime) -> bool:
    """Let nobody in as this user; False if that was so before."""
    return bool(await tx.execute(_DISABLE_USER, user_id, now))


async def enable_user(tx: SystemTx, user_id: UserId) -> bool:
    """Let a disabled user in again; False if they were not disabled."""
    return bool(await tx.execute(_ENABLE_USER, user_id))

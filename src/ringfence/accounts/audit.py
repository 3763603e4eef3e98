"""The audit log: what happened to an account, when and from where, for its owner's eyes and an operator's.

An event is added in the transaction of its cause, so neither is there without the other. It can't be changed, and it
outlives its account under a pseudonym that only the installation's secret leads to.
"""

import hmac
import json
from collections.abc import AsyncGenerator
from enum import StrEnum
from typing import Literal, TypedDict, Unpack
from uuid import UUID, uuid4

from ringfence.accounts import audit_queries
from ringfence.accounts.audit_queries import Event
from ringfence.accounts.devices import Device
from ringfence.db import Database, SystemTx, TenantTx
from ringfence.ids import UserId
from ringfence.limits import Rate, RateLimits

_THROTTLED = Rate("audit-throttled", 10, 3600)  # who is refused may go on for ever; the log need not

_PAGE = 500

NOBODY = UUID(int=0)
"""Whose events those are that belong to no account, such as a failed sign-in with an address that is unknown.

They are kept because a sign-in must cost the same whether or not there is an account, and an operator may want them;
after three months they go (`ringfence.upkeep`).
"""


class AuditKind(StrEnum):
    """What happened."""

    REGISTERED = "registered"
    VERIFIED = "verified"
    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    CONFIRMATION_FAILED = "confirmation_failed"
    CODE_FAILED = "code_failed"
    THROTTLED = "throttled"
    SESSION_ENDED = "session_ended"
    SESSIONS_ENDED = "sessions_ended"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 (an event's name)
    RESET_REQUESTED = "reset_requested"
    RESET_FAILED = "reset_failed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (an event's name)
    PASSWORD_RESET = "password_reset"  # noqa: S105 (an event's name)
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    API_KEY_CREATED = "api_key_created"
    API_KEY_REVOKED = "api_key_revoked"
    EXPORTED = "exported"
    DELETED = "deleted"
    DISABLED = "disabled"
    ENABLED = "enabled"
    QUOTA_CHANGED = "quota_changed"


type Tried = Literal["sign_in", "confirmation", "verify", "reset", "change_email"]
"""What may be tried and fail."""


class Detail(TypedDict, total=False):
    """What an event may say besides. Ids, counts and fixed words alone: there is no room for a secret.

    Attributes:
        who: `operator`, where it was not the owner.
        what: which code it was that failed, or what was tried too often.
        session_id: the session that began or ended.
        key_id: the API key.
        count: how many, of sessions say.
        documents, bytes, questions: the quotas that were set; none of them: the defaults hold again.
    """

    who: Literal["operator"]
    what: Tried
    session_id: UUID
    key_id: UUID
    count: int
    documents: int
    bytes: int
    questions: int


async def record(
    tx: TenantTx | SystemTx, user_id: UUID, kind: AuditKind, device: Device, **detail: Unpack[Detail]
) -> None:
    """Add an event in the transaction of its cause; nothing where the account is gone (0018_audit_guard.sql).

    Args:
        tx: commits both or neither.
        user_id: whose account it is about; `NOBODY` where there is none.
        kind: what happened.
        device: from where.
        detail: see `Detail`.
    """
    said = json.dumps(detail, default=str, sort_keys=True)
    address, agent = device.address, device.shown_agent
    await audit_queries.add_event(tx, user_id, uuid4(), kind=kind, address=address, agent=agent, detail=said)


async def record_throttled(
    tx: SystemTx, limits: RateLimits, user_id: UUID | None, what: Tried, *, subject: str, device: Device
) -> None:
    """Add that tries were refused, ten times an hour at most.

    Args:
        tx: another one than that of the try, which is undone.
        limits: count how often.
        user_id: whose account it is about, if there is one.
        what: was tried.
        subject: of the limit on it.
        device: from where.
    """
    if await limits.try_take(tx, _THROTTLED, what, subject):
        await record(tx, user_id or NOBODY, AuditKind.THROTTLED, device, what=what)


def pseudonym(key: bytes, user_id: UUID) -> UUID:
    """Under what name the events of a deleted account are kept: HMAC-SHA256 of its id, cut to 16 bytes.

    Who has the installation's secret can match a former owner's claim, by the id that they had; nobody else can.
    """
    return UUID(bytes=hmac.digest(key, user_id.bytes, "sha256")[:16])


class AuditLog:
    """The owner's view of the audit log.

    Args:
        db: where it is kept.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def newest(self, user_id: UserId, limit: int, before: UUID | None = None) -> list[Event]:
        """The user's own events, newest first.

        Args:
            user_id: the owner.
            limit: how many at most.
            before: an event of theirs; only older ones. There are none before one that is not theirs.
        """
        async with self._db.tenant(user_id) as tx:
            return await audit_queries.events(tx, limit, before)

    async def all(self, user_id: UserId) -> AsyncGenerator[list[Event]]:
        """All of the user's own events, newest first, page by page; no connection is held between two pages."""
        page = await self.newest(user_id, _PAGE)
        while page:
            yield page
            page = await self.newest(user_id, _PAGE, page[-1].event_id)

    async def note(self, user_id: UserId, kind: AuditKind, device: Device) -> None:
        """Add an event that changes nothing else, so that no transaction of a cause can hold it."""
        async with self._db.system() as tx:
            await record(tx, user_id, kind, device)

"""What an operator may do to accounts. They see states and counts, never content; each act is in the user's log."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from ringfence import limits
from ringfence.accounts import audit_queries, emails, leaving, queries
from ringfence.accounts.audit import AuditKind, Detail, pseudonym, record
from ringfence.accounts.audit_queries import Event, UserState
from ringfence.accounts.devices import Device
from ringfence.db import Database, SystemTx
from ringfence.errors import NotFound
from ringfence.ids import UserId
from ringfence.limits import OwnQuota, Quota, Quotas


class Administration:
    """Lists, disables, enables, signs out and deletes users, and sets their quotas.

    Args:
        db: where accounts are kept.
        quotas: what users may have for whom nothing else is set.
        audit_key: 32 bytes, from which the pseudonyms of deleted accounts derive.
        now: the clock.
    """

    def __init__(self, db: Database, quotas: Quotas, *, audit_key: bytes, now: Callable[[], datetime]) -> None:
        self._db = db
        self._quotas = quotas
        self._audit_key = audit_key
        self._now = now
        self._here = Device("", "ringfence admin")

    async def users(self, limit: int) -> list[UserState]:
        """Accounts and registrations, newest first."""
        async with self._db.system() as tx:
            return await audit_queries.users(tx, limit, self._now())

    async def find(self, who: str) -> UserState:
        """The user of an id, or the one whose verified address this is.

        Raises:
            Invalid: `invalid_email`, it is neither an id nor an address.
            NotFound: `user_not_found`.
        """
        user_id = _uuid(who)
        key = "" if user_id else emails.parse(who).key
        async with self._db.system() as tx:
            found = await audit_queries.find_user(tx, user_id, key, self._now())
        if found is None:
            raise NotFound("user_not_found", "There is no such user.")
        return found

    async def disable(self, user_id: UserId) -> bool:
        """Let nobody in as this user, and end their sessions (ASVS 5.0, 7.4.2); False if that was so before."""
        async with self._db.system() as tx:
            changed = await audit_queries.disable_user(tx, user_id, self._now())
            if changed:
                await record(tx, user_id, AuditKind.DISABLED, self._here, who="operator")
            await self._end_sessions(tx, user_id)
        return changed

    async def enable(self, user_id: UserId) -> bool:
        """Let a disabled user in again; False if they were not disabled."""
        async with self._db.system() as tx:
            changed = await audit_queries.enable_user(tx, user_id)
            if changed:
                await record(tx, user_id, AuditKind.ENABLED, self._here, who="operator")
        return changed

    async def quota(self, user_id: UserId) -> tuple[Quota, OwnQuota]:
        """How much a user may have, and what of it was set for them alone."""
        async with self._db.system() as tx:
            own = await limits.own_quota(tx, user_id)
        return self._quotas.merged(own), own

    async def set_quota(self, user_id: UserId, own: OwnQuota) -> None:
        """Set some of a user's quotas, and leave the others as they are.

        Raises:
            NotFound: `user_not_found`.
        """
        given = Detail(who="operator")
        if own.documents is not None:
            given["documents"] = own.documents
        if own.bytes is not None:
            given["bytes"] = own.bytes
        if own.questions is not None:
            given["questions"] = own.questions
        async with self._db.system() as tx:
            await limits.set_quota(tx, user_id, own)
            await record(tx, user_id, AuditKind.QUOTA_CHANGED, self._here, **given)

    async def clear_quota(self, user_id: UserId) -> None:
        """Let the installation's defaults hold for a user again."""
        async with self._db.system() as tx:
            if await limits.clear_quota(tx, user_id):
                await record(tx, user_id, AuditKind.QUOTA_CHANGED, self._here, who="operator")

    async def delete(self, user_id: UserId) -> None:
        """Close an account; a worker deletes all that it has."""
        async with self._db.system() as tx:
            if await leaving.close(tx, user_id):
                await record(tx, user_id, AuditKind.DELETED, self._here, who="operator")

    async def sign_out(self, user_id: UserId) -> int:
        """End all sessions of a user; how many there were."""
        async with self._db.system() as tx:
            return await self._end_sessions(tx, user_id)

    async def events(self, who: str, limit: int) -> list[Event]:
        """The newest events of a user; by the id that it had, of a deleted one too.

        Raises:
            Invalid: `invalid_email`, it is neither an id nor an address.
            NotFound: `user_not_found`, no account has this address.
        """
        user_id = _uuid(who) or (await self.find(who)).user_id
        async with self._db.system() as tx:
            return await audit_queries.events_of(tx, [user_id, pseudonym(self._audit_key, user_id)], limit)

    async def _end_sessions(self, tx: SystemTx, user_id: UserId) -> int:
        ended = await queries.end_sessions(tx, user_id, None)
        if ended:
            await record(tx, user_id, AuditKind.SESSIONS_ENDED, self._here, who="operator", count=ended)
        return ended


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

"""Leaving: an account is closed at once, and a job deletes what it had.

Closing is one short transaction: from its commit on no token, password or code of the account opens anything, its
address is free, and the job is in the queue. The rest may be gigabytes, so it is done in steps that may be broken off
and begun again (`ringfence.deletion`); the account's row goes last.
"""

import structlog
from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.accounts import credential_queries, queries
from ringfence.accounts.audit import AuditKind, record
from ringfence.accounts.confirmation import Confirmation, not_confirmed
from ringfence.accounts.devices import Device
from ringfence.db import Database, SystemTx
from ringfence.ids import UserId

log = structlog.get_logger()

KIND = "delete_account"


class LeavePayload(BaseModel):
    """Nothing: a job knows whose it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Leaving:
    """How a user leaves.

    Args:
        db: where accounts are kept.
        confirmation: asks for the password.
    """

    def __init__(self, db: Database, confirmation: Confirmation) -> None:
        self._db = db
        self._confirmation = confirmation

    async def leave(self, user_id: UserId, password: str, device: Device) -> None:
        """Close one's own account, and let all of it be deleted.

        Raises:
            Forbidden: `password_not_confirmed`.
            RateLimited: `too_many_tries`.
        """
        proofs = await self._confirmation.require(user_id, password, device)
        async with self._db.system() as tx:
            await queries.lock_email(tx, proofs.email_key)
            if not await credential_queries.hold_password(tx, user_id, proofs.email_key, proofs.password_hash):
                raise not_confirmed()
            await close(tx, user_id)
            await record(tx, user_id, AuditKind.DELETED, device)
        log.info("account_closed", user_id=str(user_id))


async def close(tx: SystemTx, user_id: UserId) -> bool:
    """Close an account, whoever asked for it; again is fine, and begins its deletion anew. False if it is gone.

    Its sessions, codes and jobs (mail, too) end, the address is free, and registrations of the same address that
    nobody has proved yet go with it.
    """
    proofs = await credential_queries.proofs(tx, user_id)
    await queries.lock_email(tx, proofs.email_key if proofs else "")
    if proofs is None or not await queries.close_account(tx, user_id):
        return False  # deleted already, perhaps while this waited
    await queries.remove_unverified(tx, proofs.email_key)
    await queries.end_sessions(tx, user_id, None)
    await credential_queries.remove_codes(tx, user_id)
    await jobs.cancel_all(tx, user_id)
    await jobs.enqueue(tx, user_id, KIND, LeavePayload())
    return True


async def hold(tx: SystemTx, user_id: UserId) -> bool:
    """Let nobody add anything to a closed account until the transaction ends; False if no closed account is there."""
    return await queries.lock_closed(tx, user_id)


async def remove(tx: SystemTx, user_id: UserId) -> None:
    """Remove an account's row, under `hold`, and with it every row that is still the account's."""
    await queries.remove_account(tx, user_id)

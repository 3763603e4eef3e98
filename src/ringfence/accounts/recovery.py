"""Recovery: a new password for who has forgotten theirs, proved by a code to the account's address.

Neither answers nor work tell whether an address has an account. A recovery is a row beside the accounts, of a known
address as of an unknown one, with a code and a letter; of an unknown one the code is in no letter.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from ringfence.accounts import credential_queries, emails, queries
from ringfence.accounts.audit import NOBODY, AuditKind, record
from ringfence.accounts.codes import RESEND_SECONDS, CodePurpose, OneTimeCodes
from ringfence.accounts.credential_queries import Attempt
from ringfence.accounts.devices import Device
from ringfence.accounts.letters import Letter, Letters
from ringfence.accounts.passwords import Passwords
from ringfence.accounts.sign_in import SignInLimits
from ringfence.db import Database, SystemTx
from ringfence.errors import Invalid, RateLimited
from ringfence.ids import UserId, new_user_id

log = structlog.get_logger()


class Recovery:
    """Lets people back in.

    Args:
        db: where accounts are kept.
        passwords: hashes the new one.
        codes: proves the address.
        letters: brings the code there.
        sign_in_limits: forgotten for who has proved to be the owner.
        now: the clock.
    """

    def __init__(
        self,
        db: Database,
        passwords: Passwords,
        codes: OneTimeCodes,
        *,
        letters: Letters,
        sign_in_limits: SignInLimits,
        now: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._passwords = passwords
        self._codes = codes
        self._letters = letters
        self._sign_in_limits = sign_in_limits
        self._now = now

    async def forgot(self, email: str, device: Device) -> None:
        """Mail a code for a new password; within a minute of the last one, or after too many, nothing is mailed.

        Raises:
            Invalid: `invalid_email`.
        """
        address = emails.parse(email)
        async with self._db.system() as tx:
            await queries.lock_email(tx, address.key)
            found = await queries.credentials(tx, address.key)
            recent = await credential_queries.is_recovering(
                tx, address.key, self._now() - timedelta(seconds=RESEND_SECONDS)
            )
            if not recent and await self._letters.allowed(tx, CodePurpose.RESET, address.key, device):
                await self._begin(tx, address, known=found is not None)
            await record(tx, found.user_id if found else NOBODY, AuditKind.RESET_REQUESTED, device)
        log.info("reset_requested")

    async def _begin(self, tx: SystemTx, address: emails.Email, *, known: bool) -> None:
        await credential_queries.end_recoveries(tx, address.key)
        user_id = new_user_id()
        code = self._codes.new(user_id, CodePurpose.RESET)
        await credential_queries.add_recovery(tx, user_id, address, self._now())
        await credential_queries.put_code(tx, user_id, code)
        letter = Letter.RESET if known else Letter.RESET_UNKNOWN
        await self._letters.send_code(tx, user_id, letter, address.wire, code)

    async def reset(self, email: str, code: str, password: str, device: Device) -> None:
        """Choose a new password with the code that was mailed. All sessions of the account end.

        Raises:
            Invalid: `weak_password`, which costs no attempt at the code; or `wrong_code`, whether it is wrong, expired,
                used, tried too often (from here or at this address, too), or the address has no account.
        """
        await self._passwords.require_acceptable(password, email)
        key = emails.key_or_none(email)
        attempt = await self._counted(key, device)
        # The attempt is committed by now, so that giving up on the answer does not give it back.
        right = attempt is not None and self._codes.is_right(attempt.user_id, CodePurpose.RESET, code, attempt.digest)
        password_hash = await self._passwords.hash(password) if right else ""
        async with self._db.system() as tx:
            await queries.lock_email(tx, key)
            found = await queries.credentials(tx, key)
            used = attempt is not None and right and await credential_queries.use_code(tx, attempt, CodePurpose.RESET)
            user_id = found.user_id if found else None
            settled = (
                attempt is not None
                and used
                and user_id is not None
                and await self._settle(tx, user_id, attempt, password_hash, device)
            )
            if not settled:
                await record(tx, user_id or NOBODY, AuditKind.RESET_FAILED, device)
        if not settled:
            raise Invalid("wrong_code", "This code is wrong or has expired. Ask for a new one.")
        async with self._db.system() as tx:
            await self._codes.uncount_try(tx, CodePurpose.RESET, key, device)
        log.info("password_reset", user_id=str(user_id))

    async def _counted(self, key: str, device: Device) -> Attempt | None:
        """An attempt at an address's code, counted as a failure; one of too many is none, which tells nobody of it."""
        try:
            async with self._db.system() as tx:
                attempt = await credential_queries.count_recovery_attempt(tx, key, self._now())
                if attempt is not None:
                    await self._codes.count_try(tx, CodePurpose.RESET, key, device)
        except RateLimited:
            async with self._db.system() as tx:
                found = await queries.credentials(tx, key)
                await self._codes.record_refusal(tx, found.user_id if found else None, CodePurpose.RESET, key, device)
            return None
        return attempt

    async def _settle(
        self, tx: SystemTx, user_id: UserId, attempt: Attempt, password_hash: str, device: Device
    ) -> bool:
        if not await credential_queries.set_password(tx, user_id, attempt.email_key, password_hash):
            return False
        await credential_queries.remove_codes(tx, user_id)
        await credential_queries.end_recoveries(tx, attempt.email_key)
        await queries.end_sessions(tx, user_id, None)
        await self._sign_in_limits.forget(tx, attempt.email_key, device)
        await record(tx, user_id, AuditKind.PASSWORD_RESET, device)
        await self._letters.send(tx, user_id, Letter.PASSWORD_CHANGED, emails.parse(attempt.email).wire)
        return True

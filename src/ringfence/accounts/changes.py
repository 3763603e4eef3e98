"""What one may change of one's own account, with the password at hand: the password itself, and the address."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from ringfence.accounts import credential_queries, emails, queries
from ringfence.accounts.audit import AuditKind, record
from ringfence.accounts.codes import RESEND_SECONDS, CodePurpose, OneTimeCodes
from ringfence.accounts.confirmation import Confirmation, not_confirmed
from ringfence.accounts.credential_queries import Attempt
from ringfence.accounts.devices import Device
from ringfence.accounts.emails import Email
from ringfence.accounts.letters import Letter, Letters
from ringfence.accounts.passwords import Passwords
from ringfence.db import Database, SystemTx
from ringfence.errors import Invalid, RateLimited, Unauthenticated
from ringfence.ids import Identity

log = structlog.get_logger()


class Changes:
    """Changes passwords and addresses; each ends the account's other sessions, and its owner is told by mail.

    Args:
        db: where accounts are kept.
        passwords: hashes the new one.
        confirmation: asks for the present one.
        codes: proves the new address.
        letters: tells the owner.
        now: the clock.
    """

    def __init__(
        self,
        db: Database,
        passwords: Passwords,
        confirmation: Confirmation,
        codes: OneTimeCodes,
        *,
        letters: Letters,
        now: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._passwords = passwords
        self._confirmation = confirmation
        self._codes = codes
        self._letters = letters
        self._now = now

    async def change_password(self, identity: Identity, password: str, new: str, device: Device) -> None:
        """Choose another password; this session goes on.

        Raises:
            Invalid: `weak_password`.
            Forbidden: `password_not_confirmed`.
            RateLimited: `too_many_tries`.
        """
        proofs = await self._confirmation.require(identity.user_id, password, device)
        await self._passwords.require_acceptable(new, proofs.email)
        fresh = await self._passwords.hash(new)
        async with self._db.system() as tx:
            if not await credential_queries.replace_hash(tx, identity.user_id, proofs.password_hash, fresh):
                raise not_confirmed()  # it was changed meanwhile
            await credential_queries.remove_codes(tx, identity.user_id)
            await credential_queries.end_recoveries(tx, proofs.email_key)
            await queries.end_sessions(tx, identity.user_id, identity.session_id)
            await record(tx, identity.user_id, AuditKind.PASSWORD_CHANGED, device)
            await self._letters.send(tx, identity.user_id, Letter.PASSWORD_CHANGED, emails.parse(proofs.email).wire)
        log.info("password_changed", user_id=str(identity.user_id))

    async def move(self, identity: Identity, email: str, password: str, device: Device) -> None:
        """Mail a code to the address that the account shall have; asked again within a minute, nothing is mailed.

        Whether that address has an account, only its mailbox is told.

        Raises:
            Invalid: `invalid_email`.
            Forbidden: `password_not_confirmed`.
            RateLimited: `too_many_tries`: passwords, or addresses.
        """
        address = emails.parse(email)
        proofs = await self._confirmation.require(identity.user_id, password, device)
        async with self._db.system() as tx:
            if not await credential_queries.hold_password(tx, identity.user_id, proofs.email_key, proofs.password_hash):
                raise not_confirmed()
            known = await queries.credentials(tx, address.key) is not None
            since = self._now() - timedelta(seconds=RESEND_SECONDS)
            recent = await credential_queries.is_moving(tx, identity.user_id, address, since)
            if not recent:
                await self._letters.count_move(tx, identity.user_id)
            if not recent and await self._letters.allowed(tx, CodePurpose.CHANGE_EMAIL, address.key, device):
                await self._begin(tx, identity, address, proofs.email, known=known)
            await record(tx, identity.user_id, AuditKind.EMAIL_CHANGE_REQUESTED, device)

    async def _begin(self, tx: SystemTx, identity: Identity, to: Email, old: str, *, known: bool) -> None:
        code = self._codes.new(identity.user_id, CodePurpose.CHANGE_EMAIL)
        await credential_queries.put_code(tx, identity.user_id, code, to)
        letter = Letter.MOVE_KNOWN if known else Letter.MOVE
        await self._letters.send_code(tx, identity.user_id, letter, to.wire, code)
        await self._letters.send(tx, identity.user_id, Letter.MOVE_ASKED, emails.parse(old).wire, new=to.shown)

    async def confirm_move(self, identity: Identity, code: str, device: Device) -> None:
        """Prove the new address with the code that was mailed there; from now on it is the account's.

        Raises:
            Invalid: `wrong_code`, whether it is wrong, expired, used, tried too often, or the address has gone to
                another account meanwhile.
            Unauthenticated: `session_ended`, meanwhile.
            RateLimited: `too_many_tries`.
        """
        user_id = identity.user_id
        attempt = await self._counted(identity, device)
        if (
            attempt is None
            or not self._codes.is_right(user_id, CodePurpose.CHANGE_EMAIL, code, attempt.digest)
            or not await self._settle(identity, attempt, device)
        ):
            async with self._db.system() as tx:
                await record(tx, user_id, AuditKind.CODE_FAILED, device, what="change_email")
            raise Invalid("wrong_code", "This code is wrong or has expired. Ask for a new one.")
        async with self._db.system() as tx:
            await self._codes.uncount_try(tx, CodePurpose.CHANGE_EMAIL, str(user_id), device)
        log.info("email_changed", user_id=str(user_id))

    async def _counted(self, identity: Identity, device: Device) -> Attempt | None:
        """An attempt at the account's code, counted as a failure."""
        user_id, purpose, subject = identity.user_id, CodePurpose.CHANGE_EMAIL, str(identity.user_id)
        try:
            async with self._db.system() as tx:
                attempt = await credential_queries.count_attempt(tx, user_id, purpose, self._now())
                if attempt is not None:
                    await self._codes.count_try(tx, purpose, subject, device)
        except RateLimited:
            async with self._db.system() as tx:
                await self._codes.record_refusal(tx, user_id, purpose, subject, device)
            raise
        return attempt

    async def _settle(self, identity: Identity, attempt: Attempt, device: Device) -> bool:
        user_id = identity.user_id
        async with self._db.system() as tx:
            await queries.lock_email(tx, attempt.email_key)
            before = await credential_queries.hold_proofs(tx, user_id)
            if await queries.lock_session(tx, user_id, identity.session_id, self._now()) is None:
                raise Unauthenticated("session_ended", "This session has ended: sign in again.")
            used = await credential_queries.use_code(tx, attempt, CodePurpose.CHANGE_EMAIL)
            if before is None or not used or not await credential_queries.move(tx, attempt):
                return False
            await queries.remove_unverified(tx, attempt.email_key)
            await credential_queries.end_recoveries(tx, before.email_key)
            await queries.end_sessions(tx, user_id, identity.session_id)
            await record(tx, user_id, AuditKind.EMAIL_CHANGED, device)
            old = emails.parse(before.email).wire
            await self._letters.send(tx, user_id, Letter.MOVED, old, new=attempt.email)
        return True

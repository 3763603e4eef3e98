"""Accounts: register, prove the address, sign in.

A registration is bound to whoever made it. Each one is a row of its own with its own password, and its code verifies
that row alone: whoever registers somebody else's address gains nothing when that person later registers and proves it.
Neither answers nor work tell whether an address has an account; only its mailbox is told.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from ringfence.accounts import credential_queries, emails, queries
from ringfence.accounts.audit import NOBODY, AuditKind, record
from ringfence.accounts.codes import RESEND_SECONDS, CodePurpose, OneTimeCodes
from ringfence.accounts.credential_queries import Attempt
from ringfence.accounts.emails import Email
from ringfence.accounts.letters import Letter, Letters
from ringfence.accounts.passwords import Passwords
from ringfence.accounts.queries import Account, Credentials
from ringfence.accounts.sessions import Begun, Cookie, Device, Sessions, Tokens
from ringfence.accounts.sign_in import SignInLimits
from ringfence.db import Database, SystemTx
from ringfence.errors import Invalid, RateLimited, Unauthenticated
from ringfence.ids import UserId, new_user_id

log = structlog.get_logger()


class Accounts:
    """Who may come in.

    Args:
        db: where accounts are kept.
        passwords: hashes and checks passwords.
        sessions: begins the session of who signs in.
        limits: on how often that is tried.
        codes: prove addresses.
        letters: bring the codes there.
        now: the clock.
    """

    def __init__(
        self,
        db: Database,
        passwords: Passwords,
        sessions: Sessions,
        limits: SignInLimits,
        *,
        codes: OneTimeCodes,
        letters: Letters,
        now: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._passwords = passwords
        self._sessions = sessions
        self._limits = limits
        self._codes = codes
        self._letters = letters
        self._now = now

    async def register(self, email: str, password: str, device: Device) -> UserId:
        """Begin a registration and mail a code to the address; after too many mails to it, none.

        An address that has an account takes the same path to the same answer: its code is never sent, and the mail says
        that there is an account.

        Returns:
            The registration's id, which `verify` wants beside the code.

        Raises:
            Invalid: `invalid_email` or `weak_password`.
        """
        address = emails.parse(email)
        await self._passwords.require_acceptable(password, email)
        password_hash = await self._passwords.hash(password)
        user_id = new_user_id()
        async with self._db.system() as tx:
            await queries.add_user(tx, user_id, address, password_hash)
            await record(tx, user_id, AuditKind.REGISTERED, device)
            await self._send_code(tx, user_id, address, device, first=True)
        log.info("registered", user_id=str(user_id))
        return user_id

    async def resend(self, registration_id: UUID, device: Device) -> None:
        """Mail another code for a registration; the older one dies.

        Nothing happens within a minute of the last code, after too many mails to the address, and to a registration
        that is not there or verified: nobody is told.
        """
        async with self._db.system() as tx:
            held = await credential_queries.hold_code(tx, registration_id, CodePurpose.VERIFY)
            if held and held.created_at <= self._now() - timedelta(seconds=RESEND_SECONDS):
                await self._send_code(tx, held.user_id, emails.parse(held.email), device, first=False)

    async def _send_code(self, tx: SystemTx, user_id: UserId, to: Email, device: Device, *, first: bool) -> None:
        known = await queries.credentials(tx, to.key) is not None
        allowed = await self._letters.allowed(tx, CodePurpose.VERIFY, to.key, device)
        code = self._codes.new(user_id, CodePurpose.VERIFY)
        if allowed or first:  # what can't be mailed now may be asked for again
            await credential_queries.put_code(tx, user_id, code if allowed else code.unsent())
        if allowed:
            letter = Letter.VERIFY_KNOWN if known else Letter.VERIFY
            await self._letters.send_code(tx, user_id, letter, to.wire, code)

    async def verify(self, registration_id: UUID, code: str, device: Device) -> None:
        """Prove a registration's address with the code that was mailed to it; then it may sign in.

        Raises:
            Invalid: `wrong_code`, whether it is wrong, expired, used, tried too often (from here or at this address,
                too), or the address has gone to another registration meanwhile.
        """
        attempt = await self._counted_attempt(registration_id, device)
        # The attempt is committed by now, so that giving up on the answer does not give it back.
        if (
            attempt is None
            or not self._codes.is_right(attempt.user_id, CodePurpose.VERIFY, code, attempt.digest)
            or not await self._settle(attempt, device)
        ):
            async with self._db.system() as tx:
                whose = attempt.user_id if attempt else NOBODY
                await record(tx, whose, AuditKind.CODE_FAILED, device, what="verify")
            raise Invalid("wrong_code", "This code is wrong or has expired. Ask for a new one.")
        async with self._db.system() as tx:
            await self._codes.uncount_try(tx, CodePurpose.VERIFY, attempt.email_key, device)
        log.info("verified", user_id=str(attempt.user_id))

    async def _counted_attempt(self, registration_id: UUID, device: Device) -> Attempt | None:
        """An attempt at a registration's code, counted as a failure; one of too many is none, which tells nobody."""
        try:
            async with self._db.system() as tx:
                attempt = await credential_queries.count_attempt(tx, registration_id, CodePurpose.VERIFY, self._now())
                if attempt is not None:
                    await self._codes.count_try(tx, CodePurpose.VERIFY, attempt.email_key, device)
        except RateLimited:
            subject = str(registration_id)
            async with self._db.system() as tx:
                await self._codes.record_refusal(tx, registration_id, CodePurpose.VERIFY, subject, device)
            return None
        return attempt

    async def _settle(self, attempt: Attempt, device: Device) -> bool:
        """Use the code and give the address to its registration; False if either is gone."""
        async with self._db.system() as tx:
            # First of all: whoever settles an address removes its rivals' codes, and must not wait for one of them.
            await queries.lock_email(tx, attempt.email_key)
            used = await credential_queries.use_code(tx, attempt, CodePurpose.VERIFY)
            if used and await queries.mark_verified(tx, attempt.user_id, attempt.email_key, self._now()):
                await queries.remove_unverified(tx, attempt.email_key)
                await record(tx, attempt.user_id, AuditKind.VERIFIED, device)
                return True
        return False

    async def sign_in(self, email: str, password: str, device: Device) -> Tokens:
        """Exchange an address and its password for the tokens of a new session.

        Raises:
            Invalid: `invalid_grant`, whether the address is unknown or not yet verified, the password wrong, or the
                account disabled.
            RateLimited: `too_many_tries`, from here at this account, from here at all accounts, or at this account
                from everywhere. What was in order does not count.
        """
        return await self._sessions.tokens(await self._signed_in(email, password, device))

    async def sign_in_browser(self, email: str, password: str, device: Device) -> Cookie:
        """The same for a browser, whose session a cookie carries on.

        Raises:
            Invalid: as `sign_in`.
            RateLimited: likewise.
        """
        return self._sessions.cookie(await self._signed_in(email, password, device, browser=True))

    async def _signed_in(self, email: str, password: str, device: Device, *, browser: bool = False) -> Begun:
        key = emails.key_or_none(email)
        found = await self._counted_sign_in(key, device)
        right = await self._passwords.matches(password, found.password_hash if found else None)
        if found is None or not right or found.disabled:
            async with self._db.system() as tx:  # a row more for an unknown address too: the same work
                await record(tx, found.user_id if found else NOBODY, AuditKind.SIGN_IN_FAILED, device)
            raise _refused()
        outdated = self._passwords.is_outdated(found.password_hash)
        fresh = await self._passwords.hash(password) if outdated else None
        begun = await self._begin(found, key, fresh, device, browser=browser)
        begun = begun or await self._begin_late(key, password, device, browser=browser)
        log.info("signed_in", user_id=str(found.user_id))
        return begun

    async def _counted_sign_in(self, key: str, device: Device) -> Credentials | None:
        """The account of an address, after a try to sign in to it was counted as a failure."""
        try:
            async with self._db.system() as tx:
                await self._limits.count_try(tx, key, device)
                return await queries.credentials(tx, key)
        except RateLimited:
            async with self._db.system() as tx:
                found = await queries.credentials(tx, key)
                await self._limits.record_refusal(tx, found.user_id if found else None, key, device)
            raise

    async def _begin(
        self, found: Credentials, key: str, fresh: str | None, device: Device, *, browser: bool
    ) -> Begun | None:
        """Begin a session, and keep a fresh hash; None if the account has changed since it was found."""
        async with self._db.system() as tx:
            if not await credential_queries.hold_password(tx, found.user_id, key, found.password_hash):
                return None
            await self._limits.uncount_try(tx, key, device)
            if fresh:
                await credential_queries.replace_hash(tx, found.user_id, found.password_hash, fresh)
            return await self._sessions.begin(tx, found.user_id, device, browser=browser)

    async def _begin_late(self, key: str, password: str, device: Device, *, browser: bool) -> Begun:
        """The same once more, after the hash was replaced meanwhile: by another sign-in, or another password's."""
        async with self._db.system() as tx:
            found = await queries.credentials(tx, key)
        if found is None or found.disabled or not await self._passwords.matches(password, found.password_hash):
            raise _refused()
        begun = await self._begin(found, key, None, device, browser=browser)
        if begun is None:
            raise _refused()
        return begun

    async def me(self, user_id: UserId) -> Account:
        """The caller's own account.

        Raises:
            Unauthenticated: `unknown_account`, the token outlived its account.
        """
        async with self._db.tenant(user_id) as tx:
            account = await queries.account(tx)
        if account is None:
            raise Unauthenticated("unknown_account", "This account no longer exists.")
        return account


def _refused() -> Invalid:
    return Invalid("invalid_grant", "The address or the password is wrong, or the address is not verified.")

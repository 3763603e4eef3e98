"""Accounts: register, prove the address, sign in.

A registration is bound to whoever made it. Each one is a row of its own with its own password, and its code verifies
that row alone: whoever registers somebody else's address gains nothing when that person later registers and proves it.
Neither answers nor work tell whether an address has an account; only its mailbox is told.
"""

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from ringfence import jobs
from ringfence import mail as mails
from ringfence.accounts import codes, emails, queries
from ringfence.accounts.codes import CodePurpose
from ringfence.accounts.emails import Email
from ringfence.accounts.passwords import Passwords, require_acceptable
from ringfence.accounts.queries import Account, Attempt
from ringfence.accounts.tokens import AccessToken, AccessTokens
from ringfence.db import Database
from ringfence.errors import Invalid, Unauthenticated
from ringfence.ids import UserId, new_user_id
from ringfence.mail import Mail

log = structlog.get_logger()

_SUBJECT = "Your registration with Ringfence"
_CODE_TEXT = """\
Your code is {code}

Enter it where you registered. It works once, for {minutes} minutes.
If you did not register, somebody mistyped their address: you need not do anything, and nothing will come of it.
"""
_KNOWN_TEXT = """\
Somebody registered with this address, which already has an account.

If it was you: you need no second account, sign in with your password.
If it was not, you need not do anything: nobody was told that you have an account, and nothing has changed.
"""


class Accounts:
    """Who may come in.

    Args:
        db: where accounts are kept.
        passwords: hashes and checks passwords.
        tokens: makes access tokens.
        code_key: 32 bytes, for the digests of one-time codes.
        mail_key: 32 bytes, seals mail in the queue.
        code_seconds: a code's life.
        now: the clock.
    """

    def __init__(
        self,
        db: Database,
        passwords: Passwords,
        tokens: AccessTokens,
        *,
        code_key: bytes,
        mail_key: bytes,
        code_seconds: int,
        now: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._passwords = passwords
        self._tokens = tokens
        self._code_key = code_key
        self._mail_key = mail_key
        self._code_life = timedelta(seconds=code_seconds)
        self._now = now

    async def register(self, email: str, password: str) -> UserId:
        """Begin a registration and mail a code to the address.

        An address that has an account takes the same path to the same answer: its code is never sent, and the mail says
        that there is an account.

        Returns:
            The registration's id, which `verify` wants beside the code.

        Raises:
            Invalid: `invalid_email` or `weak_password`.
        """
        address = emails.parse(email)
        require_acceptable(password)
        password_hash = await self._passwords.hash(password)
        user_id = new_user_id()
        code = codes.new_code()
        async with self._db.system() as tx:
            known = await queries.credentials(tx, address.key) is not None
            await queries.add_user(tx, user_id, address, password_hash)
            digest = codes.digest(self._code_key, user_id, CodePurpose.VERIFY, code)
            await queries.add_code(tx, user_id, CodePurpose.VERIFY, digest, self._now() + self._code_life)
            sealed = mails.seal(self._mail_key, self._mail(address, known=known, code=code))
            await jobs.enqueue(tx, user_id, mails.KIND, sealed)
        log.info("registered", user_id=str(user_id))
        return user_id

    async def verify(self, registration_id: UUID, code: str) -> None:
        """Prove a registration's address with the code that was mailed to it; then it may sign in.

        Raises:
            Invalid: `wrong_code`, whether it is wrong, expired, used, tried too often, or the address has gone to
                another registration meanwhile.
        """
        async with self._db.system() as tx:
            attempt = await queries.count_attempt(tx, registration_id, CodePurpose.VERIFY, self._now())
        # The attempt is committed by now, so that giving up on the answer does not give it back.
        if attempt is None or not self._is_right(attempt, code) or not await self._settle(attempt):
            raise Invalid("wrong_code", "This code is wrong or has expired. Register again to get a new one.")
        log.info("verified", user_id=str(attempt.user_id))

    async def sign_in(self, email: str, password: str) -> AccessToken:
        """Exchange an address and its password for an access token.

        Raises:
            Invalid: `invalid_grant`, whether the address is unknown or not yet verified, or the password wrong.
        """
        async with self._db.system() as tx:
            found = await queries.credentials(tx, _key_or_none(email))
        right = await self._passwords.matches(password, found.password_hash if found else None)
        if found is None or not right:
            raise Invalid("invalid_grant", "The address or the password is wrong, or the address is not verified.")
        log.info("signed_in", user_id=str(found.user_id))
        return self._tokens.issue(found.user_id)

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

    def _mail(self, address: Email, *, known: bool, code: str) -> Mail:
        minutes = int(self._code_life / timedelta(minutes=1))
        text = _KNOWN_TEXT if known else _CODE_TEXT.format(code=code, minutes=minutes)
        return Mail(to=address.wire, subject=_SUBJECT, text=text)

    def _is_right(self, attempt: Attempt, code: str) -> bool:
        digest = codes.digest(self._code_key, attempt.user_id, CodePurpose.VERIFY, code)
        return hmac.compare_digest(digest, attempt.digest)

    async def _settle(self, attempt: Attempt) -> bool:
        """Use the code and give the address to its registration; False if either is gone."""
        async with self._db.system() as tx:
            # First of all: whoever settles an address removes its rivals' codes, and must not wait for one of them.
            await queries.lock_email(tx, attempt.email_key)
            used = await queries.use_code(tx, attempt, CodePurpose.VERIFY)
            if used and await queries.mark_verified(tx, attempt, self._now()):
                await queries.remove_unverified(tx, attempt.email_key)
                return True
        return False


def _key_or_none(email: str) -> str:
    """The key to look for; of what is no address, one that no account has."""
    try:
        return emails.parse(email).key
    except Invalid:
        return ""

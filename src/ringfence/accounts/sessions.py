"""Sessions: each sign-in begins one, refresh tokens or a cookie carry it on, and ending it ends all of them at once.

A refresh token works once and is exchanged for the next (RFC 9700, 4.14.2). All tokens of a session form a family: if
one comes back that was used before, somebody else has a copy, so the session ends for both.
The next token derives from the one that it follows, so that a client which asks again within ten seconds (in parallel,
or because the answer was lost) gets the very same one, and not a second branch of the family that nobody could tell
from a thief's.
A browser's session has a cookie instead, the same from its beginning to its end: nothing in a page ever holds a token.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from ringfence.accounts import opaque, queries
from ringfence.accounts.audit import AuditKind, record
from ringfence.accounts.devices import Device
from ringfence.accounts.opaque import Opaque
from ringfence.accounts.queries import Session
from ringfence.accounts.tokens import AccessTokens
from ringfence.db import Database, SystemTx
from ringfence.errors import Invalid, NotFound, Unauthenticated
from ringfence.ids import Identity, SessionId, UserId, new_session_id
from ringfence.limits import Note, Rate, RateLimits, Requests, unsaid

__all__ = ["REUSE_SECONDS", "Begun", "Cookie", "Device", "Sessions", "Tokens"]

log = structlog.get_logger()

REUSE_SECONDS = 10
"""For which a refresh token that was used gives the same answer again."""

_PREFIX = "rfr_"
_COOKIE_PREFIX = "rfc_"
_NOTED = timedelta(minutes=15)  # between two notes of when a cookie was used
_FAILURES = Rate("refresh", 100, 600)  # from one network; what renews does not count
_RENEWALS = Rate("renewals", 120, 3600)  # of one session, which needs four: each leaves a row as long as it stands


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client needs to act for a user: an access token, its life in seconds, and what renews it."""

    access: str = field(repr=False)
    expires_in: int
    refresh: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cookie:
    """What a browser needs to act for a user, and its life in seconds."""

    value: str = field(repr=False)
    seconds: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A session, and the secret that carries it on: a refresh token, or a browser's cookie."""

    identity: Identity
    secret: Opaque = field(repr=False)


class Sessions:
    """Begins, carries on and ends the sessions of users.

    Args:
        db: where they are kept.
        tokens: makes and checks access tokens.
        refresh_key: 32 bytes from which refresh tokens derive.
        life: of a session, from sign-in.
        limits: on refresh tokens that are none.
        now: the clock.
        requests: how many a user may make; None: as many as they like.
    """

    def __init__(
        self,
        db: Database,
        tokens: AccessTokens,
        *,
        refresh_key: bytes,
        life: timedelta,
        limits: RateLimits,
        now: Callable[[], datetime],
        requests: Requests | None = None,
    ) -> None:
        self._db = db
        self._tokens = tokens
        self._refresh_key = refresh_key
        self._life = life
        self._limits = limits
        self._now = now
        self._requests = requests

    async def begin(self, tx: SystemTx, user_id: UserId, device: Device, *, browser: bool = False) -> Begun:
        """Begin a session in the transaction that signs in; `tokens` or `cookie` is what it shows, after that.

        Args:
            tx: commits both or neither.
            user_id: who signs in.
            device: from where.
            browser: whether a cookie shall carry the session on, instead of refresh tokens.
        """
        identity = Identity(user_id, new_session_id())
        first = Opaque(identity.session_id, user_id, secrets.token_bytes(opaque.SECRET_BYTES))
        now = self._now()
        session = Session(identity.session_id, device.address, device.shown_agent, now, now, now + self._life)
        await queries.add_session(tx, identity, session, first.digest if browser else None)
        if not browser:
            await queries.add_refresh_token(tx, identity, first.digest)
        await record(tx, user_id, AuditKind.SIGNED_IN, device, session_id=identity.session_id)
        return Begun(identity, first)

    async def tokens(self, begun: Begun) -> Tokens:
        """The tokens of a session whose beginning or renewal is committed.

        Raises:
            Unavailable: the signing keys can't be read.
        """
        access = await self._tokens.issue(begun.identity)
        return Tokens(access.token, access.expires_in, begun.secret.text(_PREFIX))

    def cookie(self, begun: Begun) -> Cookie:
        """The cookie of a browser's session whose beginning is committed."""
        return Cookie(begun.secret.text(_COOKIE_PREFIX), int(self._life.total_seconds()))

    async def refresh(self, token: str, device: Device) -> Tokens:
        """Exchange a refresh token for new tokens.

        Raises:
            Invalid: `invalid_grant`, whether it is unknown, was used, or its session has ended. One that was used ends
                its session.
            RateLimited: `too_many_tries`, from here, or of this session.
            Unavailable: the database can't be reached.
        """
        shown = opaque.parse(_PREFIX, token)
        if shown is None:
            raise _invalid_grant()
        following = _successor(shown, self._refresh_key)
        async with self._db.system() as tx:
            await self._limits.take(tx, _FAILURES, device.network)
            identity = await queries.lock_session(tx, shown.user_id, shown.record_id, self._now())
            renewed = identity is not None and await self._exchange(tx, identity, shown, following, device)
            if renewed:
                await self._limits.give_back(tx, _FAILURES, device.network)
        # Committed by now: the end of a session holds though whoever showed a used token gets an error.
        if identity is None or not renewed:
            raise _invalid_grant()
        return await self.tokens(Begun(identity, following))

    async def _exchange(
        self, tx: SystemTx, identity: Identity, shown: Opaque, following: Opaque, device: Device
    ) -> bool:
        """Whether a token may be exchanged for the following one, which it then has been."""
        now = self._now()
        stored = await queries.refresh_token(tx, identity, shown.digest)
        if stored is None:
            return False
        if stored.used_at is None:
            await self._limits.take(tx, _RENEWALS, str(identity.session_id))
            await queries.use_refresh_token(tx, identity, shown.digest, now)
            await queries.add_refresh_token(tx, identity, following.digest)
            await queries.touch_session(tx, identity, now, device.address, device.shown_agent)
            return True
        successor = await queries.refresh_token(tx, identity, following.digest)
        again = successor is not None and successor.used_at is None
        if again and stored.used_at > now - timedelta(seconds=REUSE_SECONDS):
            return True
        await queries.end_session(tx, identity)
        ended = identity.session_id
        await record(tx, identity.user_id, AuditKind.REFRESH_TOKEN_REUSED, device, session_id=ended)
        log.warning("refresh_token_reused", user_id=str(identity.user_id), session_id=str(identity.session_id))
        return False

    async def check(self, access_token: str, note: Note = unsaid) -> Identity:
        """Who shows an access token, if the session still stands. Counts as a request of its user.

        Args:
            access_token: what was shown.
            note: is told how the user's limit stands.

        Raises:
            Unauthenticated: `invalid_token`, or `session_ended`.
            RateLimited: `too_many_requests`.
            Unavailable: the database can't be reached.
        """
        identity = await self._tokens.verify(access_token)
        bucket = self._requests.bucket("user", str(identity.user_id)) if self._requests else None
        async with self._db.system() as tx:
            level = await queries.session_stands(tx, identity, self._now(), bucket)
        if level is None:
            raise _session_ended()
        if bucket:
            note(bucket.admit(level))
        return identity

    async def check_cookie(self, value: str, device: Device, note: Note = unsaid) -> Identity:
        """Who shows a cookie, if its session still stands. Counts as a request of its user.

        Args:
            value: what was shown.
            device: from where; noted now and then.
            note: is told how the user's limit stands.

        Raises:
            Unauthenticated: `session_ended`, or it is no cookie of ours.
            RateLimited: `too_many_requests`.
            Unavailable: the database can't be reached.
        """
        shown = opaque.parse(_COOKIE_PREFIX, value)
        if shown is None:
            raise _session_ended()
        now = self._now()
        bucket = self._requests.bucket("user", str(shown.user_id)) if self._requests else None
        async with self._db.system() as tx:
            known = await queries.cookie_stands(tx, shown, now, bucket)
            if known is not None and known.used_at <= now - _NOTED:
                await queries.touch_session(tx, known.identity, now, device.address, device.shown_agent)
        if known is None:
            raise _session_ended()
        if bucket:
            note(bucket.admit(known.level))
        return known.identity

    async def newest(self, user_id: UserId) -> list[Session]:
        """The user's sessions, the one used last first."""
        async with self._db.tenant(user_id) as tx:
            return await queries.sessions(tx, self._now())

    async def end(self, identity: Identity, device: Device) -> None:
        """End one of the user's sessions, with all of its tokens.

        Raises:
            NotFound: `session_not_found`.
        """
        async with self._db.system() as tx:
            if not await queries.end_session(tx, identity):
                raise NotFound("session_not_found", "There is no such session.")
            await record(tx, identity.user_id, AuditKind.SESSION_ENDED, device, session_id=identity.session_id)

    async def end_all(self, user_id: UserId, device: Device, *, but: SessionId | None = None) -> int:
        """End all sessions of a user, or all but one; how many there were."""
        async with self._db.system() as tx:
            ended = await queries.end_sessions(tx, user_id, but)
            await record(tx, user_id, AuditKind.SESSIONS_ENDED, device, count=ended)
        return ended


def _successor(token: Opaque, key: bytes) -> Opaque:
    secret = hmac.digest(key, token.record_id.bytes + token.secret, "sha256")
    return Opaque(token.record_id, token.user_id, secret)


def _session_ended() -> Unauthenticated:
    return Unauthenticated("session_ended", "This session has ended: sign in again.")


def _invalid_grant() -> Invalid:
    return Invalid("invalid_grant", "The refresh token is wrong, was used, or its session has ended: sign in again.")

"""API keys: what programs show instead of a session's token, each for as much as its owner allows it."""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from ringfence.accounts import credential_queries, emails, opaque, queries
from ringfence.accounts.audit import AuditKind, record
from ringfence.accounts.confirmation import Confirmation, not_confirmed
from ringfence.accounts.devices import Device
from ringfence.accounts.letters import Letter, Letters
from ringfence.accounts.opaque import Opaque
from ringfence.accounts.queries import ApiKey, Grant, Scope
from ringfence.db import Database
from ringfence.errors import Conflict, NotFound, Unauthenticated
from ringfence.ids import ApiKeyId, UserId, new_api_key_id
from ringfence.limits import Note, Requests, unsaid

log = structlog.get_logger()

PREFIX = "rfk_"
"""By which people, programs and scanners for leaked secrets recognise a key."""

MAX_KEYS = 50
"""A user's, expired ones included."""

_SHOWN_CHARACTERS = 12
_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class WantedApiKey:
    """What a key shall be.

    Attributes:
        name: 1 to 100 printable characters by which its owner knows it.
        scopes: what it allows; not empty.
        life: after which it opens nothing any more; None: it does until it is revoked.
    """

    name: str
    scopes: frozenset[Scope]
    life: timedelta | None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was made, and its text, which nobody can show again."""

    key: ApiKey
    text: str = field(repr=False)


class ApiKeys:
    """Makes, lists, revokes and checks the keys of users.

    Args:
        db: where they are kept.
        confirmation: asks for the password, since a key outlives the session that makes it.
        letters: tells the owner.
        now: the clock.
        requests: how many may be made with each; None: as many as one likes.
    """

    def __init__(
        self,
        db: Database,
        confirmation: Confirmation,
        letters: Letters,
        *,
        now: Callable[[], datetime],
        requests: Requests | None = None,
    ) -> None:
        self._db = db
        self._confirmation = confirmation
        self._letters = letters
        self._now = now
        self._requests = requests

    async def create(self, user_id: UserId, password: str, wanted: WantedApiKey, device: Device) -> NewApiKey:
        """Make a key; its owner is told by mail.

        Args:
            user_id: for whom it acts.
            password: the account's.
            wanted: what it shall be.
            device: from where, for the audit log.

        Raises:
            Conflict: `too_many_api_keys`.
            Forbidden: `password_not_confirmed`.
            RateLimited: `too_many_tries`.
        """
        proofs = await self._confirmation.require(user_id, password, device)
        now = self._now()
        token = Opaque(new_api_key_id(), user_id, secrets.token_bytes(opaque.SECRET_BYTES))
        text = token.text(PREFIX)
        expires_at = now + wanted.life if wanted.life else None
        prefix = text[:_SHOWN_CHARACTERS]
        key = ApiKey(ApiKeyId(token.record_id), wanted.name, prefix, wanted.scopes, expires_at, None, now)
        async with self._db.system() as tx:
            if not await credential_queries.hold_password(tx, user_id, proofs.email_key, proofs.password_hash):
                raise not_confirmed()
            if await queries.count_api_keys(tx, user_id) >= MAX_KEYS:
                raise Conflict("too_many_api_keys", f"You have {MAX_KEYS} API keys: revoke one first.")
            await queries.add_api_key(tx, user_id, key, token.digest)
            await record(tx, user_id, AuditKind.API_KEY_CREATED, device, key_id=key.key_id)
            # Not its name: whoever made it chose that, and it may be text for the owner's eyes.
            told = {"prefix": prefix, "scopes": ", ".join(sorted(wanted.scopes))}
            await self._letters.send(tx, user_id, Letter.API_KEY_CREATED, emails.parse(proofs.email).wire, **told)
        log.info("api_key_created", user_id=str(user_id), key_id=str(key.key_id))
        return NewApiKey(key, text)

    async def newest(self, user_id: UserId) -> list[ApiKey]:
        """The user's keys, newest first; expired ones too."""
        async with self._db.tenant(user_id) as tx:
            return await queries.api_keys(tx)

    async def revoke(self, user_id: UserId, key_id: ApiKeyId, device: Device) -> None:
        """Remove one of the user's keys: it opens nothing from now on.

        Raises:
            NotFound: `api_key_not_found`.
        """
        async with self._db.tenant(user_id) as tx:
            if not await queries.remove_api_key(tx, key_id):
                raise NotFound("api_key_not_found", "There is no such API key.")
            await record(tx, user_id, AuditKind.API_KEY_REVOKED, device, key_id=key_id)
        log.info("api_key_revoked", user_id=str(user_id), key_id=str(key_id))

    async def authenticate(self, text: str, note: Note = unsaid) -> Grant:
        """Who shows a key, and what it allows. Counts as a request; the time is noted at most once a minute.

        Args:
            text: what was shown.
            note: is told how the key's limit stands.

        Raises:
            Unauthenticated: `invalid_token`, whether it is unknown, revoked or expired, or its user disabled.
            RateLimited: `too_many_requests`.
            Unavailable: the database can't be reached.
        """
        shown = opaque.parse(PREFIX, text)
        if shown is None:
            raise _invalid_token()
        now = self._now()
        bucket = self._requests.bucket("key", str(shown.record_id)) if self._requests else None
        async with self._db.system() as tx:
            stored = await queries.api_key(tx, shown, now, bucket)
            if stored is None or not hmac.compare_digest(stored.digest, shown.digest):
                raise _invalid_token()
            if stored.used_at is None or stored.used_at <= now - _NOTED_EVERY:
                await queries.touch_api_key(tx, stored.grant, now, now - _NOTED_EVERY)
        if bucket:
            note(bucket.admit(stored.level))
        return stored.grant


def _invalid_token() -> Unauthenticated:
    return Unauthenticated("invalid_token", "This API key is wrong, or was revoked, or has expired.")

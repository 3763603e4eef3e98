"""One-time codes: eight digits by mail, of which the database holds a keyed digest."""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from ringfence.accounts.audit import record_throttled
from ringfence.accounts.devices import Device
from ringfence.db import SystemTx
from ringfence.limits import Rate, RateLimits

DIGITS = 8
MAX_ATTEMPTS = 5
RESEND_SECONDS = 60
"""Sooner than that after a code there is no other one."""

# Whoever guesses gets five attempts at each code, and may ask for fresh ones. At one account a hundred failures at
# once, wherever they come from (NIST SP 800-63B-4, 3.2.2), and then one more each 14.4 minutes; a fifth of them from
# one place and two from one site, so that neither can keep the owner from using a code. Each purpose is counted apart:
# who registers another's address does not keep its owner from a new password.
_HERE = Rate("code", 20, 86_400)
_SITE = Rate("code-site", 40, 86_400)
_ACCOUNT = Rate("code-account", 100, 86_400)


class CodePurpose(StrEnum):
    """What a code proves; one made for this opens nothing else."""

    VERIFY = "verify"
    RESET = "reset"
    CHANGE_EMAIL = "change_email"


@dataclass(frozen=True, slots=True)
class NewCode:
    """A code to mail, and what is kept of it.

    Attributes:
        text: eight digits.
        purpose: what it proves.
        digest: what the database holds.
        created_at: now.
        expires_at: when it opens nothing any more.
    """

    text: str = field(repr=False)
    purpose: CodePurpose
    digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime

    def unsent(self) -> "NewCode":
        """The same of a code that was not mailed: it opens nothing, and nobody can fail at it."""
        return replace(self, expires_at=self.created_at)


class OneTimeCodes:
    """Makes and checks codes, and limits how often that is tried.

    Args:
        key: 32 bytes, for the digests.
        life: of a code.
        limits: on failures.
        now: the clock.
    """

    def __init__(self, key: bytes, *, life: timedelta, limits: RateLimits, now: Callable[[], datetime]) -> None:
        self._key = key
        self._life = life
        self._limits = limits
        self._now = now

    def new(self, user_id: UUID, purpose: CodePurpose) -> NewCode:
        """Eight random digits. With five attempts, guessing one succeeds once in 20 million."""
        text = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
        now = self._now()
        return NewCode(text, purpose, digest(self._key, user_id, purpose, text), now, now + self._life)

    def is_right(self, user_id: UUID, purpose: CodePurpose, code: str, stored: bytes) -> bool:
        """Whether a code is the one whose digest is stored."""
        return hmac.compare_digest(digest(self._key, user_id, purpose, code), stored)

    async def count_try(self, tx: SystemTx, purpose: CodePurpose, subject: str, device: Device) -> None:
        """Count an attempt at a code as a failure, before it is known whether it is one.

        Args:
            tx: commits the count.
            purpose: of the code.
            subject: whose account, by its address or its id.
            device: from where.

        Raises:
            RateLimited: `too_many_tries`.
        """
        for rate, bucket in _buckets(purpose, subject, device):
            await self._limits.take(tx, rate, *bucket)

    async def uncount_try(self, tx: SystemTx, purpose: CodePurpose, subject: str, device: Device) -> None:
        """Give back what a right code had been counted for.

        In a transaction of its own, since others lock the code first and count after that.
        """
        for rate, bucket in _buckets(purpose, subject, device):
            await self._limits.give_back(tx, rate, *bucket)

    async def record_refusal(
        self, tx: SystemTx, user_id: UUID | None, purpose: CodePurpose, subject: str, device: Device
    ) -> None:
        """Let the audit log say that attempts were refused; `user_id`: whose account it is, if there is one."""
        await record_throttled(tx, self._limits, user_id, purpose.value, subject=subject, device=device)


def _buckets(purpose: CodePurpose, subject: str, device: Device) -> list[tuple[Rate, tuple[str, ...]]]:
    return [
        (_HERE, (purpose, subject, device.network)),
        (_SITE, (purpose, subject, device.site)),
        (_ACCOUNT, (purpose, subject)),
    ]


def digest(key: bytes, user_id: UUID, purpose: CodePurpose, code: str) -> bytes:
    """HMAC-SHA256 over the code and what it is for, 32 bytes: without the key, eight digits can't be searched.

    White space in the code does not count, since people copy it along.
    """
    text = f"{purpose}\0{''.join(code.split())}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, user_id.bytes + text, "sha256")

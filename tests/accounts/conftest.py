"""Accounts on a real database, with cheap hashes, a clock that tests move, and the mail that waits in the queue."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ringfence.accounts.passwords import Passwords
from ringfence.accounts.service import Accounts
from ringfence.accounts.tokens import AccessTokens
from ringfence.db import Database
from ringfence.ids import UserId
from ringfence.keys import Purpose, derive
from ringfence.mail import Mail, SealedMail, unseal

SECRET = "a secret for tests of accounts alone, 0123456789"
CODE_SECONDS = 600


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class CountingPasswords(Passwords):
    """The real thing, which also says how much it was asked."""

    def __init__(self, cost: int) -> None:
        super().__init__(cost)
        self.hashed = 0
        self.checked = 0

    async def hash(self, password: str) -> str:
        self.hashed += 1
        return await super().hash(password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        self.checked += 1
        return await super().matches(password, hashed)


@dataclass
class Mailbox:
    """What was put into the queue to be mailed."""

    admin: asyncpg.Connection

    async def of(self, registration: UserId) -> Mail:
        """The one mail that a registration caused."""
        (payload,) = [
            row["payload"]
            for row in await self.admin.fetch(
                "select payload from jobs where user_id = $1 and kind = 'mail'", registration
            )
        ]
        return unseal(derive(SECRET, Purpose.MAIL), SealedMail.model_validate_json(payload))

    async def code(self, registration: UserId) -> str:
        """The code in it."""
        (code,) = re.findall(r"\b\d{8}\b", (await self.of(registration)).text)
        return code


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passwords() -> Generator[CountingPasswords]:
    passwords = CountingPasswords(4)
    yield passwords
    passwords.close()


@pytest.fixture
def tokens(clock: Clock) -> AccessTokens:
    return AccessTokens(SECRET, "https://rag.example.org", 900, clock)


@pytest.fixture
def accounts(db: Database, passwords: CountingPasswords, tokens: AccessTokens, clock: Clock) -> Accounts:
    return Accounts(
        db,
        passwords,
        tokens,
        code_key=derive(SECRET, Purpose.ONE_TIME_CODES),
        mail_key=derive(SECRET, Purpose.MAIL),
        code_seconds=CODE_SECONDS,
        now=clock,
    )


@pytest.fixture
def mailbox(admin: asyncpg.Connection) -> Mailbox:
    return Mailbox(admin)

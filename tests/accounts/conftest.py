"""Accounts on a real database, with cheap hashes, a clock that tests move, and the mail that waits in the queue."""

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ringfence.accounts.changes import Changes
from ringfence.accounts.codes import OneTimeCodes
from ringfence.accounts.confirmation import Confirmation
from ringfence.accounts.keyring import KeyRing
from ringfence.accounts.letters import Letters
from ringfence.accounts.passwords import Passwords
from ringfence.accounts.recovery import Recovery
from ringfence.accounts.service import Accounts
from ringfence.accounts.sessions import Sessions
from ringfence.accounts.sign_in import SignInLimits
from ringfence.accounts.tokens import LEEWAY_SECONDS, AccessTokens
from ringfence.db import Database, DatabaseOptions, SystemTx
from ringfence.ids import UserId
from ringfence.keys import Purpose, derive
from ringfence.limits import RateLimits
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

    async def to(self, address: str) -> list[Mail]:
        """All that waits for an address, oldest first."""
        rows = await self.admin.fetch("select payload from jobs where kind = 'mail' order by job_id")
        key = derive(SECRET, Purpose.MAIL)
        mails = [unseal(key, SealedMail.model_validate_json(row["payload"])) for row in rows]
        return [mail for mail in mails if mail.to == address]

    async def last_code(self, address: str) -> str:
        """The code mailed to an address last."""
        return [code for mail in await self.to(address) for code in re.findall(r"\b\d{8}\b", mail.text)][-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passwords() -> Generator[CountingPasswords]:
    passwords = CountingPasswords(4)
    yield passwords
    passwords.close()


@pytest.fixture
def keys(db: Database, clock: Clock) -> KeyRing:
    life = timedelta(seconds=900 + LEEWAY_SECONDS)
    return KeyRing(db, derive(SECRET, Purpose.SIGNING_KEYS), max_age=timedelta(days=90), keep=life, now=clock)


@pytest.fixture
def tokens(keys: KeyRing, clock: Clock) -> AccessTokens:
    return AccessTokens(keys, "https://rag.example.org", 900, clock)


@pytest.fixture
def sessions(db: Database, tokens: AccessTokens, limits: RateLimits, clock: Clock) -> Sessions:
    key = derive(SECRET, Purpose.REFRESH_TOKENS)
    return Sessions(db, tokens, refresh_key=key, life=timedelta(days=30), limits=limits, now=clock)


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(derive(SECRET, Purpose.LIMITS), clock)


@pytest.fixture
def codes(limits: RateLimits, clock: Clock) -> OneTimeCodes:
    life = timedelta(seconds=CODE_SECONDS)
    return OneTimeCodes(derive(SECRET, Purpose.ONE_TIME_CODES), life=life, limits=limits, now=clock)


@pytest.fixture
def letters(limits: RateLimits) -> Letters:
    return Letters(limits, derive(SECRET, Purpose.MAIL))


@pytest.fixture
def accounts(
    db: Database,
    passwords: CountingPasswords,
    sessions: Sessions,
    limits: RateLimits,
    codes: OneTimeCodes,
    letters: Letters,
    clock: Clock,
) -> Accounts:
    return Accounts(db, passwords, sessions, SignInLimits(limits), codes=codes, letters=letters, now=clock)


@pytest.fixture
def recovery(
    db: Database,
    passwords: CountingPasswords,
    limits: RateLimits,
    codes: OneTimeCodes,
    letters: Letters,
    clock: Clock,
) -> Recovery:
    return Recovery(db, passwords, codes, letters=letters, sign_in_limits=SignInLimits(limits), now=clock)


@pytest.fixture
def confirmation(db: Database, passwords: CountingPasswords, limits: RateLimits) -> Confirmation:
    return Confirmation(db, passwords, limits)


@pytest.fixture
def changes(
    db: Database,
    passwords: CountingPasswords,
    confirmation: Confirmation,
    codes: OneTimeCodes,
    letters: Letters,
    clock: Clock,
) -> Changes:
    return Changes(db, passwords, confirmation, codes, letters=letters, now=clock)


# Looks into each table and writes to it, since the connection last told the server's statistics of them.
_WORK = """
select relname, seq_scan + coalesce(idx_scan, 0) as looks, n_tup_ins + n_tup_upd + n_tup_del as writes
from pg_stat_xact_user_tables
"""


async def _work(tx: SystemTx) -> dict[str, tuple[int, int]]:
    return {row["relname"]: (row["looks"], row["writes"]) for row in await tx.fetch(_WORK)}


class WatchedDatabase(Database):
    """The real thing, which also says what was asked of it, and what of each table that and its triggers did."""

    said: list[str]

    @asynccontextmanager
    async def system(self) -> AsyncGenerator[SystemTx]:
        async with super().system() as tx:
            before = await _work(tx)
            with tx.connection.query_logger(lambda query: self.said.append(query.query)):
                yield tx
            for table, (looks, writes) in sorted((await _work(tx)).items()):
                self.said.append(f"{table}: {looks - before[table][0]} looks, {writes - before[table][1]} writes")


@pytest.fixture
async def watched(app_url: str, system_url: str) -> AsyncGenerator[WatchedDatabase]:
    database = WatchedDatabase(app_url, system_url, DatabaseOptions(connect_timeout=10, command_timeout=30))
    database.said = []
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def mailbox(admin: asyncpg.Connection) -> Mailbox:
    return Mailbox(admin)

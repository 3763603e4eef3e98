"""The three forms of a migration, told apart by the file's name.

- `NNNN_name.sql`: changes of the catalogue, as the tables' owner, in one transaction. It gets its locks at once or
  steps back and tries later, because whoever waits for a lock makes all others queue behind it. It changes one table
  that was there before, so that it can't wait for one while others wait for another. It moves no tenant's data:
  under FORCE ROW LEVEL SECURITY the owner's UPDATE silently touches no row.
- `NNNN_name.concurrent.sql`: statements that block neither reads nor writes and may take long (CREATE INDEX
  CONCURRENTLY, VALIDATE CONSTRAINT), as the owner, each in a transaction of its own. Each may be run again.
- `NNNN_name.tenant.sql`: one statement that moves data, as the app's role, tenant by tenant (`$1`), again and again
  until it touches no row: it takes a limited number of rows and leaves out those that it has moved already.

Whatever a killed migrator left behind, the next one comes to the same end: the first form leaves nothing, the others
begin anew and find done what is done. A migration is recorded when all of it is done.
"""

import asyncio
import hashlib
import itertools
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from ringfence.db import Database, DatabaseOptions, OwnerTx
from ringfence.errors import SetupError, Unavailable
from ringfence.ids import UserId, user_id_from_record
from ringfence.migrations.roles import OWNER_ROLE, Connection

type Script = tuple[str, str]
type Say = Callable[[str], None]

_BEFORE = "select sha256 from public.migrations where name = $1"
_RECORD = "insert into public.migrations (name, sha256) values ($1, $2)"
_TENANTS = "select user_id from users where user_id > $1 order by user_id limit 1000"
_INVALID = "select not indisvalid from pg_index where indexrelid = to_regclass($1)"
_NEW_INDEX = re.compile(r"create\s+(?:unique\s+)?index\s+concurrently\s+if\s+not\s+exists\s+(\w+)", re.IGNORECASE)
# No bounds: others don't wait for these. A server whose client is gone notices, and stops.
_UNHURRIED = f"""
set role {OWNER_ROLE}; set lock_timeout = 0; set statement_timeout = 0; set client_connection_check_interval = '1s'
"""
_AS_BEFORE = "reset role; reset lock_timeout; reset statement_timeout; reset client_connection_check_interval"
_GENTLE_TRIES = 5
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, Unavailable)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a migration makes others wait, and how long it tries. All in seconds.

    Attributes:
        lock: that a change of the catalogue waits for a lock; others queue behind it meanwhile. Shorter than
            PostgreSQL's `deadlock_timeout` (1 s), so that a deadlock ends with the migration stepping back.
        firm_lock: the same from the sixth try on: longer than `deadlock_timeout`, when PostgreSQL ends an autovacuum
            that is in the way, and shorter than `db_command_timeout` (2 s), when a request gives up.
        statement: that one statement of it, or of a tenant's batch, may take.
        pause: before the second try; doubled from try to try, with jitter, up to `longest_pause`.
        longest_pause: between two tries.
        patience: after which it gives up.
        report: between two lines of a tenant migration's progress.
    """

    lock: float = 0.5
    firm_lock: float = 1.2
    statement: float = 5.0
    pause: float = 0.5
    longest_pause: float = 15.0
    patience: float = 600.0
    report: float = 5.0


PACE = Pace()


def silent(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Applies migrations over an administrator's connection; made by `migrator`, which keeps others out.

    Attributes:
        connection: the administrator's, who may become the owner.
        urls: of the app's and the system role.
        pace: how long it makes others wait, and how long it tries.
        say: is told of progress.
    """

    connection: Connection
    urls: tuple[str, str]
    pace: Pace = PACE
    say: Say = silent

    async def run(self, scripts: Sequence[Script]) -> list[str]:
        """Apply migrations in their order; the names of those that were not applied before."""
        return [name for name, sql in scripts if await self.apply(name, sql)]

    async def apply(self, name: str, sql: str) -> bool:
        """Apply one migration, unless it was; says whether it did."""
        digest = hashlib.sha256(sql.encode()).digest()
        async with self.owner():
            before = await self.connection.fetchval(_BEFORE, name)
        if before not in {None, digest}:
            raise SetupError("migration_changed", f"{name} was applied in another form: is this the right database?")
        if before is None:
            self.say(f"{name}: begins")
            await self._form(name)(name, sql, digest)
        return before is None

    def _form(self, name: str) -> Callable[[str, str, bytes], Awaitable[None]]:
        if name.endswith(".concurrent.sql"):
            return self._concurrent
        return self._tenant if name.endswith(".tenant.sql") else self._plain

    @asynccontextmanager
    async def owner(self) -> AsyncGenerator[OwnerTx]:
        """A transaction of the tables' owner; commits at the end, rolls back on an error."""
        async with self.connection.transaction():
            await self.connection.execute(f"set local role {OWNER_ROLE}")
            yield OwnerTx(self.connection)

    async def _record(self, name: str, digest: bytes) -> None:
        await self.connection.execute(_RECORD, name, digest)
        self.say(f"{name}: done")

    async def _plain(self, name: str, sql: str, digest: bytes) -> None:
        tries = itertools.count()

        async def once() -> None:
            lock = self.pace.lock if next(tries) < _GENTLE_TRIES else self.pace.firm_lock
            async with self.owner():
                await self.connection.execute(
                    f"set local lock_timeout = {_ms(lock)}; set local statement_timeout = {_ms(self.pace.statement)}"
                )
                await self.connection.execute(sql)
                await self._record(name, digest)

        try:
            await self._patiently(name, once)
        except asyncpg.QueryCanceledError as error:
            raise Unavailable(
                "migration_slow",
                f"A statement of {name} took longer than {self.pace.statement:g} s while others may have had to wait, "
                "so all of it was taken back. Try again at a quieter time.",
            ) from error

    async def _concurrent(self, name: str, sql: str, digest: bytes) -> None:
        async def once() -> None:
            await self.connection.execute(_UNHURRIED)
            for statement in statements(sql):
                self.say(f"{name}: {' '.join(statement.split())}")
                await self._drop_remains(statement)
                await self.connection.execute(statement)
            await self.connection.execute(_AS_BEFORE)

        await self._patiently(name, once)
        async with self.owner():
            await self._record(name, digest)

    async def _drop_remains(self, statement: str) -> None:
        """Drop the invalid index that a broken-off run left, which IF NOT EXISTS would take for the wanted one."""
        new = _NEW_INDEX.match(statement)
        if new and await self.connection.fetchval(_INVALID, new[1]):
            await self.connection.execute(f"drop index concurrently {new[1]}")

    async def _tenant(self, name: str, sql: str, digest: bytes) -> None:
        options = DatabaseOptions(pool_size=1, connect_timeout=10, command_timeout=self.pace.statement)
        db = Database(*self.urls, options)
        try:
            await db.open()
            await self._tenant_by_tenant(db, name, sql)
        finally:
            await db.close()
        async with self.owner():
            await self._record(name, digest)

    async def _tenant_by_tenant(self, db: Database, name: str, sql: str) -> None:
        last, tenants, rows, said = user_id_from_record(UUID(int=0)), 0, 0, time.monotonic()
        while found := await _tenants_after(db, last):
            for last in found:
                tenants += 1
                async for touched in self._batches(db, name, sql, last):
                    rows += touched
                    if time.monotonic() >= said + self.pace.report:
                        said = time.monotonic()
                        self.say(f"{name}: {rows} rows, at tenant {tenants}")

    async def _batches(self, db: Database, name: str, sql: str, user_id: UserId) -> AsyncGenerator[int]:
        """Move a tenant's data, a short transaction at a time; how many rows each of them touched."""

        async def once() -> int:
            async with db.tenant(user_id) as tx:
                return await tx.execute(sql, user_id)

        while touched := await self._patiently(name, once):
            yield touched

    async def _patiently[T](self, name: str, step: Callable[[], Awaitable[T]]) -> T:
        """Run a step; where others are in its way, run it again later."""
        end, pause = time.monotonic() + self.pace.patience, self.pace.pause
        while True:
            try:
                return await step()
            except _BUSY as error:
                if time.monotonic() + pause > end:
                    words = f"{name} found no moment between other transactions within {self.pace.patience:g} s."
                    raise Unavailable("migration_blocked", f"{words} Try again when they have ended.") from error
            self.say(f"{name}: others are in the way; tries again within {pause:.1f} s")
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (no secret)
            pause = min(2 * pause, self.pace.longest_pause)


async def _tenants_after(db: Database, user_id: UserId) -> list[UserId]:
    """The next tenants in the order of their ids. One who registers later has no row of the old form."""
    async with db.system() as tx:
        return [user_id_from_record(row["user_id"]) for row in await tx.fetch(_TENANTS, user_id)]


def statements(sql: str) -> list[str]:
    """The statements of a `.concurrent.sql` file, whose literals hold no semicolon and no `--`."""
    return [part.strip() for part in re.sub(r"--[^\n]*", "", sql).split(";") if part.strip()]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

"""The tables' owner at work while the engine serves: changes of the catalogue that are no migration."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from ringfence.db import OwnerTx, connectable
from ringfence.errors import SetupError, Unavailable
from ringfence.migrations.forms import PACE, Pace
from ringfence.migrations.roles import LOCK, OWNER_ROLE, Connection
from ringfence.migrations.session import mapped

_BUSY = (asyncpg.LockNotAvailableError, Unavailable)
_TRY = "select pg_try_advisory_lock($1)"
_TRY_SHARED = "select pg_try_advisory_lock_shared($1)"
_TRY_ALONE = "select pg_try_advisory_xact_lock($1)"


@dataclass(frozen=True, slots=True)
class Owner:
    """An administrator's connection that becomes the tables' owner; made by `owner`.

    Attributes:
        connection: the administrator's.
        pace: how long it makes others wait, and how long it tries.
    """

    connection: Connection
    pace: Pace = PACE

    async def apply(self, change: Callable[[OwnerTx], Awaitable[None]]) -> None:
        """Change the catalogue in one short transaction; where others are in the way, step back and try later.

        Raises:
            Unavailable: `database_busy`.
        """
        end, pause = time.monotonic() + self.pace.patience, self.pace.pause
        while True:
            try:
                async with self.connection.transaction():
                    await self._bound(self.pace.lock, self.pace.statement)
                    await change(OwnerTx(self.connection))
                    return
            except _BUSY as error:
                if self.connection.is_closed() or time.monotonic() + pause > end:
                    raise Unavailable(
                        "database_busy", "Others are at work in the database. Try again later."
                    ) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (no secret)
            pause = min(2 * pause, self.pace.longest_pause)

    async def _bound(self, lock: float, statement: float) -> None:
        await self.connection.execute(
            f"set local lock_timeout = {round(lock * 1000)}; set local statement_timeout = {round(statement * 1000)}"
        )

    async def alone(self, statement: str, memory: int) -> None:
        """Run what takes long, makes nobody wait, and can't be part of a transaction.

        Args:
            statement: like CREATE INDEX CONCURRENTLY.
            memory: bytes that it may have for that.
        """
        await self.connection.execute(f"set maintenance_work_mem = {memory // 1024}")
        await self.connection.execute(statement)


async def no_snapshot_of_before(tx: OwnerTx) -> bool:
    """Keep backups out until the transaction's end; False if one is being taken.

    A backup sees rows as they were, but not a table that is gone.
    """
    return bool(await tx.fetchval(_TRY_ALONE, LOCK))


@asynccontextmanager
async def owner(admin_url: str, lock: int, *, pace: Pace = PACE) -> AsyncGenerator[Owner | None]:
    """What changes the catalogue; None if another one with the same lock, or a migration, is at work.

    Args:
        admin_url: of a role that may become the owner; not a pooler's.
        lock: the number by which those who must not meet know each other.
        pace: how long it makes others wait, and how long it tries.

    Raises:
        SetupError: PostgreSQL refuses the administrator, or they may not become the owner; or it is a pooler.
        Unavailable: PostgreSQL can't be reached.
    """
    with mapped():
        connection = await asyncpg.connect(connectable(admin_url), timeout=10, statement_cache_size=0)
        try:
            await _begin(connection)
            held = await connection.fetchval(_TRY, lock) and await connection.fetchval(_TRY_SHARED, LOCK)
            yield Owner(connection, pace) if held else None
        finally:
            await connection.close(timeout=5)


async def _begin(connection: Connection) -> None:
    if await connection.fetchval("select pg_backend_pid()") != connection.get_server_pid():
        raise SetupError("database_pooled", "RINGFENCE_DATABASE_URL leads to a pooler; this needs PostgreSQL itself.")
    # Others don't wait for what runs alone. A server whose client is gone notices, and stops. Workers of a parallel
    # build would need shared memory as large as the index.
    await connection.execute(
        f"set role {OWNER_ROLE}; set lock_timeout = 0; set statement_timeout = 0; "
        "set client_connection_check_interval = '1s'; set max_parallel_maintenance_workers = 0"
    )

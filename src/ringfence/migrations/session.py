"""The migrator's session: connected as an administrator, alone, with the roles and the list of what was applied."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from ringfence.db import APP_ROLE, BAD_LOGIN, DOWN, SYSTEM_ROLE, connectable, role_url
from ringfence.errors import SetupError, Unavailable
from ringfence.migrations.forms import PACE, Pace, Runner, Say, silent
from ringfence.migrations.roles import LOCK, OWNER_ROLE, Connection, prepare

_POLL = 0.1
_TRY = "select pg_try_advisory_lock($1)"
_HISTORY = f"""
set local role {OWNER_ROLE};
create table if not exists public.migrations (
  name text primary key, sha256 bytea not null, applied_at timestamptz not null default now());
grant select on public.migrations to {APP_ROLE}, {SYSTEM_ROLE};
"""


@asynccontextmanager
async def migrator(
    admin_url: str,
    app_password: str,
    system_password: str,
    *,
    new_secret: bool = False,
    pace: Pace = PACE,
    say: Say = silent,
) -> AsyncGenerator[Runner]:
    """What runs migrations, alone in this database while the context lasts. Arguments and errors: as `migrate`."""
    urls = role_url(admin_url, APP_ROLE, app_password), role_url(admin_url, SYSTEM_ROLE, system_password)
    with mapped():
        connection = await asyncpg.connect(connectable(admin_url), timeout=10, statement_cache_size=0)
        try:
            await _be_alone(connection, pace, say)
            logins = {APP_ROLE: app_password, SYSTEM_ROLE: system_password}
            await prepare(connection, logins, new_secret=new_secret)
            async with connection.transaction():
                await connection.execute(_HISTORY)
            yield Runner(connection, urls, pace, say)
        finally:
            await connection.close(timeout=5)


@contextmanager
def mapped() -> Generator[None]:
    """Map what an administrator's connection raises where it is refused, or lost."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise SetupError("database_rights", f"RINGFENCE_DATABASE_URL's role may not set this up: {error}") from error
    except BAD_LOGIN as error:
        raise SetupError("database_login", f"PostgreSQL refuses RINGFENCE_DATABASE_URL: {error}") from error
    except DOWN as error:
        raise Unavailable("database_unavailable", f"PostgreSQL can't be reached: {error}") from error


async def _be_alone(connection: Connection, pace: Pace, say: Say) -> None:
    """Take the lock of the session, by asking again and again.

    Whoever waits inside a statement holds a snapshot, for whose end CREATE INDEX CONCURRENTLY waits: two migrators
    would wait for each other.
    """
    # A transaction pooler says another process id than the server's, and gives the next statement another session.
    if await connection.fetchval("select pg_backend_pid()") != connection.get_server_pid():
        raise SetupError(
            "database_pooled", "RINGFENCE_DATABASE_URL leads to a pooler; migrations need PostgreSQL itself."
        )
    if await connection.fetchval(_TRY, LOCK):
        return
    say("waiting for another migration, or a backup, to end")
    end = time.monotonic() + pace.patience
    while not await connection.fetchval(_TRY, LOCK):
        if time.monotonic() > end:
            raise Unavailable("migration_running", "Another migration, or a backup, goes on in this database.")
        await asyncio.sleep(_POLL)

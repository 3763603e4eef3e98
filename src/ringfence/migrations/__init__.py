"""Schema: plain SQL files, applied in order, once, under a lock, each in a transaction of its own."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files

import asyncpg

from ringfence.db import APP_ROLE, BAD_LOGIN, DOWN, SYSTEM_ROLE, connectable
from ringfence.errors import SetupError, Unavailable
from ringfence.migrations.roles import LOCK, OWNER_ROLE, Connection, prepare

_HISTORY = """
create table if not exists public.migrations (
  name text primary key, sha256 bytea not null, applied_at timestamptz not null default now())
"""


async def migrate(admin_url: str, app_password: str, system_password: str) -> list[str]:
    """Make the roles, and apply what has not been applied.

    Args:
        admin_url: of a role that may create roles and extensions in this database.
        app_password: the app role gets it, at every call.
        system_password: likewise.

    Returns:
        The names of the migrations that this call applied.

    Raises:
        SetupError: PostgreSQL or pgvector is missing or too old, the role may not do this, or a file that was
            applied has changed since.
        Unavailable: PostgreSQL can't be reached.
    """
    with _mapped():
        connection = await asyncpg.connect(connectable(admin_url), timeout=10, statement_cache_size=0)
        try:
            await prepare(connection, {APP_ROLE: app_password, SYSTEM_ROLE: system_password})
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
                await connection.execute(f"set local role {OWNER_ROLE}")
                await connection.execute(_HISTORY)
                await connection.execute(f"grant select on public.migrations to {APP_ROLE}, {SYSTEM_ROLE}")
            return [name for name, sql in scripts() if await apply(connection, name, sql)]
        finally:
            await connection.close(timeout=5)


@contextmanager
def _mapped() -> Generator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise SetupError("database_rights", f"RINGFENCE_DATABASE_URL's role may not set this up: {error}") from error
    except BAD_LOGIN as error:
        raise SetupError("database_login", f"PostgreSQL refuses RINGFENCE_DATABASE_URL: {error}") from error
    except DOWN as error:
        raise Unavailable("database_unavailable", f"PostgreSQL can't be reached: {error}") from error


def scripts() -> list[tuple[str, str]]:
    """All migrations, (name, SQL), in the order of their names."""
    found = (file for file in files(__package__).iterdir() if file.name.endswith(".sql"))
    return sorted((file.name, file.read_text(encoding="utf-8")) for file in found)


async def apply(connection: Connection, name: str, sql: str) -> bool:
    """Apply one migration as the owner's role, unless it was; says whether it did."""
    digest = hashlib.sha256(sql.encode()).digest()
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(f"set local role {OWNER_ROLE}")
        before = await connection.fetchval("select sha256 from public.migrations where name = $1", name)
        if before is not None and before != digest:
            raise SetupError("migration_changed", f"{name} was applied in another form: is this the right database?")
        if before is None:
            await connection.execute(sql)
            await connection.execute("insert into public.migrations (name, sha256) values ($1, $2)", name, digest)
    return before is None

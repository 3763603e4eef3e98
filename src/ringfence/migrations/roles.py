"""What must be there before the first migration: PostgreSQL and pgvector in a fit version, and the three roles.

Roles and their passwords belong to the whole server. So a comment on each login role holds a fingerprint of the
password that it was given, and another password is refused unless it is knowingly new.
"""

import hmac

import asyncpg

from ringfence.db import APP_ROLE, SYSTEM_ROLE
from ringfence.errors import SetupError

OWNER_ROLE = "ringfence_owner"
LOCK = 7_264_123_001  # any number that nobody else uses in this database
MIN_POSTGRES = 160000
MIN_PGVECTOR = (0, 8, 2)
_TRIES = 20
_RACES = (asyncpg.InternalServerError, asyncpg.UniqueViolationError)  # "tuple concurrently updated"; created twice

_CREATE_ROLE = "select format('create role %I nologin', $1::text) where to_regrole($1::text) is null"
# Only a role with BYPASSRLS may even say "nobypassrls", and a managed service's administrator often has none.
_SET_LOGIN = """
select format('alter role %I login %s password %L', rolname, case when rolbypassrls then 'nobypassrls' end, $2::text)
from pg_roles where rolname = $1::text
"""
_MARK = "select shobj_description(oid, 'pg_authid') from pg_roles where rolname = $1"
_SET_MARK = "select format('comment on role %I is %L', $1::text, $2::text)"
_JOIN_OWNER = """
select format('grant %I to current_user', $1::text)
where not pg_has_role(current_user, $1::text, 'set')
"""

_MARKED = "ringfence password "
_TAKEN = (
    "The PostgreSQL role {} of this server has a password made from another RINGFENCE_SECRET_KEY. Roles belong to the "
    "whole server: if another installation lives here, give this one a server of its own, or the same secret. If the "
    "secret was changed, run `ringfence migrate --new-secret`, then start every process with the new one."
)

type Connection = asyncpg.Connection[asyncpg.Record]


async def prepare(
    connection: Connection, logins: dict[str, str], *, new_secret: bool = False, min_postgres: int = MIN_POSTGRES
) -> None:
    """Check the server, then make the owner's role and the given login roles (name to password).

    Two at once in one database: the caller's business (`migrator` holds a lock); in two databases of one server: ours.

    Raises:
        SetupError: PostgreSQL or pgvector is missing or too old, or a login role has a password of another secret
            and `new_secret` does not allow to replace it.
    """
    tries = 0
    while True:
        tries += 1
        try:
            async with connection.transaction():
                await _check_versions(connection, min_postgres)
                await _make_roles(connection, logins, new_secret=new_secret)
        except _RACES:
            # Roles belong to the whole server, a lock only to this database.
            if tries == _TRIES:
                raise
        else:
            return


async def _make_roles(connection: Connection, logins: dict[str, str], *, new_secret: bool) -> None:
    for role in (OWNER_ROLE, *logins):
        await _run(connection, _CREATE_ROLE, role)
    for role, password in logins.items():
        mark = f"{_MARKED}{fingerprint(role, password)}"
        found = str(await connection.fetchval(_MARK, role))
        if found.startswith(_MARKED) and found != mark and not new_secret:
            raise SetupError("other_secret", _TAKEN.format(role))
        await _run(connection, _SET_LOGIN, role, password)
        await _run(connection, _SET_MARK, role, mark)
    await _run(connection, _JOIN_OWNER, OWNER_ROLE)
    await connection.execute(f"grant usage, create on schema public to {OWNER_ROLE}")
    await connection.execute(f"grant usage on schema public to {APP_ROLE}, {SYSTEM_ROLE}")


def fingerprint(role: str, password: str) -> str:
    """Tells one password from another, and nothing about either: passwords are random keys of 256 bits."""
    return hmac.digest(password.encode(), f"ringfence/{role}".encode(), "sha256").hex()


async def _check_versions(connection: Connection, min_postgres: int) -> None:
    version = int(await connection.fetchval("select current_setting('server_version_num')"))
    if version < min_postgres:
        raise SetupError("postgres_too_old", f"PostgreSQL 16 or newer is needed; this is {version // 10000}.")
    try:
        await connection.execute("create extension if not exists vector")
    except asyncpg.FeatureNotSupportedError:
        raise SetupError("pgvector_missing", "This PostgreSQL lacks the extension pgvector: install it.") from None
    found = str(await connection.fetchval("select extversion from pg_extension where extname = 'vector'"))
    if tuple(int(part) for part in found.split(".")) < MIN_PGVECTOR:
        raise SetupError("pgvector_too_old", f"pgvector 0.8.2 or newer is needed, not {found}: update the extension.")


async def _run(connection: Connection, query: str, *args: str) -> None:
    """Run the statement that a query of `format()` makes, if it makes one."""
    if statement := await connection.fetchval(query, *args):
        await connection.execute(statement)

"""Two fences: each statement names its tenant, and if it forgot to, the policies alone would still hold."""

from contextlib import suppress
from dataclasses import replace

import asyncpg
import pytest
import pytest_asyncio

from ringfence.db import OwnerTx
from ringfence.search import tier_queries
from tests.conftest import cloned
from tests.isolation import catalog
from tests.isolation.statements import arguments, marks, tenant_statements
from tests.isolation.tenants import SEED, fingerprint, widen

_OPEN = "alter policy tenant on TABLE using (true) with check (true)"
STATEMENTS = tenant_statements()
FENCED = [statement for statement in STATEMENTS if statement.fenced]


def named(statements):
    return pytest.mark.parametrize("statement", statements, ids=lambda statement: statement.name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tiered(server_url, inhabited):
    """Both have a table of their own for vectors, too, and the app's role may do everything on rows."""
    async with cloned(server_url, inhabited.name) as url:
        admin = await asyncpg.connect(url)
        try:
            await widen(admin)
            await admin.execute("set role ringfence_owner")
            for tenant in inhabited.tenants:
                await tier_queries.create_table(OwnerTx(admin), tenant.user_id)
        finally:
            await admin.close()
        yield replace(inhabited, url=url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def unfenced(server_url, tiered):
    """The same, with policies that let everything through."""
    async with cloned(server_url, tiered.name) as url:
        admin = await asyncpg.connect(url)
        try:
            for table in await catalog.tenant_tables(admin):
                await admin.execute(_OPEN.replace("TABLE", table))
        finally:
            await admin.close()
        yield replace(tiered, url=url)


@pytest.fixture
async def database_url(request, server_url, tiered):
    """A copy for a statement that writes; what only reads can share one."""
    source = request.getfixturevalue("unfenced") if "unfenced" in request.fixturenames else tiered
    if not request.node.callspec.params["statement"].writes:
        yield source.url
        return
    async with cloned(server_url, source.name) as url:
        yield url


@pytest.fixture
def tenants(tiered):
    return tiered.tenants


class Undo(Exception):
    """Leaves a transaction without a trace."""


async def reaches(db, admin, sql, user, tenants, *, writes=True):
    """Whether a statement, run as `mine`, shows or changes a row of `theirs`, whichever arguments it gets."""
    mine, theirs = tenants
    with suppress(Undo):
        async with db.tenant(mine.user_id) as tx:
            runs = await arguments(tx, sql, user, theirs)
            assert runs
            found = not writes and any([marks(await tx.fetch(sql, *values), theirs) for values in runs])
            raise Undo  # functions that it calls may write, and it shares its database
    if not writes:
        return found
    before = await fingerprint(admin, theirs)
    for values in runs:
        try:
            async with db.tenant(mine.user_id) as tx:
                rows = await tx.fetch(sql, *values)
                if marks(rows, theirs):
                    return True
        except asyncpg.InsufficientPrivilegeError:  # "new row violates row-level security policy"
            continue
        except asyncpg.IntegrityConstraintViolationError:
            continue
        if await fingerprint(admin, theirs) != before:  # here: a later try may undo what this one did
            return True
    return False


def test_the_statements_are_found():
    found = {statement.name for statement in STATEMENTS}
    assert {"jobs._ENQUEUE", "documents.queries._GET", "search.tier_queries._MOVE", "limits._QUOTA"} <= found
    assert "jobs._CLAIM" not in found  # takes a SystemTx


@named(STATEMENTS)
def test_each_statement_names_its_tenant(statement):
    """A statement on a tenant's table says `user_id = $1`, or inserts it."""
    tables = [table for table in SEED if f" {table}" in statement.sql.replace("\n", " ")]
    inserts = all(f"insert into {table}" in statement.sql for table in tables)
    assert not tables or statement.fenced or (inserts and "user_id" in statement.sql)


@named(FENCED)
async def test_without_its_where_the_policy_still_holds(db, admin, tenants, statement):
    assert not await reaches(db, admin, statement.stripped, tenants[0], tenants, writes=statement.writes)


@named(STATEMENTS)
async def test_with_the_wrong_tenant_the_policy_still_holds(db, admin, tenants, statement):
    assert not await reaches(db, admin, statement.sql, tenants[1], tenants, writes=statement.writes)


@named(FENCED)
@pytest.mark.usefixtures("unfenced")
async def test_without_where_and_policy_it_leaks(db, admin, tenants, statement):
    """So the tests above can fail, for this very statement."""
    assert await reaches(db, admin, statement.stripped, tenants[0], tenants, writes=statement.writes)


@named(FENCED)
@pytest.mark.usefixtures("unfenced")
async def test_without_policy_its_where_still_holds(db, admin, tenants, statement):
    """The other way round: the statement alone, with its own tenant and somebody else's ids, finds nothing."""
    assert not await reaches(db, admin, statement.sql, tenants[0], tenants, writes=statement.writes)

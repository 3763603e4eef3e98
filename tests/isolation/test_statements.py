"""Two fences: each statement names its tenant, and if it forgot to, the policies alone would still hold."""

import asyncpg
import pytest

from tests.isolation import catalog
from tests.isolation.statements import arguments, marks, tenant_statements
from tests.isolation.tenants import SEED, fingerprint, two_tenants, widen

STATEMENTS = tenant_statements()
FENCED = [statement for statement in STATEMENTS if statement.fenced]


def named(statements):
    return pytest.mark.parametrize("statement", statements, ids=lambda statement: statement.name)


@pytest.fixture
async def tenants(admin):
    await widen(admin)
    return await two_tenants(admin)


async def reaches(db, admin, sql, user, tenants):
    """Whether a statement, run as `mine`, shows or changes a row of `theirs`, whichever arguments it gets."""
    mine, theirs = tenants
    async with db.tenant(mine.user_id) as tx:
        runs = await arguments(tx, sql, user, theirs)
    assert runs
    for values in runs:
        before = await fingerprint(admin, theirs)
        try:
            async with db.tenant(mine.user_id) as tx:
                rows = await tx.fetch(sql, *values)
                if marks(rows, theirs):
                    return True
        except asyncpg.InsufficientPrivilegeError:  # "new row violates row-level security policy"
            continue
        except asyncpg.IntegrityConstraintViolationError:
            continue
        if await fingerprint(admin, theirs) != before:
            return True
    return False


def test_the_statements_are_found():
    found = {statement.name for statement in STATEMENTS}
    assert {"jobs._ENQUEUE", "documents.queries._GET", "search.queries._NEAREST"} <= found
    assert "jobs._CLAIM" not in found  # takes a SystemTx


@named(STATEMENTS)
def test_each_statement_names_its_tenant(statement):
    """A statement on a tenant's table says `user_id = $1`, or inserts it."""
    tables = [table for table in SEED if f" {table}" in statement.sql.replace("\n", " ")]
    inserts = all(f"insert into {table}" in statement.sql for table in tables)
    assert not tables or statement.fenced or (inserts and "user_id" in statement.sql)


@named(FENCED)
async def test_without_its_where_the_policy_still_holds(db, admin, tenants, statement):
    assert not await reaches(db, admin, statement.stripped, tenants[0], tenants)


@named(STATEMENTS)
async def test_with_the_wrong_tenant_the_policy_still_holds(db, admin, tenants, statement):
    assert not await reaches(db, admin, statement.sql, tenants[1], tenants)


@named(FENCED)
async def test_without_where_and_policy_it_leaks(db, admin, tenants, statement):
    """So the tests above can fail, for this very statement."""
    for table in SEED:
        await admin.execute("alter policy tenant on TABLE using (true) with check (true)".replace("TABLE", table))
    assert await reaches(db, admin, statement.stripped, tenants[0], tenants)


@named(FENCED)
async def test_without_policy_its_where_still_holds(db, admin, tenants, statement):
    """The other way round: the statement alone, with its own tenant and somebody else's ids, finds nothing."""
    for table in await catalog.tenant_tables(admin):
        await admin.execute("alter policy tenant on TABLE using (true) with check (true)".replace("TABLE", table))
    assert not await reaches(db, admin, statement.sql, tenants[0], tenants)

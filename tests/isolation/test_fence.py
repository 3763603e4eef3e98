"""Raw SQL of the app's role stays inside its tenant, by the policies alone; without them the same probes leak."""

import asyncio

import asyncpg
import pytest

from ringfence.db import Database, DatabaseOptions
from tests.conftest import cloned
from tests.isolation import catalog
from tests.isolation.tenants import PROBES, SEED, fingerprint, leaks, widen

ALL_PROBES = {*PROBES, "insert"}


@pytest.fixture
async def database_url(server_url, inhabited):
    async with cloned(server_url, inhabited.name) as url:
        yield url


@pytest.fixture
def tenants(inhabited):
    return inhabited.tenants


@pytest.fixture
async def one(app_url, system_url):
    """A database with a single connection, which everybody uses in turn."""
    database = Database(app_url, system_url, DatabaseOptions(pool_size=1, connect_timeout=10, command_timeout=30))
    await database.open()
    yield database
    await database.close()


async def test_the_seed_covers_every_tenant_table(admin, tenants):
    assert set(SEED) == set(await catalog.tenant_tables(admin))
    for tenant in tenants:
        for table in SEED:
            sql = "select count(*) from TABLE where user_id = $1".replace("TABLE", table)
            assert await admin.fetchval(sql, tenant.user_id) > 0


@pytest.mark.parametrize("table", SEED)
async def test_nothing_gets_through_with_the_grants_as_they_are(admin, db, tenants, table):
    before = await fingerprint(admin, tenants[1])
    assert await leaks(db, table, *tenants) == set()
    assert await fingerprint(admin, tenants[1]) == before


@pytest.mark.parametrize("table", SEED)
async def test_nothing_gets_through_when_everything_is_granted(admin, db, tenants, table):
    await widen(admin)
    assert await leaks(db, table, *tenants) == set()


@pytest.mark.parametrize("table", SEED)
async def test_own_rows_are_there(admin, db, tenants, table):
    await widen(admin)
    mine, _ = tenants
    async with db.tenant(mine.user_id) as tx:
        assert await tx.fetchval("select count(*) from TABLE".replace("TABLE", table)) == await admin.fetchval(
            "select count(*) from TABLE where user_id = $1".replace("TABLE", table), mine.user_id
        )
        assert await tx.execute("update TABLE set user_id = user_id".replace("TABLE", table)) > 0


@pytest.mark.parametrize("table", SEED)
async def test_an_open_policy_leaks(admin, db, tenants, table):
    await widen(admin)
    await admin.execute("alter policy tenant on TABLE using (true) with check (true)".replace("TABLE", table))
    assert await leaks(db, table, *tenants) == ALL_PROBES


@pytest.mark.parametrize("table", SEED)
async def test_an_open_check_leaks_what_is_inserted(admin, db, tenants, table):
    """The probes see the two halves of a policy apart. (An UPDATE's new row must satisfy USING as well.)"""
    await widen(admin)
    await admin.execute("alter policy tenant on TABLE with check (true)".replace("TABLE", table))
    assert await leaks(db, table, *tenants) == {"insert"}


@pytest.mark.parametrize("table", SEED)
async def test_disabled_row_level_security_leaks(admin, db, tenants, table):
    await widen(admin)
    await admin.execute("alter table TABLE disable row level security".replace("TABLE", table))
    assert await leaks(db, table, *tenants) == ALL_PROBES


@pytest.mark.parametrize("setting", [None, ""])
async def test_without_a_tenant_nothing_is_visible(admin, app_url, tenants, setting):
    await widen(admin)
    connection = await asyncpg.connect(app_url)
    try:
        if setting is not None:
            await connection.execute("select set_config('app.user_id', $1, false)", setting)
        for table in SEED:
            assert await connection.fetchval("select count(*) from TABLE".replace("TABLE", table)) == 0
            assert await connection.execute("delete from TABLE".replace("TABLE", table)) == "DELETE 0"
    finally:
        await connection.close()


async def test_the_owner_sees_no_row(admin, tenants):
    await admin.execute("set role ringfence_owner")
    for table in SEED:
        assert await admin.fetchval("select count(*) from TABLE".replace("TABLE", table)) == 0


async def test_the_system_role_reads_no_content(db, tenants):
    for table in ("documents", "chunks", "embeddings"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.system() as tx:
                await tx.fetch("select from TABLE".replace("TABLE", table))


async def ends_well(database, tenant):
    async with database.tenant(tenant.user_id) as tx:
        await tx.fetch("select from documents")


async def ends_in_an_error(database, tenant):
    with pytest.raises(ZeroDivisionError):
        async with database.tenant(tenant.user_id):
            raise ZeroDivisionError


async def ends_in_an_sql_error(database, tenant):
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.tenant(tenant.user_id) as tx:
            await tx.fetch("select 1 / 0")


async def ends_cancelled(database, tenant):
    inside = asyncio.Event()

    async def sleep():
        async with database.tenant(tenant.user_id) as tx:
            inside.set()
            await tx.fetch("select pg_sleep(60)")

    task = asyncio.create_task(sleep())
    await inside.wait()
    await asyncio.sleep(0)  # into the query
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Calls outside of transactions.

CALL = "select a from probe($1, $2) a"
# As the engine's own functions do it. $2: what happens then.
PROBE = """
create function probe(u uuid, how text) returns setof text language plpgsql as $$
begin
    perform set_config('app.user_id', u::text, true);
    if how = 'error' then perform 1 / 0; end if;
    if how = 'sleep' then perform pg_sleep(60); end if;
    return query select name from documents;
end $$
"""


async def call_ends_well(database, tenant):
    async with database.call(tenant.user_id) as call:
        assert {row[0] for row in await call.fetch(CALL, "well")} == {tenant.text}
        assert await call.fetch("select $1::uuid, name from documents") == []


async def call_ends_in_an_error(database, tenant):
    async with database.call(tenant.user_id) as call:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await call.fetch(CALL, "error")


async def call_ends_cancelled(database, tenant):
    async def sleep():
        async with database.call(tenant.user_id) as call:
            await call.fetch(CALL, "sleep")

    task = asyncio.create_task(sleep())
    await asyncio.sleep(0.05)  # into the query, most likely; if not, the test is weaker, and still true
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("use", [call_ends_well, call_ends_in_an_error, call_ends_cancelled])
async def test_the_setting_ends_with_its_call(one, admin, tenants, use):
    await admin.execute(PROBE)
    await use(one, tenants[0])
    async with one._app.acquire() as connection:
        assert not await connection.fetchval("select current_setting('app.user_id', true)")
        assert await connection.fetch("select from documents") == []


@pytest.mark.parametrize("use", [ends_well, ends_in_an_error, ends_in_an_sql_error, ends_cancelled])
async def test_the_setting_ends_with_its_transaction(one, tenants, use):
    await use(one, tenants[0])
    async with one._app.acquire() as connection:
        assert not await connection.fetchval("select current_setting('app.user_id', true)")
        assert await connection.fetch("select from documents") == []


async def test_interleaved_tenants_never_meet(app_url, system_url, tenants):
    database = Database(app_url, system_url, DatabaseOptions(pool_size=3, connect_timeout=30, command_timeout=30))
    await database.open()

    async def use(number):
        tenant = tenants[number % 2]
        for turn in range(10):
            try:
                async with database.tenant(tenant.user_id) as tx:
                    names = await tx.fetch("select name, pg_sleep(0.001 * random()) from documents")
                    assert {row["name"] for row in names} == {tenant.text}
                    if (number + turn) % 3 == 0:
                        await tx.fetch("select 1 / 0")
            except asyncpg.DivisionByZeroError:
                pass

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(use(number))
    await database.close()

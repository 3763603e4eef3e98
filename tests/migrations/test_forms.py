"""How each form of a migration runs, alone and beside transactions that are in its way."""

import asyncio

import asyncpg
import pytest

from ringfence.errors import SetupError, Unavailable
from ringfence.migrations import Runner, migrate, scripts
from ringfence.migrations.forms import Pace, statements
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD
from tests.isolation.tenants import two_tenants
from tests.migrations.later import QUICK

PASSWORDS = (APP_PASSWORD, SYSTEM_PASSWORD)
NAME = "update documents set name = 'new' where user_id = $1 and name <> 'new'"
LIMITED = """
update documents set name = 'new' where user_id = $1 and document_id in (
  select document_id from documents where user_id = $1 and name <> 'new' limit 1)
"""
SLOW = "alter table documents add column later text; select pg_sleep(60)"


@pytest.fixture
async def tenants(admin):
    return await two_tenants(admin)


@pytest.fixture
def runner(admin, app_url, system_url, said):
    return Runner(admin, (app_url, system_url), QUICK, said)


async def recorded(admin, name):
    return await admin.fetchval("select count(*) from migrations where name = $1", name) == 1


async def names(admin):
    return {row["name"] for row in await admin.fetch("select name from documents")}


# The trap.


async def test_an_owners_update_silently_touches_no_row(admin, runner, tenants):
    """Why there is a form of its own for data: this is what would happen, without any error."""
    before = await names(admin)
    assert await runner.apply("9100_names.sql", "update documents set name = 'new'")
    assert await names(admin) == before
    assert len(before) == 2
    async with runner.owner() as tx:
        assert await tx.execute("update documents set name = 'new'") == 0
        assert await tx.fetchval("select count(*) from documents") == 0


async def test_a_tenant_migration_touches_every_tenants_rows(admin, runner, tenants, said):
    assert await runner.apply("9100_names.tenant.sql", LIMITED)
    assert await names(admin) == {"new"}
    assert await recorded(admin, "9100_names.tenant.sql")
    # Three documents each, one a batch.
    assert [line for line in said.lines if " rows, at tenant " in line] == [
        f"9100_names.tenant.sql: {rows} rows, at tenant {tenant}" for rows, tenant in enumerate([1] * 3 + [2] * 3, 1)
    ]
    assert not await runner.apply("9100_names.tenant.sql", LIMITED)


async def test_more_tenants_than_are_listed_at_once(admin, runner):
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash)"
        " select gen_random_uuid(), n || '@example.org', n || '@example.org', 'x' from generate_series(1, 1001) n"
    )
    sql = "insert into job_lanes (user_id, tag) values ($1, 7) on conflict do nothing"
    assert await runner.apply("9100_lanes.tenant.sql", sql)
    assert await admin.fetchval("select count(*) from job_lanes where tag = 7") == 1001


async def test_a_tenant_migration_is_fenced(admin, runner, tenants):
    """It runs as the app's role: even a statement without its tenant stays inside the tenant."""
    sql = "update documents set name = text($1::uuid) where name <> text($1::uuid)"
    assert await runner.apply("9100_names.tenant.sql", sql)
    rows = await admin.fetch("select user_id, name from documents")
    assert all(row["name"] == str(row["user_id"]) for row in rows)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await runner.apply("9101_accounts.tenant.sql", "update users set email = 'x' where user_id = $1")
    assert not await recorded(admin, "9101_accounts.tenant.sql")


async def test_a_tenant_migration_waits_for_rows_that_others_hold(
    admin, database_url, app_url, system_url, tenants, said
):
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select from documents for update")
    pace = Pace(statement=0.2, pause=0.05, longest_pause=0.1, patience=60)
    runner = Runner(admin, (app_url, system_url), pace, said)
    task = asyncio.create_task(runner.apply("9100_names.tenant.sql", NAME))
    await said.until("others are in the way")
    await transaction.rollback()
    await other.close()
    assert await asyncio.wait_for(task, 60)
    assert await names(admin) == {"new"}


# Statements alone.


def test_statements_are_split():
    assert statements("-- a; b\nselect 1;\n\nselect 2 -- c\n;\n-- d\n") == ["select 1", "select 2"]
    assert statements("") == []


async def test_the_remains_of_an_index_are_replaced(admin, runner, tenants, said):
    """IF NOT EXISTS takes the invalid index of a broken-off run for the wanted one."""
    await admin.execute("create index documents_name on documents (user_id, name)")
    await admin.execute("update pg_index set indisvalid = false where indexrelid = 'documents_name'::regclass")
    sql = "create index concurrently if not exists documents_name on documents (user_id, name);"
    await admin.execute(sql)
    valid = "select indisvalid from pg_index where indexrelid = 'documents_name'::regclass"
    assert not await admin.fetchval(valid)
    assert await runner.apply("9100_index.concurrent.sql", sql)
    assert await admin.fetchval(valid)
    before = await admin.fetchval("select 'documents_name'::regclass::oid")
    assert await runner.apply("9101_index.concurrent.sql", sql)
    assert await admin.fetchval("select 'documents_name'::regclass::oid") == before
    assert await admin.fetchval("select current_user = session_user and current_setting('lock_timeout') = '0'")


async def test_a_unique_index_that_can_not_be_is_no_index_afterwards(admin, runner, tenants):
    sql = "create unique index concurrently if not exists documents_name on documents (user_id, name);"
    with pytest.raises(asyncpg.UniqueViolationError):
        await runner.apply("9100_index.concurrent.sql", sql)
    assert not await recorded(admin, "9100_index.concurrent.sql")
    await admin.execute("reset role; update documents set name = document_id::text")
    assert await runner.apply("9100_index.concurrent.sql", sql)
    assert await admin.fetchval("select indisvalid from pg_index where indexrelid = 'documents_name'::regclass")


# Locks.


async def test_a_long_transaction_makes_it_step_back_and_not_others_queue(
    database_url, admin, db, app_url, system_url, tenants, said
):
    """What waits for a lock makes everybody behind it wait: so it gives up soon, and comes again."""
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select count(*) from documents")
    runner = Runner(admin, (app_url, system_url), QUICK, said)
    task = asyncio.create_task(runner.apply("9100_later.sql", "alter table documents add column later text"))
    await said.until("others are in the way", times=3)
    for _ in range(20):  # somebody gets through between its tries
        async with db.tenant(tenants[0].user_id) as tx:
            assert await tx.fetchval("select count(*) from documents") == 3
    assert not task.done()
    await transaction.rollback()
    await other.close()
    assert await asyncio.wait_for(task, 60)
    assert await recorded(admin, "9100_later.sql")


async def test_without_a_bound_others_would_queue(database_url, admin, db, app_url, system_url, tenants):
    """What the bound is for: with a long one, a mere reader waits behind the migration."""
    other, watcher = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select count(*) from documents")
    runner = Runner(admin, (app_url, system_url), Pace(lock=60, statement=60))
    task = asyncio.create_task(runner.apply("9100_later.sql", "alter table documents add column later text"))

    async def read():
        async with db.tenant(tenants[0].user_id) as tx:
            return await tx.fetchval("select count(*) from documents"), tx.connection.get_server_pid()

    async def blocked(count):
        sql = (
            "select count(*) from pg_locks where not granted and relation = 'documents'::regclass"
            " and database = (select oid from pg_database where datname = current_database())"
        )
        async with asyncio.timeout(60):
            while await watcher.fetchval(sql) < count:
                await asyncio.sleep(0.01)

    await blocked(1)
    reader = asyncio.create_task(read())
    await blocked(2)
    assert not reader.done()
    await transaction.rollback()
    assert await asyncio.wait_for(task, 60)
    await asyncio.wait_for(reader, 60)
    await other.close()
    await watcher.close()


async def test_a_deadlock_is_the_migrations_loss(db, admin, app_url, system_url, tenants, said):
    """It has one table and waits for a second one, which a reader has who waits for the first."""
    runner = Runner(admin, (app_url, system_url), Pace(pause=0.05), said)
    sql = "alter table chunks add column later text; alter table documents add column later text"
    async with db.tenant(tenants[0].user_id) as tx:
        assert await tx.fetchval("select count(*) from documents") == 3
        task = asyncio.create_task(runner.apply("9100_later.sql", sql))
        await said.until("begins")
        while not said.lines[1:]:
            assert await tx.fetchval("select count(*) from chunks") == 9
        assert "others are in the way" in said.lines[1]
    assert await asyncio.wait_for(task, 60)


async def test_later_tries_are_firmer(database_url, admin, app_url, system_url, tenants, said):
    """Long enough for PostgreSQL to look into who is in the way, which ends an autovacuum."""
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select count(*) from documents")
    pace = Pace(lock=0.01, firm_lock=60, statement=90, pause=0.01, longest_pause=0.01)
    runner = Runner(admin, (app_url, system_url), pace, said)
    task = asyncio.create_task(runner.apply("9100_later.sql", "alter table documents add column later text"))
    await said.until("others are in the way", times=5)
    waits = "select count(*) = 1 from pg_locks where not granted and relation = 'documents'::regclass"
    async with asyncio.timeout(60):
        while not await other.fetchval(waits):
            await asyncio.sleep(0.01)
    await transaction.rollback()
    await other.close()
    assert await asyncio.wait_for(task, 60)
    assert sum("others are in the way" in line for line in said.lines) == 5


async def test_it_does_not_try_for_ever(database_url, admin, app_url, system_url, tenants):
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("lock table documents")
    runner = Runner(admin, (app_url, system_url), Pace(lock=0.05, pause=0.01, patience=0.3))
    with pytest.raises(Unavailable, match="migration_blocked"):
        await runner.apply("9100_later.sql", "alter table documents add column later text")
    await transaction.rollback()
    await other.close()
    assert not await recorded(admin, "9100_later.sql")


async def test_a_slow_statement_is_taken_back(admin, app_url, system_url):
    runner = Runner(admin, (app_url, system_url), Pace(statement=0.2))
    with pytest.raises(Unavailable, match="migration_slow"):
        await runner.apply("9100_later.sql", SLOW)
    assert not await recorded(admin, "9100_later.sql")
    assert "later" not in await admin.fetchval("select string_agg(attname, ' ') from pg_attribute")


async def test_a_changed_file_is_refused(admin, runner, tenants):
    assert await runner.apply("9100_names.tenant.sql", NAME)
    with pytest.raises(SetupError, match="migration_changed"):
        await runner.apply("9100_names.tenant.sql", NAME + " and true")


async def test_two_migrators_do_not_wait_for_each_other(database_url, admin, said):
    """One that waited in a statement would hold a snapshot, for whose end the other's CREATE INDEX would wait."""
    await two_tenants(admin)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("update chunks set number = number where false")
    first = asyncio.create_task(
        migrate(database_url, *PASSWORDS, wanted=[*scripts(), ("9100_i.concurrent.sql", INDEX)], pace=QUICK, say=said)
    )
    await said.until("create index")
    second = asyncio.create_task(migrate(database_url, *PASSWORDS, pace=QUICK, say=said))
    await said.until("waiting for another migration")
    await transaction.commit()
    await other.close()
    assert await asyncio.wait_for(first, 60) == ["9100_i.concurrent.sql"]
    assert await asyncio.wait_for(second, 60) == []


INDEX = "create index concurrently if not exists chunks_text on chunks (user_id, length(text))"

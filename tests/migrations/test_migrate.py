import asyncio
import socket
import sys
import uuid
from pathlib import Path

import asyncpg
import pytest

from ringfence import migrations
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.errors import SetupError, Unavailable
from ringfence.migrations import Runner, check, hold, migrate, migrator, scripts
from ringfence.migrations.forms import Pace
from ringfence.migrations.roles import LOCK, MIN_POSTGRES, fingerprint, prepare
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD, with_database
from tests.fakes.tcp_proxy import Proxy, tcp_proxy
from tests.migrations.later import EXAMPLES, LATER

ALL = [name for name, _ in scripts()]
# Roles belong to the whole server, so every test must set the same passwords.
PASSWORDS = (APP_PASSWORD, SYSTEM_PASSWORD)
PROCESS = """
import asyncio, sys
from ringfence.migrations import migrate
print(*asyncio.run(migrate(*sys.stdin.read().splitlines())))
"""


@pytest.fixture
async def role(server_url, empty_url):
    """A login role of this test alone, with nothing but what the test gives it; password "p"."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(empty_url)
    await admin.execute(f"create role {name} login password 'p'")
    yield name
    await admin.execute(f"reassign owned by {name} to current_user; drop owned by {name}; drop role {name}")
    await admin.close()


async def refusal(attempt):
    with pytest.raises(SetupError) as caught:
        await attempt
    return caught.value.code


async def until(connection, question, *args):
    """Ask the server until it says true."""
    async with asyncio.timeout(20):
        while not await connection.fetchval(question, *args):
            await asyncio.sleep(0.01)


def test_scripts_come_in_order():
    assert ALL
    assert sorted(ALL) == ALL
    assert all(name.endswith(".sql") and sql for name, sql in scripts())


async def test_migrate_applies_each_script_once(empty_url, empty):
    assert await migrate(empty_url, *PASSWORDS) == ALL
    first = await empty.fetch("select name, sha256, applied_at from migrations order by name")
    assert [row["name"] for row in first] == ALL
    assert await migrate(empty_url, *PASSWORDS) == []
    assert await empty.fetch("select name, sha256, applied_at from migrations order by name") == first
    urls = role_url(empty_url, APP_ROLE, APP_PASSWORD), role_url(empty_url, SYSTEM_ROLE, SYSTEM_PASSWORD)
    database = Database(*urls, DatabaseOptions(connect_timeout=30, command_timeout=30))
    await database.open()
    await database.close()


async def test_four_processes_that_start_together(empty_url):
    async def start():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate("\n".join((empty_url, *PASSWORDS)).encode())
        return process.returncode, out.decode().split()

    results = await asyncio.gather(*(start() for _ in range(4)))
    assert [code for code, _ in results] == [0] * 4
    assert sorted(name for _, names in results for name in names) == ALL


async def test_a_changed_script_is_refused(database_url, admin):
    await admin.execute("update migrations set sha256 = '\\x00'")
    assert await refusal(migrate(database_url, *PASSWORDS)) == "migration_changed"


async def test_a_script_that_fails_leaves_nothing(admin, app_url, system_url):
    runner = Runner(admin, (app_url, system_url))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await runner.apply("9999_bad.sql", "create table bad (); select 1 / 0;")
    assert await admin.fetchval("select to_regclass('bad')") is None
    assert await admin.fetchval("select count(*) from migrations where name = '9999_bad.sql'") == 0
    assert await runner.apply("9999_good.sql", "create table good ();")
    assert await admin.fetchval("select pg_get_userbyid(relowner) from pg_class where relname = 'good'") == (
        "ringfence_owner"
    )
    assert not await runner.apply("9999_good.sql", "create table good ();")


# The server.


async def test_an_old_postgresql_is_refused(empty):
    assert await refusal(prepare(empty, {}, min_postgres=990000)) == "postgres_too_old"
    assert await empty.fetchval("select count(*) from pg_extension where extname = 'vector'") == 0
    assert MIN_POSTGRES == 160000


@pytest.mark.parametrize("version", ["0.8.1", "0.7.4"])
async def test_an_old_pgvector_is_refused(database_url, admin, version):
    await admin.execute("update pg_extension set extversion = $1 where extname = 'vector'", version)
    assert await refusal(migrate(database_url, *PASSWORDS)) == "pgvector_too_old"


@pytest.mark.parametrize("version", ["0.8.2", "0.8.10", "0.10.0", "1.0.0"])
async def test_a_newer_pgvector_is_fine(database_url, admin, version):
    await admin.execute("update pg_extension set extversion = $1 where extname = 'vector'", version)
    assert await migrate(database_url, *PASSWORDS) == []


FAIL_AT_EXTENSION = """
create function fail() returns event_trigger language plpgsql as $$
begin raise exception 'no luck' using errcode = '{}'; end $$;
create event trigger fail on ddl_command_start when tag in ('CREATE EXTENSION') execute function fail();
"""


async def test_a_missing_pgvector_is_refused(empty_url, empty):
    """A server without the extension's files answers with this code."""
    await empty.execute(FAIL_AT_EXTENSION.format("0A000"))
    assert await refusal(migrate(empty_url, *PASSWORDS)) == "pgvector_missing"


async def test_a_closed_port_is_an_outage():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable):
            await migrate(f"postgresql://a:b@127.0.0.1:{closed.getsockname()[1]}/c", *PASSWORDS)


async def test_a_server_lost_midway_is_an_outage(empty_url, empty, said):
    async with tcp_proxy(empty_url) as proxy:
        await empty.execute("select pg_advisory_lock($1)", LOCK)
        task = asyncio.create_task(migrate(proxy.url(empty_url), *PASSWORDS, say=said))
        await said.until("waiting for another migration")
        await proxy.cut()
        with pytest.raises(Unavailable):
            await task


# Alone.


async def test_it_waits_for_another_migration_and_not_for_ever(empty_url, empty, said):
    await empty.execute("select pg_advisory_lock($1)", LOCK)
    with pytest.raises(Unavailable, match="migration_running"):
        await migrate(empty_url, *PASSWORDS, pace=Pace(patience=0.1))
    task = asyncio.create_task(migrate(empty_url, *PASSWORDS, say=said))
    await said.until("waiting for another migration")
    await empty.execute("select pg_advisory_unlock($1)", LOCK)
    assert await asyncio.wait_for(task, 60) == ALL
    assert sum("waiting" in line for line in said.lines) == 1


async def test_who_holds_keeps_migrations_out(database_url, db):
    async with db.system() as tx, db.system() as other:
        await hold(tx)
        await hold(other)
        with pytest.raises(Unavailable, match="migration_running"):
            await migrate(database_url, *PASSWORDS, pace=Pace(patience=0.1))
    async with migrator(database_url, *PASSWORDS), db.system() as tx:
        with pytest.raises(Unavailable, match="migration_running"):
            await hold(tx)
    assert await migrate(database_url, *PASSWORDS) == []


class Pooler(Proxy):
    """Says a process id of its own, as pgbouncer does."""

    async def _pump(self, source, sink):
        key = b"K\0\0\0\x0c"
        while data := await source.read(65536):
            place = data.find(key) + len(key)
            sink.write(data[:place] + b"\0\0\0\7" + data[place + 4 :] if key in data else data)
            await sink.drain()


async def test_a_pooler_is_refused(database_url):
    pooler = Pooler(database_url)
    await pooler.restore()
    try:
        assert await refusal(migrate(pooler.url(database_url), *PASSWORDS)) == "database_pooled"
    finally:
        await pooler.cut()


# What an engine finds.


async def test_a_schema_that_is_behind_is_refused_and_one_ahead_is_not(db, admin):
    async with db.system() as tx:
        assert await check(tx) == []
        with pytest.raises(SetupError, match=f"{len(EXAMPLES)} to apply, from {EXAMPLES[0][0]} on") as caught:
            await check(tx, LATER)
        assert caught.value.code == "not_migrated"
        assert await check(tx, []) == ALL
    await admin.execute("insert into migrations (name, sha256) values ('9999_new.sql', '')")
    async with db.system() as tx:
        assert await check(tx) == ["9999_new.sql"]


async def test_wrong_logins_are_refused(empty_url):
    for url in (
        role_url(empty_url, "postgres", "wrong"),
        role_url(empty_url, "nobody_at_all", "wrong"),
        with_database(empty_url, "no_such_database"),
        "mysql://a:b@127.0.0.1/c",
    ):
        assert await refusal(migrate(url, *PASSWORDS)) == "database_login"


# Rights.


async def test_a_role_without_rights_is_refused(empty_url, role):
    assert await refusal(migrate(role_url(empty_url, role, "p"), *PASSWORDS)) == "database_rights"


async def test_an_administrator_that_is_no_superuser_suffices(empty_url, empty, role):
    """As managed services give it: it owns the database, may create roles, and has the rights of their creator."""
    await empty.execute(f"alter role {role} createrole; create extension vector")
    await empty.execute(f"alter database {await empty.fetchval('select current_database()')} owner to {role}")
    # What PostgreSQL grants to the creator of a role; these roles exist already, in the whole server.
    await empty.execute(
        f"grant ringfence_owner, {APP_ROLE}, {SYSTEM_ROLE} to {role} with admin true, inherit false, set false"
    )
    assert not await empty.fetchval("select rolsuper or rolbypassrls from pg_roles where rolname = $1", role)
    assert await migrate(role_url(empty_url, role, "p"), *PASSWORDS) == ALL
    assert await migrate(role_url(empty_url, role, "p"), *PASSWORDS) == []
    assert await empty.fetchval("select count(*) from pg_tables where tableowner = 'ringfence_owner'") > 0


async def test_it_may_make_the_roles_itself(empty_url, empty, role):
    await empty.execute(f"alter role {role} createrole; create extension vector")
    await empty.execute(f"alter database {await empty.fetchval('select current_database()')} owner to {role}")
    await empty.execute(f"grant ringfence_owner to {role} with admin true, inherit false, set false")
    connection = await asyncpg.connect(role_url(empty_url, role, "p"))
    try:
        await prepare(connection, {f"{role}_new": "one"})
        assert await refusal(prepare(connection, {f"{role}_new": "two"})) == "other_secret"
        await prepare(connection, {f"{role}_new": 'it\'s "two" \\'}, new_secret=True)
        await prepare(connection, {f"{role}_new": 'it\'s "two" \\'})
        login = await asyncpg.connect(role_url(empty_url, f"{role}_new", 'it\'s "two" \\'))
        await login.close()
    finally:
        await connection.close()
        await empty.execute(f"drop role if exists {role}_new")


async def test_bypassrls_is_taken_away(empty, role):
    await empty.execute(f"alter role {role} bypassrls")
    await prepare(empty, {role: "p"})
    assert not await empty.fetchval("select rolbypassrls from pg_roles where rolname = $1", role)


# Several installations on one server.


async def test_another_installations_passwords_stay(empty_url, database_url, app_url):
    await migrate(database_url, *PASSWORDS)
    for theirs in (("other", SYSTEM_PASSWORD), (APP_PASSWORD, "other"), ("other", "another")):
        assert await refusal(migrate(empty_url, *theirs)) == "other_secret"
    await (await asyncpg.connect(app_url)).close()
    assert await migrate(empty_url, *PASSWORDS, new_secret=True) == ALL  # the same secret is no new one


async def test_a_role_of_before_is_taken_over(empty, role):
    await empty.execute(f"comment on role {role} is 'as the DBA had it'")
    await prepare(empty, {role: "p"})
    mark = await empty.fetchval("select shobj_description(oid, 'pg_authid') from pg_roles where rolname = $1", role)
    assert mark == f"ringfence password {fingerprint(role, 'p')}"
    assert await refusal(prepare(empty, {role: "q"})) == "other_secret"


def test_a_fingerprint_tells_passwords_and_roles_apart():
    marks = {fingerprint(role, password) for role in ("a", "b") for password in ("p", "q")}
    assert len(marks) == 4
    assert fingerprint("a", "p") in marks


# Several databases of one server at once: the lock is each database's own, the roles are not.


@pytest.mark.parametrize("there", [True, False])
async def test_a_race_for_a_role_is_run_again(empty_url, empty, database_url, admin, role, there):
    name = role if there else f"{role}_new"
    transaction = empty.transaction()
    await transaction.start()
    await empty.execute(f"alter role {name} password 'q'" if there else f"create role {name}")
    pid = admin.get_server_pid()
    task = asyncio.create_task(prepare(admin, {name: "mine"}))
    await until(empty, "select cardinality(pg_blocking_pids($1)) > 0", pid)
    await transaction.commit()
    try:
        await asyncio.wait_for(task, 20)
        login = await asyncpg.connect(role_url(database_url, name, "mine"))
        await login.close()
    finally:
        if not there:
            await empty.execute(f"drop role {name}")


async def test_a_server_that_always_fails_is_not_asked_for_ever(empty):
    await empty.execute(FAIL_AT_EXTENSION.format("XX000"))
    with pytest.raises(asyncpg.InternalServerError):
        await asyncio.wait_for(prepare(empty, {}), 20)


def test_the_runner_stays_small():
    for file in Path(migrations.__file__).parent.glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 250, file

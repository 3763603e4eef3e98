import asyncio
import socket
import time
import uuid
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
import pytest

from ringfence.db import (
    APP_ROLE,
    Database,
    DatabaseOptions,
    SystemTx,
    TenantTx,
    connectable,
    decode_halfvec,
    encode_halfvec,
    role_url,
)
from ringfence.errors import SetupError, Unavailable
from ringfence.ids import new_document_id, new_user_id
from tests.conftest import APP_PASSWORD, with_database
from tests.fakes.tcp_proxy import tcp_proxy

LIMIT = 5.0  # seconds in which a request must fail when the database is down
PATIENT = DatabaseOptions(connect_timeout=30, command_timeout=30)


@asynccontextmanager
async def fails_soon(error=Unavailable):
    """The block raises within the limit."""
    start = time.monotonic()
    with pytest.raises(error) as caught:
        yield caught
    assert time.monotonic() - start < LIMIT


@asynccontextmanager
async def opened(*args):
    database = Database(*args)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def until(question, *args):
    """Ask until the answer is yes."""
    async with asyncio.timeout(20):
        while not await question(*args):
            await asyncio.sleep(0.01)


async def add_user(database):
    user_id = new_user_id()
    async with database.system() as tx:
        count = await tx.execute(
            "insert into users (user_id, email, email_key, password_hash) values ($1, $2, $2, 'x')",
            user_id,
            f"{user_id}@example.org",
        )
    assert count == 1
    return user_id


async def lives(database):
    await database.check()
    async with database.tenant(new_user_id()) as tx:
        assert await tx.fetchval("select 1") == 1


# Who may serve.


@pytest.fixture
async def stranger(database_url, admin):
    """The URL of a login role of this test alone; `{}` in the SQL of `make` is its name."""
    name = f"test_{uuid.uuid4().hex}"

    async def make(sql=""):
        await admin.execute(f"create role {name} login password 'p'; {sql.replace('{}', name)}")
        return role_url(database_url, name, "p")

    yield make
    await admin.execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize("place", ["app", "system"])
async def test_a_superuser_is_refused(database_url, app_url, system_url, place):
    urls = {"app_url": app_url, "system_url": system_url, f"{place}_url": database_url}
    database = Database(**urls, options=PATIENT)
    with pytest.raises(SetupError) as caught:
        await database.open()
    assert caught.value.code == "unsafe_role"
    await database.close()


@pytest.mark.parametrize(
    "sql",
    [
        "alter role {} bypassrls",
        "grant ringfence_owner to {}",
        "grant create on schema public to {}; create table {} (); alter table {} owner to {}",
        "alter role {} set role = 'ringfence_app'; grant ringfence_app to {}",
        "create role {}_boss bypassrls; grant {}_boss to {} with inherit false",
    ],
)
async def test_a_role_that_row_level_security_would_not_hold_is_refused(stranger, admin, system_url, sql):
    url = await stranger(sql)
    database = Database(url, system_url, PATIENT)
    try:
        with pytest.raises(SetupError) as caught:
            await database.open()
        assert caught.value.code == "unsafe_role"
    finally:
        await database.close()
        for row in await admin.fetch("select rolname from pg_roles where rolname like 'test\\_%\\_boss'"):
            if f"/{row[0]}" in url or row[0].removesuffix("_boss") in url:
                await admin.execute(f"drop role {row[0]}")


async def test_any_harmless_role_may_serve(stranger, system_url):
    async with opened(await stranger(), system_url, PATIENT) as database:
        await lives(database)


async def test_a_database_that_was_never_migrated_is_refused(server_url):
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"create database {name}")
    try:
        url = role_url(with_database(server_url, name), APP_ROLE, APP_PASSWORD)
        database = Database(url, url, PATIENT)
        with pytest.raises(SetupError) as caught:
            await database.open()
        assert caught.value.code == "not_migrated"
        await database.close()
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


@pytest.mark.usefixtures("template")
async def test_wrong_logins_are_refused(server_url, app_url):
    for url in (
        role_url(app_url, APP_ROLE, "wrong"),
        role_url(app_url, "nobody_at_all", "wrong"),
        with_database(app_url, "no_such_database"),
    ):
        database = Database(url, url, PATIENT)
        with pytest.raises(SetupError) as caught:
            await database.open()
        assert caught.value.code == "database_login"
        assert APP_PASSWORD not in str(caught.value)
        await database.close()


SOCKET = "postgresql:///postgres?host=/run/with space&port=5433"


@pytest.mark.parametrize(
    ("admin_url", "expected"),
    [
        ("postgresql://boss:pw@db:5433/rag?sslmode=require", "postgresql://app:a%2Fb%40c%3A@db:5433/rag?sslmode=require"),
        ("postgres://boss:p%40w@[::1]/rag", "postgres://app:a%2Fb%40c%3A@[::1]/rag"),
        ("postgresql://db/rag", "postgresql://app:a%2Fb%40c%3A@db/rag"),
        ("postgresql://b:p@h1:1,h2:2/rag", "postgresql://app:a%2Fb%40c%3A@h1:1,h2:2/rag"),
        ("postgresql://b:p@%2Frun%2Fpg/rag", "postgresql://app:a%2Fb%40c%3A@%2Frun%2Fpg/rag"),
        ("postgresql://b:p@/rag?host=/run/pg&port=1", "postgresql://app:a%2Fb%40c%3A@/rag?host=/run/pg&port=1"),
        (SOCKET, "postgresql://app:a%2Fb%40c%3A@/postgres?host=/run/with space&port=5433"),
    ],
)  # fmt: skip
def test_role_url_changes_the_login_and_nothing_else(admin_url, expected):
    assert role_url(admin_url, "app", "a/b@c:") == expected


async def test_role_url_carries_any_password(stranger, admin):
    password = "p@ss:w/o?r#d %&+ü=\\"
    url = await stranger()
    name = url.partition("//")[2].partition(":")[0]
    await admin.execute(
        await admin.fetchval("select format('alter role %I password %L', $1::text, $2::text)", name, password)
    )
    connection = await asyncpg.connect(role_url(url, name, password))
    assert await connection.fetchval("select current_user") == name
    await connection.close()


# Transactions.


async def test_a_tenants_transaction_commits(db, admin):
    user_id = await add_user(db)
    async with db.tenant(user_id) as tx:
        assert isinstance(tx, TenantTx)
        assert tx.user_id == user_id
        await tx.executemany(
            "insert into documents (user_id, document_id, name, media_type, size, sha256)"
            " values ($1, $2, $3, 'x', 1, $4)",
            [(user_id, new_document_id(), f"{n}", bytes([n]) * 32) for n in range(3)],
        )
        assert await tx.execute("update documents set name = name || '!'") == 3
        assert await tx.execute("set local work_mem = '4MB'") == 0
    async with db.tenant(user_id) as tx:
        assert [row["name"] for row in await tx.fetch("select name from documents order by 1")] == ["0!", "1!", "2!"]
        assert (await tx.fetchrow("select count(*) as n from documents"))["n"] == 3
        assert await tx.fetchrow("select from documents where name = 'x'") is None
        assert await tx.fetchval("select name from documents where name = 'x'") is None


async def test_an_error_rolls_back(db, admin):
    async def use():
        async with db.system() as tx:
            assert isinstance(tx, SystemTx)
            await tx.execute("update job_clock set value = 77")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert await admin.fetchval("select value from job_clock") == 0


async def test_a_defect_in_sql_or_arguments_is_no_outage(db):
    for sql, argument, error in (
        ("select $1::int", "x", asyncpg.DataError),
        ("select $1::int from nowhere", 1, asyncpg.UndefinedTableError),
        ("select 1 / $1::int", 0, asyncpg.DivisionByZeroError),
    ):
        with pytest.raises(error):
            async with db.system() as tx:
                await tx.fetch(sql, argument)
    await lives(db)


async def test_a_failed_commit_is_told(db, admin):
    """A deferred constraint speaks at COMMIT."""
    await admin.execute("alter table jobs alter constraint jobs_user_id_fkey deferrable initially deferred")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with db.system() as tx:
            await tx.execute("insert into jobs (user_id, kind, payload, tag) values ($1, 'k', '{}', 1)", new_user_id())
    await lives(db)


async def test_transactions_without_a_statement_cache(app_url, system_url):
    async with opened(app_url, system_url, DatabaseOptions(1, 30, 30, statement_cache=0)) as database:
        for _ in range(3):
            await lives(database)
        async with database._app.acquire() as connection:
            assert await connection.fetchval("select count(*) from pg_prepared_statements") == 0


async def test_halfvec_travels_in_binary(db):
    random = np.random.default_rng(7)
    rows = [
        np.array([65504, -65504, 6.1e-5, 5.96e-8, 0, -0.0, 1 / 3], dtype=np.float32),
        random.standard_normal(4000).astype(np.float32),
        np.array([0.5], dtype=np.float64),
    ]
    async with db.tenant(new_user_id()) as tx:
        for row in rows:
            half = row.astype(np.float16).astype(np.float32)
            text = await tx.fetchval("select $1::halfvec::text", row)
            assert np.array_equal(np.array(text.strip("[]").split(","), dtype=np.float32), half)
            back = await tx.fetchval("select $1::text::halfvec", text)
            assert back.dtype == np.float32
            assert np.array_equal(back, half)
            assert np.array_equal(decode_halfvec(encode_halfvec(row)), half)
        two = [encode_halfvec(row) for row in (rows[0], rows[2])]
        back = await tx.fetchval("select $1::halfvec[]", two)
        assert [encode_halfvec(row) for row in back] == two


# Outages.


@pytest.fixture
async def proxy(database_url):
    async with tcp_proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy, app_url, system_url):
    """A database with the default limits, behind the proxy, both pools warm."""
    async with opened(proxy.url(app_url), proxy.url(system_url), DatabaseOptions()) as database:
        await lives(database)
        yield database
        proxy.release()


async def test_a_closed_port_is_an_outage(app_url):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://a:b@127.0.0.1:{closed.getsockname()[1]}/c"
        database = Database(url, url, DatabaseOptions())
        async with fails_soon() as caught:
            await database.open()
        assert caught.value.code == "database_unavailable"
        async with fails_soon(), database.tenant(new_user_id()):
            raise AssertionError
        async with fails_soon(), database.listen("jobs"):
            raise AssertionError
        await database.close()


async def test_a_black_hole_is_an_outage(proxy, app_url, system_url):
    proxy.hold()
    database = Database(proxy.url(app_url), proxy.url(system_url), DatabaseOptions())
    for attempt in (database.open, database.check):
        async with fails_soon():
            await attempt()
    async with fails_soon(), database.system():
        raise AssertionError
    async with fails_soon(), database.listen("jobs"):
        raise AssertionError
    await database.close()


async def test_a_silent_server_fails_each_use_in_time_and_recovers(through, proxy):
    proxy.hold()
    async with fails_soon():
        await through.check()
    async with fails_soon(), through.tenant(new_user_id()):
        raise AssertionError
    proxy.release()
    await lives(through)


async def test_silence_within_a_transaction(through, proxy):
    async with fails_soon(), through.tenant(new_user_id()) as tx:
        proxy.hold()
        await tx.fetch("select 1")
    proxy.release()
    await lives(through)


async def test_silence_at_the_commit(through, proxy):
    async with fails_soon(), through.system() as tx:
        await tx.fetch("select 1")
        proxy.hold()
    proxy.release()
    await lives(through)


async def test_silence_at_the_rollback_keeps_the_cause(through, proxy):
    async with fails_soon(ZeroDivisionError), through.system():
        proxy.hold()
        raise ZeroDivisionError
    proxy.release()
    await lives(through)


@pytest.mark.parametrize("sql", ["select 1", None])
async def test_cancelled_in_silence(through, proxy, sql):
    """Cancelled within a statement, or within BEGIN (None): the cancellation is what comes out."""
    inside = asyncio.Event()

    async def use():
        if sql is None:
            proxy.hold()
            inside.set()
        async with through.system() as tx:
            proxy.hold()
            inside.set()
            await tx.fetch(sql)

    task = asyncio.create_task(use())
    await inside.wait()
    await asyncio.sleep(0)
    task.cancel()
    async with fails_soon(asyncio.CancelledError):
        await task
    proxy.release()
    await lives(through)


async def test_cancelled_in_begin_nobody_inherits_the_transaction(through, proxy):
    """The server may have begun one. The pool gets a new connection, and nothing is left for asyncpg to complain of."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    async with through.system() as tx:
        before = await tx.fetchval("select pg_backend_pid()")

    async def use():
        async with through.system():
            raise AssertionError

    proxy.hold()
    task = asyncio.create_task(use())
    await asyncio.sleep(0)
    task.cancel()
    proxy.release()
    async with fails_soon(asyncio.CancelledError):
        await task
    async with through.system() as tx:
        assert await tx.fetchval("select pg_backend_pid()") != before
    assert complaints == []


async def test_cancelled_at_the_rollback(through, proxy):
    """A cancellation that arrives while an error is rolled back is not lost."""
    inside = asyncio.Event()

    async def use():
        async with through.system():
            proxy.hold()
            inside.set()
            raise ZeroDivisionError

    task = asyncio.create_task(use())
    await inside.wait()
    await asyncio.sleep(0)
    task.cancel()
    async with fails_soon(asyncio.CancelledError):
        await task
    proxy.release()
    await lives(through)


async def test_a_lost_server_is_an_outage_until_it_returns(through, proxy):
    async with fails_soon(), through.tenant(new_user_id()) as tx:
        await proxy.cut()
        await tx.fetch("select 1")
    async with fails_soon():
        await through.check()
    await proxy.restore()
    await lives(through)


async def test_a_connection_lost_at_the_commit(through, proxy):
    async with fails_soon(), through.system() as tx:
        await tx.fetch("select 1")
        await proxy.cut()
    await proxy.restore()
    await lives(through)


async def test_a_connection_lost_before_an_error_keeps_the_cause(through, proxy):
    async with fails_soon(ZeroDivisionError), through.system():
        await proxy.cut()
        raise ZeroDivisionError
    await proxy.restore()
    await lives(through)


async def test_a_connection_that_the_server_ends(db, admin):
    async with fails_soon(), db.system() as tx:
        pid = await tx.fetchval("select pg_backend_pid()")
        await admin.execute("select pg_terminate_backend($1)", pid)
        await tx.fetch("select pg_sleep(25)")
    await lives(db)


async def asleep(admin):
    return await admin.fetchval(
        "select count(*) from pg_stat_activity where query like '%pg_sleep(25)' and datname = current_database()"
    )


async def test_a_slow_statement_is_cancelled_in_the_server(app_url, system_url):
    async with opened(app_url, system_url, DatabaseOptions(1, 30, 1.0)) as database:
        pids = []
        async with fails_soon(), database.system() as tx:
            pids.append(await tx.fetchval("select pg_backend_pid()"))
            await tx.fetch("select pg_sleep(25)")
        async with database.system() as tx:
            assert await tx.fetchval("select pg_backend_pid()") in pids  # the pool's one connection is still good


async def test_cancellation_leaves_the_pool_usable(app_url, system_url, admin):
    async with opened(app_url, system_url, DatabaseOptions(1, 30, 30)) as database:

        async def use():
            async with database.system() as tx:
                await tx.execute("update job_clock set value = 99")
                await tx.fetch("select pg_sleep(25)")

        for _ in range(3):
            task = asyncio.create_task(use())
            await until(asleep, admin)
            task.cancel()
            async with fails_soon(asyncio.CancelledError):
                await task
            async with database.system() as tx:
                assert await tx.fetchval("select value from job_clock") == 0


async def test_an_exhausted_pool_is_an_outage(app_url, system_url):
    options = DatabaseOptions(1, 1.0, 30)
    async with opened(app_url, system_url, options) as database, database.system(), fails_soon(), database.system():
        raise AssertionError


# Closing and listening.


async def test_close_waits_a_moment_for_connections_in_use(app_url, system_url):
    database = Database(app_url, system_url, DatabaseOptions(2, 30, 1.0))
    await database.open()
    inside = asyncio.Event()

    async def use():
        async with database.system() as tx:
            inside.set()
            await asyncio.Event().wait()
            await tx.fetch("select 1")

    task = asyncio.create_task(use())
    await inside.wait()
    async with asyncio.timeout(20):
        await database.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Unavailable):
        async with database.system():
            raise AssertionError


async def test_close_twice(app_url, system_url):
    async with opened(app_url, system_url, PATIENT) as database:
        await database.close()


async def test_close_before_a_silent_server(through, proxy):
    proxy.hold()
    async with asyncio.timeout(20):
        await through.close()


async def test_listen_hears_notify(db, admin):
    async with db.listen("jobs") as event:
        assert not event.is_set()
        await admin.execute("notify jobs")
        await asyncio.wait_for(event.wait(), 20)
        event.clear()
        await admin.execute("notify other")
        await admin.execute("notify jobs, 'x'")
        await asyncio.wait_for(event.wait(), 20)
    sql = "select count(*) = 0 from pg_stat_activity where query ilike 'listen%' and datname = current_database()"
    await until(admin.fetchval, sql)


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        (
            "postgresql://a:b@h.neon.tech/d?sslmode=require&channel_binding=require",
            "postgresql://a:b@h.neon.tech/d?sslmode=require",
        ),
        ("postgres://a@/d?host=/run/pg&port=5433", "postgres://a@/d?host=%2Frun%2Fpg&port=5433"),
        ("postgresql://a:b@[::1]:5432/d", "postgresql://a:b@[::1]:5432/d"),
    ],
)
def test_what_only_libpq_understands_is_left_out(url, cleaned):
    assert connectable(url) == cleaned


@pytest.mark.parametrize(
    "url", ["postgresql://a:secret@h:port/d", "postgresql://[::1/d", "mysql://h/d", "", "postgresql://h:0/d"]
)
def test_a_malformed_url_is_said_without_its_password(url):
    with pytest.raises(SetupError, match="database_login") as caught:
        connectable(url)
    assert "secret" not in str(caught.value)

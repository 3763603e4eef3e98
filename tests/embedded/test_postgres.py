"""The embedded PostgreSQL, with real servers: start, share, kill."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest

from ringfence.embedded import postgres
from ringfence.embedded.postgres_cluster import nobody, ways
from ringfence.embedded.postgres_exec import NAMESPACE, USER
from ringfence.embedded.postgres_guard import EXEC, Layout, exec_prefix, leftovers, read_state
from tests.embedded.postgres_tools import (
    IS_ROOT,
    busy_backend,
    client,
    folder,
    is_absent,
    is_free,
    is_gone,
    mode,
    names,
    owner,
    query,
    refusal,
    succeeds,
    until,
)


async def test_makes_a_private_server_that_keeps_its_data(empty: Path) -> None:
    data_dir = empty / "new" / "data"
    async with await postgres.start(data_dir) as server:
        assert server.owned
        assert await query(server.url, "create extension vector") is None
        assert await query(server.url, "select '[1,2]'::halfvec(2)::text") == "[1,2]"
        assert await query(server.url, "show listen_addresses") == ""
        assert await query(server.url, "show fsync") == "on"
        assert await query(server.url, "show jit") == "off"
        assert await query(server.url, "show data_checksums") == "on"
        assert await query(server.url, "show server_encoding") == "UTF8"
        await query(server.url, "create table kept as select 42 as n")
    assert is_gone(data_dir)
    assert mode(data_dir) == mode(data_dir / "postgres") == 0o700
    assert mode(data_dir / "postgres/password") == 0o600
    async with await postgres.start(data_dir, config={"work_mem": "7MB", "listen_addresses": "*"}) as server:
        assert server.owned
        assert await query(server.url, "select n from kept") == 42
        assert await query(server.url, "show work_mem") == "7MB"
        assert await query(server.url, "show listen_addresses") == ""
    await server.stop()


async def test_asks_everybody_for_the_password(made: Path) -> None:
    async with await postgres.start(made) as server:
        password = (made / "postgres/password").read_text().strip()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(server.url.replace(password, "wrong"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(server.url.replace(f":{password}@", ":@"))
        methods = "select string_agg(distinct auth_method, ',') from pg_hba_file_rules"
        assert await query(server.url, methods) == "scram-sha-256"
        stored = "select rolpassword ^@ 'SCRAM-SHA-256$' from pg_authid where rolname = 'postgres'"
        assert await query(server.url, stored) is True


async def test_the_log_holds_no_data(made: Path) -> None:
    async with await postgres.start(made) as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("create table t (x text primary key)")
        await connection.execute("insert into t values ('sesame')")
        for sql in ("insert into t values ($1)", "select $1::text::int", "select 'sesame'::text || $1::text::int"):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(sql, "sesame")
        await connection.execute("do $$ begin raise warning 'sesame'; end $$")
        await connection.close()
    log = (made / "postgres/server.log").read_text()
    assert "ready to accept connections" in log
    assert "sesame" not in log


async def test_a_share_keeps_the_server_until_the_last_is_given_back(made: Path) -> None:
    first = await postgres.start(made)
    second = await postgres.start(made)
    assert (first.owned, second.owned, second.pid, second.url) == (True, False, first.pid, first.url)
    await first.stop()
    assert await query(second.url) == 1
    third = await postgres.start(made)
    await third.stop()
    assert await query(second.url) == 1
    await second.stop()
    await second.stop()
    assert is_gone(made)


async def test_a_new_user_waits_while_the_server_is_stopped(made: Path) -> None:
    server = await postgres.start(made)
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)  # lets it take the lock
    async with await postgres.start(made) as again:
        assert stopping.done()
        assert again.owned
        assert again.pid != server.pid
        assert await query(again.url) == 1


async def test_four_processes_start_one_server_which_ends_with_the_last(empty: Path) -> None:
    with client(empty) as a, client(empty) as b, client(empty) as c, client(empty) as d:
        clients = [a, b, c, d]
        reports = [await each.report() for each in clients]
        assert len({report["pid"] for report in reports}) == 1
        assert sorted(bool(report["owned"]) for report in reports) == [False, False, False, True]
        url = str(reports[0]["url"])
        starter = next(each for each, report in zip(clients, reports, strict=True) if report["owned"])
        clients.remove(starter)
        starter.kill()
        assert await clients[0].leave() == 0
        clients[1].kill()
        assert await query(url) == 1
        clients[2].kill()
        await until(lambda: is_gone(empty), 10)
    async with await postgres.start(empty) as server:
        assert server.owned


async def test_a_killed_server_comes_back(made: Path) -> None:
    async with await postgres.start(made) as server:
        await query(server.url, "create table kept as select 42 as n")
        async with busy_backend(server.url) as orphan:
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: (state := read_state(Layout(made))) and state.postgres != server.pid)
            assert orphan not in leftovers(Layout(made).cluster)
        assert await query(server.url, "select n from kept") == 42
    assert is_gone(made)


async def test_a_killed_guard_takes_its_server_along(made: Path) -> None:
    server = await postgres.start(made)
    state = read_state(Layout(made))
    assert state
    os.kill(state.guard, signal.SIGKILL)
    await until(lambda: is_gone(made) and is_free(made / "postgres.guard"), 10)
    async with await postgres.start(made) as again:
        assert again.owned
        assert await query(again.url) == 1
        await server.stop()
        assert await query(again.url) == 1


async def test_recovers_when_guard_and_server_are_killed_at_once(made: Path) -> None:
    server = await postgres.start(made)
    state = read_state(Layout(made))
    assert state
    async with busy_backend(server.url) as orphan:
        os.kill(state.guard, signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: is_free(made / "postgres.guard"))
        async with await postgres.start(made) as again:
            assert again.owned
            assert orphan not in leftovers(Layout(made).cluster)
            assert await query(again.url) == 1
    await server.stop()


async def test_a_stale_process_id_that_is_somebody_elses_does_not_matter(made: Path) -> None:
    (made / "postgres/data/postmaster.pid").write_text(f"{os.getppid()}\n{made}\n")
    (made / "postgres/.s.PGSQL.5432.lock").write_text(f"{os.getppid()}\n{made}\n")
    async with await postgres.start(made) as server:
        assert await query(server.url) == 1


async def test_a_client_killed_while_it_makes_the_cluster_leaves_nothing_half(empty: Path) -> None:
    with client(empty) as victim:
        await until(lambda: [*empty.glob("postgres.init-*/data/PG_VERSION")])
        victim.kill()
    assert not (empty / "postgres").exists()
    async with await postgres.start(empty) as server:
        assert await query(server.url) == 1
    assert names(empty) == ["postgres", "postgres.guard", "postgres.users"]


async def test_a_cancelled_start_leaves_nothing(empty: Path) -> None:
    starting = asyncio.create_task(postgres.start(empty))
    await until(lambda: [*empty.glob("postgres.init-*/data/PG_VERSION")])
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert names(empty) == ["postgres.guard", "postgres.users"]
    async with await postgres.start(empty) as server:
        assert server.owned


@pytest.mark.skipif(not IS_ROOT, reason="the other tests already run as a normal user")
async def test_works_for_a_normal_user(empty: Path) -> None:
    with client(empty, *exec_prefix(NAMESPACE, signal.SIGKILL)) as user:
        report = await user.report()
        assert report["uid"] != 0
        assert await query(str(report["url"])) == 1
        user.kill()
        await until(lambda: is_gone(empty), 10)


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
async def test_runs_as_nobody_where_root_may_not_have_namespaces(empty: Path) -> None:
    uid, gid = nobody()
    if not succeeds(postgres.find_binaries() / "postgres", "-V", user=uid):
        pytest.skip("the binaries are in a folder that nobody can't reach")
    (empty / "postgres").mkdir()
    os.chown(empty / "postgres", uid, gid)  # as an earlier start left it there
    async with await postgres.start(empty) as server:
        assert owner(Path(f"/proc/{server.pid}")) == uid
        assert await query(server.url) == 1
    assert owner(empty / "postgres/data") == uid
    assert mode(empty) == 0o710
    async with await postgres.start(empty) as server:
        assert await query(server.url) == 1


def test_ways() -> None:
    uid, gid = nobody()
    assert ways(1000, None) == [USER]
    assert ways(0, None) == ways(0, 0) == [NAMESPACE, f"{uid}:{gid}"]
    assert ways(0, uid) == [f"{uid}:{gid}"]
    assert pwd.getpwuid(uid).pw_name == "nobody"


async def test_a_long_path_gets_a_short_socket(empty: Path, cluster: Path) -> None:
    data_dir = empty / ("x" * 90)
    shutil.copytree(cluster / "postgres", data_dir / "postgres")
    async with await postgres.start(data_dir) as server:
        state = read_state(Layout(data_dir))
        assert state
        socket_dir = Path(state.socket_dir)
        assert socket_dir.parent == Path(tempfile.gettempdir())
        assert mode(socket_dir) == 0o700
        assert await query(server.url) == 1
        async with await postgres.start(data_dir) as second:
            assert await query(second.url) == 1
    assert is_absent(socket_dir)
    with folder(socket_dir, 0o755):
        assert str(socket_dir) in await refusal(data_dir, "postgres_folder_foreign")
    with folder(socket_dir, 0o700):
        if IS_ROOT:
            os.chown(socket_dir, 12345, 12345)
            assert str(socket_dir) in await refusal(data_dir, "postgres_folder_foreign")


async def test_a_path_with_odd_characters(empty: Path, cluster: Path) -> None:
    data_dir = empty / "a \"b', c=%&ü"
    shutil.copytree(cluster / "postgres", data_dir / "postgres")
    async with await postgres.start(data_dir) as server:
        assert await query(server.url) == 1


async def test_a_start_does_not_block_the_event_loop(empty: Path) -> None:
    begun = last = time.monotonic()
    longest = 0.0

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    ticking = asyncio.create_task(tick())
    async with await postgres.start(empty):
        pass
    ticking.cancel()
    assert longest < (last - begun) / 2  # `initdb` alone takes most of the time


def test_the_programs_of_the_guard_need_only_the_standard_library() -> None:
    for path in (EXEC, EXEC.with_name("postgres_guard.py")):
        done = subprocess.run([sys.executable, "-I", "-S", path], check=False, capture_output=True, text=True)
        assert "not enough values to unpack" in done.stderr

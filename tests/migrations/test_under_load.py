"""Reads and writes go on while migrations run; a migrator killed anywhere can be run again to the same end."""

import asyncio
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, field

import asyncpg
import pytest

from ringfence.db import Database, DatabaseOptions
from ringfence.documents import queries
from ringfence.migrations import migrate
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD
from tests.isolation.tenants import two_tenants
from tests.migrations.conftest import schema_of
from tests.migrations.later import EXAMPLES, LATER, QUICK

PASSWORDS = (APP_PASSWORD, SYSTEM_PASSWORD)
NAMES = [name for name, _ in EXAMPLES]
# A request gives a statement 2 s (db_command_timeout). Usually the longest takes some 10 ms; docs/decisions/0014 has
# figures. The machine's own noise is far below this.
LONGEST = 5.0
CHUNKS = 4000
FILL = """
insert into chunks (user_id, document_id, number, spans, text)
select user_id, document_id, n, '{1,0,9}', repeat('word ', 100) from documents, generate_series(100, $1) n
where state = 'ready'
"""
LACKING = "select count(*) from chunks where weight is distinct from 1"


@dataclass
class Load:
    """What tenants did meanwhile, and the seconds that their slowest transaction took."""

    transactions: int = 0
    longest: float = 0.0
    errors: list[Exception] = field(default_factory=list)

    async def go_on(self, db: Database, user_id, document_id) -> None:
        """Write a chunk, read some, delete one of the former, again and again; a transaction each."""
        number = 1_000_000
        while True:
            number += 1
            start = time.perf_counter()
            try:
                await self._once(db, user_id, document_id, number)
            except Exception as error:  # noqa: BLE001  # the test looks at all of them
                self.errors.append(error)
            self.longest = max(self.longest, time.perf_counter() - start)
            self.transactions += 1
            await asyncio.sleep(0.001)

    async def _once(self, db, user_id, document_id, number) -> None:
        sql = "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, $3, '{1,0,9}', 'x')"
        async with db.tenant(user_id) as tx:
            await tx.execute(sql, user_id, document_id, number)
            await tx.execute("update documents set updated_at = now() where user_id = $1", user_id)
        async with db.tenant(user_id) as tx:
            assert await queries.get(tx, document_id)
            await tx.fetch("select number, text from chunks where user_id = $1 and number > $2", user_id, number - 10)
            await tx.execute("delete from chunks where user_id = $1 and number = $2", user_id, number - 5)


@pytest.fixture
async def tenants(admin):
    tenants = await two_tenants(admin)
    await admin.execute(FILL, CHUNKS)
    return tenants


@pytest.fixture
async def load(app_url, system_url, tenants):
    """Four clients at work."""
    load = Load()
    db = Database(app_url, system_url, DatabaseOptions(connect_timeout=30, command_timeout=30))
    await db.open()
    tasks = [
        asyncio.create_task(load.go_on(db, tenant.user_id, tenant.documents[state]))
        for tenant in tenants
        for state in ("ready", "failed")
    ]
    yield load
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await db.close()


async def progress(load, count):
    """Wait until the load has done some more."""
    goal = load.transactions + count
    async with asyncio.timeout(60):
        while load.transactions < goal:
            await asyncio.sleep(0.01)


async def test_reads_and_writes_go_on(database_url, admin, load, said):
    await progress(load, 50)
    before = load.transactions
    assert await migrate(database_url, *PASSWORDS, wanted=LATER, say=said) == NAMES
    during = load.transactions - before
    await progress(load, 50)
    assert load.errors == []
    assert load.longest < LONGEST
    assert during > 0
    assert await admin.fetchval(LACKING) == 0
    # For docs/decisions/0014: --log-cli-level=INFO shows it.
    logging.getLogger(__name__).info("longest %.0f ms; %d transactions meanwhile", load.longest * 1000, during)


async def test_reads_and_writes_go_on_while_a_long_transaction_blocks_it(database_url, load, said):
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("select count(*) from chunks")
    task = asyncio.create_task(migrate(database_url, *PASSWORDS, wanted=LATER, pace=QUICK, say=said))
    await said.until("others are in the way", times=5)
    await progress(load, 50)
    assert not task.done()
    await transaction.rollback()
    await other.close()
    assert await asyncio.wait_for(task, 120) == NAMES
    assert load.errors == []
    assert load.longest < LONGEST


# Killed.

# Kills itself, as kill -9 does, when it is told its n-th line of progress.
PROCESS = """
import asyncio, os, signal, sys
from ringfence.migrations import migrate
from tests.migrations.later import LATER, QUICK
left, url, *passwords = int(sys.argv[1]), *sys.stdin.readline().split()
def say(line):
    global left
    left -= 1
    print(line, flush=True)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
print(*asyncio.run(migrate(url, *passwords, wanted=LATER, pace=QUICK, say=say)))
"""


async def start(url, at):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROCESS, str(at)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    process.stdin.write(" ".join([url, *PASSWORDS, "\n"]).encode())
    return process


async def test_a_migrator_killed_anywhere_is_run_again(database_url, empty_url, admin, tenants):
    """Each run is killed one step later than the one before, until one gets to the end."""
    kills, said = 0, []
    while True:
        process = await start(database_url, kills + 1)
        out, _ = await process.communicate()
        said += out.decode().splitlines()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
    assert kills >= 5
    assert any("rows, at tenant" in line for line in said)
    await migrate(empty_url, *PASSWORDS, wanted=LATER)
    assert await schema_of(database_url) == await schema_of(empty_url)
    assert await admin.fetchval(LACKING) == 0
    assert await migrate(database_url, *PASSWORDS, wanted=LATER) == []


async def test_a_migrator_killed_amid_an_index_is_run_again(database_url, empty_url, admin, tenants):
    await migrate(database_url, *PASSWORDS, wanted=LATER[:-4], pace=QUICK)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("update chunks set number = number where false; select pg_current_xact_id()")
    process = await start(database_url, 1000)
    invalid = "select not indisvalid from pg_index where indexrelid = to_regclass('chunks_weight')"
    async with asyncio.timeout(60):
        while not await admin.fetchval(invalid):  # it waits for the other's end
            await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    process.stdin.close()
    await transaction.rollback()
    await other.close()
    async with asyncio.timeout(60):  # the server notices that nobody waits for the index, or completes it
        await migrate(database_url, *PASSWORDS, wanted=LATER, pace=QUICK)
    await migrate(empty_url, *PASSWORDS, wanted=LATER)
    assert await schema_of(database_url) == await schema_of(empty_url)
    assert await admin.fetchval("select indisvalid from pg_index where indexrelid = to_regclass('chunks_weight')")

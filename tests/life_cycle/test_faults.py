"""What is accepted ends ready, once: workers that are killed or paused, a database that is cut off and restarted.

`make soak` is the long form: RINGFENCE_TEST_KILLS workers are killed, RINGFENCE_TEST_OUTAGES times the database. The
points are random; RINGFENCE_TEST_SEED repeats a run's.
"""

import asyncio
import os
import random
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from ringfence import migrations
from ringfence.client import Client
from ringfence.db import APP_ROLE, SYSTEM_ROLE, role_url
from ringfence.embedded import postgres
from ringfence.embedded.postgres_guard import Layout, read_state
from ringfence.jobs import MAX_CRASHES
from ringfence.settings import Settings
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD
from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload
from tests.life_cycle.processes import Process, mailbox, process

# One of these on a busy machine takes longer than a test should: each starts several processes, and kills them.
pytestmark = pytest.mark.timeout(600 if "RINGFENCE_TEST_KILLS" not in os.environ else 3600)

KILLS = int(os.environ.get("RINGFENCE_TEST_KILLS", "6"))
OUTAGES = int(os.environ.get("RINGFENCE_TEST_OUTAGES", "2"))
LEASE = 2.0
ADDRESS = "ada@example.com"


def say(line):
    """Show what pytest shows of a test that fails, and `make soak` of any."""
    sys.stdout.write(f"{line}\n")


@pytest.fixture
def chance():
    seed = int(os.environ.get("RINGFENCE_TEST_SEED") or random.SystemRandom().randrange(2**32))
    say(f"RINGFENCE_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
async def box():
    async with mailbox() as box:
        yield box


@dataclass
class Engine:
    """One API, and workers that come and go."""

    settings: Settings
    box: object
    stack: AsyncExitStack
    options: dict = field(default_factory=dict)
    http: httpx2.AsyncClient | None = None
    newest: Process | None = None

    async def start(self, command):
        return await self.stack.enter_async_context(process(self.settings, command, **self.options))

    async def worker(self):
        self.newest = await self.start("worker")
        await self.newest.logged("working")
        return self.newest

    async def kill_worker(self):
        """Kill the newest one."""
        self.newest.process.kill()
        await self.newest.ended()


@asynccontextmanager
async def engine(settings, box, **options):
    mail = {"smtp_host": "127.0.0.1", "smtp_port": box.port, "smtp_tls": "none"}
    async with AsyncExitStack() as stack:
        made = Engine(
            settings,
            box,
            stack,
            {"job_lease": LEASE, "worker_slots": 2, "chunk_tokens": 64, "chunk_overlap_tokens": 8, **mail, **options},
        )
        url = await (await made.start("serve")).url()
        await made.worker()
        client = await stack.enter_async_context(Client(url))
        await client.verify(await client.register(ADDRESS, PASSWORD), await box.code(ADDRESS))
        await client.sign_in(ADDRESS, PASSWORD)
        made.http = client._http
        yield made


def texts(chance, count):
    """Documents of two to seven batches, none like another."""
    for number in range(count):
        words = (f"w{chance.randrange(10**6)}" for _ in range(chance.randrange(600, 2500)))
        yield f"Document {number}.\n\n{' '.join(words)}".encode()


async def accept(http, content):
    """Upload until it is accepted, as clients do; its id."""
    while True:
        try:
            response = await upload(http, f"{content[:12].decode().strip('.')}.txt", content)
        except httpx2.TransportError:
            continue
        if response.status_code in {200, 202}:
            return response.json()["document_id"]
        assert response.status_code == 503, response.text
        await asyncio.sleep(0.1)


async def reached(admin, wanted, within=120):
    """Until so many documents have come to an end, and the queue is empty if they are all; how many."""
    async with asyncio.timeout(within):
        while True:
            ended = await admin.fetchval("select count(*) from documents where state in ('ready', 'failed')")
            if ended >= wanted:
                return ended
            await asyncio.sleep(0.05)


_DUE = "select count(*) from jobs where not (kind in ('store', 'index') and state = 'ready')"


async def emptied(admin):
    """Until the queue is empty but for what has time: promises that an upload left which was cut off, and merges."""
    async with asyncio.timeout(60):
        while await admin.fetchval(_DUE):
            await asyncio.sleep(0.05)


_STORED = """
select d.sha256, c.number, c.spans, c.text, e.embedding::text from documents d
join chunks c using (user_id, document_id) left join embeddings e using (user_id, document_id, number)
where d.user_id in (select user_id from users where email = any($1)) order by d.sha256, c.number
"""


_MISCOUNTED = """
select count(*) from documents d
where d.chunks <> (select count(*) from chunks c where c.document_id = d.document_id)
  or d.chunks <> (select count(*) from embeddings e where e.document_id = d.document_id)
"""


async def stored(admin, *addresses):
    """Every chunk with its vector, by the document's content."""
    return [tuple(row) for row in await admin.fetch(_STORED, list(addresses))]


async def exact(admin, made, contents):
    """That each document is there once, with the chunks that an undisturbed run makes of it, and its one file."""
    assert [tuple(row) for row in await admin.fetch("select state, reason from documents where state <> 'ready'")] == []
    assert await admin.fetchval("select count(*) from documents") == len(contents)
    assert await admin.fetchval(_MISCOUNTED) == 0
    disturbed = await stored(admin, ADDRESS)
    files = [path for path in (made.settings.data_dir / "files").rglob("*") if path.is_file()]
    assert len(files) == len(contents)
    await made.worker()
    bob = await made.stack.enter_async_context(Client(str(made.http.base_url)))
    await bob.verify(await bob.register("bob@example.com", PASSWORD), await made.box.code("bob@example.com"))
    await bob.sign_in("bob@example.com", PASSWORD)
    for content in contents:
        await accept(bob._http, content)
    await reached(admin, 2 * len(contents), within=600)
    undisturbed = await stored(admin, "bob@example.com")
    assert len(disturbed) >= len(contents)
    assert disturbed == undisturbed


@pytest.mark.long
async def test_killed_workers_leave_each_document_once_with_its_exact_chunks(settings, box, admin, chance):
    """A kill strikes at any point of what follows the end of some document, so no document meets more than a few."""
    contents = list(texts(chance, 2 * KILLS + 4))
    async with engine(settings, box) as made:
        for content in contents:
            await accept(made.http, content)
        done = 0
        for _ in range(KILLS):
            done = await reached(admin, done + 1)
            if done >= len(contents) - 2:
                contents += (more := list(texts(chance, 6)))
                for content in more:
                    await accept(made.http, content)
            await asyncio.sleep(chance.uniform(0, 1))
            await made.kill_worker()
            await made.worker()
        await reached(admin, len(contents), within=600)
        await emptied(admin)
        say(f"kills: {KILLS}, documents: {len(contents)}")
        await exact(admin, made, contents)


async def test_a_worker_that_died_is_taken_over_when_its_lease_has_ended(settings, box, admin, models):
    async with engine(settings, box) as made:
        first = made.newest
        models.script_embeddings(first_delay=600)
        document_id = await accept(made.http, b"The notice period is six weeks.")
        await models.wait_for(lambda: bool(models.embeddings), within=60)
        await made.worker()
        models.script_embeddings()
        began = time.monotonic()
        first.process.kill()
        assert (await finished(made.http, document_id))["state"] == "ready"
        say(f"take-over: {time.monotonic() - began:.1f} s after the death, with a lease of {LEASE} s")
        await exact(admin, made, [b"The notice period is six weeks."])
    assert Settings.model_fields["job_lease"].default <= 20  # 30 s less what the queue and a look at it take


@pytest.mark.long
async def test_a_document_that_kills_its_workers_costs_its_neighbours_one_crash(settings, box, admin, models):
    async with engine(settings, box, worker_slots=4) as made:
        models.script_embeddings(first_delay=600)
        good = [await accept(made.http, f"Neighbour {n} is a good document.".encode()) for n in range(3)]
        poison = await accept(made.http, b"This is the poison.")
        await models.wait_for(lambda: len(models.embeddings) == 4, within=60)
        models.script_embeddings(times=3)  # for the neighbours, whose turn it is first
        for tries in range(1, MAX_CRASHES + 1):
            await models.wait_for(lambda tries=tries: asked_for(models, "poison") == tries, within=60)
            await made.kill_worker()
            await made.worker()
        failed = await finished(made.http, poison)
        assert (failed["state"], failed["reason_code"]) == ("failed", "worker_died")
        assert failed["reason"] == "Processing it was broken off 5 times; it was given up."
        assert [(await finished(made.http, number))["state"] for number in good] == ["ready"] * 3
        assert (asked_for(models, "Neighbour"), asked_for(models, "poison")) == (6, MAX_CRASHES)
        async with asyncio.timeout(30):
            while await admin.fetchval("select state from jobs where kind = 'ingest'") != "parked":
                await asyncio.sleep(0.05)
        models.script_embeddings()
        assert (await made.http.post(f"/api/v1/documents/{poison}/retry")).status_code == 202
        assert (await finished(made.http, poison))["state"] == "ready"
        await emptied(admin)


def asked_for(models, word):
    """How often vectors were asked for of a text with this word."""
    return sum(word in request.body["input"][0] for request in models.embeddings)


@pytest.mark.long
async def test_a_worker_that_was_paused_and_comes_back_changes_nothing(settings, box, admin, models, chance):
    """Twice: while the other one is at work, and when it has done. The first one's vectors wait for it meanwhile."""
    contents = list(texts(chance, 2))
    async with engine(settings, box, worker_slots=1) as made:
        for content, wait in zip(contents, (True, False), strict=True):
            paused, seen = made.newest, len(models.embeddings)
            models.script_embeddings(first_delay=0.3)
            document_id = await accept(made.http, content)
            await models.wait_for(lambda seen=seen: len(models.embeddings) >= seen + 2, within=60)
            paused.process.send_signal(signal.SIGSTOP)
            other = await made.worker()
            async with asyncio.timeout(60):
                while not await admin.fetchval("select crashes from jobs where kind = 'ingest' and state = 'running'"):
                    await asyncio.sleep(0.05)
            if wait:
                await finished(made.http, document_id)
            paused.process.send_signal(signal.SIGCONT)
            done = await finished(made.http, document_id)
            assert done["state"] == "ready"
            async with asyncio.timeout(30):  # what it had is lost, and it goes on with other work
                while not [line for line in paused.lines if line.get("outcome") == "lost"]:
                    await asyncio.sleep(0.05)
            await emptied(admin)
            for each in (paused, other):
                each.process.kill()
                await each.ended()
            models.script_embeddings()
            await made.worker()
        await exact(admin, made, contents)


async def test_a_document_that_is_deleted_stops_being_ingested_within_a_beat(settings, box, admin, models, chance):
    """Its vectors never come: the worker lets go of them at its next look."""
    [content] = texts(chance, 1)
    async with engine(settings, box, worker_slots=1) as made:
        models.script_embeddings(times=1)
        models.script_embeddings(first_delay=600)
        document_id = await accept(made.http, content)
        await models.wait_for(lambda: len(models.embeddings) == 2, within=60)
        assert (await made.http.delete(f"/api/v1/documents/{document_id}?purge=true")).status_code == 204
        await models.wait_for(lambda: models.disconnects == 1, within=30)
        await made.newest.logged("ingest_lost")
        await emptied(admin)
        for table in ("documents", "chunks", "embeddings"):
            assert await admin.fetchval(f"select count(*) from {table}") == 0
        assert not [path for path in (settings.data_dir / "files").rglob("*") if path.is_file()]


@pytest.fixture
async def own_server(tmp_path):
    """A PostgreSQL of the test's own."""
    async with await postgres.start(tmp_path / "own") as server:
        await migrations.migrate(server.url, APP_PASSWORD, SYSTEM_PASSWORD)
        yield server


async def administrator(url):
    async with asyncio.timeout(60):
        while True:
            try:
                return await asyncpg.connect(url)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)


@pytest.mark.long
async def test_a_database_that_is_restarted_under_load_loses_nothing_accepted(
    settings, box, own_server, chance, tmp_path
):
    """All connections are cut, then the server goes down at once, without a checkpoint; uploads go on throughout."""
    url = own_server.url
    settings = settings.model_copy(
        update={
            "app_database_url": SecretStr(role_url(url, APP_ROLE, APP_PASSWORD)),
            "system_database_url": SecretStr(role_url(url, SYSTEM_ROLE, SYSTEM_PASSWORD)),
        }
    )
    contents = list(texts(chance, 8 * OUTAGES))
    async with engine(settings, box) as made:
        waiting, accepted = list(contents), []

        async def client():
            while waiting:
                accepted.append(await accept(made.http, waiting.pop()))
                await asyncio.sleep(chance.uniform(0, 0.2))

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(client())
            for outage in range(OUTAGES):
                while len(accepted) < 6 * outage + 2:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(chance.uniform(0, 0.5))
                await cut_and_shut_down(url, tmp_path / "own", made.stack)
        admin = await administrator(url)
        try:
            await reached(admin, len(contents), within=300)
            await emptied(admin)
            assert len(set(accepted)) == len(contents)
            assert await admin.fetchval("select coalesce(max(crashes), 0) from jobs") == 0
            say(f"outages: {OUTAGES}, accepted and ready: {len(accepted)}")
            await exact(admin, made, contents)
        finally:
            await admin.close()


async def cut_and_shut_down(url, folder, stack):
    """Cut all others off, shut the server down at once, as `pg_ctl -m immediate` does, and start it again."""
    admin = await administrator(url)
    others = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename like 'ringfence%'"
    assert await admin.fetchval(others)
    await admin.close()
    os.kill(read_state(Layout(folder)).postgres, signal.SIGQUIT)
    async with asyncio.timeout(60):
        while read_state(Layout(folder)):  # its guard has gone too: this was no accident
            await asyncio.sleep(0.05)
    await stack.enter_async_context(await postgres.start(folder))

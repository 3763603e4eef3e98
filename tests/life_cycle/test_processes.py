"""The engine's processes: how they start, share one database, hand over, and end."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from pydantic import SecretStr

from ringfence.client import Client
from tests import traces_of
from tests.engine import PASSWORD, waits_for_a_lock
from tests.http.test_documents import finished, upload
from tests.life_cycle.processes import mailbox, process

QUESTION = {"question": "How long is the notice period?"}


@pytest.fixture
async def box():
    async with mailbox() as box:
        yield box


@pytest.fixture
async def start(settings, box):
    """Starts a command of the engine, with the mail server."""
    async with AsyncExitStack() as stack:

        async def start(*command, **changes):
            options = {"smtp_host": "127.0.0.1", "smtp_port": box.port, "smtp_tls": "none", **changes}
            return await stack.enter_async_context(process(settings, *command, **options))

        yield start


@asynccontextmanager
async def signed_in(url, box, address="ada@example.com"):
    async with Client(url) as client:
        await client.verify(await client.register(address, PASSWORD), await box.code(address))
        await client.sign_in(address, PASSWORD)
        yield client


async def tokens(response):
    """The answer's stream from its first token on, event by event."""
    name = None
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def test_sigterm_ends_a_stream_with_an_event_and_keeps_what_was_written(start, box, models):
    serve, _worker = await start("serve", shutdown_grace=1), await start("worker")
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        models.script(answer="six weeks and never an end", stall_after=2)
        got, began = [], None
        async with http.stream("POST", "/api/v1/answers", json=QUESTION) as response:
            async for name, data in tokens(response):
                got.append((name, data))
                if began is None and "".join(data["text"] for name, data in got if name == "token") == "six weeks":
                    serve.terminate()
                    began = time.monotonic()
        assert got[-1][0] == "error"
        assert got[-1][1]["code"] == "shutting_down"
        assert time.monotonic() - began >= 0.9  # it had its grace
        assert await serve.ended(within=10) == 0
    await models.wait_for(lambda: models.disconnects == 1)
    other = await start("serve")
    async with Client(await other.url(), token=client.access_token) as later:
        kept = (await later._http.get(f"/api/v1/answers/{got[0][1]['answer_id']}")).json()
    assert (kept["state"], kept["question"]) == ("interrupted", QUESTION["question"])
    assert kept["text"] == "".join(data["text"] for name, data in got if name == "token") != ""


async def test_a_stream_of_a_chat_is_taken_up_again_at_another_process_after_sigterm(start, box, models):
    """It ends with an event; what was written is there for whoever asks elsewhere."""
    serve, _worker, other = await start("serve", shutdown_grace=0.2), await start("worker"), await start("serve")
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        chat = (await http.post("/api/v1/chats", json={})).headers["location"]
        models.script(answer="six weeks and never an end", stall_after=2)
        got = []
        asked = {**QUESTION, "resumable": True}
        async with http.stream("POST", f"{chat}/messages", json=asked) as response:
            async for name, data in tokens(response):
                got.append((name, data))
                if "".join(data["text"] for name, data in got if name == "token") == "six weeks":
                    serve.terminate()
        assert (got[-1][0], got[-1][1]["code"]) == ("error", "shutting_down")
        assert await serve.ended(within=15) == 0
    await models.wait_for(lambda: models.disconnects == 1)
    async with Client(await other.url(), token=client.access_token) as later:
        path = f"{chat}/messages/{got[0][1]['message_id']}"
        kept = (await later._http.get(path)).json()
        again = (await later._http.get(f"{path}/stream")).text
    assert (kept["state"], kept["text"]) == ("interrupted", "six weeks")
    assert "event: error" in again
    assert "answer_interrupted" in again


async def test_a_stream_that_ends_within_the_grace_ends_as_ever(start, box, models):
    serve, _worker = await start("serve", shutdown_grace=30), await start("worker")
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        models.script(answer="six weeks [1].", stall_after=1)
        names = []
        async with http.stream("POST", "/api/v1/answers", json=QUESTION) as response:
            async for name, _ in tokens(response):
                names.append(name)
                if names == ["sources", "token"]:
                    serve.terminate()
                    url = await serve.url()
                    await refused(url)
                    models.release()
        assert names[-1] == "done"
        assert await serve.ended(within=10) == 0


async def refused(url):
    """Until nothing listens there any more."""
    async with asyncio.timeout(10), httpx2.AsyncClient() as http:
        while True:
            try:
                await http.get(f"{url}/livez")
            except httpx2.TransportError:  # refused, or cut off in the middle
                return


async def test_an_upload_that_a_stopping_server_can_not_finish_is_told_so(start, box):
    serve, _worker = await start("serve", shutdown_grace=0.5), await start("worker")
    url = await serve.url()
    async with Client(url) as client:
        await client.verify(await client.register("ada@example.com", PASSWORD), await box.code("ada@example.com"))
        await client.sign_in("ada@example.com", PASSWORD)
        token = (await client._http.get("/api/v1/me")).request.headers["authorization"]
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = ["POST /api/v1/documents HTTP/1.1", "Host: a", f"Authorization: {token}", "Content-Length: 100000"]
    writer.write("\r\n".join([*head, "Content-Type: multipart/form-data; boundary=x", "", "--x\r\n"]).encode())
    await writer.drain()
    serve.terminate()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"shutting_down"' in answer
    assert await serve.ended(within=15) == 0
    requests = [line for line in serve.lines if line.get("event") == "request"]
    assert requests[-1]["status"] == 503
    assert not [line for line in serve.lines if "trace" in line]


async def test_a_second_signal_ends_at_once(start, box, models):
    serve, _worker = await start("serve", shutdown_grace=300), await start("worker")
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        models.script(answer="six weeks and never an end", stall_after=1)
        async with http.stream("POST", "/api/v1/answers", json=QUESTION) as response:
            async for name, _ in tokens(response):
                if name == "token":
                    serve.terminate()
                    await refused(await serve.url())
                    serve.terminate()
                    break
        assert await serve.ended(within=15) == 0


async def test_a_worker_that_is_stopped_hands_its_job_back_and_another_finishes_it(start, box, models, admin):
    serve, first = await start("serve"), await start("worker")
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        models.script_embeddings(stall_after=0)
        document_id = (await upload(http)).json()["document_id"]
        await models.wait_for(lambda: len(models.embeddings) == 1, within=30)
        first.terminate()
        assert await first.ended(within=15) == 0
        job = await admin.fetchrow("select state, attempts, crashes, token from jobs where kind = 'ingest'")
        assert tuple(job) == ("ready", 0, 0, None)
        models.script_embeddings()
        await start("worker")
        await finished(http, document_id)


async def test_a_worker_that_is_killed_is_taken_over_and_stores_nothing_twice(start, box, models, admin):
    serve, first = await start("serve"), await start("worker", job_lease=1)
    text = "\n\n".join(
        f"Paragraph {n} of a long handbook, in which the notice period is six weeks." for n in range(2000)
    )
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        models.script_embeddings(times=3)
        models.script_embeddings(stall_after=0)
        document_id = (await upload(http, content=text.encode())).json()["document_id"]
        await models.wait_for(lambda: len(models.embeddings) >= 4, within=30)
        first.process.kill()
        await first.ended()
        assert await admin.fetchval("select count(*) from chunks") > 0
        models.script_embeddings()
        await start("worker", job_lease=1)
        done = await finished(http, document_id)
    stored = await admin.fetchrow(
        "select count(*), count(distinct number), max(number) + 1 from chunks where document_id = $1::uuid", document_id
    )
    assert tuple(stored) == (done["chunks"],) * 3
    assert await admin.fetchval("select count(*) from embeddings") == done["chunks"]
    async with asyncio.timeout(30):  # the document is ready a moment before its job is done
        while await admin.fetchval("select count(*) from jobs where kind <> 'index'"):
            await asyncio.sleep(0.02)


async def test_several_processes_share_one_database(start, box, models, admin):
    """Two APIs, two workers: what is begun at one goes on at the other."""
    apis = [await start("serve"), await start("serve")]
    workers = [await start("worker", worker_slots=1), await start("worker", worker_slots=1)]
    one, two = [await api.url() for api in apis]
    for worker in workers:
        await worker.logged("working")
    async with Client(one) as here, Client(two) as there:
        registration = await here.register("ada@example.com", PASSWORD)
        await there.verify(registration, await box.code("ada@example.com"))
        await here.sign_in("ada@example.com", PASSWORD)
        await there.sign_in("ada@example.com", PASSWORD)
        ids = [
            (await upload(here._http, content=f"Notice {n}: six weeks.".encode())).json()["document_id"]
            for n in range(12)
        ]
        for document_id in ids:
            await finished(there._http, document_id)
        events = [event async for event in there.ask("How long is notice 7?")]
        assert events[-1].type == "done"
        kept = await here._http.get(f"/api/v1/answers/{events[0].answer_id}")
        assert kept.json()["state"] == "done"
    assert await admin.fetchval("select count(*) from documents where state = 'ready'") == 12
    assert await admin.fetchval("select count(*) from chunks") == 12


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_without_a_database_the_start_ends_with_a_sentence_and_a_code_to_try_again(start, command):
    nowhere = SecretStr("postgresql://ringfence_app:x@127.0.0.1:1/none")
    tried = await start(command, app_database_url=nowhere, system_database_url=nowhere, db_connect_timeout=1)
    assert await tried.ended() == 69  # EX_UNAVAILABLE: a supervisor tries again
    assert "ringfence: The database can't be reached. Please try again soon.\n" in tried.others


async def test_a_deletion_whose_worker_is_killed_is_finished_by_the_next(start, box, admin, settings):
    """Killed twice: before the documents are gone, and with all gone but the account's row."""
    serve, worker = await start("serve"), await start("worker", job_lease=2)
    files = settings.data_dir / "files"
    async with signed_in(await serve.url(), box) as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        user_id = (await http.get("/api/v1/me")).json()["user_id"]
        signs = [user_id, "ada@example.com"]
        for table in ("documents", "job_lanes"):  # the last, which the end of the account reaches
            async with admin.transaction():
                await admin.execute(f"select from {table} for no key update")
                if table == "documents":
                    await client.delete_account(PASSWORD)
                await waits_for_a_lock(admin)
                worker.process.kill()
                await worker.ended()
            assert bool(traces_of.in_folder(files, signs)) == (table == "documents")
            assert set(await traces_of.in_tables(admin, [user_id])) >= {"public.users", f"public.{table}"}
            worker = await start("worker", job_lease=2)
        async with asyncio.timeout(60):
            while await traces_of.in_tables(admin, signs):
                await asyncio.sleep(0.05)
    assert traces_of.in_folder(files, signs) == []

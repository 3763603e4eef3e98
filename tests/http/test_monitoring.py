"""What a running engine counts and traces: real uploads and answers, scraped over HTTP, spans sent to a collector."""

import asyncio
import io
from collections import Counter
from contextlib import asynccontextmanager

import httpx2
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from ringfence.client import Client
from ringfence.db import Database, DatabaseOptions
from ringfence.errors import Unauthenticated
from ringfence.http.monitoring import create_app
from ringfence.telemetry.metrics import CONTENT_TYPE
from tests.engine import PASSWORD, running
from tests.fakes.otlp_collector import otlp_collector
from tests.fakes.tcp_proxy import Proxy
from tests.http.test_documents import TEXT, finished, upload
from tests.scraping import Deltas, labels, samples

QUESTION = "How long is the notice period?"


@asynccontextmanager
async def monitored(settings, models):
    """A running engine and a client of its operators' port."""
    with capture_logs() as logs:
        async with running(settings.model_copy(update={"metrics_port": 0}), models) as live:
            [url] = [line["url"] for line in logs if line["event"] == "monitoring"]
            async with httpx2.AsyncClient(base_url=url, timeout=30) as operator:
                yield live, operator


@pytest.fixture
async def engine(settings, models):
    async with monitored(settings, models) as both:
        yield both


def scraping(operator):
    async def scrape():
        response = await operator.get("/metrics")
        assert (response.status_code, response.headers["content-type"]) == (200, CONTENT_TYPE)
        return response.text

    return scrape


def counted(calls):
    """The deltas of requests, given as method, route and status."""
    expected = {}
    for (method, route, status), count in Counter(calls).items():
        expected[f"ringfence_http_requests_total{{method={method},route={route},status={status}}}"] = count
        seconds = f"ringfence_http_request_duration_seconds_count{{method={method},route={route}}}"
        expected[seconds] = expected.get(seconds, 0) + count
    return expected


async def ask(http, question=QUESTION):
    return (await http.post("/api/v1/answers", json={"question": question})).text


async def test_requests_by_method_route_and_status(engine):
    live, operator = engine
    scrape = scraping(operator)
    deltas = Deltas(await scrape())
    async with live.account("ada@example.com") as client:
        http = client._http
        document = (await upload(http)).json()["document_id"]
        await upload(http)
        await http.get(f"/api/v1/documents/{document}")
        await http.get("/api/v1/documents", params={"limit": "1", "name": "secret words"})
        await http.get(f"/somewhere/{document}")
        await http.put("/api/v1/documents")
        await http.get("/static/base.css")
        await http.post("/api/v1/answers", json={"question": " "})
        calls = [
            ("POST", "/api/v1/auth/register", 202),
            ("POST", "/api/v1/auth/verify", 204),
            ("POST", "/api/v1/auth/token", 200),
            ("POST", "/api/v1/documents", 202),
            ("POST", "/api/v1/documents", 200),
            ("GET", "/api/v1/documents/{document_id}", 200),
            ("GET", "/api/v1/documents", 200),
            ("GET", "unmatched", 404),
            ("PUT", "/api/v1/documents", 405),
            ("GET", "/static", 200),
            ("POST", "/api/v1/answers", 400),
        ]
        await deltas.until(counted(calls), "ringfence_http_request", scrape=scrape)


async def test_uploads_and_their_jobs(engine):
    live, operator = engine
    scrape = scraping(operator)
    async with live.account("ada@example.com") as client:
        await settled(scrape)
        deltas = Deltas(await scrape())
        http = client._http
        for name, content in (
            ("a.txt", TEXT),
            ("b.txt", b"words and words, " * 500),
            ("c.pdf", b"%PDF-1.7\nnothing"),
            ("d.pdf", b"%PDF-1.7\nnothing else"),
        ):
            await upload(http, name, content)
        documents = [await finished(http, document["document_id"]) for document in await listed(http)]
        chunks = sum(document["chunks"] for document in documents)
        assert chunks > 10
        expected = {
            "ringfence_jobs_total{kind=ingest,outcome=done}": 4,
            "ringfence_job_duration_seconds_count{kind=ingest}": 4,
            "ringfence_ingested_pages_total{}": 2,
            "ringfence_ingested_chunks_total{}": chunks,
            "ringfence_parse_failures_total{code=document_damaged}": 2,
        }
        names = ("ringfence_job", "ringfence_ingested", "ringfence_parse", "ringfence_mails")
        await deltas.until(expected, *names, scrape=scrape)


async def listed(http):
    return (await http.get("/api/v1/documents")).json()["documents"]


async def settled(scrape):
    """Until the queue is empty and nothing is asked of the database but by the scrape itself."""
    async with asyncio.timeout(15):
        while any(name.startswith("ringfence_queue_jobs") for name in samples(await scrape())):
            await asyncio.sleep(0.02)


async def test_a_mail_that_was_sent(engine):
    live, operator = engine
    scrape = scraping(operator)
    deltas = Deltas(await scrape())
    async with live.account("ada@example.com"):
        expected = {
            "ringfence_jobs_total{kind=mail,outcome=done}": 1,
            "ringfence_job_duration_seconds_count{kind=mail}": 1,
            "ringfence_mails_total{outcome=sent}": 1,
        }
        await deltas.until(expected, "ringfence_job", "ringfence_mails", scrape=scrape)


async def test_answers_by_how_they_end(engine, models):
    live, operator = engine
    scrape = scraping(operator)
    async with live.account("ada@example.com") as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        deltas = Deltas(await scrape())
        texts = [await ask(http), await ask(http, "Zebras?")]  # done, refused
        models.script(answer="It is six weeks.", break_after=2, times=1)
        texts.append(await ask(http))
        models.script_embeddings(status=503, times=1)
        assert (await http.post("/api/v1/answers", json={"question": QUESTION})).status_code == 503
        models.script(answer="word " * 100, stall_after=3, delay=0.2)
        async with http.stream("POST", "/api/v1/answers", json={"question": QUESTION}) as response:
            seen = ""
            async for text in response.aiter_text():
                seen += text
                if seen.count("event: token") == 3:
                    break
        texts.append(seen)
        expected = {
            "ringfence_answers_total{outcome=done}": 1,
            "ringfence_answers_total{outcome=refused}": 1,
            "ringfence_answers_total{outcome=broken_off}": 1,
            "ringfence_answers_total{outcome=failed}": 1,
            "ringfence_answers_total{outcome=interrupted}": 1,
            "ringfence_answer_sentences_total{verdict=supported}": 1,
            "ringfence_answer_tokens_total{}": sum(text.count("event: token") for text in texts),
            "ringfence_answer_first_token_seconds_count{}": 3,
            "ringfence_retrieval_seconds_count{stage=embed}": 5,
            "ringfence_retrieval_seconds_count{stage=search}": 4,
        }
        await deltas.until(expected, "ringfence_answer", "ringfence_retrieval", scrape=scrape)


async def test_a_stream_counts_as_in_progress_until_its_end(engine, models):
    live, operator = engine
    scrape = scraping(operator)
    async with live.account("ada@example.com") as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        models.script(answer="word " * 10, stall_after=3)
        deltas = Deltas(await scrape())
        name = "ringfence_http_requests_in_progress"
        asking = asyncio.create_task(ask(http))
        await models.wait_for(lambda: len(models.chats) == 1)
        found = samples(await scrape())
        assert deltas.of(await scrape(), name) == {f"{name}{{}}": 1}
        assert found["ringfence_db_pool_connections_in_use{role=app}"] == 0
        models.release()
        await asking
        await deltas.until({}, name, scrape=scrape)


async def test_the_queue_is_read_at_the_scrape(engine, models, admin):
    live, operator = engine
    models.script_embeddings(stall_after=0)
    async with live.account("ada@example.com") as client:
        for n in range(6):
            await client.upload(f"{n}.txt", io.BytesIO(b"Words %d." % n))
        scrape = scraping(operator)
        async with asyncio.timeout(15):
            while (found := samples(await scrape())).get("ringfence_queue_jobs{kind=ingest,state=running}") != 4:
                await asyncio.sleep(0.02)
        assert found["ringfence_queue_jobs{kind=ingest,state=ready}"] == 2
        await admin.execute("update jobs set created_at = now() - interval '100 s' where state = 'ready'")
        assert 100 <= samples(await scrape())["ringfence_queue_oldest_ready_age_seconds{}"] < 160
        models.release()


async def test_no_label_tells_of_a_user_a_path_or_a_text(engine, models, admin):
    live, operator = engine
    secrets = [TEXT.decode().split()[2], QUESTION, "ada@", "handbook", PASSWORD, "zebra"]
    async with live.account("ada@example.com") as client:
        http = client._http
        document = (await upload(http)).json()["document_id"]
        await finished(http, document)
        await upload(http, "handbook.pdf", b"%PDF-1.7\nnothing")
        await ask(http)
        await http.get(f"/zebra/{document}")
        await http.get("/api/v1/documents/zebra")
    secrets += [str(row["user_id"]) for row in await admin.fetch("select user_id from users")]
    secrets += [str(row["document_id"]) for row in await admin.fetch("select document_id from documents")]
    values = {f"{name} {key}": set() for name, key, _ in labels((await operator.get("/metrics")).text)}
    for name, key, value in labels((await operator.get("/metrics")).text):
        values[f"{name} {key}"].add(value)
        assert not any(secret.lower() in value.lower() for secret in secrets)
    assert values
    # Of routes there are more than 40; whatever else tells that many things apart tells too much.
    assert all(len(found) < 40 for name, found in values.items() if not name.endswith(" route"))
    assert all(len(found) < 100 for name, found in values.items() if name.endswith(" route"))


async def test_health_of_a_process(engine):
    _, operator = engine
    for path in ("/livez", "/readyz"):
        response = await operator.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await operator.get("/api/v1/documents")).status_code == 404


async def test_the_public_port_has_no_metrics(engine):
    live, _ = engine
    async with httpx2.AsyncClient(base_url=live.url) as client:
        assert (await client.get("/metrics")).status_code == 404


@pytest.mark.parametrize("outage", ["cut", "hold"])
async def test_without_its_database_a_process_still_tells_the_rest(app_url, system_url, outage):
    proxy = Proxy(system_url)
    await proxy.restore()
    options = DatabaseOptions(connect_timeout=10, command_timeout=10)
    db = Database(proxy.url(app_url), proxy.url(system_url), options)
    await db.open()
    app = create_app(db, database_seconds=1)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test", timeout=30) as operator:
        assert samples((await operator.get("/metrics")).text)["ringfence_database_up{}"] == 1
        await proxy.cut() if outage == "cut" else proxy.hold()
        found = samples((await operator.get("/metrics")).text)
        assert found["ringfence_database_up{}"] == 0
        assert "ringfence_queue_oldest_ready_age_seconds{}" not in found
        assert found["ringfence_db_pool_wait_seconds_count{role=system}"] > 0
        ready = await operator.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "database_unavailable")
        assert (await operator.get("/livez")).status_code == 200
    await proxy.cut()
    await db.close()


@pytest.fixture
async def collector():
    async with otlp_collector() as collector:
        yield collector


async def test_the_spans_of_an_upload_its_job_and_an_answer(settings, models, collector):
    settings = settings.model_copy(update={"otlp_endpoint": collector.url})
    async with running(settings, models) as live, live.account("ada@example.com") as client:
        http = client._http
        with capture_logs(processors=[merge_contextvars]) as logs:
            document = (await upload(http, content=b"words and words, " * 500)).json()["document_id"]
            await finished(http, document)
            text = await ask(http, "words?")
    uploaded, job, answer = [
        await collector.one(name) for name in ("POST /api/v1/documents", "job ingest", "POST /api/v1/answers")
    ]
    receive, store = collector.children(uploaded)
    assert (receive.name, store.name) == ("upload.receive", "upload.store")
    assert receive.attributes == {"bytes": 8500}
    assert store.attributes == {"bytes": 8500, "document_id": document}
    [ingest] = collector.children(job)
    assert (ingest.name, ingest.attributes["document_id"], job.attributes["outcome"]) == ("ingest", document, "done")
    stages = Counter(span.name for span in collector.children(ingest))
    assert stages["ingest.parse"] == 1
    assert stages["ingest.embed"] == stages["ingest.store"] >= 1
    names = [span.name for span in sorted(collector.children(answer), key=lambda span: span.began)]
    assert names == ["search.embed", "search.nearest", "answer.evidence", "answer.stream", "answer.citations"]
    stream = await collector.one("answer.stream")
    assert stream.events == ["first_token"]
    assert stream.attributes["tokens"] == text.count("event: token")
    assert len({uploaded.trace_id, job.trace_id, answer.trace_id}) == 3
    assert b"words" not in b"".join(collector.bodies)
    for span, line in ((uploaded, "request"), (answer, "request")):
        [found] = [entry for entry in logs if entry.get("trace_id") == span.trace_id and entry["event"] == line]
        assert found["request_id"] == span.attributes["request_id"]


async def test_an_answer_that_breaks_off_shows_where(settings, models, collector):
    settings = settings.model_copy(update={"otlp_endpoint": collector.url})
    async with running(settings, models) as live, live.account("ada@example.com") as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        models.script(answer="It is six weeks.", break_after=2, delay=0.2, times=1)  # what comes at once is one piece
        await ask(http)
    stream = await collector.one("answer.stream")
    assert (stream.failed, stream.attributes) == (True, {"error.type": "model_broke_off", "tokens": 2})


@pytest.mark.parametrize("state", ["silent", "refusing", "gone"])
async def test_a_collector_in_trouble_disturbs_nobody(settings, models, collector, state):
    collector.silent, collector.status = state == "silent", 503
    url = collector.url if state != "gone" else "http://127.0.0.1:1"
    settings = settings.model_copy(update={"otlp_endpoint": url})
    async with running(settings, models) as live, live.account("ada@example.com") as client:
        http = client._http
        assert (await finished(http, (await upload(http)).json()["document_id"]))["state"] == "ready"
        for _ in range(20):
            assert "event: done" in await ask(http)
    assert collector.spans == []


async def test_a_client_that_is_refused_leaves_a_span_with_its_code(settings, models, collector):
    settings = settings.model_copy(update={"otlp_endpoint": collector.url})
    async with running(settings, models) as live, Client(live.url) as client:
        with pytest.raises(Unauthenticated):
            await client.documents()
    span = await collector.one("GET /api/v1/documents")
    assert span.attributes["http.response.status_code"] == 401

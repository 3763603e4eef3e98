"""Spans, sent to a collector over real HTTP."""

import asyncio
import subprocess
import sys
import time
from contextlib import aclosing, asynccontextmanager

import pytest
import structlog
from opentelemetry.trace import INVALID_SPAN

from ringfence import __version__
from ringfence.errors import Invalid
from ringfence.telemetry.traces import SHUTDOWN_SECONDS, answered, configure_tracing, failed, tracing
from tests.fakes.otlp_collector import otlp_collector

THEIRS = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def collector():
    async with otlp_collector() as collector:
        yield collector


@asynccontextmanager
async def traced(url, *, ratio=1.0, every=0.05, **headers):
    stop = await asyncio.to_thread(configure_tracing, url, headers=headers, sample_ratio=ratio, every=every)
    try:
        yield
    finally:
        await asyncio.to_thread(stop)


def test_switched_off_nothing_is_imported_or_made():
    code = """
import sys
from ringfence.cli import main
from ringfence.telemetry.traces import tracing
with tracing.span("a", b=1) as span, tracing.request([(b"traceparent", b"x")]) as request:
    assert not span.is_recording() and not request.is_recording() and not tracing.begin("c").is_recording()
assert tracing.ids() == {} and not tracing.on
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "requests"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_switched_off_a_span_is_none():
    with tracing.span("a", b=1) as span, tracing.request([]) as request:
        assert tracing.ids() == {}
        answered(request, "GET", "/x", 500, "r")
    assert (span, request, tracing.begin("c")) == (INVALID_SPAN,) * 3


async def test_stages_are_inside_each_other_also_in_tasks(collector):
    async with traced(f"{collector.url}/", authorization="Bearer key"):
        with tracing.span("outer", document_id=THEIRS, chunks=3):
            with tracing.span("inner"):
                pass

            async def work():
                with tracing.span("task"):
                    await asyncio.sleep(0)

            await asyncio.gather(work(), work())
        with tracing.span("another"):
            pass
    outer = await collector.one("outer")
    assert outer.parent_id == ""
    assert outer.attributes == {"document_id": THEIRS, "chunks": 3}
    assert sorted(span.name for span in collector.children(outer)) == ["inner", "task", "task"]
    assert (await collector.one("another")).trace_id != outer.trace_id
    assert (outer.resource["service.name"], outer.resource["service.version"]) == ("ringfence", __version__)
    [(request, headers), *_] = collector.requests
    assert request == "POST /v1/traces HTTP/1.1"
    assert headers["authorization"] == "Bearer key"
    assert not tracing.on


@pytest.mark.parametrize(
    ("error", "kind", "is_failure"),
    [
        (ValueError("a secret"), "ValueError", True),
        (Invalid("bad_question", "A secret."), "bad_question", True),
        (asyncio.CancelledError("a secret"), "CancelledError", False),
    ],
)
async def test_an_error_leaves_its_code_and_no_message(collector, error, kind, is_failure):
    async with traced(collector.url):
        with pytest.raises(type(error)), tracing.span("broken"):
            raise error
        begun = tracing.begin("begun")
        failed(begun, error)
        begun.end()
    for span in (await collector.one("broken"), await collector.one("begun")):
        assert span.attributes == {"error.type": kind}
        assert (span.failed, span.message, span.events) == (is_failure, "", [])
    assert b"secret" not in b"".join(collector.bodies)


async def test_a_stage_may_stay_open_over_the_steps_of_a_generator(collector):
    """Its steps run in different tasks, and its end in a third: nothing is left current anywhere."""

    async def steps():
        span = tracing.begin("generator")
        try:
            yield tracing.ids()
            yield tracing.ids()
        finally:
            span.end()

    async with traced(collector.url):
        with tracing.span("parent"):
            inside = tracing.ids()
            async with aclosing(steps()) as generator:
                assert await asyncio.create_task(anext(generator)) == inside
                assert await asyncio.create_task(anext(generator)) == inside
        assert tracing.ids() == {}
    assert (await collector.one("generator")).parent_id == (await collector.one("parent")).span_id


@pytest.mark.parametrize(
    ("header", "links"),
    [
        (f"00-{THEIRS}-b7ad6b7169203331-01", [THEIRS]),
        (f"00-{THEIRS}-b7ad6b7169203331-00", [THEIRS]),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", []),
        ("nonsense \xff", []),
        ("", []),
    ],
)
async def test_a_clients_trace_is_linked_and_not_continued(collector, header, links):
    async with traced(collector.url):
        with tracing.request([(b"host", b"x"), (b"traceparent", header.encode("latin-1"))]) as span:
            ids = tracing.ids()
            answered(span, "GET", "/x/{id}", 200, "r1")
    span = await collector.one("GET /x/{id}")
    assert (span.links, span.parent_id, span.failed) == (links, "", False)
    assert ids == {"trace_id": span.trace_id} != {"trace_id": THEIRS}
    assert span.attributes == {"http.response.status_code": 200, "request_id": "r1"}


async def test_a_status_of_5xx_is_a_failure(collector):
    async with traced(collector.url):
        with tracing.request([]) as span:
            answered(span, "POST", "/x", 503, "r1")
    assert (await collector.one("POST /x")).failed


async def test_what_is_not_sampled_is_neither_sent_nor_named_in_logs(collector):
    async with traced(collector.url, ratio=0):
        with tracing.request([(b"traceparent", f"00-{THEIRS}-b7ad6b7169203331-01".encode())]) as span:
            assert tracing.ids() == {}
            answered(span, "GET", "/x", 200, "r1")
            with tracing.span("inner"):
                assert tracing.ids() == {}
    assert collector.requests == []


async def test_a_share_of_traces_is_whole(collector):
    async with traced(collector.url, ratio=0.5):
        for _ in range(200):
            with tracing.request([]), tracing.span("inner"):
                pass
    requests, inner = collector.named("request"), collector.named("inner")
    assert 50 < len(requests) < 150  # 11 standard deviations
    assert {span.trace_id for span in requests} == {span.trace_id for span in inner}


async def test_a_collector_that_hangs_holds_nobody(collector):
    collector.silent = True
    began = time.monotonic()
    async with traced(collector.url):
        for _ in range(6000):  # more than the queue holds
            with tracing.span("a"):
                pass
        async with asyncio.timeout(15):
            while not collector.requests:
                await asyncio.sleep(0.01)
        assert time.monotonic() - began < 15
        ending = time.monotonic()
    assert time.monotonic() - ending < SHUTDOWN_SECONDS + 10
    assert collector.spans == []


@pytest.mark.parametrize("status", [400, 503])
async def test_a_collector_that_refuses_is_noted_in_the_log_alone(collector, status, caplog):
    collector.status = status
    async with traced(collector.url, authorization="Bearer key"):
        with tracing.span("a"):
            pass
        async with asyncio.timeout(15):
            while not collector.requests:
                await asyncio.sleep(0.01)
    assert collector.spans == []
    assert "key" not in caplog.text


async def test_a_collector_that_is_not_there_harms_nobody(unused_port, caplog):
    async with traced(f"http://127.0.0.1:{unused_port}"):
        with tracing.span("a"):
            structlog.get_logger().info("still here")
    assert not tracing.on
    assert "spans" in caplog.text


@pytest.fixture
async def unused_port():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port

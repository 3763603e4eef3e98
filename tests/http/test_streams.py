"""What real requests can't show of streams and middlewares: failures inside, other scopes, early closes."""

import asyncio

import pytest

from ringfence.http.middleware import BodyLimit, RequestContext
from ringfence.http.streams import Streamed, started


async def never():
    await asyncio.Event().wait()


async def test_a_defect_inside_a_stream_is_not_swallowed():
    async def pieces():
        yield b"one"
        raise ZeroDivisionError

    sent = []

    async def send(message):
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        await Streamed(pieces(), "text/plain")({}, never, send)
    assert sent[1]["body"] == b"one"
    assert len(sent) == 2


async def test_a_client_that_leaves_after_more_body_closes_the_source():
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])
    closed = []

    async def receive():
        return next(messages)

    async def pieces():
        try:
            await never()
            yield b""
        finally:
            closed.append(True)

    async def send(message):
        pass

    await Streamed(pieces(), "text/plain")({}, receive, send)
    assert closed == [True]


async def test_a_started_source_is_closed_with_its_wrapper():
    closed = []

    async def source():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    wrapper = await started(source())
    assert await anext(wrapper) == 1
    await wrapper.aclose()
    assert closed == [True]


@pytest.mark.parametrize("wrap", [RequestContext, lambda app: BodyLimit(app, 10, frozenset())])
async def test_other_scopes_pass_through(wrap):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    await wrap(app)({"type": "lifespan"}, never, never)
    assert seen == [{"type": "lifespan"}]


async def test_a_defect_after_the_beginning_breaks_the_connection_off():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def send(message):
        sent.append(message["type"])

    with pytest.raises(ZeroDivisionError):
        await RequestContext(app)({"type": "http", "method": "GET"}, never, send)
    assert sent == ["http.response.start"]

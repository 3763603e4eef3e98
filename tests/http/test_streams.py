"""What real requests can't show of streams and middlewares: failures inside, other scopes, early closes."""

import asyncio
import re

import pytest
from pydantic import BaseModel

from ringfence.answers.events import ErrorEvent, TokenEvent
from ringfence.errors import Unavailable
from ringfence.http.middleware import BodyLimit, RequestContext
from ringfence.http.streams import (
    AwaitedJson,
    Download,
    EventStream,
    Streamed,
    farewell,
    plain_text,
    server_sent_event,
    started,
)


async def never():
    await asyncio.Event().wait()


def streamed(events, encode=plain_text, stopping=None):
    return Streamed(events, encode, "text/plain", stopping or asyncio.Event())


class Sent(list):
    """What the server was told to send."""

    async def __call__(self, message):
        self.append(message)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self)


async def test_a_defect_inside_a_stream_is_not_swallowed():
    async def events():
        yield TokenEvent(text="one")
        raise ZeroDivisionError

    sent = Sent()
    with pytest.raises(ZeroDivisionError):
        await streamed(events())({}, never, sent)
    assert sent[1]["body"] == b"one"
    assert len(sent) == 2


async def test_a_client_that_leaves_after_more_body_closes_the_source():
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])
    closed = []

    async def receive():
        return next(messages)

    async def events():
        try:
            await never()
            yield TokenEvent(text="")
        finally:
            closed.append(True)

    sent = Sent()
    await streamed(events())({}, receive, sent)
    assert closed == [True]
    assert sent.body == b""


@pytest.mark.parametrize("encode", [plain_text, server_sent_event])
async def test_a_server_that_stops_ends_its_streams_with_a_word(encode):
    stopping, closed = asyncio.Event(), []

    async def events():
        try:
            yield TokenEvent(text="one")
            stopping.set()
            await never()
        finally:
            closed.append(True)

    sent = Sent()
    await streamed(events(), encode, stopping)({}, never, sent)
    assert closed == [True]
    last = [message["body"] for message in sent if message.get("body")][-1]
    assert last == encode(
        ErrorEvent(
            code="shutting_down",
            message="The server is stopping; what came before is kept. Please ask again in a moment.",
        )
    )
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_stream_on_which_nothing_comes_says_that_it_is_alive():
    stopping, sent = asyncio.Event(), Sent()

    async def send(message):
        await sent(message)
        if sent.body.count(b":\n\n") == 2:
            stopping.set()

    async def events():
        yield TokenEvent(text="one")
        await never()

    stream = EventStream(
        events(), server_sent_event, "text/event-stream", stopping, farewell(), alive=b":\n\n", silence=0.01
    )
    await stream({}, never, send)
    assert sent.body.startswith(b'event: token\ndata: {"type":"token","text":"one"}\n\n:\n\n:\n\nevent: error\n')


class Answer(BaseModel):
    text: str


@pytest.mark.parametrize("stops", [True, False])
async def test_json_that_is_waited_for(stops):
    stopping, closed, sent = asyncio.Event(), [], Sent()

    async def events():
        try:
            yield TokenEvent(text="one")
            if stops:
                stopping.set()
                await never()
        finally:
            closed.append(True)

    async def result():
        assert closed
        return Answer(text="one")

    await AwaitedJson(events(), result, stopping)({"type": "http"}, never, sent)
    assert closed == [True]
    assert sent[0]["status"] == (503 if stops else 200)
    assert (b"shutting_down" in sent.body) == stops
    assert (sent.body == b'{"text":"one"}') != stops


async def test_a_stream_that_begins_while_the_server_stops_ends_at_once():
    stopping = asyncio.Event()
    stopping.set()

    async def events():
        await never()
        yield TokenEvent(text="")

    sent = Sent()
    await streamed(events(), plain_text, stopping)({}, never, sent)
    assert b"is stopping" in sent.body


class Pieces:
    """Bytes without an end, unless an error is it."""

    def __init__(self, error=None, last=None):
        self.error, self.last, self.closed = error, last, False

    async def __call__(self):
        try:
            yield b"one"
            yield b""
            yield b"two"
            if self.error:
                raise self.error
            if self.last:
                yield self.last
                return
            await never()
        finally:
            self.closed = True


def download(pieces, stopping=None):
    return Download(pieces(), "application/zip", "a.zip", stopping or asyncio.Event())


ENDED = {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_download_is_sent_to_its_end():
    sent, pieces = Sent(), Pieces(last=b"three")
    await download(pieces)({}, never, sent)
    headers = dict(sent[0]["headers"])
    assert headers[b"content-disposition"] == b'attachment; filename="a.zip"'
    assert b"content-length" not in headers
    assert [message["body"] for message in sent[1:]] == [b"one", b"two", b"three", b""]
    assert sent[-1] == ENDED


@pytest.mark.parametrize("reason", ["error", "stop"])
async def test_a_download_that_can_not_be_finished_has_no_end(reason):
    stopping, sent = asyncio.Event(), Sent()
    pieces = Pieces(Unavailable("storage_unavailable", "Gone.") if reason == "error" else None)

    async def send(message):
        await sent(message)
        if sent.body == b"onetwo" and reason == "stop":
            stopping.set()

    await download(pieces, stopping)({}, never, send)
    assert pieces.closed
    assert sent.body == b"onetwo"
    assert ENDED not in sent


async def test_a_defect_inside_a_download_is_not_swallowed():
    sent, pieces = Sent(), Pieces(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await download(pieces)({}, never, sent)
    assert ENDED not in sent


async def test_a_client_that_leaves_closes_the_source_of_its_download():
    left, sent, pieces = asyncio.Event(), Sent(), Pieces()

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        await sent(message)
        if sent.body == b"onetwo":
            left.set()

    await download(pieces)({}, receive, send)
    assert pieces.closed
    assert sent.body == b"onetwo"


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


@pytest.mark.parametrize("wrap", [RequestContext, lambda app: BodyLimit(app, 10, re.compile(r"(?!)"))])
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
        await RequestContext(app)({"type": "http", "method": "GET", "path": "/"}, never, send)
    assert sent == ["http.response.start"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_that_is_cut_off_by_the_servers_stop_hears_why_if_it_can(begun):
    running = asyncio.Event()

    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        running.set()
        await never()

    sent = Sent()
    request = asyncio.create_task(RequestContext(app)({"type": "http", "method": "GET", "path": "/"}, never, sent))
    await running.wait()
    request.cancel()
    await request
    assert sent[0]["status"] == (200 if begun else 503)
    assert (b"shutting_down" in sent.body) != begun

"""The client's reading of what servers answer; its calls are tested with a real engine by the command line's tests."""

import httpx2
import pytest
from rich.console import Console

from ringfence.cli.remote import print_answer
from ringfence.client import Client
from ringfence.errors import Invalid, NotFound, RateLimited, RingfenceError, Unavailable


def client(handler):
    return Client("http://engine", token="t", transport=httpx2.MockTransport(handler))


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (404, {"code": "document_not_found", "detail": "There is no such document."}, NotFound, "document_not_found"),
        (400, {"error": "invalid_grant", "error_description": "Wrong."}, Invalid, "invalid_grant"),
        (429, {}, RateLimited, "server_error"),
        (502, "<html>", RingfenceError, "server_error"),
        (503, {"code": "x", "detail": "y", "more": 1}, Unavailable, "x"),
    ],
)
async def test_errors_are_the_engines_own(status, body, kind, code):
    async with client(lambda _request: httpx2.Response(status, json=body)) as engine:
        with pytest.raises(kind) as caught:
            await engine.documents()
    assert type(caught.value) is kind
    assert caught.value.code == code


async def test_errors_before_a_stream_too():
    async with client(lambda _request: httpx2.Response(400, json={"code": "bad_question"})) as engine:
        with pytest.raises(Invalid, match="bad_question"):
            await anext(engine.ask("?"))


@pytest.mark.parametrize("call", ["documents", "ask"])
async def test_a_lost_connection_is_said(call):
    def fail(request):
        raise httpx2.ReadError("gone")

    async with client(fail) as engine:
        with pytest.raises(Unavailable, match="server_unreachable"):
            await (engine.documents() if call == "documents" else anext(engine.ask("?")))


async def test_the_token_goes_along_and_events_are_read():
    def answer(request):
        assert request.headers["authorization"] == "Bearer t"
        body = 'event: token\ndata: {"type":"token","text":"Hi"}\n\n: beat\n\nevent: done\n'
        body += 'data: {"type":"done","refused":false,"model":"m","citations":[]}\n\n'
        return httpx2.Response(200, text=body)

    async with client(answer) as engine:
        events = [event async for event in engine.ask("?")]
    assert [event.type for event in events] == ["token", "done"]


async def test_a_stream_that_just_ends_broke_off():
    async with client(lambda _request: httpx2.Response(200, text="")) as engine:
        with pytest.raises(Unavailable, match="answer_broke_off"):
            await print_answer(engine, "?", Console(quiet=True), Console(quiet=True))

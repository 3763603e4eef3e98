"""The client's reading of what servers answer; its calls are tested with a real engine by the command line's tests."""

import asyncio
import io
import json
from uuid import uuid4

import httpx2
import pytest
from rich.console import Console

from ringfence.cli.remote import print_answer
from ringfence.client import Client
from ringfence.errors import (
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RingfenceError,
    Unauthenticated,
    Unavailable,
)
from tests.engine import PASSWORD


def client(handler):
    return Client("http://engine", token="t", transport=httpx2.MockTransport(handler))


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (404, {"code": "document_not_found", "detail": "There is no such document."}, NotFound, "document_not_found"),
        (400, {"error": "invalid_grant", "error_description": "Wrong."}, Invalid, "invalid_grant"),
        (429, {}, RateLimited, "server_error"),
        (502, "<html>", Unavailable, "server_error"),
        (500, "<html>", RingfenceError, "server_error"),
        (503, {"code": "x", "detail": "y", "more": 1}, Unavailable, "x"),
    ],
)
async def test_errors_are_the_engines_own(status, body, kind, code):
    async with client(lambda _request: httpx2.Response(status, json=body)) as engine:
        with pytest.raises(kind) as caught:
            await engine.documents()
    assert type(caught.value) is kind
    assert caught.value.code == code


async def test_a_quota_that_is_full_says_its_members():
    body = {"code": "quota_exceeded", "detail": "Full.", "quota": "bytes", "limit": 9, "used": 8}
    async with client(lambda _request: httpx2.Response(403, json=body)) as engine:
        with pytest.raises(QuotaExceeded, match="quota_exceeded") as caught:
            await engine.documents()
    assert (caught.value.quota, caught.value.limit, caught.value.used) == ("bytes", 9, 8)


@pytest.mark.parametrize(("value", "seconds"), [("12", 12), ("", 0), ("soon", 0)])
async def test_a_limit_says_when_it_may_be_again(value, seconds):
    headers = {"Retry-After": value, "RateLimit-Policy": '"export";q=5;w=3600'}
    async with client(lambda _request: httpx2.Response(429, json={}, headers=headers)) as engine:
        with pytest.raises(RateLimited) as caught:
            await engine.documents()
    assert (caught.value.retry_after, caught.value.policy) == (seconds, '"export";q=5;w=3600')


def too_fast(wait, times, asked):
    """A server that refuses so many requests before it answers."""

    def answer(request):
        asked.append(request.read())
        if len(asked) <= times:
            headers = {"Retry-After": wait, "RateLimit-Policy": '"requests";q=600;w=60'}
            return httpx2.Response(429, json={"code": "too_many_requests"}, headers=headers)
        document = {"document_id": str(uuid4()), "name": "a", "size": 1, "state": "queued", "reason": None}
        return httpx2.Response(202, json={**document, "pages": None, "pages_done": 0, "chunks": 0})

    return answer


async def test_what_came_too_fast_is_sent_again_whole():
    asked = []
    async with client(too_fast("0", 3, asked)) as engine:
        assert (await engine.upload("a.txt", io.BytesIO(b"all the words")))[1] is True
    assert len(asked) == 4
    assert all(b"all the words" in body for body in asked)


@pytest.mark.parametrize(("wait", "tries"), [("61", 1), ("0", 11)])
async def test_nobody_waits_for_ever(wait, tries):
    asked = []
    async with client(too_fast(wait, 1000, asked)) as engine:
        with pytest.raises(RateLimited, match="too_many_requests"):
            await engine.documents()
    assert len(asked) == tries


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


def stream(*events):
    """A server that answers every question with these events."""
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return client(lambda _request: httpx2.Response(200, text=body))


CHECKED = {
    "type": "citation",
    "start": 0,
    "end": 8,
    "text": "It is 9.",
    "verdict": "unsupported",
    "scores": dict.fromkeys(("numbers", "names", "similarity", "entailment", "contradiction"))
    | {"overlap": 0.1, "nearest": 0.1, "negation": True},
    "citations": [],
}


async def test_what_is_not_supported_is_said_behind_the_answer():
    done = {"type": "done", "refused": False, "model": "m", "citations": [], "unsupported": ["It is 9."]}
    out = Console(record=True, quiet=False, file=io.StringIO(), width=80)
    async with stream({"type": "token", "text": "It is 9."}, CHECKED, done) as engine:
        await print_answer(engine, "?", Console(quiet=True), out)
    assert out.export_text() == "It is 9.\n  Not supported by the documents: “It is 9.”\n"


OTHERWISE = {"text": "It is 9.", "n": 2, "document": "b.pdf"}


async def test_what_documents_disagree_on_is_said_too():
    done = {"type": "done", "refused": False, "model": "m", "citations": [], "disputed": [OTHERWISE]}
    out = Console(record=True, quiet=False, file=io.StringIO(), width=80)
    async with stream({"type": "token", "text": "It is 9."}, done) as engine:
        await print_answer(engine, "?", Console(quiet=True), out)
    assert out.export_text() == "It is 9.\n  With another figure in b.pdf [2]: “It is 9.”\n"


async def test_a_refusal_names_what_came_nearest():
    near = {"document_id": str(uuid4()), "document": "a.pdf", "score": 0.2}
    done = {"type": "done", "refused": True, "model": None, "citations": [], "nearest": [near]}
    out = Console(record=True, quiet=False, file=io.StringIO(), width=80)
    async with stream(done) as engine:
        await print_answer(engine, "?", Console(quiet=True), out)
    assert out.export_text() == "\n  Nearest to it: a.pdf (0.20)\n"


async def test_an_answer_that_breaks_off_says_why():
    async with stream({"type": "error", "code": "model_silent", "message": "It is silent."}) as engine:
        with pytest.raises(Unavailable, match="model_silent"):
            await print_answer(engine, "?", Console(quiet=True), Console(quiet=True))


@pytest.mark.parametrize(("strict", "sent"), [(None, {"question": "?"}), (True, {"question": "?", "strict": True})])
async def test_a_question_says_whether_it_is_strict_where_one_wants_that(strict, sent):
    asked = []

    def answer(request):
        asked.append(json.loads(request.content))
        return httpx2.Response(200, text="")

    async with client(answer) as engine:
        assert [event async for event in engine.ask("?", strict=strict)] == []
    assert asked == [sent]


class Tokens:
    """A server whose access tokens are good for one call, and whose refresh tokens work once."""

    def __init__(self, lives=99):
        self.made = 0
        self.renewals = 0
        self.lives = lives
        self.seen = []

    def __call__(self, request):
        if request.url.path == "/api/v1/auth/token":
            form = request.content.decode()
            if "refresh_token" in form:
                self.renewals += 1
                if self.renewals > self.lives or f"refresh_token=r{self.made}" not in form:
                    return httpx2.Response(400, json={"error": "invalid_grant", "error_description": "Sign in again."})
            self.made += 1
            tokens = {"access_token": f"a{self.made}", "refresh_token": f"r{self.made}", "expires_in": 1}
            return httpx2.Response(200, json=tokens)
        self.seen.append(request.headers.get("authorization"))
        if self.seen[-1] != f"Bearer a{self.made}" or self.seen.count(self.seen[-1]) > 1:
            return httpx2.Response(401, json={"code": "invalid_token", "detail": "It has expired."})
        return httpx2.Response(200, json={"documents": []})


async def signed_in(handler):
    engine = Client("http://engine", transport=httpx2.MockTransport(handler))
    await engine.sign_in("ada@example.com", "a password")
    return engine


async def test_expired_tokens_are_renewed_and_the_call_is_made_again():
    server = Tokens()
    async with await signed_in(server) as engine:
        for _ in range(3):
            assert await engine.documents() == []
        assert engine.access_token == "a3"
    assert server.seen == ["Bearer a1", "Bearer a1", "Bearer a2", "Bearer a2", "Bearer a3"]


async def test_calls_at_once_renew_once():
    server = Tokens()
    async with await signed_in(server) as engine:
        await engine.documents()
        server.seen.clear()
        server.seen.append("Bearer a1")
        first, second = engine._http.build_request("GET", "/x"), engine._http.build_request("GET", "/x")
        flows = [engine._auth.async_auth_flow(request) for request in (first, second)]
        for flow in flows:
            await anext(flow)
        unauthorized = httpx2.Response(401)
        renewal = await flows[0].asend(unauthorized)
        waiting = asyncio.create_task(flows[1].asend(unauthorized))
        again = await flows[0].asend(server(renewal))
        assert again.headers["authorization"] == "Bearer a2"
        for flow in flows[:1]:
            with pytest.raises(StopAsyncIteration):
                await flow.asend(httpx2.Response(200))
        assert (await waiting).headers["authorization"] == "Bearer a2"
        await flows[1].aclose()
    assert server.renewals == 1


async def test_a_session_that_has_ended_is_said():
    server = Tokens(lives=0)
    async with await signed_in(server) as engine:
        await engine.documents()
        with pytest.raises(Unauthenticated, match="session_ended"):
            await engine.documents()


async def test_who_signed_out_shows_no_token():
    seen = []

    def answer(request):
        seen.append(request.headers.get("authorization"))
        return httpx2.Response(200, json={"access_token": "a", "refresh_token": "r", "documents": []})

    async with await signed_in(answer) as engine:
        await engine.sign_out()
        await engine.documents()
        assert engine.access_token is None
    assert seen == [None, "Bearer a", None]


async def test_an_api_key_takes_the_place_of_a_session(live):
    async with live.account("ada@example.com") as ada:
        scopes = ["read", "write", "ask"]
        body = {"name": "a program", "scopes": scopes, "expires_in_days": None, "password": PASSWORD}
        made = (await ada._http.post("/api/v1/api-keys", json=body)).json()
        async with Client(live.url, token=made["key"]) as program:
            document, new = await program.upload("a.txt", io.BytesIO(b"The notice period is six weeks."))
            assert new
            async with asyncio.timeout(30):
                while not (document := await program.document(document.document_id)).final:
                    await asyncio.sleep(0.05)
            assert await program.documents() == await ada.documents() == [document]
            events = [event async for event in program.ask("How long is the notice period?")]
            assert "six weeks" in "".join(event.text for event in events if event.type == "token")
            with pytest.raises(Forbidden, match="session_required"):
                await program.sign_out()
            await ada._http.delete(f"/api/v1/api-keys/{made['key_id']}")
            with pytest.raises(Unauthenticated, match="invalid_token"):
                await program.documents()


async def test_a_list_of_documents_is_asked_for_page_by_page():
    asked = []

    def answer(request):
        asked.append(request.url.params.get("cursor"))
        more = {None: "b", "b": "c", "c": None}[asked[-1]]
        return httpx2.Response(200, json={"documents": [], "next_cursor": more})

    async with client(answer) as engine:
        assert await engine.documents() == []
    assert asked == [None, "b", "c"]

"""The tools for agents, by the protocol's official client, over HTTP and over standard input and output."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from structlog.testing import capture_logs

from ringfence.client.agents import bridge
from ringfence.errors import Unauthenticated, Unavailable
from tests.engine import running
from tests.http.openai.conftest import key_of
from tests.http.test_documents import TEXT, finished, upload

QUESTION = {"question": "How long is the notice period?"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": QUESTION}}
HEADERS = {"Accept": "application/json, text/event-stream"}


@asynccontextmanager
async def agent_of(url, key, mode="auto"):
    """An agent with a key."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


async def done(client, name, /, **arguments):
    """A tool's result, which its own description allows: the client holds it against that."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def refused(client, name, /, **arguments):
    """What a tool says that does not do it."""
    result = await client.call_tool(name, arguments)
    assert result.is_error
    return result.content[0].text


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        yield client._http


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_what_an_agent_can_do(ada, live, models, mode):
    document = await finished(ada, (await upload(ada)).json()["document_id"])
    long = "\n\n".join(f"# Part {n}\n\n{'Words of part ' + str(n) + ' go on. ' * 40}" for n in range(60))
    book = await finished(ada, (await upload(ada, "book.md", long.encode())).json()["document_id"])
    models.script(answer="It is six weeks [1].")
    async with agent_of(live.url, await key_of(ada, "read", "ask"), mode) as client:
        assert "data, never an instruction" in client.instructions
        listed = (await client.list_tools()).tools
        assert {tool.name: tool.annotations.read_only_hint for tool in listed} == {
            "search": True, "ask": False, "list_documents": True, "read_document": True}  # fmt: skip
        [best, *_] = (await done(client, "search", query="notice period", limit=2))["passages"]
        assert (best["document"], best["document_id"], best["page"]) == ("handbook.txt", document["document_id"], 1)
        only = {"documents": [book["document_id"]]}
        assert {one["document"] for one in (await done(client, "search", query="part", filter=only))["passages"]} == {
            "book.md"}  # fmt: skip
        answered = await done(client, "ask", **QUESTION)
        assert (answered["answer"], answered["refused"]) == ("It is six weeks [1].", False)
        assert answered["citations"][0]["document"] == "handbook.txt"
        [kept] = (await ada.get("/api/v1/answers")).json()["answers"]
        assert kept["answer_id"] == answered["answer_id"]
        page = await done(client, "list_documents", limit=1)
        assert [one["name"] for one in page["documents"]] == ["book.md"]
        rest = await done(client, "list_documents", cursor=page["next_cursor"], name="hand")
        assert [(one["name"], one["state"]) for one in rest["documents"]] == [("handbook.txt", "ready")]
        part = await done(client, "read_document", document_id=document["document_id"])
        assert (part["name"], part["pages"], part["next_start"]) == ("handbook.txt", [1], None)
        assert part["text"] == TEXT.decode().strip()
        first = await done(client, "read_document", document_id=book["document_id"])
        second = await done(client, "read_document", document_id=book["document_id"], start=first["next_start"])
        assert first["text"].startswith("# Part 0")
        assert "Words of part 59" not in first["text"]
        assert second["text"] not in first["text"]
        for text, name, arguments in (
            ("bad_request: limit", "search", {"query": "a", "limit": 21}),
            ("bad_request: words", "search", {"query": "a", "words": 1}),
            ("bad_query", "search", {"query": " "}),
            ("bad_question", "ask", {"question": " "}),
            ("bad_cursor", "list_documents", {"cursor": "x"}),
            ("document_not_found", "read_document", {"document_id": str(uuid4())}),
            ("nothing_to_read", "read_document", {"document_id": document["document_id"], "start": 9}),
        ):
            assert (await refused(client, name, **arguments)).startswith(text)
        with pytest.raises(MCPError, match="no such tool"):
            await client.call_tool("delete", {})
        models.script(answer="It is", break_after=1)
        assert (await refused(client, "ask", **QUESTION)).startswith("model_broke_off")


async def test_nobody_reaches_anothers_documents(ada, live):
    document_id = (await upload(ada)).json()["document_id"]
    await finished(ada, document_id)
    async with (
        live.account("bob@example.com") as bob,
        agent_of(live.url, await key_of(bob._http, "read", "ask")) as agent,
    ):
        assert (await done(agent, "list_documents"))["documents"] == []
        assert (await done(agent, "search", query="notice period"))["passages"] == []
        only = {"documents": [document_id]}
        assert (await done(agent, "search", query="notice period", filter=only))["passages"] == []
        assert (await done(agent, "ask", **QUESTION))["refused"] is True
        theirs = await refused(agent, "read_document", document_id=document_id)
        assert theirs == await refused(agent, "read_document", document_id=str(uuid4()))


async def test_who_may_call(settings, models):
    named = settings.model_copy(
        update={"public_url": "https://rag.example.org/a", "cors_origins": ("https://other.example",)}
    )
    async with running(named, models) as live, live.account("ada@example.com") as account:
        await _who_may_call(live, account._http)


async def _who_may_call(live, ada):
    async with agent_of(live.url, await key_of(ada, "write")) as client:
        for name, arguments in (("search", {"query": "a"}), ("ask", QUESTION), ("list_documents", {})):
            assert (await refused(client, name, **arguments)).startswith("scope_missing")
    token = ada.auth.access
    async with agent_of(live.url, token) as client:
        assert (await done(client, "list_documents"))["documents"] == []
    async with httpx2.AsyncClient(base_url=live.url, headers=HEADERS) as bare:
        for headers, said in (
            ({}, 'Bearer realm="ringfence"'),
            ({"Authorization": "Basic YTpi"}, 'Bearer realm="ringfence"'),
            ({"Authorization": "Bearer rfk_nothing"}, 'Bearer error="invalid_token"'),
        ):
            response = await bare.post("/mcp", json=CALL, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, said)
            assert response.headers["cache-control"] == "no-store"
        bearer = {"Authorization": f"Bearer {token}"}
        rebound = {"Origin": "http://evil.example", "Host": "evil.example"}
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "http://localhost.evil.example"}, rebound):
            foreign = await bare.post("/mcp", json=CALL, headers=bearer | headers)
            assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")
        for origin in (live.url, "https://rag.example.org", "https://other.example"):
            own = await bare.post("/mcp", json=CALL, headers={**bearer, "Origin": origin})
            assert own.json()["result"]["structuredContent"]["refused"] is True
        assert (await bare.get("/mcp", headers=bearer)).status_code == 405
        huge = await bare.post("/mcp", content=b" " * (2**20 + 1), headers=bearer)
        assert (huge.status_code, huge.json()["code"]) == (413, "body_too_large")
        broken = await bare.post("/mcp", content=b"{", headers={**bearer, "Content-Type": "application/json"})
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, -32700)
    _, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(live.url).port)
    with capture_logs() as lines:
        writer.write(
            f"POST /mcp HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while not any(line["event"] == "request" for line in lines):
                await asyncio.sleep(0.01)  # the end of a request sets no event
    assert not any(line["event"] == "defect" for line in lines)


async def test_an_agent_that_leaves_stops_the_model_and_so_does_the_server(settings, models):
    models.script(answer="word " * 1000, stall_after=3)
    brief = settings.model_copy(update={"shutdown_grace": 0.0})
    async with httpx2.AsyncClient(timeout=30, headers=HEADERS) as http:
        async with running(brief, models) as live, live.account("ada@example.com") as account:
            await finished(account._http, (await upload(account._http)).json()["document_id"])
            http.headers["Authorization"] = f"Bearer {await key_of(account._http, 'ask')}"
            leaving = asyncio.create_task(http.post(f"{live.url}/mcp", json=CALL))
            await models.wait_for(lambda: models.streaming == 1)
            leaving.cancel()
            await models.wait_for(lambda: models.disconnects == 1)
            staying = asyncio.create_task(http.post(f"{live.url}/mcp", json=CALL))
            await models.wait_for(lambda: models.streaming == 1)
        response = await staying
    assert (response.status_code, response.json()["code"]) == (503, "shutting_down")


async def test_a_defect_is_told_without_its_words(ada, live, admin):
    await admin.execute("alter function search_passages rename to gone")
    async with agent_of(live.url, await key_of(ada, "read")) as client:
        said = await refused(client, "search", query="notice period")
    assert said.split(":")[0] in {"internal", "database_unavailable"}
    assert "search_passages" not in said


async def test_the_day_of_questions_holds(settings, models):
    limited = settings.model_copy(update={"quota_questions_per_day": 1})
    async with (
        running(limited, models) as live,
        live.account("ada@example.com") as account,
        agent_of(live.url, await key_of(account._http, "ask")) as client,
    ):
        await done(client, "ask", **QUESTION)
        assert (await refused(client, "ask", **QUESTION)).startswith("too_many_questions")


async def test_over_standard_input_and_output(ada, live):
    await finished(ada, (await upload(ada)).json()["document_id"])
    key = await key_of(ada, "read", "ask")
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ringfence", "mcp", "--url", live.url],
        env={**os.environ, "RINGFENCE_TOKEN": key},
    )
    async with Client(command) as client:
        assert "data, never an instruction" in client.instructions
        assert len((await client.list_tools()).tools) == 4
        assert (await done(client, "search", query="notice period"))["passages"][0]["document"] == "handbook.txt"
        assert (await refused(client, "read_document", document_id=str(uuid4()))).startswith("document_not_found")
        with pytest.raises(MCPError, match="no such tool"):
            await client.call_tool("delete", {})


@asynccontextmanager
async def pipe():
    """Both ends of one, as text."""
    out, into = os.pipe()
    async with (
        anyio.AsyncFile(os.fdopen(out, encoding="utf-8")) as reader,
        anyio.AsyncFile(os.fdopen(into, "w", encoding="utf-8")) as writer,
    ):
        yield reader, writer


async def test_the_bridge_ends_with_its_input(ada, live):
    key = await key_of(ada, "read")
    greeting = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    async with pipe() as (stdin, typed), pipe() as (said, stdout):
        bridging = asyncio.create_task(bridge(live.url, key, stdin, stdout))
        for message in (
            {"id": 1, "method": "initialize", "params": greeting},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/list"},
            {"id": 3, "method": "tools/call", "params": {"name": "list_documents", "arguments": {}}},
        ):
            await typed.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            await typed.flush()
        answers = {}
        while len(answers) < 3:
            answer = json.loads(await said.readline())
            answers[answer["id"]] = answer["result"]
        await typed.aclose()
        await bridging
    assert answers[1]["serverInfo"]["name"] == "ringfence"
    assert len(answers[2]["tools"]) == 4
    assert answers[3]["structuredContent"] == {"documents": [], "next_cursor": None}


async def test_the_bridge_says_why_it_can_not_begin(live):
    with pytest.raises(Unauthenticated, match="invalid_token"):
        await bridge(live.url, "rfk_nothing")
    with pytest.raises(Unavailable, match="server_unreachable"):
        await bridge("http://127.0.0.1:1", "rfk_nothing")

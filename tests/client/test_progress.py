"""Following documents through whatever happens to the server, by what a server may answer."""

import asyncio
import json
from contextlib import aclosing
from uuid import uuid4

import httpx2
import pytest

from ringfence.client import Client
from ringfence.client.patience import Patience
from ringfence.errors import RateLimited, Unavailable

STREAM = "/api/v1/documents/progress/stream"


def document(document_id, stage="ready", **values):
    said = {"document_id": str(document_id), "name": "a.txt", "size": 1, "stage": stage, "pages": 1, "pages_done": 1}
    said |= {"chunks": 1, "chunks_done": 1, "eta_seconds": None, "reason_code": None, "reason": None, "future": 1}
    return said | values


def told(document_id, stage="ready"):
    return {"type": "progress", "document": document(document_id, stage)}


def gone(document_id):
    return {"type": "gone", "document_id": str(document_id)}


def end(reason="finished"):
    return {"type": "end", "reason": reason}


def counts(queued=0):
    return {"type": "counts", "queued": queued, "working": 0}


def stream(*events):
    return httpx2.Response(200, text=":\n\n".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events))


class Server:
    """Answers streams in turn, the rest by path."""

    def __init__(self, *streams, **paths):
        self.streams, self.paths, self.asked = list(streams), paths, []

    def __call__(self, request):
        path = request.url.path
        if path != STREAM:
            return self.paths["other"](path)
        self.asked.append(json.loads(request.content or "{}").get("document_ids"))
        answer = self.streams.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(server):
    return Client("http://engine", token="t", transport=httpx2.MockTransport(server))


async def test_following_goes_on_until_all_is_over():
    a, b, c = uuid4(), uuid4(), uuid4()
    server = Server(
        stream(told(a, "queued"), told(b, "parsing"), told(a, "ready"), end("again")),
        httpx2.ConnectError("restarted"),
        httpx2.Response(503, json={"code": "shutting_down"}),
        httpx2.Response(429, json={"code": "too_many_streams"}, headers={"Retry-After": "0"}),
        stream(told(b, "embedding"), end("stopping")),
        stream(told(b, "embedding")),
        stream(told(b, "failed"), gone(c), end()),
    )
    async with client(server) as engine:
        events = [event async for event in engine.follow([a, b, c])]
    assert [event.document.stage for event in events[:-1]] == [
        "queued", "parsing", "ready", "embedding", "embedding", "failed",
    ]  # fmt: skip
    assert events[-1].document_id == c
    assert server.asked == [[str(a), str(b), str(c)]] + [[str(b), str(c)]] * 6


async def test_of_many_a_thousand_at_a_time_is_followed():
    ids = [uuid4() for _ in range(1500)]
    parts = ids[:1000], ids[1000:]
    server = Server(*(stream(*map(told, part), end()) for part in parts))
    async with client(server) as engine:
        assert len([event async for event in engine.follow(ids)]) == 1500
    assert server.asked == [[str(one) for one in part] for part in parts]


async def test_patience_ends():
    server = Server(*[httpx2.ConnectError("down")] * 3)
    async with client(server) as engine:
        with pytest.raises(Unavailable, match="server_unreachable"):
            [event async for event in engine.follow([uuid4()], patience=0)]
    assert len(server.asked) == 1


async def test_patience_waits_as_long_as_a_limit_wants():
    began, patience = asyncio.get_running_loop().time(), Patience(10, first=0.001)
    await patience.wait(RateLimited("too_many_streams", "Wait.", retry_after=0.1))
    assert asyncio.get_running_loop().time() - began >= 0.1


async def test_what_ended_while_nobody_listened_is_told():
    a, b, c = uuid4(), uuid4(), uuid4()

    def states(path):
        found = {str(a): "ready", str(b): "embedding"}
        name = path.split("/")[-2]
        return httpx2.Response(200, json=document(name, found[name])) if name in found else httpx2.Response(404)

    server = Server(
        stream(counts(3), *(told(one, "queued") for one in (a, b, c)), end("again")),
        stream(counts(1), told(b, "embedding"), gone(b)),
        stream(counts(0)),
        other=states,
    )
    async with client(server) as engine, aclosing(engine.progress()) as events:
        seen = [await anext(events) for _ in range(4)]
        assert [event.type for event in seen] == ["counts", "progress", "progress", "progress"]
        again = [await anext(events) for _ in range(5)]
        assert {again[0].type, again[1].type} == {"progress", "gone"}
        ended = {event.document_id if event.type == "gone" else event.document.document_id for event in again[:2]}
        assert ended == {a, c}
        assert [event.type for event in again[2:]] == ["counts", "progress", "gone"]
        assert (await anext(events)).type == "counts"


async def test_endless_progress_has_patience_too():
    async with client(Server(httpx2.ConnectError("down"))) as engine:
        with pytest.raises(Unavailable):
            await anext(engine.progress(patience=0))


async def test_many_contents_are_asked_a_thousand_at_a_time():
    asked = []

    def answer(request):
        asked.append(json.loads(request.content)["sha256"])
        one = {"sha256": asked[-1][0], "document": document(uuid4()), "future": 1}
        return httpx2.Response(200, json={"known": [one]})

    async with client(answer) as engine:
        known = await engine.known([f"{n:064x}" for n in range(1001)])
    assert [len(some) for some in asked] == [1000, 1]
    assert list(known) == [f"{0:064x}", f"{1000:064x}"]


async def test_following_a_real_engine(live):
    async with live.account("ada@example.com") as ada:
        files = [("file", (name, name.encode())) for name in ("a.txt", "b.txt")]
        batch = (await ada._http.post("/api/v1/batches", files=files)).json()
        ids = [file["document"]["document_id"] for file in batch["files"]]
        events = [event async for event in ada.follow(ids)]
        assert {str(event.document.document_id) for event in events if event.document.stage == "ready"} == set(ids)
        assert (await ada.batch(batch["batch_id"])).batch.stages == {"ready": 2}
        sha256 = batch["files"][0]["document"]["sha256"]
        assert (await ada.known([sha256, "0" * 64]))[sha256] == await ada.document_progress(ids[0])
        assert (await anext(ada.progress())).type == "counts"

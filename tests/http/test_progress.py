"""Progress over HTTP: asked for and streamed, of one's own documents alone."""

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from ringfence.documents.events import EndEvent, GoneEvent
from ringfence.http.progress import ProgressStream
from ringfence.http.streams import server_sent_event
from tests.http.test_documents import TEXT, ada, bob, finished, upload  # noqa: F401  # fixtures
from tests.http.test_streams import Sent, never

DOCUMENTS = "/api/v1/documents"


def parsed(block):
    name, data = block.splitlines()
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@asynccontextmanager
async def stream(http, path, method="GET", **request):
    """An iterator over a stream's events."""

    async def events(response):
        text = ""
        async for piece in response.aiter_text():
            *blocks, text = (text + piece).split("\n\n")
            for block in blocks:
                if not block.startswith(":"):
                    yield parsed(block)

    async with http.stream(method, path, **request) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        async with asyncio.timeout(20):
            yield events(response)


async def told(http, path, method="GET", **request):
    async with stream(http, path, method, **request) as events:
        return [event async for event in events]


async def test_an_upload_is_followed_until_it_is_ready(ada):  # noqa: F811
    document_id = (await upload(ada)).json()["document_id"]
    events = await told(ada, f"{DOCUMENTS}/{document_id}/progress/stream")
    assert {name for name, _ in events[:-1]} == {"progress"}
    assert {event["document"]["document_id"] for _, event in events[:-1]} == {document_id}
    last = events[-2][1]["document"]
    assert (last["stage"], last["pages"], last["chunks_done"], last["eta_seconds"]) == ("ready", 1, 1, 0)
    assert events[-1] == ("end", {"type": "end", "reason": "finished"})
    assert (await ada.get(f"{DOCUMENTS}/{document_id}/progress")).json() == last
    assert (await ada.get(f"{DOCUMENTS}/progress")).json() == {"queued": 0, "working": 0, "documents": []}


async def test_all_documents_are_followed_as_they_come(ada):  # noqa: F811
    async with stream(ada, f"{DOCUMENTS}/progress/stream") as events:
        assert await anext(events) == ("counts", {"type": "counts", "queued": 0, "working": 0})
        ids = [(await upload(ada, name, name.encode())).json()["document_id"] for name in ("a.txt", "b.txt")]
        ready = set()
        async for name, event in events:
            if name == "progress" and event["document"]["stage"] == "ready":
                ready.add(event["document"]["document_id"])
            if ready == set(ids):
                break


async def test_a_batch_has_an_id_and_is_followed(ada):  # noqa: F811
    files = [("file", ("a.txt", b"Anders repairs the oven.")), ("file", ("b.zip", b"PK\x03\x04nothing"))]
    batch = (await ada.post("/api/v1/batches", files=files)).json()
    path = f"/api/v1/batches/{batch['batch_id']}"
    document_id = batch["files"][0]["document"]["document_id"]
    events = await told(ada, f"{path}/stream")
    assert [name for name, _ in events[-3:]] == ["progress", "batch", "end"]
    said = (await ada.get(path)).json()
    assert [one["document_id"] for one in said["documents"]] == [document_id]
    assert said["batch"] == events[-2][1]["batch"] | {"eta_seconds": 0}
    assert (said["batch"]["stages"], said["batch"]["gone"], said["batch"]["pages"]) == ({"ready": 1}, 0, 1)


async def test_nobody_learns_of_anothers_documents(ada, bob):  # noqa: F811
    """Not by following everything while the other uploads, nor by ids, nor by contents."""
    async with stream(bob, f"{DOCUMENTS}/progress/stream") as everything:
        assert (await anext(everything))[0] == "counts"
        theirs = (await upload(ada)).json()["document_id"]
        batch_id = (await ada.post("/api/v1/batches", files=[("file", ("b.txt", b"more"))])).json()["batch_id"]
        await finished(ada, theirs)
        for path, there in ((DOCUMENTS + "/{}/progress", theirs), ("/api/v1/batches/{}", batch_id)):
            for end in ("", "/stream"):
                found, missing = [await bob.get(path.format(one) + end) for one in (there, uuid4())]
                assert (found.status_code, found.content) == (404, missing.content)
        nobodys = str(uuid4())
        asked = {"document_ids": [theirs, nobodys]}
        events = await told(bob, f"{DOCUMENTS}/progress/stream", "POST", json=asked)
        assert {(name, event.get("document_id")) for name, event in events} == {
            ("gone", theirs), ("gone", nobodys), ("end", None),
        }  # fmt: skip
        contents = {"sha256": [hashlib.sha256(TEXT).hexdigest()]}
        assert (await bob.post(f"{DOCUMENTS}/known", json=contents)).json() == {"known": []}
        assert (await ada.post(f"{DOCUMENTS}/known", json=contents)).json()["known"][0]["document"]["stage"] == "ready"
        assert (await bob.get(f"{DOCUMENTS}/progress")).json()["documents"] == []
        mine = (await upload(bob, "mine.txt")).json()["document_id"]  # the same content
        async for name, event in everything:
            if name == "progress":
                assert event["document"]["document_id"] == mine
                if event["document"]["stage"] == "ready":
                    break
            else:
                assert event["queued"] + event["working"] <= 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("known", {"sha256": ["00"]}),
        ("known", {"sha256": ["AB" * 32]}),
        ("known", {"sha256": []}),
        ("known", {"sha256": ["ab" * 32] * 1001}),
        ("progress/stream", {"document_ids": []}),
        ("progress/stream", {"document_ids": [str(uuid4())] * 1001}),
        ("progress/stream", {"document_ids": ["me"]}),
    ],
)
async def test_what_is_asked_has_its_form(ada, path, body):  # noqa: F811
    assert (await ada.post(f"{DOCUMENTS}/{path}", json=body)).status_code == 422


async def test_too_many_streams_are_refused_and_may_be_again(ada):  # noqa: F811
    path = f"{DOCUMENTS}/progress/stream"
    opened = [ada.stream("GET", path) for _ in range(20)]
    for one in opened:
        assert (await one.__aenter__()).status_code == 200
    refused = await ada.get(path)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    assert refused.headers["ratelimit-policy"].startswith('"streams";q=20;w=300')
    for one in opened:
        await one.__aexit__(None, None, None)
    async with asyncio.timeout(10):
        while True:  # the server has to notice
            async with ada.stream("GET", path) as response:
                if response.status_code == 200:
                    break


async def test_a_stream_that_is_told_to_stop_ends_with_a_word():
    stopping = asyncio.Event()

    async def events():
        yield None
        yield GoneEvent(document_id=uuid4())
        stopping.set()
        await never()

    sent = Sent()
    await ProgressStream(events(), stopping)({}, never, sent)
    assert sent.body.startswith(b":\n\nevent: gone\n")
    assert sent.body.endswith(server_sent_event(EndEvent(reason="stopping")))

"""Documents as files, collections as vector stores, and vectors, by the official client."""

import asyncio
import io
from uuid import uuid4

import httpx2
import numpy as np
import openai
import pytest

from tests.http.openai.conftest import client_of, key_of, program_of

TEXTS = {
    "handbook.txt": b"The notice period is six weeks to the end of a quarter.",
    "trainees.txt": b"The notice period of trainees is two weeks.",
    "travel.txt": b"Trips by train are paid for in full.",
}


async def ids(pages):
    """All ids of a list, whose pages the client turns by itself."""
    return [one.id async for one in pages]


@pytest.fixture
async def ada(live):
    async with program_of(live, "ada@example.com") as (client, http):
        yield client, http


async def put(client, name, text=None, **more):
    return await client.files.create(file=(name, io.BytesIO(text or TEXTS[name])), purpose="assistants", **more)


async def processed(client, *ids):
    """The files, once they are read."""
    async with asyncio.timeout(30):
        for file_id in ids:
            while (file := await client.files.retrieve(file_id)).status == "uploaded":
                await asyncio.sleep(0.02)  # as any client of this protocol has to
            assert file.status == "processed", file


async def test_files(ada, live):
    client, _ = ada
    made = [await put(client, name) for name in TEXTS]
    first, second, third = [file.id for file in made]
    assert (made[0].filename, made[0].bytes, made[0].object) == ("handbook.txt", 55, "file")
    assert (await put(client, "handbook.txt")).id == first
    await processed(client, first, second, third)
    assert await ids(client.files.list()) == [third, second, first]
    assert await ids(client.files.list(limit=1, order="asc", purpose="assistants")) == [first, second, third]
    page = await client.files.list(after=third, limit=1)
    assert ([file.id for file in page.data], page.has_more) == ([second], True)
    before = await client.files.list(extra_query={"before": first}, limit=1)
    assert ([file.id for file in before.data], before.has_more) == ([second], True)
    assert (await client.files.content(second)).content == TEXTS["trainees.txt"]
    assert (await client.files.delete(second)).deleted is True
    for gone in (second, str(uuid4()), "file-abc123"):
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError) as raised:
                await call(gone)
            assert raised.value.code == "document_not_found"
    for place in (second, str(uuid4())):
        with pytest.raises(openai.BadRequestError) as raised:
            await client.files.list(after=place)
        assert (raised.value.param, raised.value.code) == ("after", "bad_cursor")
    with pytest.raises(openai.UnprocessableEntityError):
        await client.files.list(after=first, extra_query={"before": first})
    async with program_of(live, "bob@example.com") as (bob, _):
        assert await ids(bob.files.list()) == []
        for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
            with pytest.raises(openai.NotFoundError):
                await call(first)
    assert await ids(client.files.list()) == [third, first]


async def test_what_is_no_file_or_would_not_be_done_is_refused(ada, live):
    client, http = ada
    for param, more in (
        ("purpose", {"extra_body": {"purpose": "fine-tune"}}),
        ("expires_after[anchor]", {"expires_after": {"anchor": "created_at", "seconds": 3600}}),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            await put(client, "handbook.txt", **more)
        assert (raised.value.param, raised.value.code) == (param, "unsupported_parameter")
    with pytest.raises(openai.APIStatusError) as raised:
        await put(client, "a.mp4", b"\x00\x00\x00\x18ftypmp42")
    assert (raised.value.status_code, raised.value.code) == (415, "unsupported_type")
    with pytest.raises(openai.BadRequestError):
        await client.files.list(extra_query={"sort": "name"})
    async with client_of(live.url, await key_of(http, "read", "ask")) as reader:
        with pytest.raises(openai.PermissionDeniedError):
            await put(reader, "handbook.txt")
    assert await ids(client.files.list()) == []
    body = {"file": ("a.txt", b"A text."), "tags": (None, "a"), "metadata": (None, '{"year": 2026}')}
    made = await http.post("/v1/files", files=body)
    document = (await http.get(f"/api/v1/documents/{made.json()['id']}")).json()
    assert (document["tags"], document["metadata"]) == (["a"], {"year": 2026})


async def test_a_file_that_can_not_be_read_says_why(ada):
    client, _ = ada
    file = await put(client, "a.pdf", b"%PDF-1.7\nnothing")
    store = await client.vector_stores.create(name="Broken", file_ids=[file.id])
    inside = await client.vector_stores.files.poll(file.id, vector_store_id=store.id, poll_interval_ms=20)
    assert (inside.status, inside.last_error.code) == ("failed", "invalid_file")
    file = await client.files.retrieve(file.id)
    assert (file.status, file.status_details) == ("error", inside.last_error.message)
    assert (await client.vector_stores.retrieve(store.id)).file_counts.failed == 1
    assert await ids(client.vector_stores.files.list(store.id, filter="failed")) == [file.id]
    assert await ids(client.vector_stores.files.list(store.id, filter="completed")) == []


async def test_a_store_is_a_collection(ada, live):
    client, http = ada
    first, second = [(await put(client, name)).id for name in ("handbook.txt", "trainees.txt")]
    await processed(client, first, second)
    store = await client.vector_stores.create(name="Contracts", file_ids=[first], chunking_strategy={"type": "auto"})
    assert (store.name, store.status, store.file_counts.completed, store.usage_bytes) == (
        "Contracts",
        "completed",
        1,
        55,
    )
    other = await client.vector_stores.create(name="Other", metadata={})
    inside = await client.vector_stores.files.create_and_poll(
        second, vector_store_id=store.id, attributes={"year": 2026, "kind": "rule"}, poll_interval_ms=20
    )
    assert (inside.status, inside.attributes, inside.vector_store_id) == (
        "completed", {"year": 2026, "kind": "rule"}, store.id)  # fmt: skip
    await client.vector_stores.files.create(store.id, file_id=first)  # once more
    files = client.vector_stores.files
    assert await ids(files.list(store.id, limit=1)) == [second, first]
    assert await ids(files.list(store.id, order="asc", filter="completed")) == [first, second]
    assert await ids(files.list(store.id, filter="cancelled")) == await ids(files.list(other.id)) == []
    changed = await files.update(second, vector_store_id=store.id, attributes={"year": 2027})
    assert changed.attributes == {"year": 2027}
    assert (await files.retrieve(second, vector_store_id=store.id)).attributes == {"year": 2027}
    with pytest.raises(openai.NotFoundError):
        await files.retrieve(second, vector_store_id=other.id)
    both = await asyncio.gather(*(files.create(other.id, file_id=one) for one in (first, second)))
    assert [file.id for file in both] == [first, second]
    assert (await files.delete(first, vector_store_id=store.id)).deleted is True
    with pytest.raises(openai.NotFoundError):
        await files.delete(first, vector_store_id=store.id)
    assert await ids(files.list(store.id)) == [second]
    stores = client.vector_stores
    assert await ids(stores.list(limit=1)) == [other.id, store.id]
    assert [one.id for one in (await stores.list(order="asc")).data] == [store.id, other.id]
    page = await stores.list(before=store.id, limit=1)
    assert ([one.id for one in page.data], page.has_more) == ([other.id], False)
    assert (await stores.update(store.id, name="Rules")).name == (await stores.retrieve(store.id)).name == "Rules"
    assert (await stores.update(store.id)).name == "Rules"
    [collection] = [
        one for one in (await http.get("/api/v1/collections")).json()["collections"] if one["name"] == "Rules"
    ]
    assert (collection["collection_id"], collection["documents"]) == (store.id, 1)
    for refused, code in (
        (stores.create(name="Rules"), "collection_exists"),
        (stores.create(name="New", file_ids=[first, str(uuid4())]), "document_not_found"),
        (stores.create(name="New", metadata={"a": "b"}), "unsupported_parameter"),
        (stores.create(name="New", expires_after={"anchor": "last_active_at", "days": 1}), "unsupported_parameter"),
        (stores.list(after=str(uuid4())), "bad_cursor"),
        (stores.retrieve("vs_abc"), "collection_not_found"),
        (stores.retrieve(str(uuid4())), "collection_not_found"),
        (files.create(str(uuid4()), file_id=first), "collection_not_found"),
        (files.list(str(uuid4())), "collection_not_found"),
    ):
        with pytest.raises(openai.APIStatusError) as raised:
            await refused
        assert raised.value.code == code
    async with program_of(live, "bob@example.com") as (bob, _):
        assert await ids(bob.vector_stores.list()) == []
        theirs = (await bob.vector_stores.create(name="Rules")).id
        for refused in (
            bob.vector_stores.retrieve(store.id),
            bob.vector_stores.update(store.id, name="Mine"),
            bob.vector_stores.delete(store.id),
            bob.vector_stores.search(store.id, query="notice period"),
            bob.vector_stores.files.list(store.id),
            bob.vector_stores.files.create(store.id, file_id=second),
            bob.vector_stores.files.create(theirs, file_id=second),
            bob.vector_stores.files.retrieve(second, vector_store_id=store.id),
            bob.vector_stores.files.delete(second, vector_store_id=store.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await refused
    assert (await stores.delete(store.id)).deleted is True
    assert await ids(stores.list()) == [other.id]
    assert await ids(client.files.list()) == [second, first]


async def test_search_in_a_store(ada, live):
    client, http = ada
    made = {name: (await put(client, name)).id for name in TEXTS}
    await processed(client, *made.values())
    store = await client.vector_stores.create(name="Contracts")
    for name, year in (("handbook.txt", 2020), ("trainees.txt", 2026)):
        await client.vector_stores.files.create(store.id, file_id=made[name], attributes={"year": year, "kind": "rule"})
    unlabelled = await client.vector_stores.create(name="All", file_ids=list(made.values()))
    searching = client.vector_stores.search

    async def names(query="notice period", where=store.id, **more):
        return [hit.filename async for hit in searching(where, query=query, **more)]

    found = await searching(store.id, query="notice period")
    assert {hit.filename for hit in found.data} == {"handbook.txt", "trainees.txt"}
    best = found.data[0]
    assert best.content[0].text.encode() == TEXTS[best.filename]
    assert (best.file_id, best.attributes["kind"], best.model_extra["ringfence"]["page"]) == (
        made[best.filename], "rule", 1)  # fmt: skip
    assert 0 < best.score <= 1
    assert await names(max_num_results=1) == [best.filename]
    assert await names("trains") == await names("trains", ranking_options={"ranker": "none"})
    assert "travel.txt" not in await names("trips by train")
    assert (await names("trips by train", unlabelled.id))[0] == "travel.txt"
    assert await names(ranking_options={"score_threshold": best.score}) == [best.filename]
    newer = {"type": "gt", "key": "year", "value": 2020}
    rule = {"type": "in", "key": "kind", "value": ["rule", "law"]}
    assert await names(filters=newer) == ["trainees.txt"]
    assert await names(filters={"type": "and", "filters": [rule, {"type": "and", "filters": [newer]}]}) == [
        "trainees.txt"
    ]
    assert await names(filters={"type": "eq", "key": "year", "value": "2020"}) == []
    several = await searching(unlabelled.id, query=["trips by train", "notice period of trainees"])
    assert several.model_extra["search_query"] == ["trips by train", "notice period of trainees"]
    assert {hit.filename for hit in several.data[:2]} == {"travel.txt", "trainees.txt"}
    assert len({hit.file_id for hit in several.data}) == len(several.data) == 3
    assert [hit.score for hit in several.data] == sorted((hit.score for hit in several.data), reverse=True)
    many = {"type": "and", "filters": [{"type": "and", "filters": [newer] * 15}] * 2}
    for param, code, more in (
        ("filters", "unsupported_parameter", {"filters": {"type": "or", "filters": [newer]}}),
        ("filters", "unsupported_parameter", {"filters": {**newer, "type": "ne"}}),
        ("filters", "bad_query", {"filters": many}),
        ("filters.gt", "bad_request", {"filters": {**newer, "value": True}}),
        ("filters.gt", "bad_request", {"filters": {**newer, "key": "a\0"}}),
        ("rewrite_query", "unsupported_parameter", {"rewrite_query": True}),
        ("max_num_results", "bad_request", {"max_num_results": 51}),
    ):
        with pytest.raises(openai.APIStatusError) as raised:
            await searching(store.id, query="notice period", **more)
        assert (raised.value.param, raised.value.code) == (param, code)
    for options in ({}, {"ranking_options": {"ranker": "none"}}):
        with pytest.raises(openai.BadRequestError) as raised:
            await searching(store.id, query=" ", **options)
        assert raised.value.code == "bad_query"
    assert (await http.get("/api/v1/me/usage")).json()["questions"]["used"] == 0


async def test_embeddings(ada, models):
    client, http = ada
    texts = ["The notice period", "Trips by train"]
    made = await client.embeddings.create(model="openai/hash", input=texts)  # in base64, which the client reads
    plain = await client.embeddings.create(
        model="openai/hash", input=texts, encoding_format="float", dimensions=384, user="ada"
    )
    assert np.allclose([one.embedding for one in made.data], [one.embedding for one in plain.data])
    assert [one.index for one in made.data] == [0, 1]
    assert np.allclose(np.linalg.norm([one.embedding for one in made.data], axis=1), 1)
    assert made.usage.prompt_tokens == made.usage.total_tokens == 6 + 2 + 5 + 2  # 3 characters each, and 2 a text
    one = await client.embeddings.create(model="openai/hash", input=texts[0])
    assert one.data[0].embedding == made.data[0].embedding
    assert (await http.get("/api/v1/me/usage")).json()["questions"]["used"] == 3
    for param, code, more in (
        ("input", "unsupported_parameter", {"input": [1, 2]}),
        ("input", "unsupported_parameter", {"input": [[1, 2]]}),
        ("input", "bad_request", {"input": ""}),
        ("input", "bad_request", {"input": ["a"] * 257}),
        ("dimensions", "unsupported_parameter", {"dimensions": 7}),
        (None, "model_not_found", {"model": "text-embedding-3-small"}),
    ):
        with pytest.raises(openai.APIStatusError) as raised:
            await client.embeddings.create(**{"model": "openai/hash", "input": "a"} | more)
        assert (raised.value.param, raised.value.code) == (param, code)
    models.script_embeddings(status=503)
    with pytest.raises(openai.InternalServerError) as raised:
        await client.embeddings.create(model="openai/hash", input="a")
    assert raised.value.code == "model_busy"


async def test_what_is_not_there_in_openais_form(live):
    async with httpx2.AsyncClient(base_url=live.url) as bare:
        for path in ("/v1/responses", "/v1/audio/speech", "/v1/vector_stores/a/file_batches"):
            assert (await bare.post(path)).json()["error"]["code"] == "not_found"

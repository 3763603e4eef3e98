"""A library's order over HTTP: lists, labels, collections, the bin, other content; wrong tenants and hostile input."""

import asyncio
import json
from uuid import uuid4

import pytest

from ringfence.client import Client
from tests.engine import PASSWORD, running
from tests.http.test_documents import FILE, TEXT, finished, form, multipart, upload

DOCUMENTS = "/api/v1/documents"
COLLECTIONS = "/api/v1/collections"


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        yield client._http


@pytest.fixture
async def bob(live):
    async with live.account("bob@example.com") as client:
        yield client._http


async def listed(http, **params):
    response = await http.get(DOCUMENTS, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def names(page):
    return [document["name"] for document in page["documents"]]


async def labelled(http, name, content, *fields):
    """Upload a file with form fields around it."""
    parts = [(key, "", value.encode()) for key, value in fields]
    half = len(parts) // 2
    return await http.post(DOCUMENTS, **form(*parts[:half], ("file", f'; filename="{name}"', content), *parts[half:]))


async def test_documents_are_labelled_listed_and_found_again(ada):
    made = await ada.post(COLLECTIONS, json={"name": "Contracts"})
    assert made.status_code == 201
    collection = made.json()["collection_id"]
    response = await labelled(
        ada, "b.txt", b"one", ("tags", "Rent"), ("collections", collection), ("metadata", '{"year": 2026}'),
        ("tags", "RENT"), ("tags", "old  flat"),
    )  # fmt: skip
    assert response.status_code == 202, response.text
    first = response.json()
    assert (first["tags"], first["collections"], first["metadata"]) == (
        ["old flat", "rent"], [collection], {"year": 2026},
    )  # fmt: skip
    assert (first["version"], first["deleted_at"], first["replacement"], first["language"]) == (1, None, None, None)
    second = (await upload(ada, "A%.txt", b"second one")).json()
    third = (await upload(ada, "c.txt", b"the third")).json()
    change = {"name": "C_2.txt", "tags": ["rent"], "metadata": {"year": 2024, "who": ["ada", "bob"]}}
    changed = await ada.patch(f"{DOCUMENTS}/{third['document_id']}", json=change)
    assert (changed.status_code, changed.json()["name"], changed.json()["tags"]) == (200, "C_2.txt", ["rent"])
    assert names(await listed(ada)) == ["C_2.txt", "A%.txt", "b.txt"]
    assert names(await listed(ada, sort="name")) == ["A%.txt", "b.txt", "C_2.txt"]
    assert names(await listed(ada, sort="size")) == ["A%.txt", "C_2.txt", "b.txt"]
    assert names(await listed(ada, sort="created", order="asc")) == ["b.txt", "A%.txt", "C_2.txt"]
    assert names(await listed(ada, tag="RENT")) == ["C_2.txt", "b.txt"]
    assert names(await listed(ada, tag=["rent", "Old flat"])) == ["b.txt"]
    assert names(await listed(ada, collection=collection)) == ["b.txt"]
    assert names(await listed(ada, name="%")) == ["A%.txt"]
    assert names(await listed(ada, metadata='{"year": {"lt": 2025}, "who": "bob"}')) == ["C_2.txt"]
    assert names(await listed(ada, created_from=second["created_at"])) == ["C_2.txt", "A%.txt"]
    assert names(await listed(ada, created_to=second["created_at"])) == ["b.txt"]
    await finished(ada, second["document_id"])
    assert "A%.txt" in names(await listed(ada, language="en"))
    assert names(await listed(ada, language="fi")) == []
    assert "A%.txt" in names(await listed(ada, state=["ready", "failed"]))
    page = await listed(ada, sort="name", limit=2)
    assert names(page) == ["A%.txt", "b.txt"]
    rest = await listed(ada, sort="name", limit=2, cursor=page["next_cursor"])
    assert (names(rest), rest["next_cursor"]) == (["C_2.txt"], None)
    wrong = await ada.get(DOCUMENTS, params={"sort": "size", "cursor": page["next_cursor"]})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "bad_cursor")
    shown = (await ada.get(f"{COLLECTIONS}/{collection}")).json()
    assert (shown["name"], shown["documents"]) == ("Contracts", 1)
    renamed = await ada.patch(f"{COLLECTIONS}/{collection}", json={"name": "Old"})
    assert (await ada.get(COLLECTIONS)).json() == {"collections": [renamed.json()]}
    assert (await ada.post(COLLECTIONS, json={"name": "Old"})).status_code == 409
    assert (await ada.delete(f"{COLLECTIONS}/{collection}")).status_code == 204
    assert (await ada.get(f"{DOCUMENTS}/{first['document_id']}")).json()["collections"] == []


async def test_what_is_deleted_can_be_restored_or_purged(ada):
    ids = [(await upload(ada, f"{n}.txt", f"text {n}".encode())).json()["document_id"] for n in range(3)]
    assert (await ada.delete(f"{DOCUMENTS}/{ids[0]}")).status_code == 204
    assert (await ada.delete(f"{DOCUMENTS}/{ids[0]}")).status_code == 404
    never, unknown = await ada.get(f"{DOCUMENTS}/{uuid4()}"), str(uuid4())
    assert (await ada.get(f"{DOCUMENTS}/{ids[0]}")).content == never.content
    assert names(await listed(ada, deleted="true")) == ["0.txt"]
    assert names(await listed(ada)) == ["2.txt", "1.txt"]
    restored = await ada.post(f"{DOCUMENTS}/{ids[0]}/restore")
    assert (restored.status_code, restored.json()["deleted_at"]) == (200, None)
    several = await ada.post(f"{DOCUMENTS}/delete", json={"document_ids": [ids[0], unknown, ids[1]]})
    assert several.json() == {
        "documents": [
            {"document_id": ids[0], "outcome": "deleted"},
            {"document_id": unknown, "outcome": "not_found"},
            {"document_id": ids[1], "outcome": "deleted"},
        ]
    }
    assert (await ada.get("/api/v1/me/usage")).json()["documents"]["used"] == 3
    again = await upload(ada, "1.txt", b"text 1")
    assert (again.status_code, again.json()["document_id"], again.json()["deleted_at"]) == (200, ids[1], None)
    purged = await ada.post(f"{DOCUMENTS}/delete", json={"document_ids": ids, "purge": True})
    assert {one["outcome"] for one in purged.json()["documents"]} == {"purged"}
    assert (await ada.post(f"{DOCUMENTS}/{ids[0]}/restore")).status_code == 404
    assert (await ada.get("/api/v1/me/usage")).json()["documents"]["used"] == 0


async def put_content(http, document_id, content, name="new.txt"):
    return await http.put(f"{DOCUMENTS}/{document_id}/content", files={"file": (name, content)})


async def swapped(http, document_id, version):
    async with asyncio.timeout(30):
        while (await http.get(f"{DOCUMENTS}/{document_id}")).json()["version"] != version:
            await asyncio.sleep(0.05)


async def test_another_content_takes_the_place_of_the_former(ada):
    document = await finished(ada, (await upload(ada)).json()["document_id"])
    document_id = document["document_id"]
    response = await put_content(ada, document_id, b"The notice period is eight weeks now.")
    assert response.status_code == 202
    assert response.json()["replacement"]["state"] in {"queued", "processing"}
    await swapped(ada, document_id, 2)
    assert (await ada.get(f"{DOCUMENTS}/{document_id}/content")).content == b"The notice period is eight weeks now."
    found = await ada.post("/api/v1/search", json={"query": "notice period"})
    assert [hit["text"] for hit in found.json()["results"]] == ["The notice period is eight weeks now."]
    same = await put_content(ada, document_id, b"The notice period is eight weeks now.")
    assert (same.status_code, same.json()["version"]) == (200, 2)
    other = (await upload(ada, "other.txt", b"other words")).json()
    taken = await put_content(ada, document_id, b"other words")
    assert (taken.status_code, taken.json()["code"]) == (409, "content_exists")
    assert (await put_content(ada, uuid4(), b"words")).status_code == 404
    assert (await put_content(ada, other["document_id"], b"PK\x03\x04", "a.zip")).status_code == 415


async def test_another_content_is_limited_as_an_upload_is(settings, models):
    small = settings.model_copy(update={"upload_max_bytes": 100_000, "body_max_bytes": 1024})
    async with running(small, models) as live, live.account("ada@example.com") as client:
        http = client._http
        document_id = (await upload(http)).json()["document_id"]
        assert (await put_content(http, document_id, b"word " * 1000)).status_code == 202  # more than other bodies
        large = await put_content(http, document_id, b"x" * 200_000)
        assert (large.status_code, large.json()["code"]) == (413, "file_too_large")
        body = {"document_ids": [str(uuid4()) for _ in range(100)]}
        assert (await http.post(f"{DOCUMENTS}/delete", json=body)).status_code == 413


async def test_another_tenants_documents_and_collections_are_as_if_they_had_never_been(ada, bob):
    document_id = (await upload(ada)).json()["document_id"]
    binned = (await upload(ada, "b.txt", b"in the bin")).json()["document_id"]
    await ada.delete(f"{DOCUMENTS}/{binned}")
    collection = (await ada.post(COLLECTIONS, json={"name": "Hers"})).json()["collection_id"]
    mine = (await upload(bob, "mine.txt", b"mine")).json()["document_id"]
    file = {"file": ("a.txt", b"his words")}
    tries = [
        ("PATCH", f"{DOCUMENTS}/ID", {"json": {"name": "x", "tags": ["y"]}}),
        ("PUT", f"{DOCUMENTS}/ID/content", {"files": file}),
        ("DELETE", f"{DOCUMENTS}/ID", {}),
        ("DELETE", f"{DOCUMENTS}/ID?purge=true", {}),
        ("POST", f"{DOCUMENTS}/ID/restore", {}),
        ("GET", f"{COLLECTIONS}/ID", {}),
        ("PATCH", f"{COLLECTIONS}/ID", {"json": {"name": "Hers"}}),
        ("DELETE", f"{COLLECTIONS}/ID", {}),
        ("PATCH", f"{DOCUMENTS}/{mine}", {"json": {"collections": ["ID"]}}),
        ("GET", f"{DOCUMENTS}?collection=ID", {}),
    ]
    for method, path, request in tries:
        answers = []
        for other in (document_id, binned, collection, str(uuid4())):
            text = json.dumps(request["json"]).replace("ID", other) if "json" in request else None
            sent = {"content": text, "headers": {"content-type": "application/json"}} if text else request
            response = await bob.request(method, path.replace("ID", other), **sent)
            answers.append((response.status_code, response.content))
        assert len(set(answers)) == 1, (method, path)
        assert answers[0][0] in {400, 404} or path.startswith(f"{DOCUMENTS}?")
    fates = (await bob.post(f"{DOCUMENTS}/delete", json={"document_ids": [document_id, binned], "purge": True})).json()
    assert {one["outcome"] for one in fates["documents"]} == {"not_found"}
    assert (await bob.get(COLLECTIONS)).json() == {"collections": []}
    assert (await bob.post(COLLECTIONS, json={"name": "Hers"})).status_code == 201
    assert names(await listed(bob)) == ["mine.txt"]
    assert names(await listed(bob, deleted="true")) == []
    assert names(await listed(ada)) == ["handbook.txt"]
    assert names(await listed(ada, deleted="true")) == ["b.txt"]
    assert (await ada.get(f"{COLLECTIONS}/{collection}")).json()["name"] == "Hers"


HOSTILE = [
    {"name": "a\0b"},
    {"name": "x" * 256},
    {"limit": "0"},
    {"limit": "1001"},
    {"sort": "sha256"},
    {"order": "sideways"},
    {"state": "gone"},
    {"tag": ""},
    {"tag": "a\0"},
    {"tag": "x" * 65},
    {"tag": [str(n) for n in range(51)]},
    {"collection": "x"},
    {"metadata": "x"},
    {"metadata": "[]"},
    {"metadata": "{}"},
    {"metadata": '{"a": {"like": 1}}'},
    {"metadata": '{"a": "\\u0000"}'},
    {"metadata": '{"a": "\\ud800"}'},
    {"metadata": "[" * 9000},
    {"created_from": "yesterday"},
    {"created_to": "9999-12-31T23:59:59-14:00"},
    {"language": "e'"},
    {"cursor": "x" * 2001},
    {"unknown": "1"},
]


async def test_hostile_lists_are_refused(ada):
    for params in HOSTILE:
        response = await ada.get(DOCUMENTS, params=params)
        assert (response.status_code, response.json()["code"]) == (422, "bad_request"), params
    for params in ({"cursor": "AAAA"}, {"cursor": "\0"}):
        assert (await ada.get(DOCUMENTS, params=params)).status_code == 400
    assert (await ada.get(DOCUMENTS + "?name=%ff%fe")).status_code == 200  # no UTF-8: replacement characters


async def test_hostile_labels_are_refused(ada):
    document_id = (await upload(ada)).json()["document_id"]
    for body in (
        '{"name": ""}',
        '{"name": ".."}',
        '{"name": "\\ud800"}',
        '{"tags": ["\\ud800"]}',
        '{"tags": [""]}',
        '{"tags": ["a\\u0000"]}',
        '{"metadata": {"a": {}}}',
        '{"metadata": {"a": "\\ud800"}}',
        '{"metadata": {"\\ud800": 1}}',
        '{"metadata": {"a": NaN}}',
        '{"metadata": {"a": 1e999}}',
        '{"metadata": {"a": ' + "1" * 5000 + "}}",
        '{"metadata": {"a": "' + "x" * 17_000 + '"}}',
        '{"metadata": {"a": ' + "[" * 50_000 + "]" * 50_000 + "}}",
        '{"metadata": []}',
        '{"collections": ["x"]}',
        json.dumps({"collections": [str(uuid4())]}),
        json.dumps({"collections": [str(uuid4()) for _ in range(51)]}),
        json.dumps({"tags": [str(n) for n in range(51)]}),
        '{"size": 1}',
        '{"\\ud800": 1}',
    ):
        headers = {"content-type": "application/json"}
        response = await ada.patch(f"{DOCUMENTS}/{document_id}", content=body, headers=headers)
        assert response.status_code in {400, 422}, body[:60]
    for fields in (
        [("tags", "a\0")],
        [("tags", str(n)) for n in range(51)],
        [("metadata", "x")],
        [("metadata", "x" * 70_000)],
        [("metadata", '{"a": {}}')],
        [("collections", "x")],
        [("collections", str(uuid4()))],
    ):
        response = await labelled(ada, "a.txt", b"more words", *fields)
        assert response.status_code == 400, fields
    broken = multipart((b'Content-Disposition: form-data; name="tags"', b"\xff\xfe"), (FILE, TEXT))
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    response = await ada.post(DOCUMENTS, content=broken, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "bad_field")
    for body in ({"name": "x" * 101}, {"name": "\u200b"}):
        response = await ada.post(COLLECTIONS, json=body)
        assert (response.status_code, response.json()["code"]) == (400, "bad_collection_name")
    assert names(await listed(ada)) == ["handbook.txt"]
    assert (await listed(ada))["documents"][0]["metadata"] == {}


async def test_a_key_that_may_only_read_changes_nothing(live, ada):
    document_id = (await upload(ada)).json()["document_id"]
    body = {"name": "reader", "scopes": ["read"], "expires_in_days": None, "password": PASSWORD}
    key = (await ada.post("/api/v1/api-keys", json=body)).json()["key"]
    async with Client(live.url, token=key) as reader:
        http = reader._http
        assert len(await reader.documents()) == 1
        assert await reader.collections() == []
        for method, path, request in (
            ("PATCH", f"{DOCUMENTS}/{document_id}", {"json": {"name": "x"}}),
            ("PUT", f"{DOCUMENTS}/{document_id}/content", {"files": {"file": ("a.txt", b"x")}}),
            ("DELETE", f"{DOCUMENTS}/{document_id}", {}),
            ("POST", f"{DOCUMENTS}/{document_id}/restore", {}),
            ("POST", f"{DOCUMENTS}/delete", {"json": {"document_ids": [document_id]}}),
            ("POST", COLLECTIONS, {"json": {"name": "x"}}),
            ("PATCH", f"{COLLECTIONS}/{uuid4()}", {"json": {"name": "x"}}),
            ("DELETE", f"{COLLECTIONS}/{uuid4()}", {}),
        ):
            assert (await http.request(method, path, **request)).json()["code"] == "scope_missing", path

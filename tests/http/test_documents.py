import asyncio
import hashlib
from uuid import uuid4

import pytest

from ringfence.settings import Settings
from tests.engine import running

TEXT = b"The notice period is six weeks to the end of a quarter.\n\nAnders repairs the oven."


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        yield client._http


@pytest.fixture
async def bob(live):
    async with live.account("bob@example.com") as client:
        yield client._http


async def upload(http, name="handbook.txt", content=TEXT):
    return await http.post("/api/v1/documents", files={"file": (name, content)})


async def finished(http, document_id):
    async with asyncio.timeout(30):
        while True:
            document = (await http.get(f"/api/v1/documents/{document_id}")).json()
            if document["state"] in {"ready", "failed"}:
                return document
            await asyncio.sleep(0.05)


async def test_upload_read_download_delete(ada):
    response = await upload(ada)
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"/api/v1/documents/{body['document_id']}"
    assert (body["name"], body["size"], body["media_type"]) == ("handbook.txt", len(TEXT), "text/plain")
    assert body["sha256"] == hashlib.sha256(TEXT).hexdigest()
    document = await finished(ada, body["document_id"])
    assert (document["state"], document["pages"], document["pages_done"], document["chunks"]) == ("ready", 1, 1, 1)
    listed = (await ada.get("/api/v1/documents")).json()["documents"]
    assert listed == [document]
    original = await ada.get(f"/api/v1/documents/{body['document_id']}/content")
    assert original.content == TEXT
    assert original.headers["content-disposition"].startswith("attachment")
    assert original.headers["x-content-type-options"] == "nosniff"
    assert (await ada.delete(f"/api/v1/documents/{body['document_id']}")).status_code == 204
    assert (await ada.get(f"/api/v1/documents/{body['document_id']}")).status_code == 404
    assert (await ada.get("/api/v1/documents")).json() == {"documents": []}


async def test_the_same_file_again_is_200(ada):
    first, second = await upload(ada), await upload(ada, "other name.txt")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["document_id"] == second.json()["document_id"]


async def test_another_tenants_document_is_one_that_never_was(ada, bob):
    document_id = (await upload(ada)).json()["document_id"]
    for method, suffix in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        theirs = await bob.request(method, f"/api/v1/documents/{document_id}{suffix}")
        never = await bob.request(method, f"/api/v1/documents/{uuid4()}{suffix}")
        assert theirs.status_code == never.status_code == 404
        assert theirs.content == never.content
    assert (await bob.get("/api/v1/documents")).json() == {"documents": []}
    assert (await upload(bob)).status_code == 202
    assert (await ada.get(f"/api/v1/documents/{document_id}")).status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "status", "code"),
    [
        ("a.pdf", b"PK\x03\x04zip", 415, "unsupported_type"),
        ("a.txt", b"", 400, "empty_file"),
        ("a.png", b"\x89PNG\r\n\x1a\n", 415, "unsupported_type"),
    ],
)
async def test_what_is_no_document_is_refused(ada, name, content, status, code):
    response = await upload(ada, name, content)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await ada.get("/api/v1/documents")).json() == {"documents": []}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\temp\\report.txt", "report.txt"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("Übersicht ✓.txt", "Übersicht ✓.txt"),
    ],
)
async def test_names_are_made_harmless(ada, name, kept):
    assert (await upload(ada, name)).json()["name"] == kept


def multipart(*parts, boundary=b"xx", end=True):
    body = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + (b"--" + boundary + b"--\r\n" if end else b"")


NOTE = b'Content-Disposition: form-data; name="note"'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"'


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"{}", "not_multipart"),
        ("multipart/form-data", b"", "not_multipart"),
        ("multipart/form-data; boundary=xx", b"garbage", "bad_multipart"),
        ("multipart/form-data; boundary=xx", multipart((FILE, b"data"), end=False), "bad_multipart"),
        (
            "multipart/form-data; boundary=xx",
            multipart((NOTE, b"x")),
            "bad_multipart",
        ),
        ("multipart/form-data; boundary=xx", multipart((FILE, b"a"), (FILE, b"b")), "one_file"),
        ("multipart/form-data; boundary=xx", multipart((b"X: " + b"y" * 9000, b"a")), "bad_multipart"),
    ],
)
async def test_broken_uploads_are_refused(ada, settings, content_type, body, code):
    response = await ada.post("/api/v1/documents", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert not [path for path in (settings.data_dir / "files").rglob("*") if path.is_file()]


async def test_other_fields_beside_the_file_are_ignored(ada):
    body = multipart((NOTE, b"hello"), (FILE, TEXT))
    response = await ada.post(
        "/api/v1/documents", content=body, headers={"Content-Type": "multipart/form-data; boundary=xx"}
    )
    assert response.status_code == 202
    assert response.json()["size"] == len(TEXT)


@pytest.fixture
def small(settings):
    return settings.model_copy(update={"upload_max_bytes": 100_000})


@pytest.mark.parametrize("declared", [True, False])
async def test_a_file_over_the_limit_is_413_and_leaves_nothing(small: Settings, models, declared):
    body = multipart((FILE, b"x" * 200_000))

    async def pieces():
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    async with running(small, models) as live, live.account("ada@example.com") as client:
        response = await client._http.post(
            "/api/v1/documents",
            content=body if declared else pieces(),
            headers={"Content-Type": "multipart/form-data; boundary=xx"},
        )
        assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
        assert not [path for path in (small.data_dir / "files").rglob("*") if path.is_file()]


async def test_bytes_beside_the_file_are_limited_too(small: Settings, models):
    body = multipart((NOTE, b"x" * 2_000_000), (FILE, b"words"))
    async with running(small, models) as live, live.account("ada@example.com") as client:
        response = await client._http.post(
            "/api/v1/documents", content=body, headers={"Content-Type": "multipart/form-data; boundary=xx"}
        )
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_bad_id_is_422(ada):
    response = await ada.get("/api/v1/documents/not-a-uuid")
    assert (response.status_code, response.json()["code"]) == (422, "bad_request")

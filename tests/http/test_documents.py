import asyncio
import hashlib
from uuid import uuid4

import pymupdf
import pytest

from ringfence.documents import sniff
from ringfence.settings import Settings
from tests.documents.parsing.test_sheets import row, xlsx
from tests.documents.parsing.test_word import docx
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
    assert (await ada.get("/api/v1/documents")).json() == {"documents": [], "next_cursor": None}


async def test_the_same_file_again_is_200(ada):
    first, second = await upload(ada), await upload(ada, "other name.txt")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["document_id"] == second.json()["document_id"]


async def test_a_document_that_failed_is_tried_again(ada, live, admin):
    live.models.script_embeddings(status=400)
    document_id = (await upload(ada)).json()["document_id"]
    failed = await finished(ada, document_id)
    assert failed["state"] == "failed"
    live.models.script_embeddings()
    response = await ada.post(f"/api/v1/documents/{document_id}/retry")
    assert response.status_code == 202
    queued = response.json()
    assert (queued["document_id"], queued["state"], queued["reason"]) == (document_id, "queued", None)
    assert (await finished(ada, document_id))["state"] == "ready"
    again = await ada.post(f"/api/v1/documents/{document_id}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "document_not_failed")
    assert (await finished(ada, document_id))["chunks"] == await admin.fetchval("select count(*) from chunks") == 1


async def test_a_document_is_tried_again_once_however_often_it_is_asked_for(ada, live, admin):
    live.models.script_embeddings(status=400)
    document_id = (await upload(ada)).json()["document_id"]
    await finished(ada, document_id)
    live.models.script_embeddings(first_delay=2)
    asked = await asyncio.gather(*(ada.post(f"/api/v1/documents/{document_id}/retry") for _ in range(8)))
    assert sorted(response.status_code for response in asked) == [202] + [409] * 7
    assert await admin.fetchval("select count(*) from jobs where kind = 'ingest'") == 1
    assert (await finished(ada, document_id))["state"] == "ready"


async def test_another_tenants_document_is_one_that_never_was(ada, bob):
    document_id = (await upload(ada)).json()["document_id"]
    for method, suffix in (("GET", ""), ("GET", "/content"), ("DELETE", ""), ("POST", "/retry")):
        theirs = await bob.request(method, f"/api/v1/documents/{document_id}{suffix}")
        never = await bob.request(method, f"/api/v1/documents/{uuid4()}{suffix}")
        assert theirs.status_code == never.status_code == 404
        assert theirs.content == never.content
    assert (await bob.get("/api/v1/documents")).json() == {"documents": [], "next_cursor": None}
    assert (await upload(bob)).status_code == 202
    assert (await ada.get(f"/api/v1/documents/{document_id}")).status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "status", "code"),
    [
        ("a.pdf", b"PK\x03\x04zip", 415, "unsupported_type"),
        ("a.txt", b"", 400, "empty_file"),
        ("a.mp4", b"\x00\x00\x00\x18ftypmp42", 415, "unsupported_type"),
    ],
)
async def test_what_is_no_document_is_refused(ada, name, content, status, code):
    response = await upload(ada, name, content)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await ada.get("/api/v1/documents")).json() == {"documents": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\temp\\report.txt", "report.txt"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("Übersicht ✓.txt", "Übersicht ✓.txt"),
        ("%2e%2e%2fetc%2fpasswd.txt", "%2e%2e%2fetc%2fpasswd.txt"),  # a name like any other: nobody decodes it
        ("a" * 400 + ".txt", "a" * 251 + ".txt"),
        ("ö" * 400 + ".txt", "ö" * 125 + ".txt"),
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


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.docx", docx("<w:p><w:r><w:t>The notice period is six weeks.</w:t></w:r></w:p>"), sniff.DOCX),
        ("a.xlsx", xlsx(Notice=row(1, "Weeks", 6.0)), sniff.XLSX),
        ("a.html", b"<!DOCTYPE html><h1>Notice</h1><p>Six weeks.", sniff.HTML),
        ("a.eml", b"From: a@b.c\nSubject: Notice\nDate: x\n\nSix weeks.", sniff.EML),
    ],
)
async def test_documents_of_many_kinds_become_ready(ada, name, content, media_type):
    response = await upload(ada, name, content)
    assert response.json()["media_type"] == media_type
    document = await finished(ada, response.json()["document_id"])
    assert (document["state"], document["pages"], document["chunks"]) == ("ready", 1, 1)


def locked(text: str = "The vault opens at nine.") -> bytes:
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), text)
        return document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="größer 9", owner_pw="owner")


def form(*fields: tuple[str, str, bytes]) -> dict:
    """A multipart body whose fields come in the order that is given."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + content + b"\r\n"
        for name, filename, content in fields
    ]
    return {"content": b"".join(parts) + b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}


@pytest.mark.parametrize("first", ["file", "password"])
async def test_a_password_opens_a_document_and_is_forgotten(ada, admin, first):
    fields = [("file", '; filename="a.pdf"', locked()), ("password", "", "größer 9".encode())]
    fields.sort(key=lambda field: field[0] != first)
    response = await ada.post("/api/v1/documents", **form(*fields))
    assert response.status_code == 202
    document = await finished(ada, response.json()["document_id"])
    assert document["state"] == "ready"
    assert await admin.fetchval("select count(*) from jobs where kind = 'ingest'") == 0


async def test_a_locked_document_is_tried_again_with_its_password(ada):
    content = locked()
    first = await upload(ada, "a.pdf", content)
    assert (await finished(ada, first.json()["document_id"]))["reason_code"] == "document_encrypted"
    for password, reason in (("wrong", "wrong_password"), ("größer 9", None)):
        files = {"file": ("a.pdf", content)}
        again = await ada.post("/api/v1/documents", files=files, data={"password": password})
        assert (await finished(ada, again.json()["document_id"]))["reason_code"] == reason


@pytest.mark.parametrize("password", [b"x" * 1025, b"\xff\xfe"])
async def test_what_is_no_password_is_refused(ada, password):
    fields = (("password", "", password), ("file", '; filename="a.pdf"', locked()))
    response = await ada.post("/api/v1/documents", **form(*fields))
    assert (response.status_code, response.json()["code"]) == (400, "bad_document_password")

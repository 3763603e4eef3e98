"""Uploads that are hostile, too large, stalled, broken off, or many at once; over real sockets, into both storages."""

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from tests.engine import running
from tests.http.test_documents import FILE, NOTE, TEXT, finished, multipart

BATCH = "/api/v1/batches"
FORM = {"Content-Type": "multipart/form-data; boundary=xx"}
LIMIT = 3_000_000


@pytest.fixture(params=["local", "s3"])
def kept(request, settings):
    """Settings of each storage; and what it holds."""
    if request.param == "local":
        folder = settings.data_dir / "files"
        return settings.model_copy(update={"upload_max_bytes": LIMIT, "upload_idle_timeout": 3.0}), lambda: [
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        ]
    server = request.getfixturevalue("s3")
    changes = {
        "storage": "s3",
        "s3_bucket": server.name,
        "s3_endpoint": server.url,
        "s3_access_key_id": "key",
        "s3_secret_access_key": SecretStr("secret"),
        "upload_max_bytes": LIMIT,
        "upload_idle_timeout": 3.0,
    }
    return settings.model_copy(update=changes), server.held


@pytest.fixture
async def ada(kept, models):
    async with running(kept[0], models) as live, live.account("ada@example.com") as client:
        yield client._http


@pytest.fixture
def names(kept):
    return kept[1]


async def gone(names, count=0):
    """Until no more files than so many are there."""
    async with asyncio.timeout(30):
        while len(await asyncio.to_thread(names)) != count:
            await asyncio.sleep(0.02)


async def test_a_document_lives_and_dies_in_each_storage(ada, names):
    body = (await ada.post("/api/v1/documents", files={"file": ("a.txt", TEXT)})).json()
    document = await finished(ada, body["document_id"])
    assert (document["state"], document["chunks"]) == ("ready", 1)
    original = await ada.get(f"/api/v1/documents/{body['document_id']}/content")
    assert original.content == TEXT
    assert [name.rpartition("/")[2] for name in names()] == [body["sha256"]]
    async with ada.stream("GET", "/api/v1/me/export") as export:
        assert len(await export.aread()) > len(TEXT) // 2
    assert (await ada.delete(f"/api/v1/documents/{body['document_id']}?purge=true")).status_code == 204
    await gone(names)


async def test_a_range_of_the_original(ada):
    body = (await ada.post("/api/v1/documents", files={"file": ("größe.txt", TEXT)})).json()
    url, size = f"/api/v1/documents/{body['document_id']}/content", len(TEXT)
    whole = await ada.get(url)
    assert (whole.headers["content-length"], whole.headers["accept-ranges"]) == (str(size), "bytes")
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    tag = whole.headers["etag"]
    assert tag == f'"{body["sha256"]}"'
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=4-9", 4, 10),
        ("bytes=10-", 10, size),
        ("bytes=-5", size - 5, size),
        ("bytes=-99999", 0, size),
        ("bytes=4-99999", 4, size),
    ):
        part = await ada.get(url, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, TEXT[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
    for asked in ("bytes=0-1,5-6", "bytes=5-4", "lines=1-2", "bytes=-", "bytes=x"):
        assert (await ada.get(url, headers={"Range": asked})).status_code == 200
    for asked in (f"bytes={size}-", "bytes=-0"):
        refused = await ada.get(url, headers={"Range": asked})
        assert (refused.status_code, refused.json()["code"]) == (416, "range_not_satisfiable")
        assert refused.headers["content-range"] == f"bytes */{size}"
    for shown in (tag, f'W/{tag}, "other"'):
        same = await ada.get(url, headers={"If-None-Match": shown})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert (await ada.get(url, headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await ada.get(url, headers={"Range": "bytes=0-1", "If-Range": tag})).status_code == 206
    assert (await ada.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})).status_code == 200


async def in_pieces(body, size=50_000):
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("url", ["/api/v1/documents", BATCH])
async def test_a_file_over_the_limit_is_refused_while_it_is_read(ada, names, url):
    body = multipart((FILE, b"x" * (LIMIT * 2)))
    response = await ada.post(url, content=in_pieces(body), headers=FORM)
    if url == BATCH:
        [outcome] = response.json()["files"]
        assert (response.status_code, outcome["status"], outcome["problem"]["code"]) == (207, 413, "file_too_large")
    else:
        assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
    assert names() == []


@asynccontextmanager
async def connection(http, url, *headers):
    """A socket on which a request has begun; its body is the test's."""
    parts = urlsplit(str(http.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [
        f"POST {url} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Authorization: Bearer {http.auth.access}",
        "Content-Type: multipart/form-data; boundary=xx",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader):
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
    length = next(int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length"))
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize("url", ["/api/v1/documents", BATCH])
async def test_a_length_over_the_limit_is_refused_before_the_body_is_read(ada, names, url):
    """Not a byte of it is sent; nor is one asked for (100 Continue)."""
    length = f"Content-Length: {101 * (LIMIT + 2**20)}"
    async with connection(ada, url, length, "Expect: 100-continue") as (reader, _):
        status, problem = await answer(reader)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert names() == []


async def test_a_body_that_never_ends_is_refused(ada, names):
    """Chunked, and around the file, where the file's own limit does not see it."""

    async def endless():
        yield multipart((FILE, TEXT), end=False) + b"--xx\r\n" + NOTE + b"\r\n\r\n"
        for _ in range(100):
            yield b"x" * 100_000

    response = await ada.post("/api/v1/documents", content=endless(), headers=FORM)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert names() == []


@pytest.mark.parametrize("url", ["/api/v1/documents", BATCH])
async def test_a_client_that_falls_silent_is_sent_away_and_held_no_connection(ada, admin, names, url):
    body = multipart((FILE, b"x" * 2_000_000))
    async with connection(ada, url, f"Content-Length: {len(body)}") as (reader, writer):
        writer.write(body[:1_500_000])
        await writer.drain()
        busy = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'"
        answering = asyncio.create_task(answer(reader))
        async with asyncio.timeout(30):
            while await admin.fetchval(busy):  # the worker's, now and then
                await asyncio.sleep(0.01)
        assert not answering.done()
        status, problem = await answering
    if url == BATCH:
        [outcome] = problem["files"]
        status, problem = outcome["status"], outcome["problem"]
    assert (status, problem["code"]) == (400, "upload_stalled")
    await gone(names)


async def test_a_client_that_goes_amid_its_file_leaves_nothing(ada, names):
    body = multipart((FILE, b"x" * 2_500_000))
    async with connection(ada, "/api/v1/documents", f"Content-Length: {len(body)}") as (_, writer):
        writer.write(body[:2_000_000])
        await writer.drain()
    await gone(names)
    assert (await ada.get("/api/v1/documents")).json() == {"documents": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("filename", "status", "kept_as"),
    [
        (b'filename="a\x00b.txt"', 202, "ab.txt"),
        (b'filename="\xff\xfe.txt"', 202, "��.txt"),
        (b'filename="..\\..\\boot.txt"', 202, "boot.txt"),
        (b'filename="/etc/shadow.txt/"', 202, "shadow.txt"),
        (b'filename="..."', 400, "bad_name"),
        (b'filename=""', 400, "bad_name"),
        (b"filename=plain.txt", 202, "plain.txt"),
        (b"filename=\"plain.txt\"; filename*=UTF-8''..%2F..%2Fother.txt", 202, "plain.txt"),
        (b"filename*=UTF-8''only.txt", 400, "bad_multipart"),
        ('filename="\u202egpj.\u2066txt"'.encode(), 202, "gpj.txt"),
        (b'filename="' + b"n" * 3000 + b'.txt"', 202, "n" * 251 + ".txt"),
        (b'filename="' + b"n" * 9000 + b'.txt"', 400, "bad_multipart"),
    ],
)
async def test_hostile_names(ada, filename, status, kept_as):
    body = multipart((b'Content-Disposition: form-data; name="file"; ' + filename, TEXT))
    response = await ada.post("/api/v1/documents", content=body, headers=FORM)
    assert (response.status_code, response.json().get("name") or response.json()["code"]) == (status, kept_as)


async def test_many_files_at_once_each_by_itself(ada, names):
    files = [
        ("a.txt", TEXT),
        ("b.bin", b"\x7fELF and more"),
        ("large.txt", b"x" * (LIMIT + 1)),
        ("empty.txt", b""),
        ("again.txt", TEXT),
        ("...", TEXT),
        ("c.txt", b"Other words."),
    ]
    response = await ada.post(BATCH, files=[("file", file) for file in files])
    assert response.status_code == 207
    outcomes = response.json()["files"]
    assert [(found["filename"], found["status"]) for found in outcomes] == [
        ("a.txt", 202),
        ("b.bin", 415),
        ("large.txt", 413),
        ("empty.txt", 400),
        ("again.txt", 200),
        ("...", 400),
        ("c.txt", 202),
    ]
    assert [found["problem"]["code"] for found in outcomes if found["problem"]] == [
        "unsupported_type",
        "file_too_large",
        "empty_file",
        "bad_name",
    ]
    assert outcomes[0]["document"]["document_id"] == outcomes[4]["document"]["document_id"]
    listed = (await ada.get("/api/v1/documents")).json()["documents"]
    assert sorted(document["name"] for document in listed) == ["a.txt", "c.txt"]
    await gone(names, 2)


async def test_a_batch_that_breaks_keeps_what_came_before(ada):
    body = multipart((NOTE, b"x"), (FILE, TEXT), (FILE, b"Half a file"), end=False)[:-4]
    response = await ada.post(BATCH, content=body, headers=FORM)
    assert response.status_code == 207
    assert [found["status"] for found in response.json()["files"]] == [202, 400]
    assert response.json()["files"][1]["problem"]["code"] == "bad_multipart"
    assert len((await ada.get("/api/v1/documents")).json()["documents"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (multipart((NOTE, b"x")), 400, "bad_multipart"),
        (multipart((FILE, TEXT), (NOTE, b"x"), end=False), 400, "bad_multipart"),
        (multipart(*[(FILE, TEXT)] * 101), 400, "too_many_files"),
    ],
)
async def test_a_batch_that_is_none_is_refused(ada, body, status, code):
    response = await ada.post(BATCH, content=body, headers=FORM)
    assert (response.status_code, response.json()["code"]) == (status, code)

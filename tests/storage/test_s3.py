"""A bucket that fails, and what an operator is told."""

import asyncio
import resource
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from ringfence.errors import NotFound, SetupError, Unavailable
from ringfence.ids import new_user_id
from ringfence.storage.s3 import S3Storage
from tests.fakes.tcp_proxy import Proxy
from tests.storage.conftest import now
from tests.storage.test_contract import content_of, put

ADA = new_user_id()
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>No, AKIAsecret.</Message></Error>"


@pytest.fixture
async def proxy(s3):
    proxy = Proxy(s3.url)
    await proxy.restore()
    yield proxy
    await proxy.cut()


@pytest.fixture
def storage(s3, proxy, tmp_path):
    """Through a proxy, with little patience."""
    return S3Storage(s3.bucket(endpoint=f"http://127.0.0.1:{proxy.port}", timeout=1), tmp_path / "scratch", now)


@asynccontextmanager
async def answering(status: str, code: str = ""):
    """A server that gives everybody the same answer."""

    async def answer(reader, writer):
        body = ERROR.format(code) if code else ""
        head = await reader.readuntil(b"\r\n\r\n")
        length = [int(line.split(b":")[1]) for line in head.lower().splitlines() if b"content-length" in line]
        await reader.readexactly(sum(length))
        start = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + body.encode())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def every_call(storage, incoming, sha256):
    """What each call of the storage raises."""

    async def opened():
        async with storage.open(ADA, sha256):
            pass

    calls = {
        "keep": storage.keep(incoming, ADA, sha256),
        "read": content_of(storage, ADA, sha256),
        "open": opened(),
        "delete": storage.delete(ADA, sha256),
        "delete_all": storage.delete_all(ADA),
        "sweep": storage.sweep(),
        "check": storage.check(),
        "finish": incoming.finish(),
    }
    found = await asyncio.gather(*calls.values(), return_exceptions=True)
    return {name: f"{type(error).__name__} {error.code}" for name, error in zip(calls, found, strict=True)}


@pytest.mark.parametrize("how", ["down", "silent"])
async def test_a_server_that_is_down_or_silent_is_unavailable_soon(storage, proxy, how):
    sha256 = await put(storage, ADA, b"text")
    async with storage.receive(ADA, 100) as incoming:
        await incoming.write(b"half")
        if how == "silent":
            proxy.hold()
        else:
            await proxy.cut()
        began = time.monotonic()
        found = await every_call(storage, incoming, sha256)
        assert set(found.values()) == {"Unavailable storage_unavailable"}
        assert time.monotonic() - began < 60
    proxy.release()


async def test_a_server_that_is_gone_amid_an_upload_ends_it(storage, proxy):
    async with storage.receive(ADA, 100_000_000) as incoming:
        await incoming.write(b"x" * 9_000_000)
        await proxy.cut()
        with pytest.raises(Unavailable, match="storage_unavailable"):
            for _ in range(30):
                await incoming.write(b"x" * 2**20)


async def test_a_server_that_falls_silent_amid_a_file_ends_it(storage, proxy):
    sha256 = await put(storage, ADA, b"x" * 30_000_000)
    pieces = storage.read(ADA, sha256)
    await anext(pieces)
    proxy.hold()
    with pytest.raises(Unavailable, match="storage_unavailable"):
        async for _ in pieces:
            pass
    proxy.release()


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        ("403 Forbidden", "InvalidAccessKeyId", SetupError, "storage_refused: .* InvalidAccessKeyId. Mend"),
        ("403 Forbidden", "SignatureDoesNotMatch", SetupError, "storage_refused: .* SignatureDoesNotMatch"),
        ("401 Unauthorized", "", SetupError, "storage_refused: .* 401"),
        ("404 Not Found", "NoSuchBucket", SetupError, "bucket_missing: There is no bucket"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", SetupError, "storage_refused"),
        ("301 Moved Permanently", "", SetupError, "storage_refused: .* RINGFENCE_S3_REGION"),
        ("503 Service Unavailable", "SlowDown", Unavailable, "storage_unavailable"),
        ("500 Internal Server Error", "", Unavailable, "storage_unavailable"),
    ],
)
async def test_what_is_wrong_is_said_at_the_start(s3, tmp_path, status, code, error, words):
    async with answering(status, code) as url:
        storage = S3Storage(s3.bucket(endpoint=url, timeout=0.5), tmp_path, now)
        with pytest.raises(error, match=words) as caught:
            await storage.check()
    assert "secret" not in str(caught.value).replace("its secret", "")


async def test_a_bucket_that_is_missing_is_no_missing_file(s3, tmp_path):
    storage = S3Storage(s3.bucket(name="nowhere"), tmp_path, now)
    with pytest.raises(SetupError, match="bucket_missing: There is no bucket nowhere"):
        await storage.check()
    with capture_logs() as logs, pytest.raises(Unavailable, match="storage_unavailable"):
        await content_of(storage, ADA, b"text")
    assert [(line["event"], line["what"], line["answer"]) for line in logs] == [
        ("storage_failed", "get", "NoSuchBucket")
    ]


async def test_rights_that_are_lost_later_are_unavailable_and_logged(s3, tmp_path):
    async with answering("403 Forbidden", "AccessDenied") as url:
        storage = S3Storage(s3.bucket(endpoint=url, timeout=0.5), tmp_path, now)
        with capture_logs() as logs, pytest.raises(Unavailable, match="storage_unavailable"):
            await storage.delete(ADA, b"text")
    assert logs[0] | {"error": ""} == {
        "event": "storage_failed",
        "log_level": "warning",
        "what": "delete",
        "error": "",
        "answer": "AccessDenied",
    }


async def test_a_scratch_folder_that_can_not_be_used_is_said(s3, tmp_path):
    (tmp_path / "file").touch()
    storage = S3Storage(s3.bucket(), tmp_path / "file", now)
    with pytest.raises(SetupError, match="storage_unusable: The folder for temporary files"):
        await storage.check()
    sha256 = await put(storage, ADA, b"text")
    with pytest.raises(Unavailable, match="storage_unavailable"):
        async with storage.open(ADA, sha256):
            raise AssertionError


async def test_what_dead_processes_left_is_swept_after_a_day(s3, tmp_path):
    storage = S3Storage(s3.bucket(), tmp_path, now)
    kept = await put(storage, ADA, b"mine")
    gone = new_user_id()
    await storage.delete_all(gone)
    for key in (f"incoming/{ADA}/0123", "check/0123", f"incoming/{gone}/45"):
        s3.client.put_object(Bucket=s3.name, Key=f"a/b/{key}", Body=b"half")
    await storage.sweep()
    assert len(s3.held()) == 5
    tomorrow = S3Storage(s3.bucket(), tmp_path, lambda: datetime.now(UTC) + timedelta(days=1, minutes=1))
    await tomorrow.sweep()
    assert s3.held() == [f"a/b/{ADA}/{kept.hex()}"]


async def test_a_scratch_disk_that_fills_up_is_unavailable(s3, tmp_path):
    storage = S3Storage(s3.bucket(), tmp_path, now)
    sha256 = await put(storage, ADA, b"x" * 3_000_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(Unavailable, match="storage_unavailable"):
            async with storage.open(ADA, sha256):
                raise AssertionError
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_without_a_prefix_or_keys_of_ours(s3, tmp_path, monkeypatch):
    """Amazon's own variables hold where no key is set."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = replace(s3.bucket(prefix=""), access_key_id=None, secret_access_key=None)
    storage = S3Storage(bucket, tmp_path, now)
    await storage.check()
    sha256 = await put(storage, ADA, b"text")
    assert s3.held() == [f"{ADA}/{sha256.hex()}"]
    with pytest.raises(NotFound):
        await content_of(storage, new_user_id(), sha256)
    assert S3Storage(replace(bucket, endpoint=None), tmp_path, now)

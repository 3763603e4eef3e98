"""Uploads into a real server process: its memory stays flat, and what kills it parts no row from its file."""

import asyncio
import random
import re
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from ringfence.documents.intake import ErasePayload
from ringfence.documents.service import Library
from ringfence.ids import new_user_id
from ringfence.services import open_storage
from tests.engine import access_token
from tests.life_cycle.processes import process

MIB = 2**20
LARGE = 320 * MIB
ROOM = 96 * MIB  # for parts on their way, twice: the allocator gives nothing back at once


@pytest.fixture(params=["local", "s3"])
def stored(request, settings):
    """Settings of each storage, as processes need them."""
    changes = {"upload_max_bytes": 3 * 2**30, "smtp_host": "localhost"}
    if request.param == "s3":
        server = request.getfixturevalue("s3")
        changes |= {
            "storage": "s3",
            "s3_bucket": server.name,
            "s3_endpoint": server.url,
            "s3_access_key_id": "key",
            "s3_secret_access_key": SecretStr("secret"),
        }
    settings.data_dir.mkdir()
    return settings.model_copy(update=changes)


@pytest.fixture
async def user(admin):
    user_id = new_user_id()
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', 'a@b.c', 'x')", user_id
    )
    return user_id


@asynccontextmanager
async def serving(settings, token):
    async with process(settings, "serve", port=0) as server:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=xx"}
        async with httpx2.AsyncClient(base_url=await server.url(), headers=headers, timeout=300) as client:
            yield server, client


def form(name):
    return f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()


async def body(size, seed):
    """A file of so many bytes, chunked: nobody knows its length before its end."""
    piece = random.Random(seed).randbytes(MIB // 2).hex().encode()
    yield form(f"{seed}.txt")
    for _ in range(size // MIB):
        yield piece
    yield b"\r\n--xx--\r\n"


def memory(pid, what="VmHWM"):
    """Of a process, in bytes: its largest resident set so far, or another line of its status."""
    return int(re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


async def measured(settings, token, size):
    """The server's memory before an upload and the most that it took, and the seconds of the upload."""
    async with serving(settings, token) as (server, client):
        small = await client.post("/api/v1/documents", content=body(MIB, 1))
        assert small.status_code == 202
        before, began = memory(server.process.pid, "VmRSS"), time.monotonic()
        response = await client.post("/api/v1/documents", content=body(size, 2))
        assert (response.status_code, response.json()["size"]) == (202, size)
        return before, memory(server.process.pid), time.monotonic() - began


@pytest.mark.long
async def test_memory_does_not_grow_with_the_file(stored, db, user):
    before, most, _ = await measured(stored, await access_token(db, user), LARGE)
    assert most - before < ROOM


async def rows_and_files(admin, storage, user):
    """The digests of documents, and of those the ones that have their file."""
    digests = [row["sha256"] for row in await admin.fetch("select sha256 from documents")]
    whole = []
    for sha256 in digests:
        pieces = [piece async for piece in storage.read(user, sha256)]
        whole += [sha256] if pieces else []
    return digests, whole


async def test_a_server_that_is_killed_amid_uploads_parts_no_row_from_its_file(stored, db, admin, user):
    token, storage, seed, chance = await access_token(db, user), await open_storage(stored), 0, random.Random(4)

    async def upload(client, seed):
        try:
            return (await client.post("/api/v1/documents", content=body(2 * MIB, seed))).status_code
        except httpx2.HTTPError:
            return None

    for _ in range(3):
        async with serving(stored, token) as (server, client):
            uploads = []
            for _ in range(12):
                seed += 1
                uploads.append(asyncio.create_task(upload(client, seed)))
            kill = asyncio.create_task(asyncio.sleep(chance.uniform(0.05, 0.6)))  # a random moment, not an order
            await asyncio.wait([kill])
            server.process.send_signal(signal.SIGKILL)
            await server.ended()
            await asyncio.gather(*uploads)
    digests, whole = await rows_and_files(admin, storage, user)
    assert digests == whole
    promised = [row["payload"] for row in await admin.fetch("select payload from jobs where kind = 'store'")]
    library = Library(db, storage, 1)
    await admin.execute("update jobs set run_after = now()")
    for payload in promised:
        await library.erase(user, payload)
    assert await files_of(storage, user, stored) == sorted(sha256.hex() for sha256 in digests)
    assert {ErasePayload.model_validate_json(payload).sha256 for payload in promised}.isdisjoint(
        sha256.hex() for sha256 in digests
    )


async def files_of(storage, user, settings):
    """The names of a user's files."""
    if settings.storage == "local":
        return sorted(path.name for path in (settings.data_dir / "files" / str(user)).glob("*"))
    return sorted([name.rpartition("/")[2] async for name in storage._names(str(user))])

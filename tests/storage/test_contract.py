"""What every storage does, shown of each."""

import asyncio
import hashlib
import os
from contextlib import aclosing

import pytest

from ringfence.errors import NotFound, TooLarge, Unavailable
from ringfence.ids import new_user_id

ADA, BOB = new_user_id(), new_user_id()


async def put(storage, user, content):
    async with storage.receive(user, 100_000_000) as incoming:
        for start in range(0, len(content), 2**20):
            await incoming.write(content[start : start + 2**20])
        sha256 = await incoming.finish()
        await storage.keep(incoming, user, sha256)
    return sha256


async def content_of(storage, user, sha256, *span):
    return b"".join([piece async for piece in storage.read(user, sha256, *span)])


@pytest.mark.parametrize("size", [1, 4096, 2**20, 3_000_001, 20_000_003])
async def test_a_file_is_kept_under_its_content(world, size):
    content = os.urandom(size)
    async with world.storage.receive(ADA, size) as incoming:
        for start in range(0, size, 65_521):
            await incoming.write(content[start : start + 65_521])
        sha256 = await incoming.finish()
        await world.storage.keep(incoming, ADA, sha256)
    assert sha256 == hashlib.sha256(content).digest()
    assert (incoming.size, incoming.head) == (size, content[:4096])
    assert world.names() == [f"{ADA}/{sha256.hex()}"]
    assert await content_of(world.storage, ADA, sha256) == content


async def test_it_can_be_used_and_is_left_clean(world):
    await world.storage.check()
    assert world.names() == []


async def test_a_part_of_a_file_is_read(world):
    content = os.urandom(3_000_000)
    sha256 = await put(world.storage, ADA, content)
    for start, end in ((0, 1), (5, 2_500_000), (2_999_999, 3_000_000), (10, None), (2_999_990, 9_000_000)):
        assert await content_of(world.storage, ADA, sha256, start, end) == content[start:end]


async def test_a_file_is_opened_as_a_local_one_and_leaves_nothing(world):
    content = os.urandom(2_500_000)
    sha256 = await put(world.storage, ADA, content)
    before = world.names()
    async with world.storage.open(ADA, sha256) as file:
        assert os.pread(file.fileno(), 10, 0) == content[:10]
        assert file.read() == content
        assert world.names() == before
    assert file.closed
    assert world.server is None or not list(world.root.iterdir())


async def test_what_is_not_there_is_said_so(world):
    with pytest.raises(NotFound, match="file_not_found"):
        await anext(world.storage.read(ADA, b"never"))
    with pytest.raises(NotFound, match="file_not_found"):
        async with world.storage.open(ADA, b"never"):
            raise AssertionError


@pytest.mark.parametrize("size", [0, 100, 20_000_000])
async def test_an_upload_that_is_cut_off_leaves_nothing(world, size):
    with pytest.raises(ZeroDivisionError):
        async with world.storage.receive(ADA, 30_000_000) as incoming:
            await incoming.write(b"x" * size)
            raise ZeroDivisionError
    assert world.names() == []


async def test_an_upload_that_is_cancelled_leaves_nothing(world):
    began = asyncio.Event()

    async def upload():
        async with world.storage.receive(ADA, 30_000_000) as incoming:
            await incoming.write(b"x" * 20_000_000)
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(upload())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.names() == []


async def test_a_finished_upload_that_nobody_keeps_leaves_nothing(world):
    async with world.storage.receive(ADA, 10) as incoming:
        await incoming.write(b"some")
        await incoming.finish()
    assert world.names() == []


async def test_the_limit_holds_while_receiving(world):
    async with world.storage.receive(ADA, 10) as incoming:
        await incoming.write(b"0123456789")
        with pytest.raises(TooLarge, match="file_too_large"):
            await incoming.write(b"x")
    assert world.names() == []


async def test_two_users_never_share_a_file(world):
    sha256 = await put(world.storage, ADA, b"same")
    assert await put(world.storage, BOB, b"same") == sha256
    await world.storage.delete(ADA, sha256)
    await world.storage.delete(ADA, sha256)
    assert world.names() == [f"{BOB}/{sha256.hex()}"]
    with pytest.raises(NotFound):
        await content_of(world.storage, ADA, sha256)
    assert await content_of(world.storage, BOB, sha256) == b"same"


async def test_many_may_store_and_delete_the_same_at_once(world):
    sha256 = hashlib.sha256(b"same").digest()

    async def churn():
        await put(world.storage, ADA, b"same")
        await world.storage.delete(ADA, sha256)

    await asyncio.gather(*(churn() for _ in range(8)))
    assert world.names() == []
    await put(world.storage, ADA, b"same")
    assert world.names() == [f"{ADA}/{sha256.hex()}"]


async def test_what_is_read_is_read_to_its_end_or_refused(world):
    content = os.urandom(3_000_000)
    sha256 = await put(world.storage, ADA, content)
    async with aclosing(world.storage.read(ADA, sha256)) as pieces:
        got = await anext(pieces)
        await world.storage.delete(ADA, sha256)
        assert got + b"".join([piece async for piece in pieces]) == content


async def test_all_of_a_user_goes_and_nothing_of_others(world):
    await world.storage.delete_all(ADA)
    for content in (b"one", b"two", b"three"):
        await put(world.storage, ADA, content)
    kept = await put(world.storage, BOB, b"one")
    async with world.storage.receive(ADA, 10) as mine, world.storage.receive(BOB, 10) as theirs:
        for incoming in (mine, theirs):
            await incoming.write(b"half")
            await incoming.finish()
        await world.storage.delete_all(ADA)
        await world.storage.delete_all(ADA)
        left = world.names()
        assert len(left) == 2
        assert all(str(BOB) in name for name in left)
        with pytest.raises(Unavailable, match="storage_unavailable"):
            await world.storage.keep(mine, ADA, b"x" * 32)
    assert world.names() == [f"{BOB}/{kept.hex()}"]
    [mark] = world.marks()
    assert str(ADA) not in mark


async def test_what_comes_back_of_a_user_who_left_is_swept(world):
    await world.storage.sweep()
    await world.storage.delete_all(ADA)
    await put(world.storage, ADA, b"late")
    kept = await put(world.storage, BOB, b"mine")
    async with world.storage.receive(BOB, 10) as incoming:
        await incoming.write(b"more")
        await incoming.finish()
        await world.storage.sweep()
        assert len(world.names()) == 2  # what is being received is young
    assert world.names() == [f"{BOB}/{kept.hex()}"]
    assert len(world.marks()) == 1

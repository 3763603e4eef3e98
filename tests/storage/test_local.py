import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest

from ringfence.errors import SetupError, Unavailable
from ringfence.ids import new_user_id
from ringfence.storage import local
from ringfence.storage.base import in_thread, made_in_thread
from ringfence.storage.local import LocalStorage

USER = new_user_id()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_a_file_is_kept_under_its_content(tmp_path):
    storage, user, content = LocalStorage(tmp_path / "files"), new_user_id(), b"x" * 3_000_000
    async with storage.receive(USER, 10_000_000) as incoming:
        for start in range(0, len(content), 65536):
            await incoming.write(content[start : start + 65536])
        sha256 = await incoming.finish()
        await storage.keep(incoming, user, sha256)
    assert sha256 == hashlib.sha256(content).digest()
    assert incoming.size == len(content)
    assert incoming.head == content[:4096]
    assert incoming.tail == content[-65_536:]
    path = storage.path(user, sha256)
    assert path.read_bytes() == content
    assert files(tmp_path) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_full_disk_is_said_so(tmp_path):
    storage = LocalStorage(tmp_path)
    async with storage.receive(USER, 10) as incoming:
        with Path("/dev/full").open("wb", buffering=0) as full:
            incoming.file, ours = full, incoming.file
            await incoming.write(b"data")
            with pytest.raises(Unavailable, match="storage_unavailable"):
                await incoming.finish()
            incoming.file = ours


async def test_a_disk_that_takes_no_bytes_for_good_is_said_so(tmp_path):
    """A pipe can't be synchronised."""
    storage, (ours, theirs) = LocalStorage(tmp_path), os.pipe()
    async with storage.receive(USER, 10) as incoming:
        with os.fdopen(ours, "rb"), os.fdopen(theirs, "wb", buffering=0) as pipe:
            incoming.file, mine = pipe, incoming.file
            with pytest.raises(Unavailable, match="storage_unavailable"):
                await incoming.finish()
            incoming.file = mine


async def test_a_file_that_can_not_be_read_is_said_so(tmp_path):
    storage = LocalStorage(tmp_path)
    path = storage.path(USER, b"bad")
    path.parent.mkdir()
    path.symlink_to("/proc/self/mem")  # opens, and has nothing at its beginning
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await anext(storage.read(USER, b"bad"))


async def test_an_unusable_folder_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="storage_unavailable"):
        async with LocalStorage(tmp_path / "file").receive(USER, 10):
            raise AssertionError


async def test_a_name_that_cannot_be_given_is_said_so(tmp_path):
    storage, user = LocalStorage(tmp_path), new_user_id()
    async with storage.receive(USER, 10) as incoming:
        await incoming.write(b"data")
        sha256 = await incoming.finish()
        (tmp_path / str(user)).touch()
        with pytest.raises(Unavailable, match="storage_unavailable"):
            await storage.keep(incoming, user, sha256)


async def test_what_a_dead_process_left_is_swept(tmp_path):
    storage = LocalStorage(tmp_path)
    await storage.sweep()
    async with storage.receive(USER, 10) as incoming:
        old = incoming.temporary.with_name("old")
        old.touch()
        os.utime(old, (0, 0))
        await storage.sweep()
        assert incoming.temporary.exists()
        assert not old.exists()


async def test_all_of_a_user_goes_and_nothing_of_others(tmp_path):
    storage, ada, bob = LocalStorage(tmp_path), new_user_id(), new_user_id()
    await storage.delete_all(ada)
    for user in (ada, bob):
        async with storage.receive(user, 10) as incoming:
            await incoming.write(b"same")
            sha256 = await incoming.finish()
            await storage.keep(incoming, user, sha256)
    async with storage.receive(ada, 10), storage.receive(bob, 10) as theirs:
        await storage.delete_all(ada)
        await storage.delete_all(ada)
        left = [path for path in files(tmp_path) if path.parent.name != "left"]
        assert sorted(left) == sorted([storage.path(bob, sha256), theirs.temporary])
    assert not (tmp_path / str(ada)).exists()
    (mark,) = (tmp_path / "left").iterdir()
    assert mark.read_bytes() == b""
    assert str(ada) not in mark.name


async def test_what_comes_back_of_a_user_who_left_is_swept_and_the_mark_goes_after_a_day(tmp_path):
    storage, ada, bob = LocalStorage(tmp_path), new_user_id(), new_user_id()
    await storage.delete_all(ada)
    for user in (ada, bob):
        (tmp_path / str(user)).mkdir()
        (tmp_path / str(user) / "file").touch()
    (mark,) = (tmp_path / "left").iterdir()
    await storage.sweep()
    assert set(files(tmp_path)) == {mark, tmp_path / str(bob) / "file"}
    os.utime(mark, (0, 0))
    (tmp_path / str(ada)).mkdir()
    await storage.sweep()
    assert not (tmp_path / str(ada)).exists()
    assert files(tmp_path) == [tmp_path / str(bob) / "file"]


@pytest.mark.parametrize("what", ["left", "user"])
async def test_a_folder_that_can_not_be_emptied_is_said_so(tmp_path, what):
    (tmp_path / (str(USER) if what == "user" else what)).touch()
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await LocalStorage(tmp_path).delete_all(USER)


async def test_a_file_is_read_in_pieces(tmp_path):
    storage, content = LocalStorage(tmp_path), os.urandom(2_500_000)
    async with storage.receive(USER, 10_000_000) as incoming:
        await incoming.write(content)
        sha256 = await incoming.finish()
        await storage.keep(incoming, USER, sha256)
    pieces = [piece async for piece in storage.read(USER, sha256)]
    assert [len(piece) for piece in pieces] == [2**20, 2**20, 2_500_000 - 2**21]
    assert b"".join(pieces) == content
    storage.path(USER, b"folder").mkdir()
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await anext(storage.read(USER, b"folder"))


async def test_a_call_in_a_thread_ends_before_its_caller_goes_on():
    began, go_on, ended = threading.Event(), threading.Event(), []

    def slow():
        began.set()
        go_on.wait(30)
        ended.append(True)

    task = asyncio.create_task(in_thread(slow))
    await asyncio.to_thread(began.wait, 30)
    task.cancel()
    await asyncio.sleep(0)  # the cancellation arrives
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


@pytest.mark.parametrize("succeeds", [True, False])
async def test_what_a_thread_makes_is_released_where_its_caller_is_gone(succeeds):
    began, go_on, released = threading.Event(), threading.Event(), []

    def slow():
        began.set()
        go_on.wait(30)
        if not succeeds:
            raise PermissionError
        return "a file"

    task = asyncio.create_task(made_in_thread(slow, released.append))
    await asyncio.to_thread(began.wait, 30)
    task.cancel()
    await asyncio.sleep(0)  # the cancellation arrives
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released == ["a file"] * succeeds


async def test_no_upload_is_left_of_a_caller_who_goes_while_its_file_is_made(tmp_path, monkeypatch):
    began, go_on = threading.Event(), threading.Event()

    def slow(path, create=local._create):
        file = create(path)
        began.set()
        go_on.wait(30)
        return file

    monkeypatch.setattr(local, "_create", slow)
    task = asyncio.create_task(LocalStorage(tmp_path).receive(USER, 10).__aenter__())
    await asyncio.to_thread(began.wait, 30)
    assert [*tmp_path.glob("incoming/*")]
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [*tmp_path.glob("incoming/*")]


async def test_a_folder_that_can_not_be_written_is_said_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"storage_unusable: The folder for files, .*file, can't be written"):
        await LocalStorage(tmp_path / "file").check()


async def test_a_disk_that_fills_up_takes_a_part_first_and_no_byte_is_lost(tmp_path):
    """A pipe is the disk: it takes what there is room for."""
    storage, (ours, theirs) = LocalStorage(tmp_path), os.pipe()
    content = os.urandom(300_000)
    async with storage.receive(USER, 1_000_000) as incoming:
        mine = incoming.file
        with os.fdopen(theirs, "wb", buffering=0) as pipe, os.fdopen(ours, "rb") as reader:
            incoming.file = pipe
            await incoming.write(content)
            reading = asyncio.create_task(asyncio.to_thread(reader.read, len(content)))
            await incoming._flush()
            assert await reading == content
            incoming.file = mine


async def test_a_file_that_can_not_be_deleted_is_said_so(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.path(USER, b"folder").mkdir(parents=True)
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await storage.delete(USER, b"folder")

import hashlib
import os
from pathlib import Path

import pytest

from ringfence.errors import NotFound, TooLarge, Unavailable
from ringfence.ids import new_user_id
from ringfence.storage import LocalStorage


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_a_file_is_kept_under_its_content(tmp_path):
    storage, user, content = LocalStorage(tmp_path / "files"), new_user_id(), b"x" * 3_000_000
    async with storage.receive(10_000_000) as incoming:
        for start in range(0, len(content), 65536):
            await incoming.write(content[start : start + 65536])
        sha256 = await incoming.finish()
        storage.keep(incoming, user, sha256)
    assert sha256 == hashlib.sha256(content).digest()
    assert incoming.size == len(content)
    assert incoming.head == content[:4096]
    path = storage.existing_path(user, sha256)
    assert path.read_bytes() == content
    assert files(tmp_path) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_what_is_not_kept_leaves_nothing(tmp_path):
    storage = LocalStorage(tmp_path)
    with pytest.raises(RuntimeError):
        async with storage.receive(100) as incoming:
            await incoming.write(b"some")
            raise RuntimeError
    assert files(tmp_path) == []


async def test_the_limit_holds_while_receiving(tmp_path):
    storage = LocalStorage(tmp_path)
    async with storage.receive(10) as incoming:
        await incoming.write(b"0123456789")
        with pytest.raises(TooLarge, match="file_too_large"):
            await incoming.write(b"x")
    assert files(tmp_path) == []


async def test_two_users_never_share_a_file(tmp_path):
    storage = LocalStorage(tmp_path)
    ada, bob = new_user_id(), new_user_id()
    for user in (ada, bob):
        async with storage.receive(10) as incoming:
            await incoming.write(b"same")
            sha256 = await incoming.finish()
            storage.keep(incoming, user, sha256)
    storage.delete(ada, sha256)
    storage.delete(ada, sha256)
    assert storage.existing_path(bob, sha256).read_bytes() == b"same"
    with pytest.raises(NotFound, match="file_not_found"):
        storage.existing_path(ada, sha256)


async def test_a_full_disk_is_said_so(tmp_path):
    storage = LocalStorage(tmp_path)
    async with storage.receive(10) as incoming:
        with Path("/dev/full").open("wb", buffering=0) as full:
            incoming.file, ours = full, incoming.file
            await incoming.write(b"data")
            with pytest.raises(Unavailable, match="storage_unavailable"):
                await incoming.finish()
            incoming.file = ours


async def test_an_unusable_folder_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="storage_unavailable"):
        async with LocalStorage(tmp_path / "file").receive(10):
            raise AssertionError


async def test_a_name_that_cannot_be_given_is_said_so(tmp_path):
    storage, user = LocalStorage(tmp_path), new_user_id()
    async with storage.receive(10) as incoming:
        await incoming.write(b"data")
        sha256 = await incoming.finish()
        (tmp_path / str(user)).touch()
        with pytest.raises(Unavailable, match="storage_unavailable"):
            storage.keep(incoming, user, sha256)


async def test_what_a_dead_process_left_is_swept(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.sweep()
    async with storage.receive(10) as incoming:
        old = incoming.temporary.with_name("old")
        old.touch()
        os.utime(old, (0, 0))
        storage.sweep()
        assert incoming.temporary.exists()
        assert not old.exists()

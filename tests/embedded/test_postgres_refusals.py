"""What the embedded PostgreSQL says when it can't start."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from ringfence.embedded import postgres
from ringfence.embedded.postgres_cluster import give_access
from ringfence.embedded.postgres_exec import USER
from ringfence.embedded.postgres_guard import Layout
from ringfence.errors import SetupError
from tests.embedded.postgres_tools import (
    IS_ROOT,
    fake_binaries,
    is_free,
    is_gone,
    mode,
    names,
    query,
    refusal,
    succeeds,
    until,
)


async def test_says_that_binaries_are_missing() -> None:
    for package in ("ringfence_no_such_package", "json", "decimal"):
        with pytest.raises(SetupError, match=f"postgres_missing: The package {package}"):
            postgres.find_binaries(package)


async def test_says_that_binaries_do_not_run(empty: Path, tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin")
    (binaries / "postgres").write_text("#!/bin/sh\necho wrong machine\nexit 126\n")
    assert "wrong machine" in await refusal(empty / "data", "postgres_unusable", binaries=binaries)


async def test_says_that_the_folder_is_foreign(made: Path) -> None:
    (made / "postgres/password").unlink()
    assert str(made / "postgres") in await refusal(made, "postgres_folder_foreign")
    shutil.rmtree(made / "postgres/data")
    (made / "postgres/thesis.txt").touch()
    await refusal(made, "postgres_folder_foreign")
    assert (made / "postgres/thesis.txt").exists()


async def test_says_that_another_version_made_it(made: Path) -> None:
    (made / "postgres/data/PG_VERSION").write_text("17\n")
    message = await refusal(made, "postgres_other_version")
    assert "PostgreSQL 17" in message
    assert "brings 18" in message


async def test_says_that_the_folder_is_not_a_folder(empty: Path) -> None:
    (empty / "postgres").touch()
    assert "Not a directory" in await refusal(empty, "postgres_folder_unusable")


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder away")
async def test_says_that_the_folder_belongs_to_another(made: Path) -> None:
    os.chown(made / "postgres", 12345, 12345)
    assert "user id 12345" in await refusal(made, "postgres_folder_denied")


def test_gives_access(empty: Path) -> None:
    layout, me, way = Layout(empty), os.geteuid(), f"{os.geteuid()}:{os.getegid()}"
    give_access(layout, way, me)
    assert mode(empty) == 0o710
    layout.cluster.mkdir(parents=True)
    give_access(layout, way, me)
    give_access(layout, USER, me)
    with pytest.raises(SetupError, match=f"it belongs to user id {me}"):
        give_access(layout, USER, me + 1)


async def test_says_that_it_may_not_write(empty: Path) -> None:
    """The owner of everything still can't reach what the operating system refuses."""
    error = PermissionError(13, "Permission denied", str(empty / "postgres.users"))
    failure = postgres.os_failure(Layout(empty), error)
    assert failure.code == "postgres_folder_denied"
    assert "postgres.users: Permission denied" in failure.message


async def test_says_that_the_servers_user_can_not_reach_it(empty: Path, tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin", initdb='echo "could not access directory: Permission denied"; exit 1')
    assert "Permission denied" in await refusal(empty / "data", "postgres_folder_denied", binaries=binaries)


async def test_says_that_the_disk_is_full(empty: Path, tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin", initdb='echo "could not write: No space left on device"; exit 1')
    assert str(empty) in await refusal(empty / "data", "postgres_disk_full", binaries=binaries)
    assert postgres.os_failure(Layout(empty), OSError(28, "No space left on device")).code == "postgres_disk_full"


async def test_says_that_a_real_disk_is_full(empty: Path, cluster: Path) -> None:
    if not succeeds("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", empty):
        pytest.skip("mounting is not allowed here")
    try:
        await refusal(empty, "postgres_disk_full")
        assert names(empty) == ["postgres.guard", "postgres.users"]
        assert succeeds("mount", "-o", "remount,size=60m", empty)
        shutil.copytree(cluster / "postgres", empty / "postgres")
        with contextlib.suppress(OSError), (empty / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        await refusal(empty, "postgres_disk_full")
        (empty / "filler").unlink()
        async with await postgres.start(empty) as server:
            assert await query(server.url) == 1
    finally:
        await until(lambda: succeeds("umount", empty))  # the guard still has the log open for a moment


async def test_says_why_the_cluster_can_not_be_made(empty: Path, tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin", initdb="echo out of luck; exit 1")
    assert "out of luck" in await refusal(empty / "data", "postgres_init_failed", binaries=binaries)
    assert not (empty / "data/postgres").exists()


async def test_says_why_the_server_does_not_start(made: Path) -> None:
    assert "no_such_setting" in await refusal(made, "postgres_start_failed", config={"no_such_setting": "1"})
    async with await postgres.start(made) as server:
        assert server.owned


async def test_says_what_a_server_said_that_takes_too_long(made: Path, empty: Path, tmp_path: Path) -> None:
    binaries = fake_binaries(tmp_path / "bin", server="echo still thinking; exec sleep 100")
    with pytest.raises(SetupError) as caught:
        await postgres.start(made, timeout=1.5, binaries=binaries)
    assert caught.value.code == "postgres_timeout"
    assert "1.5 s" in caught.value.message
    assert "still thinking" in caught.value.message
    await until(lambda: is_free(made / "postgres.guard") and is_gone(made))
    async with await postgres.start(made) as server:
        assert server.owned
        assert await query(server.url) == 1


async def test_a_timeout_without_a_log(empty: Path) -> None:
    message = await refusal(empty, "postgres_timeout", timeout=0.01)
    assert message == "PostgreSQL was not ready within 0.01 s."

"""What the tests of the embedded PostgreSQL share."""

import asyncio
import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import ringfence
from ringfence.embedded import postgres
from ringfence.embedded.postgres_guard import Layout, leftovers, try_lock
from ringfence.errors import Kind, SetupError

IS_ROOT = os.geteuid() == 0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # folders in it get unguessable names
FAST = SHARED_MEMORY if SHARED_MEMORY.exists() and shutil.disk_usage(SHARED_MEMORY).free > 4 * 2**30 else None
"""Where data folders go, so that the tests don't wait for a disk; None: the temporary folder."""
CLIENT = """
import asyncio, json, os, sys
from pathlib import Path
from ringfence.embedded.postgres import start

async def main():
    async with await start(Path(sys.argv[1])) as server:
        report = {"uid": os.geteuid(), "owned": server.owned, "pid": server.pid, "url": server.url}
        print(json.dumps(report), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # other processes make it true
            await asyncio.sleep(0.02)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner(path: Path) -> int:
    return path.stat().st_uid


def succeeds(*command: object, **options: Any) -> bool:
    return subprocess.run([str(part) for part in command], check=False, capture_output=True, **options).returncode == 0


def is_absent(path: Path) -> bool:
    return not path.exists()


@contextlib.contextmanager
def folder(path: Path, mode: int) -> Iterator[None]:
    path.mkdir(mode)
    try:
        yield
    finally:
        path.rmdir()


def is_free(lock: Path) -> bool:
    with lock.open("r+b") as file:
        return try_lock(file.fileno())


def is_gone(data_dir: Path) -> bool:
    return not leftovers(Layout(data_dir).cluster)


async def query(url: str, sql: str = "select 1") -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


class Client:
    """Another process that uses a data folder until its standard input ends."""

    def __init__(self, data_dir: Path, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", CLIENT, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(ringfence.__file__).parents[1])},
        )

    async def report(self) -> dict[str, object]:
        assert self.process.stdout
        report: dict[str, object] = json.loads(await asyncio.to_thread(self.process.stdout.readline))
        return report

    async def leave(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return await asyncio.to_thread(self.process.wait, 20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


@contextlib.contextmanager
def client(data_dir: Path, *prefix: str) -> Iterator[Client]:
    made = Client(data_dir, *prefix)
    try:
        yield made
    finally:
        made.close()


@contextlib.asynccontextmanager
async def busy_backend(url: str) -> AsyncIterator[int]:
    """A session whose server process computes and does not look up."""
    connection = await asyncpg.connect(url)
    pid: int = await connection.fetchval("select pg_backend_pid()")
    work = asyncio.create_task(connection.execute("select count(*) from generate_series(1, 1000000000000)"))
    try:
        await until(lambda: int(Path(f"/proc/{pid}/stat").read_text().split()[13]) > 10)  # ticks of computing
        yield pid
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await work
        connection.terminate()


def fake_binaries(folder: Path, *, server: str = "exit 1", initdb: str = "exit 1") -> Path:
    """Programs that claim to be PostgreSQL 18."""
    folder.mkdir()
    version = 'if [ "$1" = -V ]; then echo "postgres (PostgreSQL) 18.0"; exit 0; fi\n'
    for name, body in (("postgres", version + server), ("initdb", initdb)):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


async def refusal(data_dir: Path, code: str, **options: object) -> str:
    """The message of the refusal to start, after checks that hold for all of them."""
    with pytest.raises(SetupError) as caught:
        await postgres.start(data_dir, **options)  # type: ignore[arg-type]  # passed on
    assert caught.value.code == code
    assert caught.value.kind is Kind.SETUP
    assert is_gone(data_dir)
    return caught.value.message

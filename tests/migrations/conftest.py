"""Databases in which nothing ever was, migrations as a later version might bring them, and what a schema is."""

import asyncio
from dataclasses import dataclass, field

import asyncpg
import pytest

from ringfence.embedded.postgres import find_binaries
from tests.conftest import cloned


@dataclass
class Said:
    """What a migration said, a line each."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    async def until(self, part: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while sum(part in line for line in self.lines) < times:
                await asyncio.sleep(0.01)


@pytest.fixture
def said():
    return Said()


@pytest.fixture
async def empty_url(server_url, template):
    """The administrator's URL of a database in which nothing ever was."""
    async with cloned(server_url, "template1") as url:
        yield url


@pytest.fixture
async def empty(empty_url):
    connection = await asyncpg.connect(empty_url)
    yield connection
    await connection.close()


async def schema_of(url: str) -> str:
    """All of a database's catalogue, as text."""
    process = await asyncio.create_subprocess_exec(
        str(find_binaries() / "pg_dump"), "--schema-only", "--restrict-key=x", "-d", url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()

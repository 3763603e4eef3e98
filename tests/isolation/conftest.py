"""Two tenants in a database that each worker of the run fills once; a test that wants them works on a copy of it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest_asyncio

from tests.conftest import cloned
from tests.isolation.tenants import Tenant, two_tenants


@dataclass(frozen=True)
class Inhabited:
    """A database with two tenants, to clone; `url` is the administrator's."""

    url: str
    tenants: tuple[Tenant, Tenant]

    @property
    def name(self) -> str:
        return urlsplit(self.url).path.removeprefix("/")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def inhabited(server_url: str, template: str) -> AsyncGenerator[Inhabited]:
    """Two tenants, with rows in every table."""
    async with cloned(server_url, template) as url:
        admin = await asyncpg.connect(url)
        try:
            tenants = await two_tenants(admin)
        finally:
            await admin.close()
        yield Inhabited(url, tenants)

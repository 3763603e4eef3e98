"""A running engine's backup, and a fresh database to restore it into."""

from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from ringfence.backup import service, sets
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.storage.local import LocalStorage
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD, cloned

PASSWORDS = (APP_PASSWORD, SYSTEM_PASSWORD)


@pytest.fixture
async def fresh_url(server_url, template):
    """The administrator's URL of a database in which nothing ever was."""
    async with cloned(server_url, "template1") as url:
        yield url


@pytest.fixture
async def fresh(fresh_url):
    connection = await asyncpg.connect(fresh_url)
    yield connection
    await connection.close()


@pytest.fixture
def storage(settings):
    """Of the engine that is backed up."""
    return LocalStorage(settings.data_dir / "files")


@pytest.fixture
async def source(app_url, system_url):
    """The database as `ringfence backup` opens it."""
    options = DatabaseOptions(pool_size=2, connect_timeout=30, command_timeout=120, statement_cache=0)
    database = Database(app_url, system_url, options)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def restored(settings, fresh_url, tmp_path):
    """Settings of an engine on the fresh database, with a data folder of its own."""
    return settings.model_copy(
        update={
            "data_dir": tmp_path / "restored",
            "app_database_url": SecretStr(role_url(fresh_url, APP_ROLE, APP_PASSWORD)),
            "system_database_url": SecretStr(role_url(fresh_url, SYSTEM_ROLE, SYSTEM_PASSWORD)),
        }
    )


async def restore(folder: Path, url: str, data_dir: Path, **options) -> None:
    """As `ringfence restore` does it."""
    said = options.pop("say", lambda _line: None)
    storage = LocalStorage(data_dir / "files")
    await service.restore(sets.read(folder), url, *PASSWORDS, storage, say=said, **options)


def silent(_line):
    """Say nothing."""


async def contents(connection, *, settled: bool = False) -> dict[str, list[str]]:
    """Every row of every table, as text, but when migrations were applied; `settled`: as a restore leaves the queue."""
    names = await connection.fetch(
        "select relname::text from pg_class where relkind in ('r', 'p') and not relispartition "
        "and relnamespace = 'public'::regnamespace"
    )
    found = {}
    for (name,) in names:
        rows = await connection.fetch(f"select to_jsonb(t) - 'applied_at' as row from {name} t")
        found[name] = sorted(str(row["row"]) for row in rows)
    if settled:
        rows = await connection.fetch("""
            select to_jsonb(t) || case when state = 'running' then jsonb_build_object(
              'state', 'ready', 'token', null, 'lease_until', null, 'attempts', attempts - 1) else '{}' end as row
            from jobs t""")
        found["jobs"] = sorted(str(row["row"]) for row in rows)
    return found

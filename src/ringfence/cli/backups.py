"""`ringfence backup` and `restore`, on the database that the settings name or the embedded one."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import typer

from ringfence.backup import service, sets
from ringfence.backup.sets import Manifest
from ringfence.cli.local import with_administrator
from ringfence.db import Database, DatabaseOptions
from ringfence.embedded import postgres
from ringfence.errors import SetupError
from ringfence.services import admin_url, database_urls, open_storage, role_passwords
from ringfence.settings import Settings

_LONGEST_COPY = 86_400  # seconds; a large tenant's rows take their time


def tell(line: str) -> None:
    """Say a line of progress on standard error."""
    typer.echo(line, err=True)


async def take(settings: Settings, folder: Path, reuse: Path | None) -> Manifest:
    """Back up into a folder; needs no administrator.

    Raises:
        SetupError: there is no database, or the folder is unfit.
        Unavailable: the database or a file can't be reached.
    """
    async with AsyncExitStack() as stack:
        if settings.app_database_url is None or settings.system_database_url is None:
            if settings.database_url is None and not postgres.exists(settings.data_dir):
                raise SetupError("database_missing", f"No database is set, and {settings.data_dir} has none either.")
            settings = await with_administrator(settings, stack)
        options = DatabaseOptions(pool_size=2, connect_timeout=10, command_timeout=_LONGEST_COPY, statement_cache=0)
        db = Database(*database_urls(settings), options)
        stack.push_async_callback(db.close)
        await db.open()
        return await service.back_up(db, await open_storage(settings), folder, reuse=reuse, say=tell)


async def bring_back(settings: Settings, folder: Path) -> Manifest:
    """Restore a backup into the database and the data folder.

    Raises:
        SetupError: the backup is damaged or of a newer engine, or the database is not empty.
        Unavailable: the database or the disk can't be reached.
    """
    tell(f"checking {folder}")
    found = await asyncio.to_thread(sets.read, folder)
    async with AsyncExitStack() as stack:
        embedded = settings.database_url is None
        settings = await with_administrator(settings, stack)
        logins = role_passwords(settings)
        storage = await open_storage(settings)
        await service.restore(found, admin_url(settings), *logins, storage, new_secret=embedded, say=tell)
    return found.manifest

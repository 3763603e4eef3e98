"""All that maintenance needs: the one process that may change the catalogue while the engine serves."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from ringfence.migrations.forms import Pace
from ringfence.migrations.owner import owner
from ringfence.search.maintenance import LOCK, Maintenance
from ringfence.services.parts import admin_url, make_tiers, open_database
from ringfence.settings import Settings


@asynccontextmanager
async def open_maintenance(settings: Settings) -> AsyncGenerator[Maintenance]:
    """What promotes and demotes tenants: the database, and an administrator's URL to become the tables' owner with.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    url, pace = admin_url(settings), Pace(patience=30.0)  # what finds no moment comes again with the next round
    async with AsyncExitStack() as stack:
        db = await open_database(settings, stack, request=False)
        yield Maintenance(db, lambda: owner(url, LOCK, pace=pace), make_tiers(settings))

"""Upkeep: what nobody needs any more is removed by its age. Any number of workers may do it at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from ringfence import jobs, limits, mail
from ringfence.accounts import audit, audit_queries, credential_queries, queries
from ringfence.db import Database, SystemTx

log = structlog.get_logger()

UNVERIFIED = timedelta(days=1)
"""Age of a registration that is given up; its codes died long before."""

PARKED_MAIL = timedelta(days=30)
"""For which mail that could not be sent is kept, sealed, for an operator to look at its reason."""

EMPTY_BUCKET = timedelta(hours=1)
"""For which a limit's bucket is kept after its last try has no effect any more."""

NOBODYS_EVENTS = timedelta(days=90)
"""For which events of no account are kept. The database removes none that are younger (0018_audit_guard.sql)."""

_PAUSE = 600.0


class Upkeep:
    """Removes registrations that nobody completed, ended sessions, unsent mail, empty buckets, nobody's events.

    Args:
        db: where they are.
        now: the clock.
        pause: seconds between two rounds.
    """

    def __init__(self, db: Database, now: Callable[[], datetime], *, pause: float = _PAUSE) -> None:
        self._db = db
        self._now = now
        self._pause = pause

    async def run(self) -> None:
        """A round every few minutes, until cancelled; one that fails is logged, and the next one comes."""
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001  # whatever the database says: a worker outlives it
                log.warning("upkeep_failed", error=str(error))
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)

    async def round(self) -> None:
        """Remove all that is old enough now, in short transactions."""
        now = self._now()
        removed = {
            "registrations": await self._all(lambda tx: credential_queries.forget_unverified(tx, now - UNVERIFIED)),
            "sessions": await self._all(lambda tx: queries.forget_sessions(tx, now)),
            "buckets": await self._all(lambda tx: limits.forget_buckets(tx, now - EMPTY_BUCKET)),
            "events": await self._all(lambda tx: audit_queries.forget_events(tx, audit.NOBODY, now - NOBODYS_EVENTS)),
            "mails": await self._all(lambda tx: jobs.forget_parked(tx, mail.KIND, now - PARKED_MAIL)),
        }
        if any(removed.values()):
            log.info("upkeep", **removed)

    async def _all(self, batch: Callable[[SystemTx], Awaitable[int]]) -> int:
        total = 0
        while True:
            async with self._db.system() as tx:
                removed = await batch(tx)
            if not removed:
                return total
            total += removed

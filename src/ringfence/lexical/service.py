"""Keeping the lexical index small and quick: merging, cleaning, and filling it with chunks of before it was there.

All of it goes on in short transactions, any of which may be the last: what was done stays, and the next run does the
rest. Writers and searches wait for none of them, and a search finds the same before, between and after.
"""

import asyncio
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ringfence.db import Database
from ringfence.ids import DocumentId, UserId
from ringfence.lexical import queries
from ringfence.lexical.postings import Writer

KIND = "index"

MOST_WAITING = 64
"""Segments that are not merged, from which on they are: a search reads a row of each of them for each of its terms."""

# Each time, what a tenant has is read once; and nobody shall hold a lock for long.
_MERGE_ROWS = 2000
_SWEEP_ROWS = 10_000
_FILL_CHUNKS = 512


class IndexPayload(BaseModel):
    """What a job does with a tenant's index.

    `merge` what was stored; `clean` it of what nobody will find again, after it was merged; `fill` it with chunks that
    it lacks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    step: Literal["merge", "clean", "fill"]


class LexicalIndex:
    """Maintains tenants' lexical indexes.

    Args:
        db: where they are.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(self, user_id: UserId, payload: str) -> None:
        """Run a job.

        Raises:
            Unavailable: the database; run it again.
        """
        step = IndexPayload.model_validate_json(payload).step
        if step == "fill":
            await self.fill(user_id)
        await self.merge(user_id)
        if step == "clean":
            await self.clean(user_id)

    async def merge(self, user_id: UserId, rows: int = _MERGE_ROWS) -> None:
        """Merge all that is stored of documents that are ready, so many rows in a transaction."""
        while True:
            async with self._db.tenant(user_id) as tx:
                await queries.lock(tx)
                if not await queries.merge(tx, rows):
                    return

    async def clean(self, user_id: UserId, rows: int = _SWEEP_ROWS) -> None:
        """Remove what is left of deleted documents and earlier versions."""
        while True:
            async with self._db.tenant(user_id) as tx:
                await queries.lock(tx)
                merged, others = await queries.dead(tx)
                await queries.drop(tx, others)
            if merged:
                await self._sweep(user_id, merged, rows)
            if not (merged or others):
                return

    async def _sweep(self, user_id: UserId, segments: list[int], rows: int) -> None:
        after = None
        while True:
            async with self._db.tenant(user_id) as tx:
                await queries.lock(tx)
                after = await queries.sweep(tx, segments, rows, after)
                if after is None:
                    await queries.drop(tx, segments)
                    return

    async def fill(self, user_id: UserId) -> None:
        """Add live chunks that the index lacks, some in a transaction."""
        writers: dict[DocumentId, Writer] = {}
        while True:
            async with self._db.tenant(user_id) as tx:
                await queries.lock(tx)
                found = await queries.unindexed(tx, _FILL_CHUNKS)
                # A document that goes on keeps its language.
                writers = {one.document_id: writers.get(one.document_id) or Writer(one.name) for one in found}
                for one in found:
                    segments = await asyncio.to_thread(writers[one.document_id].segments, one.chunks)
                    await queries.add(tx, one.document_id, segments)
            if not found:
                return

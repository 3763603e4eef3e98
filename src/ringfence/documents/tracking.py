"""How far a running ingestion has come, written down now and then, beside its work and not within it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from ringfence.db import Database
from ringfence.documents import ingestion_queries as queries
from ringfence.documents.ingestion_queries import Working
from ringfence.errors import Unavailable
from ringfence.ids import DocumentId, UserId

EVERY = 1.0
"""Seconds between two writes of one document's progress, at least."""


@dataclass(slots=True)
class Track:
    """What the parts of a pipeline have done so far. Each part counts for itself.

    Attributes:
        pages: of the document; None until its parser has opened it.
        pages_done: parsed.
        chunks: cut.
        chunks_embedded: of them, those that have a vector.
        chunks_done: of them, those that are stored.
        parsed: whether all of it is parsed and cut.
    """

    pages: int | None = None
    pages_done: int = 0
    chunks: int = 0
    chunks_embedded: int = 0
    chunks_done: int = 0
    parsed: bool = False

    @property
    def stage(self) -> Working:
        """The first of the parts that is not done."""
        if not self.parsed:
            return "parsing"
        return "embedding" if self.chunks_embedded < self.chunks else "storing"

    async def keep(self, db: Database, user_id: UserId, document_id: DocumentId, token: UUID, every: float) -> None:
        """Write it down whenever it has changed, at most every so many seconds, until cancelled."""
        written = None
        while True:
            await asyncio.sleep(every)
            now = (self.stage, self.pages, self.pages_done, self.chunks, self.chunks_done)
            if now != written:
                stage, pages, pages_done, chunks, done = written = now
                with suppress(Unavailable):  # it says less then, for as long as that lasts
                    async with db.tenant(user_id) as tx:
                        await queries.record(
                            tx, document_id, token, stage=stage, pages=pages, pages_done=pages_done, chunks=chunks,
                            chunks_done=done,
                        )  # fmt: skip


async def let_go(db: Database, user_id: UserId, document_id: DocumentId, token: UUID) -> None:
    """Nothing is done to a document any more by whoever holds this token; without effect if another has it in hand."""
    with suppress(Unavailable, TimeoutError):  # whoever takes it in hand next begins anew
        async with asyncio.timeout(EVERY), db.tenant(user_id) as tx:
            await queries.let_go(tx, document_id, token)

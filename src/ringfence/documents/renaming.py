"""Names of documents are words of their chunks: after another name, the lexical index holds its words."""

import asyncio
from datetime import timedelta
from itertools import batched
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import indexing
from ringfence.ids import DocumentId, UserId
from ringfence.lexical import queries as lexical
from ringfence.lexical.postings import Segment, segment_of
from ringfence.lexical.service import LexicalIndex

RETITLE = "retitle"
_WITHIN = timedelta(seconds=2)
_SEGMENTS_AT_ONCE = 16


class RetitlePayload(BaseModel):
    """A document that has another name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    document_id: DocumentId


async def retitle_soon(tx: TenantTx, document_id: DocumentId, former: str, name: str) -> None:
    """See that a document is found by the words of its name, where its former one has others."""
    if PurePosixPath(former).stem != PurePosixPath(name).stem:
        await jobs.promise_once(tx, RETITLE, RetitlePayload(document_id=document_id), _WITHIN)


class Retitling:
    """Indexes documents anew under the names that they have now.

    Args:
        db: where they are.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._index = LexicalIndex(db)

    async def run(self, user_id: UserId, payload: str) -> None:
        """Run a job.

        Each chunk is found throughout: what is new takes the place of what was in one transaction, some segments in
        each. What was is cleaned later. Whoever changes the document waits for such a transaction.

        Raises:
            Unavailable: the database; run it again.
        """
        document_id = RetitlePayload.model_validate_json(payload).document_id
        async with self._db.tenant(user_id) as tx:
            known = await lexical.segments(tx, document_id)
        for some in batched(known, _SEGMENTS_AT_ONCE):
            async with self._db.tenant(user_id) as tx:
                await lexical.lock(tx)
                # Else its name could change once more, or its chunks be cleared, between a look at them and the end.
                await lexical.hold(tx, document_id)
                found = await lexical.titled(tx, document_id, some)
                made = await asyncio.to_thread(_made_anew, found)
                await lexical.forget_segments(tx, [one.segment for one in found])
                await lexical.add(tx, document_id, made)
                await indexing.clean_later(tx)
            await self._index.merge(user_id)


def _made_anew(titled: list[lexical.Titled]) -> list[Segment]:
    return [segment_of(one.name, one.chunks, one.analysis) for one in titled]

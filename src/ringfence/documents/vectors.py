"""Vectors of passages: those that a tenant has already are not made again, and those of another model are filled in."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import vector_queries
from ringfence.documents.vector_queries import LAST, START, Place, digest
from ringfence.ids import UserId
from ringfence.models.base import Embedder, Vectors
from ringfence.models.registry import EmbeddingModels
from ringfence.telemetry.metrics import PASSAGE_VECTORS

FORGET = "forget_vectors"
KEPT = timedelta(hours=1)
"""For which old vectors stay after a swap: longer than any search, and long enough to think better of it."""


class ForgetPayload(BaseModel):
    """Vectors of models that the tenant does not use may go."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def forget_later(tx: TenantTx) -> None:
    """See that vectors of models that the tenant does not use any more go, but not yet."""
    await jobs.promise(tx, FORGET, ForgetPayload(), KEPT)


class PassageVectors:
    """Makes vectors, or finds them among those of the same tenant: nobody else's are looked at, nothing is kept here.

    Args:
        db: where they are.
        models: numbers the models.
    """

    def __init__(self, db: Database, models: EmbeddingModels) -> None:
        self._db = db
        self._models = models

    async def of(self, user_id: UserId, embedder: Embedder, passages: Sequence[str]) -> tuple[int, Vectors]:
        """The model's number, and a vector for each of some passages.

        Raises:
            Unavailable, Invalid, SetupError: as of `Embedder.embed` and `EmbeddingModels.number`.
        """
        digests = [digest(passage) for passage in passages]
        by_digest = dict(zip(digests, passages, strict=True))
        vectors = await self._found(user_id, embedder, list(by_digest))
        if fresh := [key for key in by_digest if key not in vectors]:
            made = await embedder.embed([by_digest[key] for key in fresh])
            model_id = await self._models.number(embedder.name, made.shape[1])
            if len(fresh) == len(passages):
                PASSAGE_VECTORS.labels("made").inc(len(fresh))
                return model_id, made
            vectors.update(zip(fresh, made, strict=True))
        PASSAGE_VECTORS.labels("made").inc(len(fresh))
        PASSAGE_VECTORS.labels("found").inc(len(passages) - len(fresh))
        rows = np.stack([vectors[key] for key in digests])
        return await self._models.number(embedder.name, rows.shape[1]), rows

    async def _found(
        self, user_id: UserId, embedder: Embedder, digests: Sequence[bytes]
    ) -> dict[bytes, NDArray[np.float32]]:
        model = await self._models.find(embedder.name)
        if model is None:
            return {}
        async with self._db.tenant(user_id) as tx:
            return await vector_queries.known(tx, model.model_id, digests)

    async def fill(self, user_id: UserId, embedder: Embedder, after: Place = START, last: UUID = LAST) -> Place | None:
        """Make the vectors of a batch of chunks that have none of a model; the last one's place, None at the end.

        Args:
            user_id: whose chunks.
            embedder: the model.
            after: where to go on.
            last: the document to stop behind.

        Raises:
            Unavailable, Invalid, SetupError: as of `of`.
        """
        model = await self._models.of(embedder)
        async with self._db.tenant(user_id) as tx:
            chunks = await vector_queries.missing(tx, model.model_id, after, last, embedder.batch_texts)
        if not chunks:
            return None
        _, vectors = await self.of(user_id, embedder, [chunk.passage for chunk in chunks])
        async with self._db.tenant(user_id) as tx:
            await vector_queries.fill(tx, model.model_id, chunks, vectors)
        return chunks[-1].place

    async def fill_document(self, user_id: UserId, embedder: Embedder, document_id: UUID) -> None:
        """Make all vectors that one document has none of; as `fill`."""
        place: Place | None = Place(document_id, -1)
        while place:
            place = await self.fill(user_id, embedder, place, document_id)

"""A tenant's way to another embedding model: filled in beside the live one, then swapped at once.

While a model is filled in, new documents get vectors of both, and a document that was begun before gets what it lacks
before it becomes ready. So a pass over all chunks that are there at the beginning misses none. Searches see the swap
in one transaction, and one that has begun with the old vectors finds all of them: they go an hour later.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import vector_queries
from ringfence.documents.vector_queries import START, Place
from ringfence.documents.vectors import PassageVectors, forget_later
from ringfence.errors import SetupError, Unavailable
from ringfence.ids import UserId
from ringfence.jobs import Job
from ringfence.models import queries as models
from ringfence.models.base import Embedder
from ringfence.models.queries import EmbeddingModel
from ringfence.models.registry import EmbeddingModels

REEMBED = "reembed"
PATIENCE = timedelta(days=30)
"""For which these jobs are tried while a model server or the database is down."""

SLICE_SECONDS = 5.0
"""After which a job makes room for others, of this tenant and of others, and goes on behind them."""

_DOCUMENTS = 100  # looked up at once
_ROWS = 1000  # removed at once

log = structlog.get_logger()


class ReembedPayload(BaseModel):
    """A tenant's chunks are to get vectors of a model, from those behind a place on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    document_id: UUID = START.document_id
    number: int = START.number


class Reembedding:
    """Runs the jobs of tenants that move to another model. Safe to run again at any point, and beside itself.

    Args:
        db: where vectors are.
        embedding: the models that are set up.
        vectors: makes them.
        slice_seconds: after which a job makes room.
    """

    def __init__(
        self,
        db: Database,
        embedding: EmbeddingModels,
        vectors: PassageVectors,
        *,
        slice_seconds: float = SLICE_SECONDS,
    ) -> None:
        self._db = db
        self._embedding = embedding
        self._vectors = vectors
        self._slice_seconds = slice_seconds

    async def run(self, job: Job) -> None:
        """Fill in a model's missing vectors for some seconds; then go on in another job, or swap.

        Raises:
            Unavailable: something that may pass; this worker does not know the model, say.
            Invalid: the model rejects a passage.
        """
        payload = ReembedPayload.model_validate_json(job.payload)
        try:
            await self._slice(job, payload)
        except SetupError as error:
            raise Unavailable(error.code, error.message) from error

    async def _slice(self, job: Job, payload: ReembedPayload) -> None:
        embedder, place = self._embedding.named(payload.model), Place(payload.document_id, payload.number)
        model_id = (await self._embedding.of(embedder)).model_id
        async with self._db.tenant(job.user_id) as tx:
            if not await (_begun(tx, model_id) if place == START else _aimed(tx, model_id)):
                return
        reached = await self._filled(job.user_id, embedder, place)
        async with self._db.tenant(job.user_id) as tx:
            if reached is None and await _swapped(tx, model_id):
                await forget_later(tx)
                log.info("reembedded", model=payload.model)
            elif not await jobs.waits(tx, REEMBED):
                rest = reached or START
                again = ReembedPayload(model=payload.model, document_id=rest.document_id, number=rest.number)
                await jobs.enqueue(tx, job.user_id, REEMBED, again)

    async def _filled(self, user_id: UserId, embedder: Embedder, place: Place) -> Place | None:
        """Fill in for a while; how far it came, None at the end."""
        end = time.monotonic() + self._slice_seconds
        while reached := await self._vectors.fill(user_id, embedder, place):
            place = reached
            if time.monotonic() >= end:
                return place
        return None

    async def forget(self, job: Job) -> None:
        """Remove the vectors of models that the tenant neither uses nor moves to, document by document.

        Raises:
            Unavailable: the database; run it again.
        """
        place = START.document_id
        while documents := await self._ready_after(job.user_id, place):
            for place in documents:
                while await self._forgotten(job.user_id, place) == _ROWS:
                    pass

    async def _ready_after(self, user_id: UserId, place: UUID) -> list[UUID]:
        async with self._db.tenant(user_id) as tx:
            return await vector_queries.ready_after(tx, place, _DOCUMENTS)

    async def _forgotten(self, user_id: UserId, document_id: UUID) -> int:
        """Remove some of a document's old vectors; how many."""
        async with self._db.tenant(user_id) as tx:
            await vector_queries.hold(tx, [document_id])
            chosen = await models.hold(tx)
            keep = [model.model_id for model in chosen.all] if chosen else []
            return await vector_queries.forget(tx, document_id, keep, _ROWS) if keep else 0


async def _begun(tx: TenantTx, model_id: int) -> bool:
    """Have new documents get vectors of a model too; False if there is nothing to do: no vectors, or of it already."""
    chosen = await models.chosen(tx)
    if chosen is None:
        return False
    await models.adopt(tx, chosen.live.model_id)
    await models.aim(tx, model_id)
    if chosen.coming and chosen.coming.model_id != model_id:
        await forget_later(tx)
    return chosen.live.model_id != model_id


async def _aimed(tx: TenantTx, model_id: int) -> bool:
    """Whether this model is still the one that is filled in."""
    chosen = await models.chosen(tx)
    return chosen is not None and chosen.coming is not None and chosen.coming.model_id == model_id


async def _swapped(tx: TenantTx, model_id: int) -> bool:
    """Search with a model from now on, if it is still the one that is filled in; False if it lacks a vector."""
    await models.lock(tx)
    if not await _aimed(tx, model_id):
        return True
    if await vector_queries.lacks(tx, model_id):
        return False
    await models.swap(tx)
    return True


@dataclass(frozen=True, slots=True)
class Move:
    """A tenant's models, as operators see them.

    Attributes:
        live: the one that it is searched with; None without documents.
        coming: the one that is filled in.
        chunks: how many passages there are.
        vectors: how many there are of each model, by name.
    """

    live: str | None
    coming: str | None
    chunks: int
    vectors: dict[str, int]


class Moves:
    """What an operator sees and does: which models tenants have, and where they are to go.

    Args:
        db: where that is kept.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def models(self) -> list[EmbeddingModel]:
        """All models that anything was ever embedded with."""
        async with self._db.system() as tx:
            return await models.known(tx)

    async def of(self, user_id: UserId) -> Move:
        """A tenant's models."""
        names = {model.model_id: model.name for model in await self.models()}
        async with self._db.tenant(user_id) as tx:
            chosen = await models.chosen(tx)
            chunks, vectors = await vector_queries.counts(tx)
        coming = chosen.coming.name if chosen and chosen.coming else None
        by_name = {names[model_id]: count for model_id, count in vectors.items()}
        return Move(chosen.live.name if chosen else None, coming, chunks, by_name)

    async def begin(self, user_id: UserId, model: str) -> bool:
        """Queue a tenant's move to a model; False if it is there, or has no documents. What was queued before, goes."""
        async with self._db.system() as system:
            await jobs.withdraw_all(system, user_id, REEMBED)
        async with self._db.tenant(user_id) as tx:
            chosen = await models.chosen(tx)
            if chosen is None or (chosen.live.name == model and chosen.coming is None):
                return False
            await jobs.enqueue(tx, user_id, REEMBED, ReembedPayload(model=model))
            return True

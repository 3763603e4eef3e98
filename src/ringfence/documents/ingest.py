"""Ingestion: parse → chunk → embed → store, as a pipeline that overlaps and does not grow with the document."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog

from ringfence.db import Database
from ringfence.documents import queries
from ringfence.documents.chunker import Chunk, Chunker
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.queries import Document
from ringfence.documents.service import IngestPayload
from ringfence.errors import RingfenceError, SetupError, Unavailable
from ringfence.ids import DocumentId, UserId
from ringfence.jobs import Job
from ringfence.models.base import Embedder
from ringfence.models.registry import EmbeddingModels
from ringfence.storage import LocalStorage

log = structlog.get_logger()

_BATCH = 32
_QUEUE = 2


class Lost(Exception):
    """The document was deleted, or another worker has taken over: stop, and touch nothing more."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks on their way to the store, and how far the parser had come."""

    chunks: list[Chunk]
    pages: int
    pages_done: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write one document: it holds as long as the token does."""

    user_id: UserId
    document_id: DocumentId
    token: UUID


class Ingestion:
    """Turns an uploaded file into chunks and vectors. Safe to run again at any point: nothing is stored twice."""

    def __init__(
        self,
        db: Database,
        storage: LocalStorage,
        sandbox: Sandbox,
        embedder: Embedder,
        *,
        chunk_chars: int,
        chunk_overlap: int,
    ) -> None:
        self._db = db
        self._storage = storage
        self._sandbox = sandbox
        self._embedder = embedder
        self._models = EmbeddingModels(db)
        self._chunk_chars = chunk_chars
        self._chunk_overlap = chunk_overlap

    async def run(self, job: Job) -> None:
        """Ingest a document. A document that can't be read ends as `failed`, with the reason; that is no error here.

        Raises:
            Unavailable: something that may pass; run it again.
        """
        payload = IngestPayload.model_validate_json(job.payload)
        claim = Claim(job.user_id, DocumentId(payload.document_id), job.token)
        async with self._db.tenant(claim.user_id) as tx:
            document = await queries.start(tx, claim.document_id, claim.token)
        if document is None:
            return
        try:
            await self._pipeline(claim, document)
        except Lost:
            log.info("ingest_lost", document_id=str(claim.document_id))
        except Unavailable:
            raise
        except SetupError as error:  # not the document's fault: it waits until somebody has mended the set-up
            raise Unavailable(error.code, error.message) from error
        except RingfenceError as error:
            async with self._db.tenant(claim.user_id) as tx:
                await queries.fail(tx, claim.document_id, error.code, error.message, claim.token)

    async def give_up(self, job: Job, code: str, reason: str) -> None:
        """Mark the document of a job that failed too often."""
        payload = IngestPayload.model_validate_json(job.payload)
        async with self._db.tenant(job.user_id) as tx:
            await queries.fail(tx, DocumentId(payload.document_id), code, reason, job.token)

    async def _pipeline(self, claim: Claim, document: Document) -> None:
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(_QUEUE)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._produce(claim, document, queue))
                group.create_task(self._consume(claim, queue))
        except* (RingfenceError, Lost) as several:
            raise several.exceptions[0] from None

    async def _produce(self, claim: Claim, document: Document, queue: asyncio.Queue[Batch | None]) -> None:
        async with aclosing(self._batches(claim, document)) as batches:
            async for batch in batches:
                await queue.put(batch)
        await queue.put(None)

    async def _batches(self, claim: Claim, document: Document) -> AsyncGenerator[Batch]:
        path = self._storage.existing_path(claim.user_id, document.sha256)
        chunker = Chunker(size=self._chunk_chars, overlap=self._chunk_overlap)
        waiting: list[Chunk] = []
        done = 0
        async with self._sandbox.parse(path, document.media_type) as parsed:
            async for page in parsed:
                waiting += chunker.add(page.number, page.text)
                done = page.number
                while len(waiting) > _BATCH:  # the last batch shall not be empty
                    yield Batch(waiting[:_BATCH], parsed.pages, done)
                    waiting = waiting[_BATCH:]
            yield Batch(waiting + chunker.finish(), parsed.pages, done)

    async def _consume(self, claim: Claim, queue: asyncio.Queue[Batch | None]) -> None:
        stored = 0
        while batch := await queue.get():
            stored += len(batch.chunks)
            await self._store(claim, batch, stored)
        async with self._db.tenant(claim.user_id) as tx:
            if not await queries.ready(tx, claim.document_id, claim.token):
                raise Lost

    async def _store(self, claim: Claim, batch: Batch, stored: int) -> None:
        vectors = await self._embedder.embed([chunk.text for chunk in batch.chunks])
        model_id = await self._models.number(self._embedder.name, vectors.shape[1])
        async with self._db.tenant(claim.user_id) as tx:
            held = await queries.progress(
                tx, claim.document_id, claim.token, pages=batch.pages, done=batch.pages_done, chunks=stored
            )
            if not held:
                raise Lost
            await queries.add_chunks(tx, claim.document_id, model_id, batch.chunks, vectors)

"""Ingestion: parse → chunk → embed → store, as a pipeline that overlaps and does not grow with the document."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import structlog

from ringfence.db import Database
from ringfence.documents import claims, indexing, passwords, queries
from ringfence.documents.chunker import Chunk, Chunker, chunker_for
from ringfence.documents.claims import Claim, Source
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.renaming import retitle_soon
from ringfence.documents.service import IngestPayload, ReplacePayload
from ringfence.documents.tracking import EVERY, let_go
from ringfence.documents.vectors import PassageVectors, forget_later
from ringfence.errors import RingfenceError, SetupError, Unavailable
from ringfence.ids import DocumentId
from ringfence.jobs import Job
from ringfence.lexical import queries as lexical
from ringfence.lexical.postings import Segment, Writer
from ringfence.models import queries as models
from ringfence.models.base import Embedder, Vectors
from ringfence.models.registry import EmbeddingModels
from ringfence.storage.base import Storage
from ringfence.telemetry.metrics import INGESTED_CHUNKS, INGESTED_PAGES
from ringfence.telemetry.traces import tracing

log = structlog.get_logger()

_QUEUE = 2
_EMBEDDED_QUEUE = 1  # one batch is stored, one waits, and the model is at the next


class Lost(Exception):
    """The document was deleted, or another worker has taken over: stop, and touch nothing more."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks on their way to the store, and how far the parser had come."""

    chunks: list[Chunk]
    pages: int
    pages_done: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch with its vectors of each model, by the models' numbers."""

    batch: Batch
    vectors: dict[int, Vectors]


class Ingestion:
    """Turns an uploaded file into chunks and vectors. Safe to run again at any point: nothing is stored twice."""

    def __init__(
        self,
        db: Database,
        storage: Storage,
        sandbox: Sandbox,
        embedder: Embedder,
        *,
        chunk_tokens: int,
        chunk_overlap_tokens: int,
        password_key: bytes | None = None,
        beat: float = 5.0,
        track_every: float = EVERY,
        coming: Embedder | None = None,
    ) -> None:
        """Take what it works with.

        Args:
            db: where documents are.
            storage: where their files are.
            sandbox: what parses them.
            embedder: what makes vectors.
            chunk_tokens: a chunk's length at most, in tokens of the embedding model; less where the model reads less.
            chunk_overlap_tokens: tokens that a chunk has of the one before.
            password_key: opens what `Library` sealed with it.
            beat: seconds between two looks whether the document is still there, and still this worker's.
            track_every: seconds between two notes of how far it has come, at least.
            coming: makes vectors of the model that is to take the place of `embedder`'s, tenant by tenant.
        """
        self._db = db
        self._storage = storage
        self._sandbox = sandbox
        self._models = EmbeddingModels(db, [embedder, coming] if coming else [embedder])
        self._vectors = PassageVectors(db, self._models)
        self._chunk_tokens = chunk_tokens
        self._chunk_overlap_tokens = chunk_overlap_tokens
        self._password_key = password_key
        self._beat = beat
        self._track_every = track_every

    async def run(self, job: Job) -> None:
        """Ingest a document. A document that can't be read ends as `failed`, with the reason; that is no error here.

        Raises:
            Unavailable: something that may pass; run it again.
        """
        payload = IngestPayload.model_validate_json(job.payload)
        await self._run(Claim(job.user_id, DocumentId(payload.document_id), job.token), payload)

    async def run_replacement(self, job: Job) -> None:
        """Ingest what is to take a document's place, and let it; then clear up what is left of other versions.

        One that can't be read leaves the live version as it is, and says why; that is no error here.

        Raises:
            Unavailable: something that may pass; run it again.
        """
        payload = ReplacePayload.model_validate_json(job.payload)
        claim = _of_replacement(job, payload)
        await self._run(claim, payload)
        await claims.trim(self._db, claim)

    async def _run(self, claim: Claim, payload: IngestPayload) -> None:
        structlog.contextvars.bind_contextvars(document_id=str(claim.document_id))
        async with self._db.tenant(claim.user_id) as tx:
            source = await claims.start(tx, claim)
            chosen = await models.chosen(tx)
        if source is None:
            return
        try:
            await self._attempt(claim, source, self._password(payload), chosen)
        except BaseException:  # it waits for a worker again
            await let_go(self._db, claim.user_id, claim.document_id, claim.token)
            raise

    async def _attempt(self, claim: Claim, source: Source, password: str | None, chosen: models.Chosen | None) -> None:
        try:
            with tracing.span("ingest", document_id=claim.document_id, bytes=source.size):
                await self._pipeline(claim, source, password, self._embedders(chosen))
        except Lost:
            log.info("ingest_lost")
            await let_go(self._db, claim.user_id, claim.document_id, claim.token)
        except Unavailable:
            raise
        except SetupError as error:  # not the document's fault: it waits until somebody has mended the set-up
            raise Unavailable(error.code, error.message) from error
        except RingfenceError as error:
            async with self._db.tenant(claim.user_id) as tx:
                await claims.fail(tx, claim, error.code, error.message)

    async def give_up(self, job: Job, code: str, reason: str) -> None:
        """Mark the document of a job that failed too often."""
        payload = IngestPayload.model_validate_json(job.payload)
        async with self._db.tenant(job.user_id) as tx:
            await claims.fail(tx, Claim(job.user_id, DocumentId(payload.document_id), job.token), code, reason)

    async def give_up_replacement(self, job: Job, code: str, reason: str) -> None:
        """Say of a replacement's job that failed too often why the live version stays."""
        claim = _of_replacement(job, ReplacePayload.model_validate_json(job.payload))
        async with self._db.tenant(job.user_id) as tx:
            await claims.fail(tx, claim, code, reason)
        await claims.trim(self._db, claim)

    def _password(self, payload: IngestPayload) -> str | None:
        if payload.sealed_password is None or self._password_key is None:
            return None
        return passwords.unseal(self._password_key, DocumentId(payload.document_id), payload.sealed_password)

    def _embedders(self, chosen: models.Chosen | None) -> list[Embedder]:
        """Those of the tenant's models, the live one first."""
        return [self._models.named(model.name) for model in chosen.all] if chosen else [self._models.newest]

    async def _pipeline(self, claim: Claim, source: Source, password: str | None, embedders: list[Embedder]) -> None:
        parsed: asyncio.Queue[Batch | None] = asyncio.Queue(_QUEUE)
        embedded: asyncio.Queue[Embedded | None] = asyncio.Queue(_EMBEDDED_QUEUE)
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(claim))
                note = group.create_task(self._note(claim))
                group.create_task(self._produce(claim, source, password, embedders, parsed))
                group.create_task(self._embed(claim, embedders, parsed, embedded))
                await self._consume(claim, source, embedded)
                watch.cancel()
                note.cancel()
        except* (RingfenceError, Lost) as several:
            raise several.exceptions[0] from None

    async def _note(self, claim: Claim) -> None:
        await claim.track.keep(self._db, claim.user_id, claim.document_id, claim.token, self._track_every)

    async def _watch(self, claim: Claim) -> None:
        """Stop what takes long, a page or a batch of vectors, once nobody wants it."""
        while True:
            await asyncio.sleep(self._beat)
            with suppress(Unavailable):  # the next write will tell
                async with self._db.tenant(claim.user_id) as tx:
                    if not await claims.held(tx, claim):
                        raise Lost

    async def _produce(
        self,
        claim: Claim,
        source: Source,
        password: str | None,
        embedders: list[Embedder],
        parsed: asyncio.Queue[Batch | None],
    ) -> None:
        with tracing.span("ingest.parse"):
            async with aclosing(self._batches(claim, source, password, embedders)) as batches:
                async for batch in batches:
                    await parsed.put(batch)
        await parsed.put(None)

    async def _batches(
        self, claim: Claim, source: Source, password: str | None, embedders: list[Embedder]
    ) -> AsyncGenerator[Batch]:
        chunker, size, track = self._chunker(embedders), embedders[0].batch_texts, claim.track
        waiting: list[Chunk] = []
        done = 0
        async with (
            self._storage.open(claim.user_id, source.sha256) as file,
            self._sandbox.parse(file.fileno(), source.media_type, password) as parsed,
        ):
            track.pages = parsed.pages
            async for page in parsed:
                if chunker.takes(page.text):
                    chunker.add(page.number, page.text, page.headings)
                else:  # in a thread: the event loop would wait for tens of milliseconds
                    waiting += await asyncio.to_thread(chunker.add, page.number, page.text, page.headings)
                done = track.pages_done = page.number
                while len(waiting) > size:  # the last batch shall not be empty
                    track.chunks += size
                    yield Batch(_numbered(waiting[:size], source), parsed.pages, done)
                    waiting = waiting[size:]
            waiting += await asyncio.to_thread(chunker.finish)
            track.chunks += len(waiting)
            track.parsed = True
            while waiting:
                yield Batch(_numbered(waiting[:size], source), parsed.pages, done)
                waiting = waiting[size:]

    def _chunker(self, embedders: list[Embedder]) -> Chunker:
        """Cuts by the live model's tokens, and no longer than any of the models reads."""
        size = min(self._chunk_tokens, *(embedder.max_tokens or self._chunk_tokens for embedder in embedders))
        return chunker_for(embedders[0], size, self._chunk_overlap_tokens)

    async def _embed(
        self,
        claim: Claim,
        embedders: list[Embedder],
        parsed: asyncio.Queue[Batch | None],
        embedded: asyncio.Queue[Embedded | None],
    ) -> None:
        while batch := await parsed.get():
            passages = [chunk.passage for chunk in batch.chunks]
            with tracing.span("ingest.embed", chunks=len(passages)):
                made = [await self._vectors.of(claim.user_id, embedder, passages) for embedder in embedders]
            claim.track.chunks_embedded += len(passages)
            await embedded.put(Embedded(batch, dict(made)))
        await embedded.put(None)

    async def _consume(self, claim: Claim, source: Source, embedded: asyncio.Queue[Embedded | None]) -> None:
        writer = Writer(source.name)
        stored = pages = 0
        written = set[int]()
        while item := await embedded.get():
            stored += len(item.batch.chunks)
            pages = item.batch.pages
            chunks = [(chunk.number, chunk.passage) for chunk in item.batch.chunks]
            segments = await asyncio.to_thread(writer.segments, chunks)
            with tracing.span("ingest.store", chunks=len(chunks)):
                await self._save(claim, item, stored, segments)
            written |= item.vectors.keys()
            claim.track.chunks_done = stored
        await self._publish(claim, source, writer.language, written)
        INGESTED_PAGES.inc(pages)
        INGESTED_CHUNKS.inc(stored)

    async def _save(self, claim: Claim, item: Embedded, stored: int, segments: list[Segment]) -> None:
        batch = item.batch
        async with self._db.tenant(claim.user_id) as tx:
            if not await claims.progress(tx, claim, pages=batch.pages, done=batch.pages_done, chunks=stored):
                raise Lost
            await queries.add_chunks(tx, claim.document_id, batch.chunks, item.vectors)
            await lexical.add(tx, claim.document_id, segments)

    async def _publish(self, claim: Claim, source: Source, language: str | None, written: set[int]) -> None:
        """Let searches see the document, with vectors of whichever models its tenant has come to meanwhile."""
        while lacking := await self._published(claim, source, language, written):
            for model in lacking:
                await self._vectors.fill_document(claim.user_id, self._models.named(model.name), claim.document_id)
            written = written | {model.model_id for model in lacking}

    async def _published(
        self, claim: Claim, source: Source, language: str | None, written: set[int]
    ) -> list[models.EmbeddingModel]:
        """Let searches see the document, unless it lacks vectors: then of these models."""
        async with self._db.tenant(claim.user_id) as tx:
            chosen = await models.hold(tx)
            wanted = chosen.all if chosen else ()
            if lacking := [model for model in wanted if model.model_id not in written]:
                return lacking
            if not await claims.ready(tx, claim, source):
                raise Lost
            await queries.set_language(tx, claim.document_id, language)
            name = await queries.name_of(tx, claim.document_id)  # it may have been renamed meanwhile
            await retitle_soon(tx, claim.document_id, source.name, name)
            await indexing.merge_soon(tx)
            if len(written) > len(wanted):
                await forget_later(tx)
        return []


def _numbered(chunks: list[Chunk], source: Source) -> list[Chunk]:
    """Chunks as they are numbered in the store: behind those of other versions."""
    return [chunk._replace(number=source.first + chunk.number) for chunk in chunks] if source.first else chunks


def _of_replacement(job: Job, payload: ReplacePayload) -> Claim:
    return Claim(job.user_id, DocumentId(payload.document_id), job.token, payload.replacement_id)

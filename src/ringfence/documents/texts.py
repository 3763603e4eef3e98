"""Texts that become documents at once: no file, no parser, no job. The evaluation's way in, at the engine's own cut."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.db import Database, TenantTx
from ringfence.documents import indexing, queries
from ringfence.documents.chunker import Chunk, chunker_for
from ringfence.documents.parsing.wire import UNSTORABLE, Heading
from ringfence.errors import Invalid
from ringfence.ids import DocumentId, UserId
from ringfence.lexical import queries as lexical
from ringfence.lexical.postings import Writer
from ringfence.models.base import Embedder, Vectors
from ringfence.models.registry import EmbeddingModels

_MEDIA_TYPE = "text/plain"
_MAX_NAME = 255
_BATCH = 128  # chunks that are embedded and stored together


@dataclass(frozen=True, slots=True)
class Text:
    """A document of one page.

    Attributes:
        document_id: of the tenant's choice; one that is there already is an error of the database's.
        name: as a file would be called.
        title: the page's first line and the heading above everything, or empty.
        body: the rest of the page.
    """

    document_id: DocumentId
    name: str
    title: str
    body: str

    @property
    def page(self) -> str:
        """The page's text."""
        return f"{self.title}\n{self.body}" if self.title else self.body


@dataclass(frozen=True, slots=True)
class _Cut:
    text: Text
    chunks: list[Chunk]


class Texts:
    """Chunks, embeds and stores texts, several documents at a time.

    Args:
        db: where documents are.
        embedder: what makes vectors.
        chunk_tokens: as of `Ingestion`.
        chunk_overlap_tokens: as of `Ingestion`.
    """

    def __init__(self, db: Database, embedder: Embedder, *, chunk_tokens: int, chunk_overlap_tokens: int) -> None:
        self._db = db
        self._embedder = embedder
        self._models = EmbeddingModels(db)
        self._chunk_tokens = chunk_tokens
        self._chunk_overlap_tokens = chunk_overlap_tokens

    async def add(self, user_id: UserId, texts: Sequence[Text]) -> int:
        """Store texts as documents that are ready; how many chunks they have.

        Raises:
            Invalid: `no_text`, one of them has no visible character.
            Unavailable: the embedding model or the database does not answer.
        """
        waiting: list[_Cut] = []
        chunks = size = 0
        for text in texts:
            cut = _Cut(text, await asyncio.to_thread(self._cut, text))
            waiting.append(cut)
            size += len(cut.chunks)
            chunks += len(cut.chunks)
            if size >= _BATCH:
                await self._store(user_id, waiting)
                waiting, size = [], 0
        if waiting:
            await self._store(user_id, waiting)
        return chunks

    def _cut(self, text: Text) -> list[Chunk]:
        chunker = chunker_for(self._embedder, self._chunk_tokens, self._chunk_overlap_tokens)
        headings = [Heading(1, 0, len(text.title), 1)] if text.title else []
        chunks = [*chunker.add(1, UNSTORABLE.sub(" ", text.page), headings), *chunker.finish()]
        if not chunks:
            raise Invalid("no_text", f"The text {text.name!r} holds nothing.")
        return chunks

    async def _store(self, user_id: UserId, cuts: Sequence[_Cut]) -> None:
        vectors = await self._embedder.embed([chunk.passage for cut in cuts for chunk in cut.chunks])
        model_id = await self._models.number(self._embedder.name, vectors.shape[1])
        async with self._db.tenant(user_id) as tx:
            done = 0
            for cut in cuts:
                await self._save(tx, cut, model_id, vectors[done : done + len(cut.chunks)])
                done += len(cut.chunks)

    @staticmethod
    async def _save(tx: TenantTx, cut: _Cut, model_id: int, vectors: Vectors) -> None:
        text, data = cut.text, cut.text.page.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(text.document_id.bytes + data).digest()  # equal texts may be two documents
        await queries.add(
            tx, text.document_id, name=text.name[:_MAX_NAME], media_type=_MEDIA_TYPE, size=len(data), sha256=digest
        )
        await queries.add_chunks(tx, text.document_id, cut.chunks, {model_id: vectors})
        writer = Writer(text.name)
        segments = writer.segments([(chunk.number, chunk.passage) for chunk in cut.chunks])
        await lexical.add(tx, text.document_id, segments)
        await queries.complete(tx, text.document_id, pages=1, chunks=len(cut.chunks))
        await queries.set_language(tx, text.document_id, writer.language)
        await indexing.merge_soon(tx)

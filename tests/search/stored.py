"""Documents as ingestion leaves them, without files and parsers."""

from collections.abc import Sequence
from datetime import timedelta

from asyncpg import Connection

from ringfence import jobs
from ringfence.db import Database
from ringfence.documents.chunker import Chunk
from ringfence.documents.queries import add, add_chunks, progress, ready, set_language, start
from ringfence.documents.service import IngestPayload
from ringfence.ids import DocumentId, UserId, new_document_id, new_user_id
from ringfence.lexical import queries as lexical
from ringfence.lexical.postings import Writer
from ringfence.models.base import Embedder
from ringfence.models.registry import EmbeddingModels


async def tenant(admin: Connection) -> UserId:
    user_id = new_user_id()
    await admin.execute("insert into users values ($1, 'a@b.c', $2, 'x')", user_id, str(user_id))
    return user_id


def chunks_of(texts: Sequence[str], context: str = "") -> list[Chunk]:
    """A chunk of each text, each on a page of its own."""
    return [Chunk(n, text, ((n + 1, 0, len(text)),), context) for n, text in enumerate(texts)]


async def store(
    db: Database,
    embedder: Embedder,
    user_id: UserId,
    chunks: Sequence[Chunk] | Sequence[str],
    *,
    name: str = "a.txt",
    publish: bool = True,
    indexed: bool = True,
) -> DocumentId:
    document_id, writer = new_document_id(), Writer(name)
    found = [one if isinstance(one, Chunk) else Chunk(n, one, ((n + 1, 0, len(one)),)) for n, one in enumerate(chunks)]
    vectors = await embedder.embed([chunk.passage for chunk in found])
    model_id = await EmbeddingModels(db).number(embedder.name, vectors.shape[1])
    async with db.tenant(user_id) as tx:
        await jobs.enqueue(tx, user_id, "ingest", IngestPayload(document_id=document_id))
    async with db.system() as tx:
        [job] = await jobs.claim(tx, 1, timedelta(minutes=1))
    async with db.tenant(user_id) as tx:
        await add(tx, document_id, name=name, media_type="text/plain", size=1, sha256=document_id.bytes * 2)
        assert await start(tx, document_id, job.token)
        assert await progress(tx, document_id, job.token, pages=1, done=1, chunks=len(found))
        await add_chunks(tx, document_id, found, {model_id: vectors})
        if indexed:
            await lexical.add(tx, document_id, writer.segments([(chunk.number, chunk.passage) for chunk in found]))
        if publish:
            await ready(tx, document_id, job.token)
            await set_language(tx, document_id, writer.language)
    return document_id

"""SQL of documents, their chunks and their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from asyncpg import ForeignKeyViolationError, Record

from ringfence.db import TenantTx
from ringfence.documents.chunker import Chunk
from ringfence.errors import Unauthenticated
from ringfence.ids import DocumentId
from ringfence.models.base import Vectors

type State = Literal["queued", "processing", "ready", "failed"]

_ADD = """
insert into documents (user_id, document_id, name, media_type, size, sha256) values ($1, $2, $3, $4, $5, $6)
returning *
"""
_BY_CONTENT = "select * from documents where user_id = $1 and sha256 = $2 for update"
_GET = "select * from documents where user_id = $1 and document_id = $2"
_LIST = "select * from documents where user_id = $1 order by created_at desc, document_id limit $2"
_DELETE = "delete from documents where user_id = $1 and document_id = $2 returning sha256"
_REQUEUE = """
update documents set state = 'queued', reason_code = null, reason = null, pages_done = 0, updated_at = now()
where user_id = $1 and document_id = $2 and state = 'failed' returning *
"""
_LOCK_CONTENT = "select pg_advisory_xact_lock(hashtextextended($1::text || encode($2, 'hex'), 0))"
_START = """
update documents set state = 'processing', ingest_token = $3, pages = null, pages_done = 0, chunks = 0,
  reason_code = null, reason = null, updated_at = now()
where user_id = $1 and document_id = $2 and state <> 'ready'
  and exists (select from jobs where user_id = $1 and token = $3 and state = 'running')
returning *
"""
_CLEAR_CHUNKS = "delete from chunks where user_id = $1 and document_id = $2"
_CLEAR_EMBEDDINGS = "delete from embeddings where user_id = $1 and document_id = $2"
_PROGRESS = """
update documents set pages = $4, pages_done = $5, chunks = $6, updated_at = now()
where user_id = $1 and document_id = $2 and ingest_token = $3
"""
_ADD_CHUNK = "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, $3, $4, $5)"
_ADD_EMBEDDING = """
insert into embeddings (user_id, document_id, number, model_id, embedding) values ($1, $2, $3, $4, $5)
"""
_READY = """
update documents set state = 'ready', ingest_token = null, updated_at = now()
where user_id = $1 and document_id = $2 and ingest_token = $3
"""
_FAIL = """
update documents
set state = 'failed', reason_code = $3, reason = $4, ingest_token = null, chunks = 0, updated_at = now()
where user_id = $1 and document_id = $2 and state <> 'ready'
  and exists (select from jobs where user_id = $1 and token = $5 and state = 'running')
"""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its owner sees it. `pages` is known once its parser has opened it."""

    document_id: DocumentId
    name: str
    media_type: str
    size: int
    sha256: bytes
    state: State
    reason_code: str | None
    reason: str | None
    pages: int | None
    pages_done: int
    chunks: int
    created_at: datetime
    updated_at: datetime


def _document(row: Record) -> Document:
    return Document(**{name: row[name] for name in Document.__slots__})


async def add(
    tx: TenantTx, document_id: DocumentId, *, name: str, media_type: str, size: int, sha256: bytes
) -> Document:
    """Record an upload whose content the tenant has not got (under `lock_content`).

    Raises:
        Unauthenticated: the tenant's account is gone.
    """
    try:
        [row] = await tx.fetch(_ADD, tx.user_id, document_id, name, media_type, size, sha256)
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None
    return _document(row)


async def by_content(tx: TenantTx, sha256: bytes) -> Document | None:
    """The tenant's document with this content, locked until the transaction's end."""
    row = await tx.fetchrow(_BY_CONTENT, tx.user_id, sha256)
    return _document(row) if row else None


async def get(tx: TenantTx, document_id: DocumentId) -> Document | None:
    """One document, if it is the tenant's."""
    row = await tx.fetchrow(_GET, tx.user_id, document_id)
    return _document(row) if row else None


async def newest(tx: TenantTx, limit: int) -> list[Document]:
    """The tenant's documents, newest first."""
    return [_document(row) for row in await tx.fetch(_LIST, tx.user_id, limit)]


async def delete(tx: TenantTx, document_id: DocumentId) -> bytes | None:
    """Remove a document with its chunks and vectors; the SHA-256 of its file, None if there was no such document."""
    sha256: bytes | None = await tx.fetchval(_DELETE, tx.user_id, document_id)
    return sha256


async def requeue(tx: TenantTx, document_id: DocumentId) -> Document | None:
    """Make a failed document ready to be tried again; None if it had not failed."""
    row = await tx.fetchrow(_REQUEUE, tx.user_id, document_id)
    return _document(row) if row else None


async def lock_content(tx: TenantTx, sha256: bytes) -> None:
    """Until the transaction's end, nobody else stores or erases the tenant's file with this content."""
    await tx.execute(_LOCK_CONTENT, str(tx.user_id), sha256)


async def start(tx: TenantTx, document_id: DocumentId, token: UUID) -> Document | None:
    """Begin to ingest under a running job's token, leaving nothing of an earlier try.

    None if the document was deleted or is ready already, or the job has passed to another worker.
    """
    row = await tx.fetchrow(_START, tx.user_id, document_id, token)
    if row is None:
        return None
    await _clear(tx, document_id)
    return _document(row)


async def _clear(tx: TenantTx, document_id: DocumentId) -> None:
    await tx.execute(_CLEAR_CHUNKS, tx.user_id, document_id)
    await tx.execute(_CLEAR_EMBEDDINGS, tx.user_id, document_id)


async def progress(tx: TenantTx, document_id: DocumentId, token: UUID, *, pages: int, done: int, chunks: int) -> bool:
    """Record progress and lock the document's row; False if it was deleted or another worker has taken over."""
    return bool(await tx.execute(_PROGRESS, tx.user_id, document_id, token, pages, done, chunks))


async def add_chunks(
    tx: TenantTx, document_id: DocumentId, model_id: int, chunks: Sequence[Chunk], vectors: Vectors
) -> None:
    """Store chunks with their vectors, row i of `vectors` being that of `chunks[i]`."""
    user_id = tx.user_id
    spans = [[number for span in chunk.spans for number in span] for chunk in chunks]
    await tx.executemany(
        _ADD_CHUNK,
        [(user_id, document_id, chunk.number, span, chunk.text) for chunk, span in zip(chunks, spans, strict=True)],
    )
    await tx.executemany(
        _ADD_EMBEDDING,
        [(user_id, document_id, chunk.number, model_id, row) for chunk, row in zip(chunks, vectors, strict=True)],
    )


async def ready(tx: TenantTx, document_id: DocumentId, token: UUID) -> bool:
    """Let searches see the document; False if it was deleted or another worker has taken over."""
    return bool(await tx.execute(_READY, tx.user_id, document_id, token))


async def fail(tx: TenantTx, document_id: DocumentId, code: str, reason: str, token: UUID) -> None:
    """End in failure, with a reason for people and nothing half-stored; no effect without a running job's token."""
    if await tx.execute(_FAIL, tx.user_id, document_id, code, reason, token):
        await _clear(tx, document_id)

"""SQL of documents: their rows, and what their ingestion writes. Their order is in `library_queries`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from typing import Any, Literal
from uuid import UUID

from asyncpg import ForeignKeyViolationError, Record
from pydantic import BaseModel

from ringfence import jobs
from ringfence.db import TenantTx, encode_halfvec
from ringfence.documents import indexing, ingestion_queries
from ringfence.documents.chunker import Chunk
from ringfence.documents.vector_queries import digest
from ringfence.errors import Unauthenticated
from ringfence.ids import DocumentId
from ringfence.lexical import queries as lexical
from ringfence.models import queries as models
from ringfence.models.base import Vectors

type State = Literal["queued", "processing", "ready", "failed"]
type ReplacementState = Literal["queued", "processing", "failed"]

# By name, and never `*`: prepared statements outlive a migration that adds a column. A collection that is gone is in
# nobody's answer, though documents still name it.
ROW = """
  d.document_id, d.name, d.media_type, d.size, d.sha256, d.state, d.reason_code, d.reason, d.pages, d.pages_done,
  d.chunks, d.created_at, d.updated_at, d.tags, d.metadata, d.language, d.version, d.deleted_at,
  array(select k.collection_id from collections k
    where k.user_id = d.user_id and k.collection_id = any(d.collections) order by 1) as collections,
  (select jsonb_build_object('media_type', r.media_type, 'size', r.size, 'sha256', encode(r.sha256, 'hex'),
      'state', r.state, 'reason_code', r.reason_code, 'reason', r.reason, 'pages', r.pages,
      'pages_done', r.pages_done, 'chunks', r.chunks)
    from replacements r where r.user_id = d.user_id and r.document_id = d.document_id) as replacement
"""
"""The columns of a `Document`, of `documents` as `d`."""

_ADD = """
insert into documents (user_id, document_id, name, media_type, size, sha256) values ($1, $2, $3, $4, $5, $6)
"""
_BY_CONTENT = f"select {ROW} from documents d where d.user_id = $1 and d.sha256 = $2 for update"  # noqa: S608  # a constant, as below
_TAKEN = "select document_id from documents where user_id = $1 and sha256 = $2 and document_id <> $3"
_NEEDED = """
select document_id from documents where user_id = $1 and sha256 = $2
union all select document_id from replacements where user_id = $1 and sha256 = $2 and state <> 'failed'
"""
_GET = f"select {ROW} from documents d where d.user_id = $1 and d.document_id = $2 and d.deleted_at is null"  # noqa: S608
_LOCK = f"{_GET} for update"
# What is to take a document's place takes more room where it is larger.
_USAGE = """
select user_id, count(*) as documents, (sum(size) + (
    select coalesce(sum(greatest(r.size - d.size, 0)), 0)
    from replacements r join documents d on d.user_id = r.user_id and d.document_id = r.document_id
    where r.user_id = $1 and r.state <> 'failed'))::bigint as bytes
from documents where user_id = $1 group by user_id
"""
_AS_LARGE = "select document_id from documents where user_id = $1 and size >= $2"
_PAGE = f"""
select {ROW} from documents d where d.user_id = $1 and (d.created_at, d.document_id) < ($2, $3)
order by d.created_at desc, d.document_id desc limit $4
"""  # noqa: S608
_REQUEUE = f"""
update documents d set state = 'queued', reason_code = null, reason = null, pages_done = 0, updated_at = now()
where d.user_id = $1 and d.document_id = $2 and d.state = 'failed' and d.deleted_at is null returning {ROW}
"""  # noqa: S608
_LOCK_QUOTA = "select pg_advisory_xact_lock(hashtextextended('quota ' || $1::text, 0))"
_LOCK_CONTENT = "select pg_advisory_xact_lock(hashtextextended($1::text || encode($2, 'hex'), 0))"
_START = f"""
update documents d set state = 'processing', ingest_token = $3, pages = null, pages_done = 0, first_chunk = 0,
  chunks = 0, reason_code = null, reason = null, updated_at = now()
where d.user_id = $1 and d.document_id = $2 and d.state <> 'ready' and d.deleted_at is null
  and exists (select from jobs where user_id = $1 and token = $3 and state = 'running')
returning {ROW}
"""  # noqa: S608
_ACCOUNT = "select user_id from users where user_id = $1 and email <> ''"  # a closed one has none
_CLEAR_CHUNKS = "delete from chunks where user_id = $1 and document_id = $2 and number >= $3"
_CLEAR_EMBEDDINGS = "delete from embeddings where user_id = $1 and document_id = $2 and number >= $3"
_PROGRESS = """
update documents set pages = $4, pages_done = $5, chunks = $6, updated_at = now()
where user_id = $1 and document_id = $2 and ingest_token = $3 and deleted_at is null
"""
_HELD = """
select document_id from documents
where user_id = $1 and document_id = $2 and ingest_token = $3 and deleted_at is null
"""
_NAME = "select name from documents where user_id = $1 and document_id = $2"
# One statement for many rows: finding the part of the table, and the policy, are prepared once. All spans come as one
# array ($4), of which each chunk has from `first` to `last`: an array of arrays has rows of one length.
_ADD_CHUNKS = """
insert into chunks (user_id, document_id, number, spans, text, context, passage_digest)
select $1, $2, c.number, ($4::integer[])[c.first : c.last], c.text, c.context, c.digest
from unnest($3::integer[], $5::integer[], $6::integer[], $7::text[], $8::text[], $9::bytea[])
  c (number, first, last, text, context, digest)
"""
_ADD_EMBEDDINGS = """
insert into embeddings (user_id, document_id, number, model_id, embedding)
select $1, $2, e.number, $3, e.embedding from unnest($4::integer[], $5::halfvec[]) e (number, embedding)
"""
_READY = """
update documents set state = 'ready', ingest_token = null, updated_at = now()
where user_id = $1 and document_id = $2 and ingest_token = $3 and deleted_at is null
"""
_COMPLETE = """
update documents set state = 'ready', pages = $3, pages_done = $3, chunks = $4, updated_at = now()
where user_id = $1 and document_id = $2
"""
_SET_LANGUAGE = "update documents set language = $3 where user_id = $1 and document_id = $2"
_FAIL = """
update documents
set state = 'failed', reason_code = $3, reason = $4, ingest_token = null, chunks = 0, updated_at = now()
where user_id = $1 and document_id = $2 and state <> 'ready'
  and exists (select from jobs where user_id = $1 and token = $5 and state = 'running')
"""


class Replacement(BaseModel):
    """What is to take the place of a document's live version, or why it did not."""

    media_type: str
    size: int
    sha256: str
    state: ReplacementState
    reason_code: str | None
    reason: str | None
    pages: int | None
    pages_done: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its owner sees it.

    Attributes:
        pages: known once its parser has opened it.
        chunks: stored so far.
        collections: ids, in order.
        tags: folded, in order.
        metadata: scalars and lists of scalars.
        language: ISO 639-1, as found in the text.
        version: from 1; one more with each content that took the place of another.
        deleted_at: since when it is in the bin.
        replacement: what is to take its place, if anything.
    """

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
    collections: tuple[UUID, ...]
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    language: str | None
    version: int
    deleted_at: datetime | None
    replacement: Replacement | None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a tenant keeps, documents in the bin included."""

    documents: int
    bytes: int


def document(row: Record) -> Document:
    """The document of a row of `ROW`."""
    values = {name: row[name] for name in Document.__slots__}
    values["collections"], values["tags"] = tuple(row["collections"]), tuple(row["tags"])
    values["metadata"] = json.loads(row["metadata"])
    values["replacement"] = row["replacement"] and Replacement.model_validate_json(row["replacement"])
    return Document(**values)


async def add(tx: TenantTx, document_id: DocumentId, *, name: str, media_type: str, size: int, sha256: bytes) -> None:
    """Record an upload whose content the tenant has not got (under `lock_content`).

    Raises:
        Unauthenticated: the tenant's account is gone.
    """
    try:
        await tx.execute(_ADD, tx.user_id, document_id, name, media_type, size, sha256)
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None


async def require_account(tx: TenantTx) -> None:
    """Raise `Unauthenticated` where the tenant's account was closed meanwhile."""
    if await tx.fetchval(_ACCOUNT, tx.user_id) is None:
        raise Unauthenticated("unknown_account", "This account no longer exists.")


async def promise_erasure(tx: TenantTx, kind: str, payload: BaseModel, delay: timedelta) -> int:
    """As `jobs.promise`.

    Raises:
        Unauthenticated: the tenant's account is gone.
    """
    try:
        return await jobs.promise(tx, kind, payload, delay)
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None


async def by_content(tx: TenantTx, sha256: bytes) -> Document | None:
    """The tenant's document with this content, in the bin or not, locked until the transaction's end."""
    row = await tx.fetchrow(_BY_CONTENT, tx.user_id, sha256)
    return document(row) if row else None


async def is_taken(tx: TenantTx, document_id: DocumentId, sha256: bytes) -> bool:
    """Whether another document of the tenant has this content (under `lock_content`)."""
    return await tx.fetchval(_TAKEN, tx.user_id, sha256, document_id) is not None


async def is_needed(tx: TenantTx, sha256: bytes) -> bool:
    """Whether the file with this content is some document's, or about to be (under `lock_content`)."""
    return await tx.fetchval(_NEEDED, tx.user_id, sha256) is not None


async def get(tx: TenantTx, document_id: DocumentId) -> Document | None:
    """One document, if it is the tenant's, and not in the bin."""
    row = await tx.fetchrow(_GET, tx.user_id, document_id)
    return document(row) if row else None


async def lock(tx: TenantTx, document_id: DocumentId) -> Document | None:
    """The same, locked until the transaction's end. Whoever locks its replacement too, locks this first."""
    row = await tx.fetchrow(_LOCK, tx.user_id, document_id)
    return document(row) if row else None


async def name_of(tx: TenantTx, document_id: DocumentId) -> str:
    """What a document that is there is called."""
    return str(await tx.fetchval(_NAME, tx.user_id, document_id))


async def usage(tx: TenantTx) -> Usage:
    """How much the tenant keeps."""
    row = await tx.fetchrow(_USAGE, tx.user_id)
    return Usage(row["documents"], row["bytes"]) if row else Usage(0, 0)


async def keeps_one_as_large(tx: TenantTx, size: int) -> bool:
    """Whether a document of the tenant has that many bytes, or more."""
    return await tx.fetchval(_AS_LARGE, tx.user_id, size) is not None


async def page(tx: TenantTx, after: Document | None, limit: int) -> list[Document]:
    """All of the tenant's documents, the bin's too, newest first: the first ones, or those that come after one."""
    place = (after.created_at, after.document_id) if after else (datetime.max.replace(tzinfo=UTC), UUID(int=0))
    return [document(row) for row in await tx.fetch(_PAGE, tx.user_id, *place, limit)]


async def requeue(tx: TenantTx, document_id: DocumentId) -> Document | None:
    """Make a failed document ready to be tried again; None if it had not failed."""
    row = await tx.fetchrow(_REQUEUE, tx.user_id, document_id)
    return document(row) if row else None


async def lock_content(tx: TenantTx, sha256: bytes) -> None:
    """Until the transaction's end, nobody else stores or erases the tenant's file with this content."""
    await tx.execute(_LOCK_CONTENT, str(tx.user_id), sha256)


async def lock_quota(tx: TenantTx) -> None:
    """Until the transaction's end, no other one of the tenant counts what it keeps. The last lock that anybody takes.

    It is taken after the document was added, and counting comes in a later statement, which sees what was committed
    by those who had the lock before.
    """
    await tx.execute(_LOCK_QUOTA, str(tx.user_id))


async def start(tx: TenantTx, document_id: DocumentId, token: UUID) -> Document | None:
    """Begin to ingest under a running job's token, leaving nothing of an earlier try.

    None if the document was deleted or is ready already, or the job has passed to another worker.
    """
    row = await tx.fetchrow(_START, tx.user_id, document_id, token)
    if row is None:
        return None
    await clear(tx, document_id)
    await ingestion_queries.begin(tx, document_id, token)
    return document(row)


async def clear(tx: TenantTx, document_id: DocumentId, first: int = 0) -> None:
    """Remove a document's chunks from this number on, with all that was made of them."""
    await tx.execute(_CLEAR_CHUNKS, tx.user_id, document_id, first)
    await tx.execute(_CLEAR_EMBEDDINGS, tx.user_id, document_id, first)
    if await lexical.forget(tx, document_id, first):
        await indexing.clean_later(tx)


async def progress(tx: TenantTx, document_id: DocumentId, token: UUID, *, pages: int, done: int, chunks: int) -> bool:
    """Record progress and lock the document's row; False if it was deleted or another worker has taken over."""
    return bool(await tx.execute(_PROGRESS, tx.user_id, document_id, token, pages, done, chunks))


async def held(tx: TenantTx, document_id: DocumentId, token: UUID) -> bool:
    """Whether the document is still there, and ingested under this token."""
    return await tx.fetchval(_HELD, tx.user_id, document_id, token) is not None


async def add_chunks(
    tx: TenantTx, document_id: DocumentId, chunks: Sequence[Chunk], vectors: Mapping[int, Vectors]
) -> None:
    """Store chunks with their vectors of each model, by the models' numbers; row i is that of `chunks[i]`.

    The first of the models is what the tenant is searched with from now on, unless it has one already.
    """
    numbers = [chunk.number for chunk in chunks]
    spans = [list(chain.from_iterable(chunk.spans)) for chunk in chunks]
    lasts = list(accumulate(map(len, spans)))
    await tx.execute(
        _ADD_CHUNKS,
        tx.user_id,
        document_id,
        numbers,
        list(chain.from_iterable(spans)),
        [last - len(span) + 1 for last, span in zip(lasts, spans, strict=True)],
        lasts,
        [chunk.text for chunk in chunks],
        [chunk.context for chunk in chunks],
        [digest(chunk.passage) for chunk in chunks],
    )
    await models.adopt(tx, next(iter(vectors)))
    for model_id, rows in vectors.items():
        values = [encode_halfvec(row) for _, row in zip(chunks, rows, strict=True)]
        await tx.execute(_ADD_EMBEDDINGS, tx.user_id, document_id, model_id, numbers, values)


async def ready(tx: TenantTx, document_id: DocumentId, token: UUID) -> bool:
    """Let searches see the document; False if it was deleted or another worker has taken over."""
    if not await tx.execute(_READY, tx.user_id, document_id, token):
        return False
    await ingestion_queries.end(tx, document_id)
    return True


async def complete(tx: TenantTx, document_id: DocumentId, *, pages: int, chunks: int) -> None:
    """Let searches see a document that no job ingests, in the transaction that stored all of it."""
    await tx.execute(_COMPLETE, tx.user_id, document_id, pages, chunks)


async def set_language(tx: TenantTx, document_id: DocumentId, language: str | None) -> None:
    """Say in which language (ISO 639-1) a document is; None: nobody knows."""
    await tx.execute(_SET_LANGUAGE, tx.user_id, document_id, language)


async def fail(tx: TenantTx, document_id: DocumentId, code: str, reason: str, token: UUID) -> None:
    """End in failure, with a reason for people and nothing half-stored; no effect without a running job's token."""
    if await tx.execute(_FAIL, tx.user_id, document_id, code, reason, token):
        await clear(tx, document_id)
        await ingestion_queries.end(tx, document_id)

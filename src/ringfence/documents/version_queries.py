"""SQL of versions: what is to take the place of a document's live content, and the swap.

Whoever locks both rows locks the document's before its replacement's.
"""

from dataclasses import dataclass
from uuid import UUID

from ringfence.db import TenantTx
from ringfence.ids import DocumentId

_PUT = """
insert into replacements (user_id, document_id, replacement_id, media_type, size, sha256)
values ($1, $2, $3, $4, $5, $6)
"""
_DROP = "delete from replacements where user_id = $1 and document_id = $2"
_REVIVE = """
update replacements set state = 'queued', ingest_token = null, updated_at = now()
where user_id = $1 and document_id = $2 and state <> 'failed' returning replacement_id
"""
# In the place of a document that is not ready: nothing of it is live.
_OVERWRITE = """
update documents set media_type = $3, size = $4, sha256 = $5, state = 'queued', reason_code = null, reason = null,
  pages = null, pages_done = 0, ingest_token = null, updated_at = now()
where user_id = $1 and document_id = $2
"""
# Maintenance moves vectors under this lock (search/tier_queries.py); what is moved can't be deleted at that moment.
_LOCK_VECTORS = "select user_id from documents where user_id = $1 and document_id = $2 for no key update"
_START = """
update replacements r set state = 'processing', ingest_token = $4, pages = null, pages_done = 0, chunks = 0,
  first_chunk = d.first_chunk + d.chunks, updated_at = now()
from documents d
where r.user_id = $1 and r.document_id = $2 and r.replacement_id = $3 and r.state <> 'failed'
  and d.user_id = $1 and d.document_id = $2 and d.state = 'ready' and d.deleted_at is null
  and exists (select from jobs where user_id = $1 and token = $4 and state = 'running')
returning r.user_id, d.name, r.media_type, r.size, r.sha256, r.first_chunk
"""
_HOLD_DOCUMENT = (
    "select user_id from documents where user_id = $1 and document_id = $2 and deleted_at is null for key share"
)
_PROGRESS = """
update replacements set pages = $4, pages_done = $5, chunks = $6, updated_at = now()
where user_id = $1 and document_id = $2 and ingest_token = $3
"""
_HELD = """
select r.document_id from replacements r join documents d on d.user_id = r.user_id and d.document_id = r.document_id
where r.user_id = $1 and r.document_id = $2 and r.ingest_token = $3 and d.deleted_at is null
"""
_SWAP = """
with coming as (
  delete from replacements where user_id = $1 and document_id = $2 and ingest_token = $3
  returning media_type, size, sha256, pages, pages_done, first_chunk, chunks)
update documents d set media_type = n.media_type, size = n.size, sha256 = n.sha256, pages = n.pages,
  pages_done = n.pages_done, first_chunk = n.first_chunk, chunks = n.chunks, version = d.version + 1, updated_at = now()
from coming n where d.user_id = $1 and d.document_id = $2
"""
_FAIL = """
update replacements set state = 'failed', reason_code = $4, reason = $5, ingest_token = null, chunks = 0,
  updated_at = now()
where user_id = $1 and document_id = $2 and replacement_id = $3 and state <> 'failed'
  and exists (select from jobs where user_id = $1 and token = $6 and state = 'running')
returning user_id, sha256
"""
# What is not live, and not being written either. A statement that does not see a replacement does not see its chunks.
_STALE = """
  (n.number < d.first_chunk or (n.number >= d.first_chunk + d.chunks and not exists (
    select from replacements r where r.user_id = $1 and r.document_id = $2 and r.state <> 'failed')))
"""
_TRIM_CHUNKS = f"""
delete from chunks where user_id = $1 and document_id = $2 and number in (
  select n.number from chunks n join documents d on d.user_id = n.user_id and d.document_id = n.document_id
  where n.user_id = $1 and n.document_id = $2 and d.state = 'ready' and {_STALE} limit $3::int)
"""  # noqa: S608  # a constant, as below
_TRIM_EMBEDDINGS = f"""
delete from embeddings where user_id = $1 and document_id = $2 and number in (
  select n.number from embeddings n join documents d on d.user_id = n.user_id and d.document_id = n.document_id
  where n.user_id = $1 and n.document_id = $2 and d.state = 'ready' and {_STALE} limit $3::int)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Coming:
    """Content that is being ingested behind a live version; its first chunk has the number `first`."""

    name: str
    media_type: str
    size: int
    sha256: bytes
    first: int


async def put(
    tx: TenantTx, document_id: DocumentId, replacement_id: UUID, *, media_type: str, size: int, sha256: bytes
) -> None:
    """Let content take the live one's place when it is ready, in the stead of any other (under `lock`)."""
    await drop(tx, document_id)
    await tx.execute(_PUT, tx.user_id, document_id, replacement_id, media_type, size, sha256)


async def drop(tx: TenantTx, document_id: DocumentId) -> bool:
    """Let nothing take the live content's place; False if nothing was to."""
    return bool(await tx.execute(_DROP, tx.user_id, document_id))


async def revive(tx: TenantTx, document_id: DocumentId) -> UUID | None:
    """What is to take the place of a document that was restored, whose job has to be made anew."""
    row = await tx.fetchrow(_REVIVE, tx.user_id, document_id)
    return row["replacement_id"] if row else None


async def overwrite(tx: TenantTx, document_id: DocumentId, *, media_type: str, size: int, sha256: bytes) -> None:
    """Give a document that is not ready other content at once; whoever ingests the former stops."""
    await tx.execute(_OVERWRITE, tx.user_id, document_id, media_type, size, sha256)


async def start(tx: TenantTx, document_id: DocumentId, replacement_id: UUID, token: UUID) -> Coming | None:
    """Begin to ingest a replacement under a running job's token.

    None if it was dropped, superseded or done, the document was deleted, or the job has passed to another worker.
    """
    await tx.fetchrow(_LOCK_VECTORS, tx.user_id, document_id)
    row = await tx.fetchrow(_START, tx.user_id, document_id, replacement_id, token)
    if row is None:
        return None
    return Coming(row["name"], row["media_type"], row["size"], row["sha256"], row["first_chunk"])


async def progress(tx: TenantTx, document_id: DocumentId, token: UUID, *, pages: int, done: int, chunks: int) -> bool:
    """Record progress and lock the row; False if it is not this token's any more, or the document was deleted."""
    if await tx.fetchrow(_HOLD_DOCUMENT, tx.user_id, document_id) is None:
        return False
    return bool(await tx.execute(_PROGRESS, tx.user_id, document_id, token, pages, done, chunks))


async def held(tx: TenantTx, document_id: DocumentId, token: UUID) -> bool:
    """Whether a replacement is still ingested under this token, and its document not deleted."""
    return await tx.fetchval(_HELD, tx.user_id, document_id, token) is not None


async def swap(tx: TenantTx, document_id: DocumentId, token: UUID) -> bool:
    """Let what was ingested under this token be the live version; False if it is not this token's any more."""
    return bool(await tx.execute(_SWAP, tx.user_id, document_id, token))


async def fail(
    tx: TenantTx, document_id: DocumentId, replacement_id: UUID, token: UUID, *, code: str, reason: str
) -> bytes | None:
    """Keep the live version, and say why; the SHA-256 of the content that failed.

    None, and no effect, without a running job's token, or where it is another replacement's turn.
    """
    row = await tx.fetchrow(_FAIL, tx.user_id, document_id, replacement_id, code, reason, token)
    return row["sha256"] if row else None


async def trim(tx: TenantTx, document_id: DocumentId, limit: int) -> int:
    """Remove up to `limit` chunks, and as many vectors, that are neither live nor on their way; how many there were."""
    await tx.fetchrow(_LOCK_VECTORS, tx.user_id, document_id)
    chunks = await tx.execute(_TRIM_CHUNKS, tx.user_id, document_id, limit)
    return chunks + await tx.execute(_TRIM_EMBEDDINGS, tx.user_id, document_id, limit)

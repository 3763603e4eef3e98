"""SQL of a library's order: lists, what its owner says of documents, the bin."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ringfence.db import TenantTx
from ringfence.documents.listing import Cursor, Listing
from ringfence.documents.queries import ROW, Document, document
from ringfence.filters import arguments, predicate
from ringfence.ids import DocumentId

_CHOSEN = f"""d.user_id = $1 and {predicate(2)}
  and ($9::text[] is null or d.state = any($9))
  and ($10::text is null or strpos(lower(d.name), lower($10)) > 0) and (d.deleted_at is not null) = $11"""


def _listed(key: str, place: str, order: str, beyond: str) -> str:
    return f"""
select {ROW} from documents d
where {_CHOSEN} and ({place} is null or ({key}, d.document_id) {beyond} ({place}, $12::uuid))
order by {key} {order}, d.document_id {order} limit $14::int
"""  # noqa: S608  # constants, as below


_OLDEST = _listed("d.created_at", "$13::timestamptz", "asc", ">")
_NEWEST = _listed("d.created_at", "$13::timestamptz", "desc", "<")
_BY_NAME = _listed("lower(d.name)", "lower($13::text)", "asc", ">")
_BY_NAME_BACK = _listed("lower(d.name)", "lower($13::text)", "desc", "<")
_SMALLEST = _listed("d.size", "$13::bigint", "asc", ">")
_LARGEST = _listed("d.size", "$13::bigint", "desc", "<")
_CHANGE = f"""
update documents d set name = coalesce($3, d.name), collections = coalesce($4, d.collections),
  tags = coalesce($5, d.tags), metadata = coalesce($6::jsonb, d.metadata), updated_at = now()
where d.user_id = $1 and d.document_id = $2 and d.deleted_at is null returning {ROW}
"""  # noqa: S608
_LOCK_BIN = "select pg_advisory_xact_lock(hashtextextended('bin ' || $1::text, 0))"
# Several rows are locked in one order, so that two who want the same ones can't wait for each other.
_BIN = """
with mine as (
  select document_id from documents where user_id = $1 and document_id = any($2) and deleted_at is null
  order by document_id for update)
update documents d set deleted_at = $3 from mine where d.user_id = $1 and d.document_id = mine.document_id
returning d.document_id
"""
# What was being read was stopped by its deletion.
_RESTORE = f"""
update documents d set deleted_at = null, updated_at = now(), ingest_token = null,
  state = case d.state when 'processing' then 'queued' else d.state end
where d.user_id = $1 and d.document_id = $2 and d.deleted_at is not null returning {ROW}
"""  # noqa: S608
_LOCK_ALL = """
select document_id, sha256 from documents
where user_id = $1 and document_id = any($2) and ($3::timestamptz is null or deleted_at <= $3)
order by document_id for update
"""
_COMING_FILES = """
select sha256 from replacements where user_id = $1 and document_id = any($2) and state <> 'failed'
"""
_DELETE = "delete from documents where user_id = $1 and document_id = any($2)"
_DUE = """
select document_id from documents where user_id = $1 and deleted_at <= $2 order by deleted_at limit $3::int
"""
_NEXT_DUE = "select user_id, min(deleted_at) as deleted_at from documents where user_id = $1 group by user_id"


async def listed(tx: TenantTx, listing: Listing, after: Cursor | None, limit: int) -> list[Document]:
    """The tenant's documents as a listing wants them: the first ones, or those behind a place."""
    statements = {
        "created": {"asc": _OLDEST, "desc": _NEWEST},
        "name": {"asc": _BY_NAME, "desc": _BY_NAME_BACK},
        "size": {"asc": _SMALLEST, "desc": _LARGEST},
    }
    states = list(listing.states) or None
    place = (after.document_id, after.value) if after else (None, None)
    rows = await tx.fetch(
        statements[listing.sort][listing.order],
        tx.user_id,
        *arguments(listing.filter),
        states,
        listing.name,
        listing.deleted,
        *place,
        limit,
    )
    return [document(row) for row in rows]


async def change(
    tx: TenantTx,
    document_id: DocumentId,
    *,
    name: str | None = None,
    collections: Sequence[UUID] | None = None,
    tags: Sequence[str] | None = None,
    metadata: str | None = None,
) -> Document | None:
    """Set what is given (of metadata the JSON text); None if there is no such document."""
    row = await tx.fetchrow(_CHANGE, tx.user_id, document_id, name, collections, tags, metadata)
    return document(row) if row else None


async def lock_bin(tx: TenantTx) -> None:
    """Until the transaction's end, nobody else puts documents of the tenant into the bin, or says when it is purged.

    Else a purge could be over, and have seen nothing more to come, before what relies on it is in the bin. Whoever
    takes this lock takes it first.
    """
    await tx.execute(_LOCK_BIN, str(tx.user_id))


async def put_into_bin(tx: TenantTx, ids: Sequence[DocumentId], now: datetime) -> set[UUID]:
    """Hide documents until they are restored or purged; those that were there."""
    return {row["document_id"] for row in await tx.fetch(_BIN, tx.user_id, ids, now)}


async def restore(tx: TenantTx, document_id: DocumentId) -> Document | None:
    """Take a document out of the bin; one that is not read yet is queued again. None if it is not in there."""
    row = await tx.fetchrow(_RESTORE, tx.user_id, document_id)
    return document(row) if row else None


async def delete(
    tx: TenantTx, ids: Sequence[DocumentId], *, binned_until: datetime | None = None
) -> tuple[set[UUID], set[bytes]]:
    """Remove documents with all that was made of them, of the bin's only those that came in until then.

    Returns:
        Those that were there, and the SHA-256 of each file that they needed.
    """
    rows = await tx.fetch(_LOCK_ALL, tx.user_id, ids, binned_until)
    found = [row["document_id"] for row in rows]
    files = {row["sha256"] for row in rows}
    files |= {row["sha256"] for row in await tx.fetch(_COMING_FILES, tx.user_id, found)}
    await tx.execute(_DELETE, tx.user_id, found)
    return set(found), files


async def due(tx: TenantTx, until: datetime, limit: int) -> list[DocumentId]:
    """What came into the bin until then, the oldest first."""
    return [DocumentId(row["document_id"]) for row in await tx.fetch(_DUE, tx.user_id, until, limit)]


async def oldest_in_bin(tx: TenantTx) -> datetime | None:
    """When the oldest document of the bin came into it; None if the bin is empty."""
    row = await tx.fetchrow(_NEXT_DUE, tx.user_id)
    return row["deleted_at"] if row else None

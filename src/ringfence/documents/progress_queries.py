"""SQL of how far documents have come, and of batches: documents that came in one request."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from asyncpg import Record

from ringfence.db import TenantTx
from ringfence.documents.ingestion_queries import Working
from ringfence.documents.queries import State
from ringfence.ids import BatchId, DocumentId

# Of a document whose content is being replaced, what matters is how far that is; of one that could not be, why.
_STEP = """
  d.document_id, d.name, d.sha256, i.stage,
  case when r.state <> 'failed' then r.size else d.size end as size,
  case when r.state <> 'failed' then r.state else d.state end as state,
  coalesce(d.reason_code, r.reason_code) as reason_code, coalesce(d.reason, r.reason) as reason,
  greatest(d.updated_at, r.updated_at) as updated_at,
  case when i.stage is not null then i.pages when r.state <> 'failed' then r.pages else d.pages end as pages,
  case when i.stage is not null then i.pages_done when r.state <> 'failed' then r.pages_done else d.pages_done
    end as pages_done,
  case when i.stage is not null then i.cut when r.state <> 'failed' then r.chunks else d.chunks end as chunks,
  case when i.stage is not null then i.stored when r.state <> 'failed' then r.chunks else d.chunks end as chunks_done,
  extract(epoch from clock_timestamp() - i.started_at)::float8 as elapsed
"""
_AND_WORK = """
left join ingestions i on i.user_id = d.user_id and i.document_id = d.document_id and i.ended_at is null
left join replacements r on r.user_id = d.user_id and r.document_id = d.document_id
"""
# Those in hand or lately done, the next ones in the queue, and those that are asked for.
_STEPS = f"""
with wanted as (
  select document_id from ingestions
    where user_id = $1 and (ended_at is null or ended_at > now() - interval '1 minute')
  union
  (select document_id from documents
    where user_id = $1 and state in ('queued', 'processing') and deleted_at is null
    order by created_at limit $3)
  union
  (select document_id from replacements where user_id = $1 and state <> 'failed' order by created_at limit $3)
  union
  select unnest($2::uuid[]))
select {_STEP}
from wanted join documents d on d.user_id = $1 and d.document_id = wanted.document_id and d.deleted_at is null
{_AND_WORK} order by i.started_at nulls last, d.created_at, d.document_id
"""  # noqa: S608  # a constant, as below
_THESE = f"""
select {_STEP} from documents d {_AND_WORK}
where d.user_id = $1 and d.document_id = any($2::uuid[]) and d.deleted_at is null
order by d.created_at, d.document_id
"""  # noqa: S608
_WITH_CONTENT = f"""
select {_STEP} from documents d {_AND_WORK}
where d.user_id = $1 and d.sha256 = any($2::bytea[]) and d.deleted_at is null
order by d.created_at, d.document_id
"""  # noqa: S608
_UNFINISHED = """
select user_id, count(*) as documents from (
  select user_id from documents where user_id = $1 and state in ('queued', 'processing') and deleted_at is null
  union all
  select r.user_id from replacements r
  join documents d on d.user_id = $1 and d.document_id = r.document_id and d.deleted_at is null
  where r.user_id = $1 and r.state <> 'failed') waiting
group by user_id
"""
_IN_HAND = """
select user_id, count(*) as documents from ingestions where user_id = $1 and ended_at is null group by user_id
"""
_ADD_BATCH = """
insert into batches (user_id, batch_id, document_ids, created_at) values ($1, $2, $3, now() - $4::interval)
"""
_FORGET_BATCHES = "delete from batches where user_id = $1 and created_at < now() - $2::interval"
_BATCH = """
select batch_id, document_ids as documents, created_at,
  extract(epoch from clock_timestamp() - created_at)::float8 as age
from batches where user_id = $1 and batch_id = $2
"""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a document has come, or what is to take the place of its content.

    Attributes:
        state: as if what is coming were the document; once nothing is, `ready`, with a reason where that failed.
        stage: what a worker does to it; None: no worker has it in hand.
        chunks: cut so far.
        chunks_done: of them, those that are stored.
        elapsed: seconds since a worker took it in hand. Two steps that differ in this alone are equal.
    """

    document_id: DocumentId
    name: str
    size: int
    sha256: bytes
    state: State
    reason_code: str | None
    reason: str | None
    stage: Working | None
    pages: int | None
    pages_done: int
    chunks: int
    chunks_done: int
    updated_at: datetime
    elapsed: float | None = field(compare=False)

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.stage is None and self.state in {"ready", "failed"}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many documents of a tenant wait for a worker, and how many one has in hand."""

    queued: int
    working: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents that came in one request. `age` is in seconds, from the request's beginning."""

    batch_id: BatchId
    documents: list[DocumentId]
    created_at: datetime
    age: float


def _step(row: Record) -> Step:
    return Step(**{name: row[name] for name in Step.__slots__})


async def steps(tx: TenantTx, asked: Collection[DocumentId], window: int) -> list[Step]:
    """The documents that workers have in hand or had lately, the `window` oldest that wait, and those asked for.

    Of an id that is no document's of the tenant, there is none.
    """
    return [_step(row) for row in await tx.fetch(_STEPS, tx.user_id, list(asked), window)]


async def these(tx: TenantTx, asked: Collection[DocumentId]) -> list[Step]:
    """Those of these documents that are the tenant's."""
    return [_step(row) for row in await tx.fetch(_THESE, tx.user_id, list(asked))]


async def with_content(tx: TenantTx, digests: Collection[bytes]) -> list[Step]:
    """The tenant's documents whose files have one of these SHA-256."""
    return [_step(row) for row in await tx.fetch(_WITH_CONTENT, tx.user_id, list(digests))]


async def counts(tx: TenantTx) -> Counts:
    """How many documents are on their way."""
    unfinished, working = [
        row["documents"] if (row := await tx.fetchrow(sql, tx.user_id)) else 0 for sql in (_UNFINISHED, _IN_HAND)
    ]
    return Counts(max(0, unfinished - working), working)


async def add_batch(
    tx: TenantTx, batch_id: BatchId, documents: Collection[DocumentId], took: timedelta, keep: timedelta
) -> None:
    """Remember which documents came in one request, which took that long; forget batches older than `keep`."""
    await tx.execute(_FORGET_BATCHES, tx.user_id, keep)
    await tx.execute(_ADD_BATCH, tx.user_id, batch_id, list(documents), took)


async def batch(tx: TenantTx, batch_id: BatchId) -> Batch | None:
    """A batch, if it is the tenant's and not too old."""
    row = await tx.fetchrow(_BATCH, tx.user_id, batch_id)
    return Batch(**dict(row)) if row else None

"""SQL of what workers have in hand: a row for each document while it is ingested, and a little longer."""

from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from ringfence.db import TenantTx
from ringfence.ids import DocumentId

type Working = Literal["parsing", "embedding", "storing"]

_BEGIN = """
insert into ingestions (user_id, document_id, token) values ($1, $2, $3)
on conflict (user_id, document_id) do update set token = $3, stage = 'parsing', pages = null, pages_done = 0,
  cut = 0, stored = 0, started_at = now(), ended_at = null
"""
# What others are about to forget, they will.
_FORGET = """
delete from ingestions where user_id = $1 and document_id in (
  select document_id from ingestions where user_id = $1 and ended_at < now() - interval '2 minutes'
  for update skip locked)
"""
_RECORD = """
update ingestions set stage = $4, pages = $5, pages_done = $6, cut = $7, stored = $8
where user_id = $1 and document_id = $2 and token = $3
"""
_END = "update ingestions set ended_at = now() where user_id = $1 and document_id = $2"
_NOT_THESE = "delete from ingestions where user_id = $1 and document_id = any($2::uuid[])"
_LET_GO = "delete from ingestions where user_id = $1 and document_id = $2 and token = $3"


async def begin(tx: TenantTx, document_id: DocumentId, token: UUID) -> None:
    """A document is taken in hand under a running job's token; what ended some time ago is forgotten."""
    await tx.execute(_FORGET, tx.user_id)
    await tx.execute(_BEGIN, tx.user_id, document_id, token)


async def record(
    tx: TenantTx,
    document_id: DocumentId,
    token: UUID,
    *,
    stage: Working,
    pages: int | None,
    pages_done: int,
    chunks: int,
    chunks_done: int,
) -> None:
    """Say how far it has come; no effect where the document was deleted or another worker has taken over."""
    await tx.execute(_RECORD, tx.user_id, document_id, token, stage, pages, pages_done, chunks, chunks_done)


async def end(tx: TenantTx, document_id: DocumentId) -> None:
    """A document has come to its end."""
    await tx.execute(_END, tx.user_id, document_id)


async def forget(tx: TenantTx, documents: Iterable[UUID]) -> None:
    """What workers do to these is of no use any more. Whoever calls this has locked the documents."""
    await tx.execute(_NOT_THESE, tx.user_id, list(documents))


async def let_go(tx: TenantTx, document_id: DocumentId, token: UUID) -> None:
    """A worker gives a document back; no effect where another has it in hand."""
    await tx.execute(_LET_GO, tx.user_id, document_id, token)

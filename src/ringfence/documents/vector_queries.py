"""SQL of vectors apart from their chunks' first storing: which are there, which are missing, which nobody needs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from ringfence.db import TenantTx
from ringfence.documents.chunker import passage
from ringfence.models.base import Vectors

_DIGEST_BYTES = 16

_KNOWN = """
select d.digest, known.embedding from unnest($2::bytea[]) as d (digest) cross join lateral (
  select e.embedding from chunks c
  join embeddings e on e.user_id = $1 and e.document_id = c.document_id and e.number = c.number and e.model_id = $3
  where c.user_id = $1 and c.passage_digest = d.digest limit 1) known
"""
_MISSING = """
select c.document_id, c.number, c.text, c.context from chunks c
where c.user_id = $1 and (c.document_id, c.number) > ($3, $4) and c.document_id <= $5 and not exists (
  select from embeddings e
  where e.user_id = $1 and e.document_id = c.document_id and e.number = c.number and e.model_id = $2)
order by c.document_id, c.number limit $6
"""
# Whoever changes a document, moves its vectors to another part, or deletes it, waits until this transaction has ended;
# what comes after sees what those did who had it before.
_HOLD = """
select document_id from documents where user_id = $1 and document_id = any($2::uuid[]) order by document_id for share
"""
# The chunk must be the one that was read: of a document that is ingested anew, another one may have the same number.
_FILL = """
insert into embeddings (user_id, document_id, number, model_id, embedding)
select c.user_id, c.document_id, c.number, $4, $5 from chunks c
where c.user_id = $1 and c.document_id = $2 and c.number = $3 and c.text = $6 and c.context = $7 and not exists (
  select from embeddings e where e.user_id = $1 and e.document_id = $2 and e.number = $3 and e.model_id = $4)
on conflict do nothing
"""
_LACKS = """
select d.user_id, count(*) as chunks from documents d join chunks c on c.user_id = $1 and c.document_id = d.document_id
  and c.number >= d.first_chunk and c.number < d.first_chunk + d.chunks
where d.user_id = $1 and d.state = 'ready' and not exists (
  select from embeddings e
  where e.user_id = $1 and e.document_id = c.document_id and e.number = c.number and e.model_id = $2)
group by d.user_id
"""
_READY_AFTER = """
select document_id from documents where user_id = $1 and document_id > $2 and state = 'ready'
order by document_id limit $3
"""
_FORGET = """
delete from embeddings e using (
  select x.number, x.model_id from embeddings x
  where x.user_id = $1 and x.document_id = $2 and x.model_id <> all($3::smallint[]) order by x.number limit $4) s
where e.user_id = $1 and e.document_id = $2 and e.number = s.number and e.model_id = s.model_id
"""
_COUNTS = "select user_id, model_id, count(*) from embeddings where user_id = $1 group by user_id, model_id"
_CHUNKS = "select user_id, count(*) from chunks where user_id = $1 group by user_id"


def digest(passage: str) -> bytes:
    """What a passage is recognised by: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(passage.encode()).digest()[:_DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Place:
    """A chunk's place among those of its tenant."""

    document_id: UUID
    number: int


START = Place(UUID(int=0), -1)
"""Before every chunk."""

LAST = UUID(int=2**128 - 1)
"""Behind every document."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A chunk without a vector of some model."""

    place: Place
    text: str
    context: str

    @property
    def passage(self) -> str:
        """What is embedded."""
        return passage(self.text, self.context)


async def known(tx: TenantTx, model_id: int, digests: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
    """Vectors that the tenant has of passages, by the passages' digests."""
    return {row["digest"]: row["embedding"] for row in await tx.fetch(_KNOWN, tx.user_id, digests, model_id)}


async def missing(tx: TenantTx, model_id: int, after: Place, last: UUID, limit: int) -> list[Lacking]:
    """The first chunks without a vector of this model, after a place and up to a document's end, in order."""
    rows = await tx.fetch(_MISSING, tx.user_id, model_id, after.document_id, after.number, last, limit)
    return [Lacking(Place(row["document_id"], row["number"]), row["text"], row["context"]) for row in rows]


async def hold(tx: TenantTx, documents: Iterable[UUID]) -> None:
    """Until the transaction's end, nobody changes these documents or moves what belongs to them."""
    await tx.execute(_HOLD, tx.user_id, list(documents))


async def fill(tx: TenantTx, model_id: int, chunks: Sequence[Lacking], vectors: Vectors) -> None:
    """Store vectors of chunks that are still there and say the same, and have none; row i is that of `chunks[i]`."""
    await hold(tx, {chunk.place.document_id for chunk in chunks})
    await tx.executemany(
        _FILL,
        [
            (tx.user_id, chunk.place.document_id, chunk.place.number, model_id, vector, chunk.text, chunk.context)
            for chunk, vector in zip(chunks, vectors, strict=True)
        ],
    )


async def lacks(tx: TenantTx, model_id: int) -> bool:
    """Whether a live chunk has no vector of this model."""
    return await tx.fetchrow(_LACKS, tx.user_id, model_id) is not None


async def ready_after(tx: TenantTx, after: UUID, limit: int) -> list[UUID]:
    """The next documents that are ready, in the order of their ids."""
    return [row["document_id"] for row in await tx.fetch(_READY_AFTER, tx.user_id, after, limit)]


async def forget(tx: TenantTx, document_id: UUID, keep: Sequence[int], limit: int) -> int:
    """Remove vectors of all models but these from a document, which is held; how many there were, at most `limit`."""
    return await tx.execute(_FORGET, tx.user_id, document_id, keep, limit)


async def counts(tx: TenantTx) -> tuple[int, dict[int, int]]:
    """How many chunks the tenant has, and how many vectors of each model."""
    row = await tx.fetchrow(_CHUNKS, tx.user_id)
    return row["count"] if row else 0, {row["model_id"]: row["count"] for row in await tx.fetch(_COUNTS, tx.user_id)}

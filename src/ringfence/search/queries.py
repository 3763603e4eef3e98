"""SQL of search."""

from dataclasses import dataclass
from itertools import batched

from ringfence.db import TenantTx
from ringfence.ids import DocumentId
from ringfence.models.base import Vectors

# Exact: reads every vector of one tenant through the primary key, and nobody else's. Ties have a fixed order.
_NEAREST = """
with nearest as materialized (
  select e.document_id, e.number, e.embedding <=> $3::halfvec as distance
  from embeddings e
  join documents d on d.user_id = $1 and d.document_id = e.document_id and d.state = 'ready'
  where e.user_id = $1 and e.model_id = $2
  order by distance, e.document_id, e.number
  limit $4)
select n.document_id, d.name, c.text, c.spans, 1 - n.distance as score
from nearest n
join documents d on d.user_id = $1 and d.document_id = n.document_id
join chunks c on c.user_id = $1 and c.document_id = n.document_id and c.number = n.number
order by n.distance, n.document_id, n.number
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that search found.

    Attributes:
        document_id: whose piece it is.
        document: the document's name.
        text: the piece.
        spans: where it stands: (page from 1, start, end), offsets in characters of that page's text; the slices of
            several pages are joined by one line break.
        score: cosine similarity with the question, at most 1.
    """

    document_id: DocumentId
    document: str
    text: str
    spans: tuple[tuple[int, int, int], ...]
    score: float


async def nearest(tx: TenantTx, model_id: int, vector: Vectors, limit: int) -> list[Passage]:
    """The tenant's passages nearest to a vector of shape (dimensions,), nearest first; exact."""
    rows = await tx.fetch(_NEAREST, tx.user_id, model_id, vector, limit)
    return [
        Passage(
            DocumentId(row["document_id"]),
            row["name"],
            row["text"],
            tuple((page, start, end) for page, start, end in batched(row["spans"], 3)),
            row["score"],
        )
        for row in rows
    ]

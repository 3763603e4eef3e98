"""SQL of search. The searches themselves are functions of the database: migrations/0041, 0047, 0062 and 0063."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from uuid import UUID

import numpy as np
from asyncpg import PostgresError, Record

from ringfence.db import SystemTx, TenantCall, TenantTx
from ringfence.filters import Filter, arguments, predicate
from ringfence.ids import DocumentId
from ringfence.models.base import Vectors
from ringfence.models.queries import EmbeddingModel
from ringfence.search.tiers import Tiers, Way

_SEARCH = """
select document_id, number, name, text, spans, context, cosine,
  bm25, score from search_passages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""
_NEAREST = """
select document_id, number, name, text, spans, context, cosine,
  bm25, score from search_dense($1, $2, $3, $4, $5, $6, $7)
"""
_CHOSEN = f"""
select d.document_id from documents d
where d.user_id = $1 and d.state = 'ready' and d.deleted_at is null and {predicate(2)}
"""  # noqa: S608  # constants
_FOUND_VECTORS = """
select e.user_id, n.place, e.embedding from unnest($3::uuid[], $4::int[]) with ordinality n (document_id, number, place)
join embeddings e on e.user_id = $1 and e.document_id = n.document_id and e.number = n.number and e.model_id = $2
"""
_AROUND = """
select c.user_id, c.document_id, c.number, c.text, c.spans, c.context
from unnest($2::uuid[], $3::int[], $4::int[]) w (document_id, first, last)
join documents d on d.user_id = $1 and d.document_id = w.document_id and d.state = 'ready' and d.deleted_at is null
join chunks c on c.user_id = $1 and c.document_id = w.document_id
  and c.number between greatest(w.first, d.first_chunk) and least(w.last, d.first_chunk + d.chunks - 1)
order by c.document_id, c.number
"""
_FROM = """
select c.user_id, c.document_id, c.number, c.text, c.spans, c.context
from documents d join chunks c on c.user_id = $1 and c.document_id = d.document_id
  and c.number between greatest(d.first_chunk, $3::int) and d.first_chunk + d.chunks - 1
where d.user_id = $1 and d.document_id = $2 and d.state = 'ready' and d.deleted_at is null
order by c.number limit $4::int
"""
_OF_PAGE = """
select c.user_id, c.document_id, c.number, c.text, c.spans, c.context
from documents d join chunks c on c.user_id = $1 and c.document_id = d.document_id
  and c.number between d.first_chunk and d.first_chunk + d.chunks - 1
where d.user_id = $1 and d.document_id = $2 and d.state = 'ready' and d.deleted_at is null
  and $3::int = any (array(select c.spans[i] from generate_series(1, cardinality(c.spans), 3) i))
order by c.number
"""
_MOVED = "RF001"  # of migrations/0048_live_models.sql
_WAY = "select dense_way($1, $2, $3, $4)"
_VECTORS = "select user_id, count(*) as vectors from embeddings where user_id = $1 and model_id = $2 group by user_id"
# What a function runs, and the settings under which it does.
_SOURCE = "select prosrc from pg_proc where pronamespace = 'public'::regnamespace and proname = $1::text"
_SETTINGS = """
select set_config(split_part(one, '=', 1), split_part(one, '=', 2), true) from pg_proc p, unnest(p.proconfig) one
where p.pronamespace = 'public'::regnamespace and p.proname = $1::text
"""
_EXPLAINED = re.compile(r"-- explained\n(.*?)-- end\n", re.DOTALL)
# What a plan may not tell: values, and how much there is of others' (should it ever read that).
_VALUE = re.compile(r"'(?:[^']|'')*'")
_OF_OTHERS = re.compile(r"Rows Removed|Heap Blocks|Heap Fetches|Memory|Batches")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that search found.

    Attributes:
        document_id: whose piece it is.
        document: the document's name.
        text: the piece.
        spans: where it stands: (page from 1, start, end), offsets in characters of that page's text; the slices of
            several pages are joined by one line break.
        similarity: cosine with the query, at most 1; None where no vector was compared.
        context: the headings above the piece; empty if there is none.
        lexical: BM25; 0 where the piece is not among the best of lexical search.
        score: what it is ordered by: both together, or that of the one half that was asked.
        number: of the chunk in its document.
    """

    document_id: DocumentId
    document: str
    text: str
    spans: tuple[tuple[int, int, int], ...]
    similarity: float | None
    context: str = ""
    lexical: float = 0.0
    score: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk as it is kept."""

    document_id: DocumentId
    number: int
    text: str
    spans: tuple[tuple[int, int, int], ...]
    context: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for by meaning.

    Attributes:
        model_id: whose vectors are compared.
        vector: of shape (dimensions,).
        limit: passages at most.
        documents: in these, or in all.
    """

    model_id: int
    vector: Vectors
    limit: int
    documents: Sequence[UUID] | None


@dataclass(frozen=True, slots=True)
class Words:
    """What is looked for by words.

    Attributes:
        terms: the query (`lexical.terms.query_terms`).
        k1: of BM25: how soon repetitions of a term count no more.
        b: of BM25: how much long chunks lose.
        limit: passages at most.
        documents: in these, or in all.
    """

    terms: Sequence[tuple[int, int, float]]
    k1: float
    b: float
    limit: int
    documents: Sequence[UUID] | None


class Moved(Exception):  # no error: the query is embedded anew
    """The tenant is searched with another model than the one that the query was embedded with."""


@contextmanager
def _moved() -> Generator[None]:
    try:
        yield
    except PostgresError as error:
        if error.sqlstate == _MOVED:
            raise Moved from None
        raise


async def nearest(call: TenantCall, wanted: Wanted, tiers: Tiers) -> list[Passage]:
    """The tenant's passages that are nearest, in order.

    Raises:
        Moved: the tenant is searched with another model.
    """
    what = (wanted.model_id, wanted.vector, wanted.limit, wanted.documents, tiers.demote_at, tiers.ef_search)
    with _moved():
        return _passages(await call.fetch(_NEAREST, *what))


async def lexical(call: TenantCall, words: Words) -> list[Passage]:
    """The tenant's best passages by BM25, in order."""
    what = ("lexical", words.limit, words.limit, words.documents, None, None, None, None, *_terms(words), None)
    return _passages(await call.fetch(_SEARCH, *what))


async def hybrid(
    call: TenantCall, wanted: Wanted, words: Words, tiers: Tiers, *, limit: int, alpha: float | None
) -> list[Passage]:
    """The best of both halves, in order; alpha is the weight of words, None fuses ranks. Their limits: candidates.

    Raises:
        Moved: as of `nearest`.
    """
    dense = (wanted.model_id, wanted.vector, tiers.demote_at, tiers.ef_search)
    what = ("hybrid", limit, wanted.limit, wanted.documents, *dense, *_terms(words), alpha)
    with _moved():
        return _passages(await call.fetch(_SEARCH, *what))


async def chosen(tx: TenantTx, which: Filter) -> list[UUID]:
    """The live documents that a filter means."""
    return [row["document_id"] for row in await tx.fetch(_CHOSEN, tx.user_id, *arguments(which))]


async def vectors_of(tx: TenantTx, model: EmbeddingModel, passages: Sequence[Passage]) -> Vectors:
    """The passages' vectors, row by row; zeros for one that has none."""
    found = np.zeros((len(passages), model.dimensions), np.float32)
    places = [one.document_id for one in passages], [one.number for one in passages]
    for row in await tx.fetch(_FOUND_VECTORS, tx.user_id, model.model_id, *places):
        found[row["place"] - 1] = row["embedding"]
    return found


async def around(tx: TenantTx, windows: Sequence[tuple[UUID, int, int]]) -> list[Chunk]:
    """The live chunks of windows (document, first number, last number) that do not overlap, in order."""
    return _chunks(await tx.fetch(_AROUND, tx.user_id, *(list(column) for column in zip(*windows, strict=True))))


async def chunks_from(tx: TenantTx, document_id: DocumentId, first: int, limit: int) -> list[Chunk]:
    """The live chunks of a document from a number on, in order; from 0 on, from its beginning."""
    return _chunks(await tx.fetch(_FROM, tx.user_id, document_id, first, limit))


async def chunks_of_page(tx: TenantTx, document_id: DocumentId, page: int) -> list[Chunk]:
    """The live chunks of a document that touch a page, in order."""
    return _chunks(await tx.fetch(_OF_PAGE, tx.user_id, document_id, page))


def _chunks(rows: Sequence[Record]) -> list[Chunk]:
    return [
        Chunk(DocumentId(row["document_id"]), row["number"], row["text"], _spans(row), row["context"]) for row in rows
    ]


def _terms(words: Words) -> tuple[object, ...]:
    terms, masks, weights = ([one[column] for one in words.terms] for column in range(3))
    return terms, masks, weights, words.k1, words.b


def _spans(row: Record) -> tuple[tuple[int, int, int], ...]:
    return tuple((page, start, end) for page, start, end in batched(row["spans"], 3))


def _passages(rows: Sequence[Record]) -> list[Passage]:
    return [
        Passage(
            DocumentId(row["document_id"]),
            row["name"],
            row["text"],
            _spans(row),
            row["cosine"],
            row["context"],
            row["bm25"],
            row["score"],
            row["number"],
        )
        for row in rows
    ]


async def way(tx: TenantTx, wanted: Wanted, tiers: Tiers) -> Way:
    """Which way such a search goes; raises as `nearest`."""
    with _moved():
        return Way(await tx.fetchval(_WAY, tx.user_id, wanted.model_id, wanted.documents, tiers.demote_at))


async def vectors(tx: TenantTx, model_id: int) -> int:
    """How many vectors of a model the tenant has."""
    row = await tx.fetchrow(_VECTORS, tx.user_id, model_id)
    return int(row["vectors"]) if row else 0


def function_of(way: Way, wanted: Wanted) -> str:
    """By which function of the database such a search goes."""
    if way is Way.INDEX:
        return "dense_index"
    return "dense_shared" if way is Way.SMALL and wanted.documents is None else "dense"


async def adopt(tx: TenantTx | SystemTx, function: str) -> str:
    """Take on a function's settings until the transaction's end; the statement that it searches by, with `$n`."""
    await tx.fetch(_SETTINGS, function)
    [statement] = _EXPLAINED.findall(await tx.fetchval(_SOURCE, function))
    return str(statement)


async def plan(tx: TenantTx, statement: str, wanted: Wanted | Words) -> list[str]:
    """The plan of such a statement, as executed, without values and without what could tell of others."""
    if isinstance(wanted, Wanted):
        statement = statement.replace("%1$s", str(len(wanted.vector)))
        what: tuple[object, ...] = (wanted.model_id, wanted.vector, wanted.limit)
        what += (wanted.documents,) if "$5" in statement else ()
    else:
        what = (*_terms(wanted), wanted.limit, wanted.documents)
    lines = await tx.fetch(f"explain (analyze, costs off, buffers off, timing off) {statement}", tx.user_id, *what)
    return [_VALUE.sub("…", line[0]) for line in lines if not _OF_OTHERS.search(line[0])]

"""Search: a query → the passages of one tenant that bear on it, by meaning, by words, or by both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

import numpy as np

from ringfence.db import Database, TenantTx
from ringfence.errors import Invalid, SetupError
from ringfence.filters import Filter
from ringfence.ids import DocumentId, UserId
from ringfence.lexical import languages
from ringfence.lexical.terms import query_terms
from ringfence.models import queries as models
from ringfence.models.base import Embedder, Vectors
from ringfence.models.registry import EmbeddingModels
from ringfence.search import queries
from ringfence.search.diversity import choose
from ringfence.search.neighbours import PageText, expanded, joined, page_text, windows
from ringfence.search.queries import Passage, Wanted, Words
from ringfence.search.rerank import Ranked, Reranking
from ringfence.search.terms import is_text
from ringfence.search.tiers import Explanation, Tiers, Way, reason
from ringfence.telemetry.metrics import RETRIEVAL_SECONDS
from ringfence.telemetry.traces import tracing

MAX_QUERY_CHARS = 4000
MAX_QUERIES = 32
MAX_PASSAGES = 100
MAX_EXPAND = 5

# No `type` statements: their names would be in the API's description.
Mode = Literal["hybrid", "dense", "lexical"]
Fusion = Literal["convex", "rrf"]

_SURE = 0.5  # from this probability on a query is in a language that the model does not cover


def checked(query: str) -> str:
    """What somebody typed, as it is looked for.

    Raises:
        Invalid: `bad_query`.
    """
    query = query.strip()
    if not query or len(query) > MAX_QUERY_CHARS or not is_text(query):
        raise Invalid("bad_query", f"A query has 1 to {MAX_QUERY_CHARS} characters.")
    return query


@dataclass(frozen=True, slots=True)
class How:
    """How to search.

    Attributes:
        mode: by meaning (`dense`), by words (`lexical`), or both.
        fusion: of both: of scores (`convex`), or of ranks (`rrf`).
        chosen: in which documents; None: in all.
        diversity: from 0 to 1: how much a passage loses by being like a better one.
        expand: chunks before and after each passage that are shown with it.
    """

    mode: Mode = "hybrid"
    fusion: Fusion = "convex"
    chosen: Filter | None = None
    diversity: float = 0.0
    expand: int = 0


HYBRID = How()


@dataclass(frozen=True, slots=True)
class Tuning:
    """What search is tuned by; measured, see decisions 30 and 31.

    Attributes:
        k1: BM25: how soon repetitions of a term count no more.
        b: BM25: how much long chunks lose.
        alpha: weight of words.
        alpha_elsewhere: the same, where the embedding model does not cover the query's language.
        depth: candidates of each half.
    """

    k1: float = 1.2
    b: float = 0.75
    alpha: float = 0.25
    alpha_elsewhere: float = 0.5
    depth: int = 100


MEASURED = Tuning()


@dataclass(frozen=True, slots=True)
class Text:
    """A part of a document.

    Attributes:
        text: the slices of several pages are joined by one line break.
        spans: as of a passage: (page from 1, start, end).
        following: the number of the chunk that comes next; None: that was all.
    """

    text: str
    spans: tuple[tuple[int, int, int], ...]
    following: int | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query, how to search, and its vector (none for lexical search) with what made it."""

    query: str
    how: How
    embedder: Embedder
    vector: Vectors | None


class Search:
    """Finds passages of one tenant, whatever others keep; and the reranker's order of them.

    Args:
        db: where they are.
        embedder: makes the vectors of queries.
        reranking: the step behind a search.
        tiers: where the limit is between small and large tenants.
        tuning: what was measured.
        coming: makes vectors of the model that is to take the place of `embedder`'s, tenant by tenant.
    """

    def __init__(
        self,
        db: Database,
        embedder: Embedder,
        reranking: Reranking | None = None,
        tiers: Tiers | None = None,
        tuning: Tuning = MEASURED,
        *,
        coming: Embedder | None = None,
    ) -> None:
        self._db = db
        self._embedder = embedder
        self._reranking = reranking or Reranking()
        self._tiers = tiers or Tiers()
        self._tuning = tuning
        self._models = EmbeddingModels(db, [embedder, coming] if coming else [embedder])

    @property
    def reranks(self) -> bool:
        """Whether there is a reranker."""
        return self._reranking.on

    async def find(
        self, user_id: UserId, query: str, limit: int, documents: Sequence[UUID] | None = None, how: How = HYBRID
    ) -> Ranked:
        """The tenant's best passages for what somebody typed, best first.

        Args:
            user_id: in whose documents.
            query: up to `MAX_QUERY_CHARS` characters.
            limit: how many at most.
            documents: only in these; of those that are not the tenant's, nothing is found.
            how: by meaning, by words, in which documents, and the like.

        Raises:
            Invalid: `bad_query`.
            Unavailable, SetupError: as of `passages`.
        """
        return await self.ranked(user_id, checked(query), limit, documents, how)

    async def find_all(self, user_id: UserId, asked: Sequence[tuple[str, int, How]]) -> list[Ranked]:
        """The same for several queries, each with its limit, which are embedded together. Raises as `find`."""
        texts = [checked(query) for query, _, _ in asked]
        texts_and_ways = [(query, how) for query, (_, _, how) in zip(texts, asked, strict=True)]
        embedded = await self._embedded(user_id, texts_and_ways)
        return [await self._ranked(user_id, one, limit) for one, (_, limit, _) in zip(embedded, asked, strict=True)]

    async def ranked(
        self, user_id: UserId, question: str, limit: int, documents: Sequence[UUID] | None = None, how: How = HYBRID
    ) -> Ranked:
        """As `passages`, in the reranker's order where it gives one in time."""
        [asked] = await self._embedded(user_id, [(question, within(how, documents))])
        return await self._ranked(user_id, asked, limit)

    async def _ranked(self, user_id: UserId, asked: _Asked, limit: int) -> Ranked:
        # What diversity has chosen, the reranker orders; it has nothing to choose from.
        wanted = limit if asked.how.diversity else self.wanted(limit)
        found = await self._passages(user_id, asked, wanted)
        return await self.grown(user_id, await self.rerank(asked.query, found, limit), asked.how.expand)

    async def rerank(self, question: str, passages: Sequence[Passage], limit: int) -> Ranked:
        """The best of one tenant's passages, however they were found."""
        return await self._reranking.apply(question, passages, limit)

    def wanted(self, limit: int) -> int:
        """How many passages to find for `rerank`, where `limit` are shown."""
        return self._reranking.wanted(limit)

    async def grown(self, user_id: UserId, ranked: Ranked, expand: int) -> Ranked:
        """The passages with so many chunks before and after them; those that meet are one."""
        if not expand or not ranked.passages:
            return ranked
        async with self._db.tenant(user_id) as tx:
            found = expanded(ranked.passages, await queries.around(tx, windows(ranked.passages, expand)))
        scores = dict(zip(((one.document_id, one.number) for one in ranked.passages), ranked.scores, strict=False))
        kept = (scores.get((one.document_id, one.number)) for one in found)
        return Ranked(tuple(found), tuple(score for score in kept if score is not None), ranked.reason)

    async def text(self, user_id: UserId, document_id: DocumentId, first: int, limit: int) -> Text:
        """So many chunks of a document from a number on, as one text; empty behind its end, and until it is ready."""
        async with self._db.tenant(user_id) as tx:
            chunks = await queries.chunks_from(tx, document_id, first, limit + 1)
        text, spans = joined(chunks[:limit])
        return Text(text, spans, chunks[limit].number if len(chunks) > limit else None)

    async def page(self, user_id: UserId, document_id: DocumentId, page: int) -> PageText:
        """What was read on a page (from 1) of a document that is ready; empty where there is none."""
        async with self._db.tenant(user_id) as tx:
            return page_text(await queries.chunks_of_page(tx, document_id, page), page)

    async def passages(
        self, user_id: UserId, question: str, limit: int, documents: Sequence[UUID] | None = None, how: How = HYBRID
    ) -> list[Passage]:
        """The tenant's best passages, best first.

        Raises:
            Unavailable: the embedding model or the database does not answer.
            SetupError: the tenant's model is not set up, or now gives vectors of another length than the stored ones.
        """
        [asked] = await self._embedded(user_id, [(question, within(how, documents))])
        return await self._passages(user_id, asked, limit)

    async def _embedded(self, user_id: UserId, asked: Sequence[tuple[str, How]]) -> list[_Asked]:
        """The queries, with vectors of the tenant's model, of shape (dimensions,), for those that need one."""
        if all(how.mode == "lexical" for _, how in asked):
            return [_Asked(query, how, self._embedder, None) for query, how in asked]
        embedder = await self._live(user_id) if self._models.several else self._embedder
        return await self._embedded_by(embedder, asked)

    async def _embedded_by(self, embedder: Embedder, asked: Sequence[tuple[str, How]]) -> list[_Asked]:
        with tracing.span("search.embed"), RETRIEVAL_SECONDS.labels("embed").time():
            rows = iter(await embedder.embed([query for query, how in asked if how.mode != "lexical"]))
        return [_Asked(query, how, embedder, None if how.mode == "lexical" else next(rows)) for query, how in asked]

    async def _live(self, user_id: UserId) -> Embedder:
        """What makes the vectors that the tenant is searched with."""
        async with self._db.tenant(user_id) as tx:
            live = await models.live(tx)
        return self._models.named(live.name) if live else self._embedder

    async def _by_live_model[T](self, user_id: UserId, asked: _Asked, work: Callable[[_Asked], Awaitable[T]]) -> T:
        """Do what compares vectors; anew, if the tenant is searched with another model than the query's by then."""
        while True:
            try:
                return await work(asked)
            except queries.Moved:
                [asked] = await self._embedded_by(await self._live(user_id), [(asked.query, asked.how)])

    async def _passages(self, user_id: UserId, asked: _Asked, limit: int) -> list[Passage]:
        return await self._by_live_model(user_id, asked, lambda one: self._best(user_id, one, limit))

    async def _best(self, user_id: UserId, asked: _Asked, limit: int) -> list[Passage]:
        how = asked.how
        with tracing.span("search.nearest") as span, RETRIEVAL_SECONDS.labels("search").time():
            pool = max(self._tuning.depth, limit) if how.diversity else limit
            found = await self._found(user_id, asked, pool)
            if how.diversity and found:
                scores = [passage.score for passage in found]
                found = [found[at] for at in choose(scores, await self._vectors(user_id, found), limit, how.diversity)]
            span.set_attribute("passages", len(found))
            return found

    async def _found(self, user_id: UserId, asked: _Asked, limit: int) -> list[Passage]:
        how, depth = asked.how, max(self._tuning.depth, limit)
        documents = await self._documents(user_id, how.chosen)
        wanted = await self._wanted(user_id, asked, limit if how.mode == "dense" else depth, documents)
        if how.mode == "dense":
            async with self._db.call(user_id) as call:
                return await queries.nearest(call, wanted, self._tiers) if wanted else []
        words = await self._words(asked.query, depth if wanted else limit, documents)
        async with self._db.call(user_id) as call:
            if wanted is not None:
                alpha = None if how.fusion == "rrf" else self._alpha(asked)
                return await queries.hybrid(call, wanted, words, self._tiers, limit=limit, alpha=alpha)
            found = await queries.lexical(call, words)
        if how.mode == "hybrid":  # nothing was embedded yet: the whole weight is on the words
            found = [replace(one, score=one.lexical / found[0].lexical) for one in found]
        return found

    async def _documents(self, user_id: UserId, chosen: Filter | None) -> Sequence[UUID] | None:
        if chosen is None or chosen == Filter(documents=chosen.documents):
            return chosen.documents if chosen else None
        async with self._db.tenant(user_id) as tx:
            return await queries.chosen(tx, chosen)

    async def _wanted(
        self, user_id: UserId, asked: _Asked, depth: int, documents: Sequence[UUID] | None
    ) -> Wanted | None:
        """What to look for by meaning; None where that is not asked for, or nothing was embedded yet."""
        if asked.vector is None:
            return None
        model = await self._models.find(asked.embedder.name)
        if model is None:  # nothing was ever embedded with it
            async with self._db.tenant(user_id) as tx:
                if await models.live(tx):
                    raise queries.Moved
            return None
        if model.dimensions != len(asked.vector):
            raise SetupError("model_dimensions", f"The stored vectors have {model.dimensions} dimensions.")
        return Wanted(model.model_id, asked.vector, depth, documents)

    async def _words(self, query: str, depth: int, documents: Sequence[UUID] | None) -> Words:
        terms = await asyncio.to_thread(query_terms, query)  # of 4,000 characters, that takes some milliseconds
        return Words(terms, self._tuning.k1, self._tuning.b, depth, documents)

    def _alpha(self, asked: _Asked) -> float:
        covered = asked.embedder.languages
        if covered is None:
            return self._tuning.alpha
        language, probability = languages.detect(asked.query)
        elsewhere = language is not None and language not in covered and probability >= _SURE
        return self._tuning.alpha_elsewhere if elsewhere else self._tuning.alpha

    async def _vectors(self, user_id: UserId, found: list[Passage]) -> Vectors:
        """The passages' vectors, also where the query has none; zeros where nothing was embedded yet."""
        async with self._db.tenant(user_id) as tx:
            model = await models.live(tx)
            return await queries.vectors_of(tx, model, found) if model else np.zeros((len(found), 1), np.float32)

    async def explain(
        self, user_id: UserId, query: str, limit: int, documents: Sequence[UUID] | None = None, how: How = HYBRID
    ) -> Explanation:
        """How such a search goes, and how long it takes; it is done for that. Arguments and errors: as of `find`."""
        began = time.perf_counter()
        [asked] = await self._embedded(user_id, [(checked(query), within(how, documents))])
        embed = (time.perf_counter() - began) * 1000
        return await self._by_live_model(user_id, asked, lambda one: self._explanation(user_id, one, limit, embed))

    async def _explanation(self, user_id: UserId, asked: _Asked, limit: int, embed: float) -> Explanation:
        began, how = time.perf_counter(), asked.how
        found = await self._best(user_id, asked, limit)
        times = {"embed": embed, "search": (time.perf_counter() - began) * 1000}
        chosen, depth = await self._documents(user_id, how.chosen), max(self._tuning.depth, limit)
        words = None if how.mode == "dense" else await self._words(asked.query, depth, chosen)
        wanted = await self._wanted(user_id, asked, limit if how.mode == "dense" else depth, chosen)
        async with self._db.tenant(user_id) as tx:
            return await self._explained(tx, wanted, words, times, len(found))

    async def _explained(
        self, tx: TenantTx, wanted: Wanted | None, words: Words | None, times: dict[str, float], found: int
    ) -> Explanation:
        way, count, plan = Way.SMALL, 0, list[str]()
        if wanted is not None:
            way = await queries.way(tx, wanted, self._tiers)
            count = await queries.vectors(tx, wanted.model_id)
            plan += await queries.plan(tx, await queries.adopt(tx, queries.function_of(way, wanted)), wanted)
        if words is not None:
            plan += await queries.plan(tx, await queries.adopt(tx, "lexical"), words)
        return Explanation(way, reason(way, count, self._tiers), count, tuple(plan), times, found)


def within(how: How, documents: Sequence[UUID] | None) -> How:
    """The same, in these documents only."""
    if documents is None:
        return how
    return replace(how, chosen=replace(how.chosen or Filter(), documents=tuple(documents)))

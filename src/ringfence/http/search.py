"""The route of search: passages alone, without an answer."""

from itertools import chain, repeat
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ringfence.accounts.queries import Scope
from ringfence.filters import FilterForm
from ringfence.http.deps import CallerDep, NoteDep, Reader, ServicesDep, require
from ringfence.search.followups import Asked
from ringfence.search.queries import Passage
from ringfence.search.rerank import Ranked
from ringfence.search.rewrite import MAX_HISTORY, MAX_PARAPHRASES, Turn
from ringfence.search.service import (
    MAX_EXPAND,
    MAX_PASSAGES,
    MAX_QUERIES,
    MAX_QUERY_CHARS,
    Fusion,
    How,
    Mode,
    checked,
    within,
)
from ringfence.search.terms import highlights
from ringfence.search.tiers import Way

router = APIRouter(prefix="/api/v1/search", tags=["search"])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConversationTurn(_Model):
    """What one side said before."""

    role: Literal["user", "assistant"]
    text: str = Field(max_length=MAX_QUERY_CHARS, examples=["What notice do I have to give?"])


class PlainQuery(_Model):
    """What to look for in one's own documents, and how."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS, examples=["notice period"])
    limit: int = Field(default=10, ge=1, le=MAX_PASSAGES, description="Passages at most.", examples=[5])
    document_ids: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PASSAGES,
        description="Look in these documents only.",
        examples=[["5b2f3c1e-7a54-4d7c-9a43-0f3f9d1f2a10"]],
    )
    mode: Mode = Field(
        default="hybrid",
        description="By meaning (`dense`), by words (`lexical`, BM25), or both.",
        examples=["hybrid"],
    )
    fusion: Fusion = Field(
        default="convex",
        description="How both are brought together: by scores (`convex`), or by ranks (`rrf`).",
        examples=["convex"],
    )
    filter: FilterForm | None = Field(
        default=None, description="Look in these documents only.", examples=[{"tags": ["contract"]}]
    )
    diversity: float = Field(
        default=0.0,
        strict=True,
        ge=0,
        le=1,
        description="How much a passage loses by being like a better one (maximal marginal relevance).",
        examples=[0.3],
    )
    expand: int = Field(
        default=0,
        strict=True,
        ge=0,
        le=MAX_EXPAND,
        description="Chunks before and after each passage that come with it. Passages that meet become one.",
        examples=[1],
    )

    @model_validator(mode="after")
    def _documents_once(self) -> Self:
        if self.document_ids is not None and self.filter is not None and self.filter.documents is not None:
            raise ValueError("documents are named twice: in document_ids and in filter")
        return self

    def how(self) -> How:
        """The same for the service, without the documents that `document_ids` names."""
        chosen = self.filter.chosen() if self.filter else None
        return How(self.mode, self.fusion, chosen, self.diversity, self.expand)


class SearchQuery(PlainQuery):
    """What to look for in one's own documents, after a conversation perhaps."""

    history: list[ConversationTurn] = Field(
        default_factory=list,
        max_length=MAX_HISTORY,
        examples=[[]],
        description="What was said before, oldest first: the chat model makes of the query one that stands alone, if "
        "it does so in time. With this or `paraphrases`, the search counts as a question, and a key needs `ask` too.",
    )
    paraphrases: int = Field(
        default=0,
        strict=True,
        ge=0,
        le=MAX_PARAPHRASES,
        examples=[0],
        description="Other wordings, by the chat model, to look for as well.",
    )


class SearchBatch(_Model):
    """Several queries at once."""

    queries: list[PlainQuery] = Field(
        min_length=1, max_length=MAX_QUERIES, examples=[[{"query": "notice period"}, {"query": "holidays"}]]
    )


class Place(_Model):
    """Where a part of a passage stands."""

    page: int = Field(description="From 1.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character.", examples=[204])


class Highlight(_Model):
    """Words of the passage that the query has too."""

    start: int = Field(description="Offset of the first character in the passage's text.", examples=[4])
    end: int = Field(description="Offset behind the last character.", examples=[17])


class Scores(_Model):
    """What the passage has of each half of search, and of both together; null where it was not asked."""

    dense: float | None = Field(description="Cosine similarity with the query.", examples=[0.71])
    lexical: float | None = Field(
        description="BM25; 0 where the passage is not among the best of lexical search.", examples=[5.2]
    )
    fused: float | None = Field(description="Both together, at most 1.", examples=[0.93])


class Hit(_Model):
    """A passage that bears on the query."""

    document_id: UUID
    document: str = Field(description="The document's name.", examples=["handbook.pdf"])
    text: str = Field(examples=["The notice period is six weeks to the end of a quarter."])
    context: str | None = Field(description="The headings above it.", examples=["Handbook \u203a Leaving"])
    page: int = Field(description="Where it begins.", examples=[3])
    number: int = Field(description="Of the chunk in its document.", examples=[12])
    places: Annotated[list[Place], Field(description="One for each page that it touches.")]
    highlights: list[Highlight]
    score: float = Field(description="The one of `scores` that the mode orders by.", examples=[0.93])
    scores: Scores
    rerank_score: float | None = Field(description="The reranker's, where it has read this passage.", examples=[3.2])


class SearchResults(_Model):
    """The best passages, best first."""

    results: list[Hit]
    query: str = Field(description="What was looked for: your query, or what the chat model made of it.")
    wordings: list[str] = Field(description="What else was looked for.")
    rewritten: bool
    not_rewritten: str | None = Field(
        description="Why not: `rewrite_off`, `rewrite_slow`, `rewrite_unusable`, or the model's error.",
        examples=["rewrite_off"],
    )
    reranked: bool
    not_reranked: str | None = Field(
        description="Why not: `rerank_off`, `rerank_slow`, `rerank_paused` (it failed just now), or the model's error.",
        examples=["rerank_off"],
    )


class Explained(_Model):
    """How a search went."""

    way: Way = Field(
        description="`index`: by an index of one's own; exactly: `small`, `few`, or `both`, while it is made."
    )
    reason: str = Field(description="Why.", examples=["Exact: 812 vectors are fewer than 20000."])
    vectors: int = Field(description="How many of one's passages' vectors there are.", examples=[812])
    passages: int = Field(description="How many were found.", examples=[10])
    milliseconds: dict[str, float] = Field(
        description="By stage: `embed` the query, `search` for what is near it.",
        examples=[{"embed": 4.1, "search": 1.2}],
    )
    plan: list[str] = Field(
        description="The database's plan, without values.", examples=[["Limit (actual rows=10.00)"]]
    )


class BatchHits(_Model):
    """What was found for one of several queries, best first."""

    results: list[Hit]
    reranked: bool
    not_reranked: str | None = Field(description="As of a single search.", examples=["rerank_off"])


class BatchResults(_Model):
    """What was found for each query, in the queries' order."""

    results: list[BatchHits]


@router.post("")
async def search(
    body: SearchQuery, user_id: Reader, caller: CallerDep, services: ServicesDep, note: NoteDep
) -> SearchResults:
    """Find the passages that bear on a query. Nothing is kept; only what the chat model helps with is counted."""
    history, chat = [Turn(turn.role, turn.text) for turn in body.history], None
    if history or body.paraphrases:
        require(caller, Scope.ASK)
        checked(body.query)
        await services.questions.spend(user_id, note)
        chat = await services.models.aside(user_id)
    asked = await services.follow_ups.find(
        user_id,
        body.query,
        body.limit,
        body.document_ids,
        history=history,
        paraphrases=body.paraphrases,
        chat=chat,
        how=body.how(),
    )
    return _results(body, asked)


def _results(body: PlainQuery, asked: Asked) -> SearchResults:
    ranked = asked.ranked
    return SearchResults(
        results=_hits(body, asked.query, ranked),
        query=asked.query,
        wordings=list(asked.wordings),
        rewritten=asked.reason is None,
        not_rewritten=asked.reason,
        reranked=ranked.reranked,
        not_reranked=ranked.reason,
    )


@router.post("/batch")
async def search_batch(body: SearchBatch, user_id: Reader, services: ServicesDep) -> BatchResults:
    """Find the passages that bear on each of several queries. Nothing is kept or counted."""
    asked = [(one.query, one.limit, within(one.how(), one.document_ids)) for one in body.queries]
    found = await services.search.find_all(user_id, asked)
    return BatchResults(
        results=[
            BatchHits(results=_hits(one, one.query, ranked), reranked=ranked.reranked, not_reranked=ranked.reason)
            for one, ranked in zip(body.queries, found, strict=True)
        ]
    )


@router.post("/explain")
async def explain(body: SearchQuery, user_id: Reader, services: ServicesDep) -> Explained:
    """Say how the same search goes, why that way, and how long it takes. It is done for that."""
    found = await services.search.explain(user_id, body.query, body.limit, body.document_ids, body.how())
    return Explained(
        way=found.way,
        reason=found.reason,
        vectors=found.vectors,
        passages=found.passages,
        milliseconds={stage: round(value, 2) for stage, value in found.milliseconds.items()},
        plan=list(found.plan),
    )


def _hits(body: PlainQuery, query: str, ranked: Ranked) -> list[Hit]:
    scores = chain(ranked.scores, repeat(None))
    found = zip(ranked.passages, scores, strict=False)
    return [_hit(body.mode, query, passage, score) for passage, score in found]


def _hit(mode: Mode, query: str, passage: Passage, rerank_score: float | None) -> Hit:
    return Hit(
        document_id=passage.document_id,
        document=passage.document,
        text=passage.text,
        context=passage.context or None,
        page=passage.spans[0][0],
        number=passage.number,
        places=[Place(page=page, start=start, end=end) for page, start, end in passage.spans],
        highlights=[Highlight(start=start, end=end) for start, end in highlights(query, passage.text)],
        score=round(passage.score, 4),
        scores=_scores(mode, passage),
        rerank_score=rerank_score,
    )


def _scores(mode: Mode, passage: Passage) -> Scores:
    return Scores(
        dense=None if passage.similarity is None else round(passage.similarity, 4),
        lexical=None if mode == "dense" else round(passage.lexical, 4),
        fused=round(passage.score, 4) if mode == "hybrid" else None,
    )

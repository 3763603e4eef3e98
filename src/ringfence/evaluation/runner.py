"""Runs a collection's queries in each mode, and says how good and how fast the answers were."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from ringfence.evaluation import measures
from ringfence.evaluation.collection import Collection, Half, Query
from ringfence.evaluation.finding import Finder, Found
from ringfence.evaluation.measures import DEPTH, NDCG, Scores
from ringfence.evaluation.scratch import Say

_SHOWN = 10  # hits of a query that are kept


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HitRow(_Model):
    """An entry that was found, its judgement (0: not relevant), its best passage and that one's score."""

    entry: str
    relevance: int
    score: float
    title: str
    text: str


class QueryRow(_Model):
    """A query with its scores, its half, what it should have found, and its first hits."""

    query: str
    text: str
    half: Half
    scores: Scores
    expected: list[str]
    hits: list[HitRow]


class ModeResult(_Model):
    """One configuration: means over the reported half, over the other and over all; times in milliseconds."""

    mode: str
    report: Scores
    tune: Scores
    all: Scores
    p50_ms: float
    p99_ms: float
    queries: list[QueryRow]

    def values(self, measure: str = NDCG) -> list[float]:
        """Each query's score, in the collection's order."""
        return [query.scores[measure] for query in self.queries]


class Comparison(_Model):
    """How much nDCG@10 the second configuration gains over the first, over all queries (paired bootstrap)."""

    first: str
    second: str
    mean: float
    low: float
    high: float
    p: float


class Result(_Model):
    """What an evaluation found. `form` is 1 as long as what is here keeps its name and meaning."""

    form: int = 1
    collection: str
    digest: str
    engine: str
    embedding_model: str
    settings: str
    made_at: datetime
    documents: int
    chunks: int
    queries: int
    modes: list[ModeResult]
    comparisons: list[Comparison]


async def run(collection: Collection, finder: Finder, mode: str, *, say: Say) -> ModeResult:
    """Ask all queries in one mode, one after the other.

    Raises:
        SetupError: `eval_missing`.
        Unavailable: the search is not possible at present.
    """
    measures.library()  # before the work
    found: dict[str, tuple[Found, ...]] = {}
    seconds: list[float] = []
    for number, query in enumerate(collection.queries, 1):
        ranking = await finder.find(query.text, mode, DEPTH)
        found[query.id] = ranking.entries
        seconds.append(ranking.seconds)
        if number % 500 == 0:
            say(f"{collection.name}: {mode}, {number} of {len(collection.queries)} queries")
    run_of = {query: [one.entry for one in entries] for query, entries in found.items()}
    scores = measures.per_query(collection.qrels, run_of)
    rows = [_row(collection, query, found[query.id], scores[query.id]) for query in collection.queries]
    p50, p99 = np.percentile(seconds, [50, 99])
    return ModeResult(
        mode=mode,
        report=measures.means(row.scores for row in rows if row.half == "report"),
        tune=measures.means(row.scores for row in rows if row.half == "tune"),
        all=measures.means(row.scores for row in rows),
        p50_ms=float(p50) * 1000,
        p99_ms=float(p99) * 1000,
        queries=rows,
    )


def _row(collection: Collection, query: Query, found: Sequence[Found], scores: Scores) -> QueryRow:
    judged = collection.qrels[query.id]
    hits = [
        HitRow(
            entry=one.entry,
            relevance=judged.get(one.entry, 0),
            score=one.passage.score,
            title=collection.corpus[one.entry].title,
            text=one.passage.text,
        )
        for one in found[:_SHOWN]
    ]
    return QueryRow(query=query.id, text=query.text, half=query.half, scores=scores, expected=list(judged), hits=hits)


def compare(modes: Sequence[ModeResult]) -> list[Comparison]:
    """Each mode with the one before it, and the last with the first where there are more than two."""
    pairs = [*pairwise(modes), *([(modes[0], modes[-1])] if len(modes) > 2 else [])]  # noqa: PLR2004  # a first and a last
    found = [(one, two, measures.difference(one.values(), two.values())) for one, two in pairs]
    return [
        Comparison(first=one.mode, second=two.mode, mean=seen.mean, low=seen.low, high=seen.high, p=seen.p)
        for one, two, seen in found
    ]


def result_of(
    collection: Collection,
    modes: Sequence[ModeResult],
    *,
    engine: str,
    embedding_model: str,
    settings: str,
    documents: int,
    chunks: int,
) -> Result:
    """Put an evaluation's parts together."""
    return Result(
        collection=collection.name,
        digest=collection.digest,
        engine=engine,
        embedding_model=embedding_model,
        settings=settings,
        made_at=datetime.now(UTC),
        documents=documents,
        chunks=chunks,
        queries=len(collection.queries),
        modes=list(modes),
        comparisons=compare(modes),
    )


def write(result: Result, path: Path) -> None:
    """Write an evaluation as JSON."""
    path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")

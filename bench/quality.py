"""`make eval`: how well the search finds what it should, on public collections; writes docs/quality.md.

    python -m bench.quality                     all sets; fails where a goal is lost or nDCG@10 has fallen by over 2%
    python -m bench.quality cranfield xquad     these, compared but not written down
    python -m bench.quality --page              only writes the page from the results there are

The collections are not part of the repository (RINGFENCE_EVALDATA). Vectors are kept by their text's digest in the
user's cache folder, so that a second run embeds nothing.
"""

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import platformdirs

from bench import harness, whole
from bench.harness import RESULTS, ROOT, Goal
from ringfence.cli.evaluation import evaluated
from ringfence.cli.local import with_database
from ringfence.cli.logs import quiet_logging
from ringfence.evaluation import report, spans
from ringfence.evaluation.collection import Collection, load
from ringfence.evaluation.measures import NDCG, RECALL_100, difference, means
from ringfence.evaluation.runner import ModeResult, Result
from ringfence.services import Evaluating, open_evaluating
from ringfence.settings import Settings

PAGE = ROOT / "docs" / "quality.md"
FILE = RESULTS / "quality.json"
CACHE = platformdirs.user_cache_path("ringfence") / "evaluation"

DENSE, LEXICAL, HYBRID = "dense", "lexical", "hybrid"
MOST_LOST = 0.98
"""Of the nDCG@10 that is written down: less is a regression."""

_GOOD = 0.9  # above which fusion has little to gain
# Of Chroma's README: five chunks of 1,200 characters, text-embedding-3-large.
_SAMPLE = {"recall": 0.809, "iou_of_hits": 0.177}
_TOP, _CHARACTERS = 5, 6000
_DEPTH = 50  # chunks, more than the budget holds
_BUDGET = f"{_CHARACTERS} characters"


@dataclass(frozen=True)
class Source:
    """A set: its folder, what is asked of it, and what others publish."""

    name: str
    folder: str = ""
    english: bool = True
    by_language: bool = False
    with_spans: bool = False
    published: str = "none"

    @property
    def path(self) -> Path:
        return evaldata() / "retrieval" / (self.folder or self.name)


SOURCES = (
    Source("scifact", published="nDCG@10 0.645 on BEIR's test claims (MTEB; not verified anew)"),
    Source("cranfield"),
    Source("cisi"),
    Source("pubmedqa"),
    Source("xquad", english=False),
    Source("xquad-by-language", "xquad", english=False, by_language=True),
    Source("limit-small", published="below 0.2 recall@100 on the full set, any single vector"),
    Source("mtrag-un"),
    Source("rgb-en"),
    Source("anthropic-docs", published="MRR 0.74, recall 0.66 at 3 (voyage)"),
    Source("cuad", with_spans=True),
    Source("chroma-chunking", with_spans=True),
)


@dataclass(frozen=True)
class Mode:
    """One configuration's figures on one set."""

    report: dict[str, float]
    tune: dict[str, float]
    all: dict[str, float]
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Compared:
    """How the second configuration does against the first: difference of nDCG@10 over all queries, and its p."""

    first: str
    second: str
    mean: float
    p: float


@dataclass(frozen=True)
class Row:
    """What is written down of one set."""

    name: str
    documents: int
    chunks: int
    queries: int
    english: bool
    bm25: dict[str, float]
    published: str
    modes: dict[str, Mode]
    compared: tuple[Compared, ...] = ()
    spans: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)  # nDCG@10 of BM25 over whole documents, by its parameters

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Row":
        modes = {name: Mode(**mode) for name, mode in data["modes"].items()}
        return cls(**{**data, "modes": modes, "compared": tuple(Compared(**one) for one in data["compared"])})

    def ndcg(self, mode: str, half: str = "all") -> float:
        figures: dict[str, float] = getattr(self.modes[mode], half)
        return figures[NDCG]


def evaldata() -> Path:
    return Path(os.environ.get("RINGFENCE_EVALDATA") or ROOT.parent / "shared" / "evaldata")


def readme_bm25(text: str) -> dict[str, float]:
    """The figures of a set's README, by the engine's names of them."""
    line = next((line for line in text.splitlines() if line.startswith("Measured BM25")), "")
    names = {"nDCG@10": NDCG, "R@10": "recall@10", "R@100": RECALL_100, "MRR@10": "mrr"}
    return {
        ours: float(found[1]) for theirs, ours in names.items() if (found := re.search(rf" {theirs} ([\d.]+)", line))
    }


# --- running ---


@asynccontextmanager
async def opened() -> AsyncGenerator[Evaluating]:
    """The engine as it comes, with a database of its own that is thrown away."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ringfence-eval-")))
        settings = await with_database(Settings(_env_file=None, data_dir=folder, database_url=None), stack)
        yield await stack.enter_async_context(open_evaluating(settings, cache=CACHE))


async def run(source: Source, parts: Evaluating, html: Path | None) -> Row:
    """Evaluate one set, as one tenant or as one for each language."""
    collection = load(source.path)
    several = by_language(collection) if source.by_language else [collection]
    results = [await evaluated(parts, one, list(parts.ways.modes), keep=False) for one in several]
    if html:
        for result in results:
            report.write(result, html / f"{source.name}-{result.collection}.html")
    found = await span_fits(source, collection, parts) if source.with_spans else {}
    row = merged(source.name, results)
    text = (source.path / "README.md").read_text(encoding="utf-8")
    return replace(row, english=source.english, bm25=readme_bm25(text), published=source.published, spans=found)


def by_language(collection: Collection) -> list[Collection]:
    """A collection whose ids begin with a language, taken apart."""
    languages = sorted({entry.partition("-")[0] for entry in collection.corpus})
    return [_of_language(collection, language) for language in languages]


def _of_language(collection: Collection, language: str) -> Collection:
    corpus = {entry: found for entry, found in collection.corpus.items() if entry.startswith(f"{language}-")}
    queries = tuple(query for query in collection.queries if query.id.startswith(f"{language}-"))
    return Collection(language, corpus, queries, {query.id: collection.qrels[query.id] for query in queries})


def merged(name: str, results: Sequence[Result]) -> Row:
    """One row of several tenants' results, each query counting once."""
    modes: dict[str, Mode] = {}
    values: dict[str, list[float]] = {}
    for number, first in enumerate(results[0].modes):
        parts: list[ModeResult] = [result.modes[number] for result in results]
        queries = [query for part in parts for query in part.queries]
        values[first.mode] = [query.scores[NDCG] for query in queries]
        modes[first.mode] = Mode(
            means(query.scores for query in queries if query.half == "report"),
            means(query.scores for query in queries if query.half == "tune"),
            means(query.scores for query in queries),
            max(part.p50_ms for part in parts),
            max(part.p99_ms for part in parts),
        )
    return Row(
        name,
        sum(result.documents for result in results),
        sum(result.chunks for result in results),
        sum(result.queries for result in results),
        english=True,
        bm25={},
        published="",
        modes=modes,
        compared=tuple(compare(values)),
    )


def compare(values: Mapping[str, Sequence[float]]) -> Iterable[Compared]:
    """Every later configuration against every earlier one."""
    names = list(values)
    for place, second in enumerate(names):
        for first in names[:place]:
            seen = difference(values[first], values[second])
            yield Compared(first, second, seen.mean, seen.p)


async def span_fits(
    source: Source, collection: Collection, parts: Evaluating
) -> dict[str, dict[str, dict[str, float]]]:
    """Of each mode: recall, precision and IoU of characters, in the best five chunks, and in as many as 6,000 hold."""
    answers = [json.loads(line) for line in (source.path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    wanted = {answer["_id"]: _ranges(answer) for answer in answers}
    texts = {query.id: query.text for query in collection.queries if wanted[query.id][1]}
    found: dict[str, dict[str, dict[str, float]]] = {}
    async with parts.tenants.filled(collection, keep=False, say=_say) as scratch:
        for mode in parts.ways.modes:
            fits: dict[str, list[spans.Fit]] = {f"top {_TOP}": [], _BUDGET: []}
            for query, text in texts.items():
                entry, ranges = wanted[query]
                passages = await parts.ways.passages(scratch.user_id, text, mode, _DEPTH)
                ranked = [
                    spans.Piece(one.id, start - one.offset, end - one.offset)
                    for passage in passages
                    for one in [collection.corpus[collection.ids[passage.document_id]]]
                    for _, start, end in passage.spans
                ]
                fits[f"top {_TOP}"].append(spans.fit(ranges, entry, ranked[:_TOP]))
                fits[_BUDGET].append(spans.fit(ranges, entry, spans.within(ranked, _CHARACTERS)))
            found[mode] = {name: asdict(spans.mean_fit(several)) for name, several in fits.items()}
    return found


def _ranges(answer: Mapping[str, Any]) -> tuple[str, list[spans.Range]]:
    """The entry and the characters of an answer, in either of the two forms that the sets have."""
    if "references" in answer:
        return answer["doc"], [(one["start_index"], one["end_index"]) for one in answer["references"]]
    return answer["doc"], [(one["start"], one["end"]) for one in answer["spans"]]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- judging ---


def goals(rows: Sequence[Row]) -> list[Goal]:
    """What the search shall reach, of the configurations that there are."""
    found = [goal for row in rows for goal in _goals_of(row)]
    gains = [_gain(row) for row in rows if _has_fusion(row) and _better_half(row) < _GOOD]
    if gains:
        share = sum(gains) / len(gains)
        found.append(
            Goal("hybrid over the better half, mean of the sets where that is < 0.9", 1.03, least=True, got=share)
        )
    return found


def _has_fusion(row: Row) -> bool:
    return {DENSE, LEXICAL, HYBRID} <= row.modes.keys()


def _better_half(row: Row) -> float:
    return max(row.ndcg(DENSE, "report"), row.ndcg(LEXICAL, "report"))


def _gain(row: Row) -> float:
    return row.ndcg(HYBRID, "report") / _better_half(row)


def _goals_of(row: Row) -> Iterable[Goal]:
    if _has_fusion(row):
        yield Goal(f"{row.name}: hybrid over the better half", 0.99, least=True, got=_gain(row))
        for one in row.compared:
            if one.second == HYBRID and one.mean < 0:
                yield Goal(f"{row.name}: p of hybrid below {one.first}", 0.05, least=True, got=one.p)
    for name, got in row.whole.items():
        share = got / row.bm25[NDCG]
        yield Goal(f"{row.name}: our BM25 over the README's, whole documents, {name}", 0.99, least=True, got=share)
    if row.name == "chroma-chunking":
        best = max(row.spans, key=lambda mode: row.spans[mode][_BUDGET]["recall"])
        for name, bound in _SAMPLE.items():
            got = row.spans[best][_BUDGET][name]
            yield Goal(f"{row.name}: {name} in {_BUDGET} ({best})", bound, least=True, got=got)


def regressions(before: Sequence[Row], now: Sequence[Row]) -> list[str]:
    """Where nDCG@10 over all queries has fallen by more than 2%, or a configuration has gone."""
    known = {row.name: row for row in before}
    found = []
    for row in now:
        old = known.get(row.name)
        for mode in old.modes if old else ():
            if mode not in row.modes:
                found.append(f"{row.name}: {mode} is not measured any more")
            elif old and row.ndcg(mode) < MOST_LOST * old.ndcg(mode):
                found.append(f"{row.name}: nDCG@10 of {mode} fell from {old.ndcg(mode):.4f} to {row.ndcg(mode):.4f}")
    return found


# --- writing ---

_HEAD = """# Quality

Written by `make eval` from [bench/results/quality.json](../bench/results/quality.json); change neither by hand. A
goal that is lost, or nDCG@10 more than 2% below these figures, fails it.

The embedded model (all-MiniLM-L6-v2), the default settings, each set a tenant of its own in a fresh database. nDCG@10
and recall are trec_eval's, by ir-measures, of documents: a document ranks by its best passage. Parameters are chosen on
the half of the queries whose digest is odd; *reported* is the other half. BM25 is each set's README: k1 0.9, b 0.4,
Porter, title and text, all queries; it ranks whole documents, and so do the lines below it (English sets). Times are of
the search alone (vectors of queries were at hand), in milliseconds; of several tenants, the slowest one's.
"""


def page(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """The page."""
    lines = [_HEAD, f"`make eval` at {about['at']}, commit `{about['commit']}`; {about['machine']}.\n"]
    lines += ["## Goals\n", "| goal | wanted | measured | |", "|---|---|---|---|"]
    lines += [_goal_row(goal) for goal in goals(rows)]
    for row in rows:
        lines += _section(row)
    return "\n".join(lines) + "\n"


def _goal_row(goal: Goal) -> str:
    sign = "≥" if goal.least else "≤"
    return f"| {goal.text} | {sign} {goal.bound:g} | {goal.got:.3f} | {'met' if goal.met else '**not met**'} |"


def _section(row: Row) -> Iterable[str]:
    yield f"\n## {row.name}\n"
    yield f"{row.documents} documents, {row.chunks} chunks, {row.queries} queries. Published: {row.published}.\n"
    yield "| | nDCG@10 reported | all | Recall@100 reported | all | MRR all | p50 | p99 |"
    yield "|---|---|---|---|---|---|---|---|"
    if row.bm25:
        yield f"| BM25 (README) | | {row.bm25[NDCG]:.4f} | | {row.bm25[RECALL_100]:.4f} | {row.bm25['mrr']:.4f} | | |"
    for name, ndcg in row.whole.items():
        yield f"| lexical, whole documents, {name} | | {ndcg:.4f} | | | | | |"
    for name, mode in row.modes.items():
        yield (
            f"| {name} | {mode.report[NDCG]:.4f} | {mode.all[NDCG]:.4f} | {mode.report[RECALL_100]:.4f} "
            f"| {mode.all[RECALL_100]:.4f} | {mode.all['mrr']:.4f} | {mode.p50_ms:.1f} | {mode.p99_ms:.1f} |"
        )
    for one in row.compared:
        yield f"\n{one.second} against {one.first}: nDCG@10 {one.mean:+.4f}, p {one.p:.4f}."
    if row.spans:
        yield "\n| characters of the answers | in | recall | precision | IoU | IoU of hits |\n|---|---|---|---|---|---|"
    for mode, fits in row.spans.items():
        for name, fit in fits.items():
            figures = " | ".join(f"{fit[figure]:.4f}" for figure in ("recall", "precision", "iou", "iou_of_hits"))
            yield f"| {mode} | {name} | {figures} |"


def read(path: Path = FILE) -> tuple[list[Row], dict[str, str]]:
    """What is written down; nothing, if nothing is."""
    if not path.exists():
        return [], {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return [Row.from_dict(row) for row in data["sets"]], data["about"]


def write(rows: Sequence[Row], about: Mapping[str, str], path: Path = FILE) -> None:
    """Write it down."""
    data = {"about": about, "sets": [asdict(row) for row in rows]}
    path.write_text(json.dumps(_rounded(data), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 5)
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case _:
            return value


def _about() -> dict[str, str]:
    machine = ", ".join(f"{name} {value}" for name, value in harness.machine().items())
    return {"at": harness.now(), "commit": harness.commit(), "machine": machine}


async def _run(sources: Sequence[Source], html: Path | None) -> list[Row]:
    rows = []
    async with opened() as parts, whole.opened() as db:
        for source in sources:
            row = await run(source, parts, html)
            bm25 = await whole.run(db, load(source.path)) if source.english and row.bm25 else {}
            rows.append(replace(row, whole=bm25))
            print("\n".join(_section(rows[-1])), flush=True)
    return rows


def main() -> int:
    """Run what the command line names; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality")
    parser.add_argument("--page", action="store_true", help="only write the page from the results there are")
    parser.add_argument("--html", type=Path, help="a folder for a report of each set")
    parser.add_argument("names", nargs="*", metavar="set", help=", ".join(source.name for source in SOURCES))
    options = parser.parse_args()
    before, about = read()
    if options.page:
        PAGE.write_text(page(before, about), encoding="utf-8")
        return 0
    if not (evaldata() / "retrieval").is_dir():
        _say(f"There are no collections in {evaldata()}: set RINGFENCE_EVALDATA.")
        return 2
    if options.html:
        options.html.mkdir(parents=True, exist_ok=True)
    chosen = [source for source in SOURCES if not options.names or source.name in options.names]
    with quiet_logging():
        rows = asyncio.run(_run(chosen, options.html))
    lost = [goal for goal in goals(rows) if not goal.met]
    fallen = regressions(before, rows)
    for goal in goals(rows):
        print(("met      " if goal.met else "NOT MET  ") + f"{goal.text}: {goal.got:.3f} (goal {goal.bound:g})")
    for line in fallen:
        print(f"FALLEN   {line}")
    if not options.names and not fallen:
        write(rows, _about())
        PAGE.write_text(page(*read()), encoding="utf-8")
    return 1 if lost or fallen else 0


if __name__ == "__main__":
    sys.exit(main())

"""How well the check of citations tells what is unsupported, and what the relevance floor refuses; docs/citations.md.

    python -m bench.citations                measures all, and writes the page
    python -m bench.citations check          or refusal, disagree: one part; of the others, what is written stays
    python -m bench.citations --page         only writes the page from the results there are

The collections are not part of the repository (RINGFENCE_EVALDATA). A case is a sentence, the passages that it is said
to rest on, and whether it does. Bounds are chosen on the half of the cases whose question's digest is odd (*tune*).
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import platformdirs

from bench import disagreement, harness
from bench.disagreement import Disagreed
from bench.harness import RESULTS, ROOT
from bench.quality import evaldata, opened
from ringfence.answers import evidence
from ringfence.answers.checking import BOUNDS, Checker
from ringfence.answers.markers import Statement
from ringfence.cli.logs import quiet_logging
from ringfence.documents.pauses import sentences
from ringfence.embedded.weights import Weights
from ringfence.evaluation.collection import Collection, Query, load
from ringfence.ids import DocumentId
from ringfence.models.minilm import MiniLM
from ringfence.search.queries import Passage
from ringfence.search.terms import terms
from ringfence.services import EMBEDDING_WEIGHTS

PAGE = ROOT / "docs" / "citations.md"
FILE = RESULTS / "citations.json"

_PARTS = ("check", "refusal", "disagree")
SUPPORTED, UNSUPPORTED = "supported", "unsupported"
WRITTEN, OTHER, NUMBER, NAME, NEGATED = "as written", "other passage", "number altered", "name swapped", "negated"
_COUNTED = (WRITTEN, OTHER, NUMBER, NAME)
_MOST = 50  # sentences of a set, so that none outweighs the others and all takes minutes
_CLAIMS, _PARAGRAPHS = 150, 15
_FLOORS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
_WORDS = 5
_VERB = re.compile(r"\b(is|are|was|were|can|will|should|must|could|would|may|has|have|does|do|did)\b(?! not|n)")
_NOT = re.compile(r"\s*\bnot\b|n't\b")


@dataclass(frozen=True)
class Case:
    """A sentence, what it is said to rest on, and what was done to it."""

    source: str
    kind: str
    half: str
    question: str
    sentence: str
    passages: tuple[str, ...]


@dataclass(frozen=True)
class Counted:
    """Verdicts of one kind of cases."""

    source: str
    kind: str
    half: str
    vectors: bool
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Refused:
    """How many questions of a set have no passage of at least a cosine, by floor."""

    source: str
    answerable: bool
    half: str
    questions: int
    below: dict[str, int]


type About = dict[str, str]


@dataclass(frozen=True)
class Results:
    """All that is written down, and of each part when and where it was measured."""

    about: dict[str, About] = field(default_factory=dict)
    counted: list[Counted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    disagreed: list[Disagreed] = field(default_factory=list)


def half_of(key: str) -> str:
    """As the evaluation has it: by a digest, so that a new set changes no old half."""
    return "tune" if hashlib.sha256(key.encode()).digest()[0] & 1 else "report"


# --- cases ---


@dataclass(frozen=True)
class _Set:
    name: str
    collection: Collection
    answers: Mapping[str, Mapping[str, Any]]
    questions: tuple[Query, ...]

    def texts(self, ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"{self.collection.corpus[one].title}\n{self.collection.corpus[one].text}" for one in ids)


def _read(name: str) -> _Set:
    folder = evaldata() / "retrieval" / name
    answers = {one["_id"]: one for one in map(json.loads, _lines(folder / "answers.jsonl"))}
    questions = tuple(map(Query.model_validate_json, _lines(folder / "queries.jsonl")))
    return _Set(name, load(folder), answers, questions)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def _sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def written(name: str, answer: Mapping[str, Any]) -> list[str]:
    """The sentences of a reference answer, written by people or models who had read the passages."""
    match name:
        case "mtrag-un":
            return _sentences(answer["answers"][0]) if answer.get("answerability") == "ANSWERABLE" else []
        case "dragonball-fin-en":
            points = answer["keypoints"] if answer["answerability"] == "ANSWERABLE" else []
            return [re.sub(r"^\d+\.\s*", "", point) for point in points]
        case "pubmedqa":
            return _sentences(answer["long_answer"])
        case _:
            return [sentence for text in answer["answers"] for sentence in _sentences(text)]


def cases() -> Iterator[Case]:
    """All of them, the same ones each time."""
    for name in ("mtrag-un", "anthropic-docs", "dragonball-fin-en", "pubmedqa"):
        yield from _of_answers(_read(name))
    yield from _claims(_read("scifact"))
    yield from _wrong_facts(_read("rgb-en"))
    yield from _verbatim(_read("xquad"))


def _of_answers(source: _Set) -> Iterator[Case]:
    rng = random.Random(source.name)
    found = []
    for query in source.collection.queries:
        gold = [entry for entry, grade in source.collection.qrels.get(query.id, {}).items() if grade > 0]
        said = written(source.name, source.answers[query.id]) if gold else []
        found += [(query, gold, sentence) for sentence in said if len(sentence.split()) >= _WORDS]
    names = [name for _, _, sentence in found for name in re.findall(r"(?<=[a-z] )[A-Z][a-z]{3,}", sentence)]
    known = {entry: terms(f"{one.title} {one.text}") for entry, one in source.collection.corpus.items()}
    for query, gold, sentence in found[:_MOST]:
        made = {WRITTEN: sentence, NUMBER: altered(sentence, rng), NEGATED: negated(sentence)}
        made[NAME] = swapped(sentence, names, rng)
        where = half_of(query.id)
        for kind, text in made.items():
            if text and (kind == WRITTEN or text != sentence):
                yield Case(source.name, kind, where, query.text, text, source.texts(gold))
        words = terms(sentence)
        nearest = max((entry for entry in known if entry not in gold), key=lambda entry: len(words & known[entry]))
        yield Case(source.name, OTHER, where, query.text, sentence, source.texts([nearest]))


def altered(sentence: str, rng: random.Random) -> str | None:
    """The sentence with another number in it."""
    numbers = list(re.finditer(r"\d+", sentence))
    if not numbers:
        return None
    one = rng.choice(numbers)
    other = int(one.group()) + rng.choice([1, 2, 3, 10])
    return f"{sentence[: one.start()]}{other}{sentence[one.end() :]}"


def negated(sentence: str) -> str | None:
    """The sentence with a "not" more, or less."""
    if _NOT.search(sentence):
        return _NOT.sub("", sentence, count=1)
    text, count = _VERB.subn(r"\1 not", sentence, count=1)
    return text if count else None


def swapped(sentence: str, names: Sequence[str], rng: random.Random) -> str | None:
    """The sentence with somebody else's name in it."""
    found = [one for one in re.finditer(r"[A-Z][a-zA-Z]{2,}", sentence) if one.start() > 0]
    others = [name for name in names if name.casefold() not in sentence.casefold()]
    if not found or not others:
        return None
    one = rng.choice(found)
    return f"{sentence[: one.start()]}{rng.choice(others)}{sentence[one.end() :]}"


def _claims(source: _Set) -> Iterator[Case]:
    """Experts' claims, which their abstract supports or contradicts."""
    queries = {query.id: query.text for query in source.questions}
    for key, answer in list(source.answers.items())[:_CLAIMS]:
        if answer["label"] != "NOT_ENOUGH_INFO" and key in queries:
            documents = sorted({one["doc"] for one in answer["evidence"]})
            kind = {"SUPPORT": "claim supported", "CONTRADICT": "claim contradicted"}[answer["label"]]
            yield Case(source.name, kind, half_of(key), "", queries[key], source.texts(documents))


def _wrong_facts(source: _Set) -> Iterator[Case]:
    """News with a false answer put into it, against the true news."""
    for key, answer in source.answers.items():
        for text in (answer.get("positive_wrong_texts") or [])[:2]:
            for sentence in _sentences(text):
                if answer["fakeanswer"].casefold() in sentence.casefold() and len(sentence.split()) >= _WORDS:
                    yield Case(source.name, NAME, half_of(key), "", sentence, source.texts(answer["positive"]))


def _verbatim(source: _Set) -> Iterator[Case]:
    """In twelve languages: a paragraph's longest sentence against its own paragraph and another one."""
    rng = random.Random(source.name)
    by_language = defaultdict(list)
    for entry in source.collection.corpus:
        by_language[entry.partition("-")[0]].append(entry)
    for entries in by_language.values():
        for place, entry in enumerate(entries[:_PARAGRAPHS]):
            sentence = max(_sentences(source.collection.corpus[entry].text), key=len)
            own, other = source.texts([entry]), source.texts([entries[(place + 7) % _PARAGRAPHS]])
            yield Case(source.name, "word for word", half_of(entry), "", sentence, own)
            yield Case(source.name, OTHER, half_of(entry), "", sentence, other)
            if text := altered(sentence, rng):
                yield Case(source.name, NUMBER, half_of(entry), "", text, own)


# --- measuring ---


async def check(chosen: Sequence[Case]) -> list[Counted]:
    """The verdicts on all cases, with vectors and without."""
    files = Weights(platformdirs.user_cache_path("ringfence") / "models").paths(EMBEDDING_WEIGHTS)
    embedder = MiniLM(files["model.safetensors"], files["tokenizer.json"])
    found: dict[tuple[str, str, str, bool], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for vectors in (True, False):
        checker = Checker(embedder if vectors else None, timeout=60)
        for number, case in enumerate(chosen):
            if number % 100 == 0:
                _say(f"{number} of {len(chosen)} cases, {'with' if vectors else 'without'} vectors")
            verdict = await _verdict(checker, case)
            found[case.source, case.kind, case.half, vectors][verdict] += 1
    await embedder.close()
    return [Counted(*key, verdicts=dict(verdicts)) for key, verdicts in found.items()]


async def _verdict(checker: Checker, case: Case) -> str:
    passages = [
        Passage(DocumentId(UUID(int=n)), "", text, ((1, 0, len(text)),), 0.5) for n, text in enumerate(case.passages)
    ]
    numbers = tuple(range(1, len(passages) + 1))
    statement = Statement(0, len(case.sentence), case.sentence, numbers, case.sentence)
    event = await checker.of(case.question, passages, evidence.sources(case.question, passages))(statement)
    return event.verdict if event else SUPPORTED


async def refusal() -> list[Refused]:
    """The best passage's cosine of each question, answerable or not."""
    found = []
    async with opened() as parts:
        for name in ("mtrag-un", "cuad", "dragonball-fin-en", "rgb-en", "rgb-en without the answers"):
            source = _read(name.partition(" ")[0])
            collection, is_answerable = _questions(name, source)
            best: dict[tuple[bool, str], list[float]] = defaultdict(list)
            async with parts.tenants.filled(collection, keep=False, say=_say) as scratch:
                for query in collection.queries:
                    answerable = is_answerable(query.id)
                    if answerable is not None:
                        passages = await parts.ways.passages(scratch.user_id, query.text, "dense", 1)
                        best[answerable, half_of(query.id)].append(passages[0].similarity or 0.0)
            found += [
                Refused(name, answerable, half, len(cosines), _below(cosines))
                for (answerable, half), cosines in sorted(best.items())
            ]
    return found


def _below(cosines: Sequence[float]) -> dict[str, int]:
    return {f"{floor:g}": sum(cosine < floor for cosine in cosines) for floor in _FLOORS}


def _questions(name: str, source: _Set) -> tuple[Collection, Callable[[str], bool | None]]:
    """A set, and what tells of a question whether it has an answer there; None: neither."""
    corpus, queries = source.collection.corpus, source.questions
    if name == "rgb-en":
        return Collection(name, corpus, queries, {}), lambda _: True
    if name.startswith("rgb-en"):  # only documents that do not answer
        folder = evaldata() / "retrieval" / "rgb-en"
        kept, asked = set(_lines(folder / "rejection_corpus_ids.txt")), set(_lines(folder / "rejection_queries.txt"))
        corpus = {entry: one for entry, one in corpus.items() if entry in kept}
        queries = tuple(query for query in queries if query.id in asked)
        return Collection(name, corpus, queries, {}), lambda _: False
    said = {"ANSWERABLE": True, "UNANSWERABLE": False}
    return Collection(name, corpus, queries, {}), lambda query: said.get(source.answers[query].get("answerability", ""))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- writing ---

_HEAD = """# Citations and refusals, measured

Written by `python -m bench.citations` from [bench/results/citations.json](../bench/results/citations.json); change
neither by hand. Sentences of reference answers, which their passages support, are set against those passages as they
were written, with a number altered, a name swapped or a negation added or taken away, and against the other passage of
the collection that shares most words with them; claims of SciFact against abstracts that support or contradict them;
news of RGB with a false fact against the true news; sentences in twelve languages against their own paragraph and
another. Bounds were chosen on one half of the cases (*tune*); what counts is the other (*report*).
"""
_CHECKED = """Precision: of the sentences found unsupported, how many are. Recall: of those that are, how many are
found. False alarms: of the sentences as written. Negations are left out here: they are to be *partly* supported at
most.

| | half | sentences | precision | recall | F1 | false alarms |
|---|---|---|---|---|---|---|"""
_FLOOR = """Share of the questions whose best passage lies below a cosine: of unanswerable ones that is right, of
answerable ones a false refusal. In CUAD and MTRAG-UN unanswerable questions are on the topic of the documents, and no
floor tells them; there the model has to refuse.
"""
_DISAGREED = """Sentences that tell a figure, each set against the seven passages that share most words with it, but
for its own: how many of them one of those says with another figure. Two texts may disagree, or speak of two things in
the same words: the examples are the first that were found.

| set | sentences | disputed |
|---|---|---|"""


def page(results: Results) -> str:
    """The page."""
    lines = [_HEAD, "## What is found unsupported\n", *_measured(results, "check"), _CHECKED]
    lines += [_summary(results.counted, vectors, half) for vectors in (True, False) for half in ("tune", "report")]
    lines += [f"\nBounds: {', '.join(f'{name} {value:g}' for name, value in asdict(BOUNDS).items())}.\n"]
    lines += ["## By kind, reported half, with vectors\n", "| set | sentences | | supported | partly | unsupported |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [_row(one) for one in results.counted if one.vectors and one.half == "report"]
    if results.refused:
        lines += ["\n## What the relevance floor refuses\n", *_measured(results, "refusal"), _FLOOR]
        lines += [f"| set | questions | half | | {' | '.join(f'{floor:g}' for floor in _FLOORS)} |"]
        lines += [f"|---|---|---|---|{'---|' * len(_FLOORS)}"]
        lines += [_refused_row(one) for one in results.refused]
    if results.disagreed:
        lines += ["\n## Where documents are said to disagree\n", *_measured(results, "disagree"), _DISAGREED]
        lines += [f"| {one.source} | {one.sentences} | {one.disputed} |" for one in results.disagreed]
        lines += ["", *(line for one in results.disagreed for line in _examples(one))]
    return "\n".join(lines) + "\n"


def _examples(one: Disagreed) -> Iterator[str]:
    for pair in one.examples:
        said, other = (f"`{' '.join(text.split())[:160].replace('`', "'")}`" for text in pair)
        yield f"- {one.source}: {said} and {other}"


def _measured(results: Results, part: str) -> Iterator[str]:
    if about := results.about.get(part):
        command = f"`python -m bench.citations {part}`"
        yield f"{command} at {about['at']}, commit `{about['commit']}`; {about['machine']}.\n"


def _summary(counted: Sequence[Counted], vectors: bool, half: str) -> str:  # noqa: FBT001  # a table's column
    hits = alarms = missed = true = 0
    for one in counted:
        if one.vectors == vectors and one.half == half and one.kind in _COUNTED and one.source != "xquad":
            found, all_of = one.verdicts.get(UNSUPPORTED, 0), sum(one.verdicts.values())
            if one.kind == WRITTEN:
                alarms, true = alarms + found, true + all_of
            else:
                hits, missed = hits + found, missed + all_of - found
    precision, recall = hits / max(hits + alarms, 1), hits / max(hits + missed, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    name = "words, numbers, names and vectors" if vectors else "without vectors"
    share = alarms / max(true, 1)
    return f"| {name} | {half} | {hits + missed + true} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {share:.3f} |"


def _row(one: Counted) -> str:
    total = sum(one.verdicts.values())
    shares = (one.verdicts.get(verdict, 0) / total for verdict in (SUPPORTED, "partly", UNSUPPORTED))
    return f"| {one.source} | {total} | {one.kind} | {' | '.join(f'{share:.2f}' for share in shares)} |"


def _refused_row(one: Refused) -> str:
    kind = "answerable" if one.answerable else "unanswerable"
    shares = " | ".join(f"{one.below[f'{floor:g}'] / one.questions:.2f}" for floor in _FLOORS)
    return f"| {one.source} | {one.questions} | {one.half} | {kind} | {shares} |"


def read() -> Results:
    """What is written down; nothing, if nothing is."""
    if not FILE.exists():
        return Results()
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return Results(
        data["about"],
        [Counted(**one) for one in data["counted"]],
        [Refused(**one) for one in data["refused"]],
        [Disagreed(**one) for one in data.get("disagreed", [])],
    )


def write(results: Results) -> None:
    """Write it down."""
    FILE.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def main() -> int:
    """Run what the command line names; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.citations")
    parser.add_argument("--page", action="store_true", help="only write the page from the results there are")
    parser.add_argument("names", nargs="*", choices=[*_PARTS, []], metavar="|".join(_PARTS))
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(read()), encoding="utf-8")
        return 0
    if not (evaldata() / "retrieval").is_dir():
        _say(f"There are no collections in {evaldata()}: set RINGFENCE_EVALDATA.")
        return 2
    parts = options.names or _PARTS
    with quiet_logging():
        for part in parts:
            write(_again(read(), part))
    print(page(read()))
    return 0


def _again(before: Results, part: str) -> Results:
    """What is written down, with a part of it measured anew."""
    machine = ", ".join(f"{name} {value}" for name, value in harness.machine().items())
    about = {**before.about, part: {"at": harness.now(), "commit": harness.commit(), "machine": machine}}
    if part == "check":
        return replace(before, about=about, counted=asyncio.run(check(list(cases()))))
    if part == "refusal":
        return replace(before, about=about, refused=asyncio.run(refusal()))
    found = [disagreement.measure(name, load(evaldata() / "retrieval" / name)) for name in disagreement.SETS]
    return replace(before, about=about, disagreed=found)


if __name__ == "__main__":
    sys.exit(main())

"""Answers from end to end, on public questions with known answers; docs/answers.md.

    python -m bench.answers_e2e                          ten questions of each set, with the chat model of the settings
    python -m bench.answers_e2e --sample 20 cuad         twenty of one set; of the others, what is written down stays
    python -m bench.answers_e2e --page                   only writes the page from the results there are

The collections are not part of the repository (RINGFENCE_EVALDATA). A set is one tenant of a real engine. Questions are
drawn by a seed, answerable and unanswerable ones in turn; documents are those that the drawn questions rest on and
`--others` more, drawn likewise. RINGFENCE_CHAT_PROVIDER, _URL, _MODEL and _API_KEY choose another model.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import harness
from bench.attacks import interval
from bench.harness import RESULTS, ROOT
from bench.inside import Inside, opened
from bench.quality import evaldata
from ringfence.answers.events import DoneEvent, ErrorEvent, TokenEvent
from ringfence.answers.service import Answers, Way
from ringfence.cli.logs import quiet_logging
from ringfence.documents.texts import Text, Texts
from ringfence.ids import UserId, new_document_id
from ringfence.search.rewrite import Turn
from ringfence.search.terms import terms

PAGE = ROOT / "docs" / "answers.md"
FILE = RESULTS / "answers.json"
SETS = ("anthropic-docs", "financebench", "pubmedqa", "cuad", "mtrag-un")
SEED = 20260707
_TOKENS = 96
_WORST = 3
_HALF = 0.5


@dataclass(frozen=True)
class Question:
    """A question, and what is known of its answer.

    Attributes:
        answers: each as good as another; none where it has none.
        gold: the documents that hold it, by their name here.
        pages: the same with their pages, where those are known.
        history: what was said before.
    """

    id: str
    text: str
    answerable: bool
    answers: tuple[str, ...]
    gold: tuple[str, ...]
    pages: tuple[tuple[str, int], ...] = ()
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Answered:
    """What came of a question."""

    source: str
    id: str
    question: str
    answerable: bool
    gold: str
    answer: str
    refused: bool
    failed: bool
    contained: float
    precision: float | None
    recall: float | None
    page_hit: bool | None


# --- the sets ---


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def questions(name: str, folder: Path) -> Iterator[Question]:
    """All questions of a set that are known to have an answer, or known to have none."""
    answers = {one["_id"]: one for one in _lines(folder / "answers.jsonl")}
    gold: dict[str, list[str]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, entry, grade = line.split("\t")[:3]
        if int(grade) > 0:
            gold.setdefault(query, []).append(entry)
    for query in _lines(folder / "queries.jsonl"):
        answer = answers.get(query["_id"], {})
        said = answer.get("answerability", "ANSWERABLE")
        if said in {"ANSWERABLE", "UNANSWERABLE"}:
            yield _question(name, query, answer, tuple(gold.get(query["_id"], [])), answerable=said == "ANSWERABLE")


def _question(
    name: str, query: Mapping[str, Any], answer: Mapping[str, Any], gold: tuple[str, ...], *, answerable: bool
) -> Question:
    pages: tuple[tuple[str, int], ...] = ()
    if name == "financebench":
        pages = tuple((one["doc"], one["page"]) for one in answer["evidence"])
        gold = tuple(dict.fromkeys(doc for doc, _ in pages))
    texts = [answer["long_answer"]] if name == "pubmedqa" else answer.get("answers", [])
    said = tuple(Turn(one["role"], one["content"]) for one in query.get("messages", []))
    said = said[: len(said) - len(said) % 2]  # pairs: the question itself stands behind them
    return Question(query["_id"], query["text"], answerable, tuple(texts) if answerable else (), gold, pages, said)


def drawn(found: Sequence[Question], count: int, seed: int = SEED) -> list[Question]:
    """So many questions; where some have no answer, every other one is of those."""
    rng = random.Random(seed)
    kinds = [[one for one in found if one.answerable is kind] for kind in (True, False)]
    for kind in kinds:
        rng.shuffle(kind)
    mixed = [one for pair in zip(*kinds, strict=False) for one in pair] if kinds[1] else kinds[0]
    return mixed[:count]


async def _fill(engine: Inside, user_id: UserId, name: str, *, asked: Sequence[Question], others: int) -> int:
    """Give a tenant the documents; how many. Their names there are those of the set."""
    folder, needed = evaldata() / "retrieval" / name, {entry for one in asked for entry in one.gold}
    if name == "financebench":
        paths = sorted(folder.glob("pdfs/**/*.pdf"))  # nothing else runs yet
        chosen = [path for path in paths if path.stem in needed]
        chosen += [path for path in paths if path.stem not in needed][: max(others // 20, 0)]
        await engine.upload(user_id, [(path.name, path.read_bytes()) for path in chosen])
        return len(chosen)
    corpus = {one["_id"]: one for one in _lines(folder / "corpus.jsonl")}
    rest = sorted(set(corpus) - needed)
    random.Random(SEED).shuffle(rest)
    settings = engine.settings
    texts = Texts(
        engine.services.db,
        engine.services.embedder,
        chunk_tokens=settings.chunk_tokens,
        chunk_overlap_tokens=settings.chunk_overlap_tokens,
    )
    chosen_ids = [*sorted(needed & set(corpus)), *rest[:others]]
    await texts.add(
        user_id,
        [Text(new_document_id(), one, corpus[one].get("title") or "", corpus[one]["text"]) for one in chosen_ids],
    )
    return len(chosen_ids)


# --- asking ---


async def _ask(name: str, answers: Answers, user_id: UserId, one: Question) -> Answered:
    answer, done, failed = "", None, False
    async for event in answers.ask(user_id, one.text[:4000], way=Way(history=one.history)):
        match event:
            case TokenEvent():
                answer += event.text
            case DoneEvent():
                done = event
            case ErrorEvent():
                failed = True
            case _:
                pass
    cited = [(_stem(c.document), c.quote.page) for c in done.citations] if done else []
    return judged(name, one, answer, cited, refused=bool(done and done.refused), failed=failed)


def _stem(name: str) -> str:
    return name.removesuffix(".pdf")


def judged(
    name: str, one: Question, answer: str, cited: Sequence[tuple[str, int]], *, refused: bool, failed: bool
) -> Answered:
    """What an answer is worth.

    Contained: the share of the terms of the true answer that the given one has. Precision and recall: of the documents
    that it cites, among those that hold the answer. Page: whether it cites one on which that stands.
    """
    said, documents, gold = terms(answer), {document for document, _ in cited}, set(one.gold)
    contained = max((len(said & terms(text)) / max(len(terms(text)), 1) for text in one.answers), default=0.0)
    hits = len(documents & gold)
    counts = one.answerable and not refused and bool(gold)
    return Answered(
        name,
        one.id,
        one.text,
        one.answerable,
        " / ".join(one.answers)[:500],
        answer[:800],
        refused,
        failed,
        0.0 if refused else round(contained, 3),
        hits / len(documents) if counts and documents else None,
        hits / len(gold) if counts else None,
        bool(set(one.pages) & set(cited)) if counts and one.pages else None,
    )


async def measure(names: Sequence[str], sample: int, others: int) -> None:
    """Ask, and write down each set when it is done."""
    about = {
        "at": harness.now(),
        "commit": harness.commit(),
        "machine": ", ".join(f"{name} {value}" for name, value in harness.machine().items()),
        "options": f"--sample {sample} --others {others}",
    }
    async with opened() as engine:
        assert engine.chat is not None, "there has to be a chat model"
        answers = engine.answers(mark=engine.settings.chat_provider == "embedded", answer_tokens=_TOKENS)
        for name in names:
            folder = evaldata() / "retrieval" / name
            asked = drawn(list(questions(name, folder)), sample)
            user_id = await engine.tenant()
            documents = await _fill(engine, user_id, name, asked=asked, others=others)
            _say(f"{name}: {documents} documents")
            found = []
            for one in asked:
                found.append(await _ask(name, answers, user_id, one))
                _say(f"{name} {one.id}: contained {found[-1].contained:.2f}, refused {found[-1].refused}")
            row = {"source": name, "model": engine.chat.name, "documents": documents, "about": about}
            row["answers"] = [asdict(one) for one in found]
            kept = [old for old in read() if (old["source"], old["model"]) != (name, engine.chat.name)]
            write([*kept, row])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- writing ---

_HEAD = """# Answers, measured from end to end

Written by `python -m bench.answers_e2e` from [bench/results/answers.json](../bench/results/answers.json); change
neither by hand. Questions of public sets, drawn by a seed, are asked of a real engine. *Contained*: the share of the
true answer's terms that the given one has, and how often that is at least a half. *Citations*: of the documents that
an answer cites, how many hold the true one (precision), and how many of those that do are cited (recall); of
FinanceBench, how often a page is cited on which it stands. *Refused*: of unanswerable questions that is right, of
answerable ones wrong. Samples are small: intervals are of 95% (Wilson).
"""
_TABLE = """| set | documents | questions | contained | at least half | citation precision | recall | page \
| refused wrongly | refused rightly |
|---|---|---|---|---|---|---|---|---|---|"""


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    lines = [_HEAD]
    for model, options, commit in dict.fromkeys(map(_asked, rows)):
        own = [row for row in rows if _asked(row) == (model, options, commit)]
        about = own[-1]["about"]
        command = f"RINGFENCE_CHAT_MODEL={model} python -m bench.answers_e2e {about['options']}"
        lines.append(f"## {model}\n")
        lines.append(f"`{command}` at {about['at']}, commit `{about['commit']}`; {about['machine']}.\n")
        lines.append(_TABLE)
        lines += [_row(row) for row in own]
        lines.append("\nThe worst, by what they contain:\n")
        lines += [line for row in own for line in _worst(row)]
    return "\n".join(lines) + "\n"


def _asked(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Who was asked, with which options, at which commit."""
    return row["model"], row["about"]["options"], row["about"]["commit"]


def _row(row: Mapping[str, Any]) -> str:
    found = [Answered(**one) for one in row["answers"]]
    known, unknown = [one for one in found if one.answerable], [one for one in found if not one.answerable]
    pages = [one.page_hit for one in found if one.page_hit is not None]
    return (
        f"| {row['source']} | {row['documents']} | {len(found)} | {_mean([one.contained for one in known])} "
        f"| {_share(sum(one.contained >= _HALF for one in known), len(known))} "
        f"| {_mean([one.precision for one in found if one.precision is not None])} "
        f"| {_mean([one.recall for one in found if one.recall is not None])} | {_share(sum(pages), len(pages))} "
        f"| {_share(sum(one.refused for one in known), len(known))} "
        f"| {_share(sum(one.refused for one in unknown), len(unknown))} |"
    )


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f}" if values else "-"


def _share(hits: int, count: int) -> str:
    if not count:
        return "-"
    low, high = interval(hits, count)
    return f"{hits} of {count} ({low:.2f} to {high:.2f})"


def _worst(row: Mapping[str, Any]) -> Iterator[str]:
    known = [Answered(**one) for one in row["answers"] if one["answerable"]]
    for one in sorted(known, key=lambda one: one.contained)[:_WORST]:
        question, gold, answer = (" ".join(text.split())[:300] for text in (one.question, one.gold, one.answer))
        yield f"- {one.source}, `{one.id}` ({one.contained:.2f}): {_plain(question)}"
        yield f"  - true: {_plain(gold)}"
        yield f"  - given: {_plain(answer)}"


def _plain(text: str) -> str:
    """Words of others as a page shows them, not as Markdown."""
    return "`" + text.replace("`", "'") + "`" if text else "nothing"


def read() -> list[dict[str, Any]]:
    """What is written down; nothing, if nothing is."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write it down."""
    FILE.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.answers_e2e")
    parser.add_argument("--page", action="store_true", help="only write the page from the results there are")
    parser.add_argument("--sample", type=int, default=10, help="questions of each set")
    parser.add_argument("--others", type=int, default=200, help="documents besides those that hold the answers")
    parser.add_argument("names", nargs="*", choices=[*SETS, []], metavar="set", help=", ".join(SETS))
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(read()), encoding="utf-8")
        return
    with quiet_logging():
        asyncio.run(measure(options.names or SETS, options.sample, options.others))


if __name__ == "__main__":
    main()

"""`chunk-tokens`: chunks by a model's tokens, beside another splitter with the same tokenizer; worst cases."""

import gc
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import platformdirs
from langchain_text_splitters import RecursiveCharacterTextSplitter
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bench import corpus
from bench.harness import Goal, Series, find, measure, ratio
from ringfence.documents.chunker import Chunker
from ringfence.embedded.weights import Weights
from ringfence.models.tokens import Estimate, Ruler, Tokens

SIZE = 198
OVERLAP = 32
OURS = "Ringfence, words met before"
FIRST = "Ringfence, its first document"
ESTIMATED = "Ringfence, tokens estimated"
LANGCHAIN = f"langchain-text-splitters {version('langchain-text-splitters')}, from_huggingface_tokenizer"
TOKENIZER = f"tokenizers {version('tokenizers')}: each page tokenised once, both cores"
BOOKS = "two books, 0.8 MB, English and German"
LANGUAGES = "XQuAD, 1.2 MB, twelve languages"
LENGTHS = "Ringfence by kind and length of text"


def _tokenizer() -> Path:
    folder = os.environ.get("RINGFENCE_TEST_MODELS_DIR") or platformdirs.user_cache_path("ringfence") / "models"
    return Weights(Path(folder)).paths("all-minilm-l6-v2")["tokenizer.json"]


def _ours(pages: list[str], ruler: Ruler) -> int:
    """As ingestion does it: text and spans of every chunk are read, and no chunk is kept."""
    chunker = Chunker(SIZE * ruler.units, OVERLAP * ruler.units, ruler)
    read = 0
    for number, text in enumerate(pages, 1):
        for chunk in chunker.add(number, text):
            read += len(chunk.text) + len(chunk.spans)
    return read + sum(len(chunk.text) + len(chunk.spans) for chunk in chunker.finish())


def _speed(run: Callable[[], object], size: int, prepare: Callable[[], object] = gc.collect) -> Callable[[], float]:
    def score() -> float:
        prepare()
        start = time.perf_counter()
        run()
        return size / corpus.BYTES_IN_MB / (time.perf_counter() - start)

    return score


def _beside(group: str, pages: list[str], path: Path, rounds: int) -> list[Series]:
    text = "\n".join(pages)
    size = len(text.encode())
    raw = Tokenizer.from_file(str(path))
    raw.no_truncation()
    raw.no_padding()
    known, fresh = Tokens(path), [Tokens(path)]
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=raw), chunk_size=SIZE, chunk_overlap=OVERLAP
    )
    contestants = {
        OURS: _speed(lambda: _ours(pages, known), size),
        FIRST: _speed(lambda: _ours(pages, fresh[0]), size, lambda: fresh.__setitem__(0, Tokens(path))),
        ESTIMATED: _speed(lambda: _ours(pages, Estimate()), size),
        LANGCHAIN: _speed(lambda: splitter.split_text(text), size),
        TOKENIZER: _speed(lambda: raw.encode_batch(pages, add_special_tokens=False), size),
    }
    return measure(group, "MB/s", contestants, rounds=rounds)


def _lengths(pages: list[str], path: Path, rounds: int) -> list[Series]:
    known = Tokens(path)
    contestants = {}
    for megabytes in (1, 2, 4, 8):
        taken = corpus.repeated(pages, megabytes)
        size = sum(len(page.encode()) for page in taken)
        contestants[f"books, {megabytes} MB"] = _speed(lambda taken=taken: _ours(taken, known), size)  # type: ignore[misc]  # mypy can't infer a lambda's default
    for name, unit in _WORST.items():
        for megabytes in (1, 2):
            line = unit * (megabytes * corpus.BYTES_IN_MB // len(unit.encode()))
            size = len(line.encode())
            contestants[f"{name}, {megabytes} MB"] = _speed(lambda line=line: _ours([line], known), size)  # type: ignore[misc]  # as above
    line = "abcdefghi " * corpus.BYTES_IN_MB
    contestants["one line, 10 MB"] = _speed(lambda: _ours([line], known), len(line))
    return measure(LENGTHS, "MB/s", contestants, rounds=rounds)


def _languages() -> list[str]:
    path = corpus.folder().parent / "retrieval" / "xquad" / "corpus.jsonl"
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    return ["\n".join(texts[at : at + 4]) for at in range(0, len(texts), 4)]


_WORST = {"no spaces": "x", "no spaces, Chinese": "字", "only line breaks": "\n", "only combining marks": "\u0301"}


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer rounds."""
    rounds = 2 if quick else 5
    path = _tokenizer()
    series = _beside(BOOKS, corpus.engine_pages(), path, rounds)
    series += _beside(LANGUAGES, _languages(), path, rounds)
    series += _lengths(corpus.engine_pages(), path, rounds)
    return series, _goals(series), _NOTES


_NOTES = [
    "Chunks of at most 198 tokens of all-MiniLM-L6-v2 that overlap by at most 32. MB are 10⁶ bytes of UTF-8.",
    (
        "Ringfence gets the text page by page and gives each chunk the pages and offsets that it came from; the other "
        "splitter gets all text as one string and gives no offsets. Ringfence keeps the number of tokens of words that "
        "it has met: a worker meets most words of a language in its first few documents. Both figures are given."
    ),
]


def _goals(series: list[Series]) -> list[Goal]:
    goals = [
        Goal(
            f"{group}: {name} over {LANGCHAIN}",
            10.0,
            least=True,
            got=ratio(find(series, group, name), find(series, group, LANGCHAIN)),
        )
        for group in (BOOKS, LANGUAGES)
        for name in (OURS, FIRST)
    ]
    pairs = [(f"books, {2 * size} MB", f"books, {size} MB") for size in (1, 2, 4)]
    pairs += [(f"{name}, 2 MB", f"{name}, 1 MB") for name in _WORST]
    for long, short in pairs:
        got = ratio(find(series, LENGTHS, long), find(series, LENGTHS, short))
        goals.append(Goal(f"linear: speed at {long} over speed at {short}", 0.8, least=True, got=got))
    return goals

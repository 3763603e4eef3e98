"""Chunks by a model's tokens: never too long for it, in any script, and in work that grows with the text alone."""

import collections
import itertools
import json
import os
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from ringfence.documents.chunker import Chunk, Chunker
from ringfence.documents.parsing.wire import Heading
from ringfence.documents.pauses import sentences
from ringfence.embedded.weights import Weights
from ringfence.models.tokens import Estimate, Marks, Ruler, Tokens

ROOT = Path(__file__).parents[2]
XQUAD = (ROOT / os.environ.get("RINGFENCE_EVALDATA", "../shared/evaldata")).resolve() / "retrieval/xquad/corpus.jsonl"
LANGUAGES = ["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"]
SIZE, OVERLAP = 62, 10


@pytest.fixture(scope="module")
def minilm(models_dir: Path) -> Tokens:
    return Tokens(Weights(models_dir).paths("all-minilm-l6-v2")["tokenizer.json"])


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """A tokenizer of another form than BERT's: each byte is a token."""
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return Tokens(path)


@pytest.fixture(params=["minilm", "bytewise", "estimate"])
def ruler(request: pytest.FixtureRequest) -> Ruler:
    return Estimate() if request.param == "estimate" else request.getfixturevalue(request.param)


def chunked(pages: list[str], ruler: Ruler, size: int = SIZE, overlap: int = OVERLAP) -> list[Chunk]:
    chunker = Chunker(size * ruler.units, overlap * ruler.units, ruler)
    chunks = [chunk for number, text in enumerate(pages, start=1) for chunk in chunker.add(number, text)]
    return chunks + chunker.finish()


def check(chunks: list[Chunk], pages: list[str], ruler: Ruler, size: int = SIZE) -> None:
    covered = [set() for _ in pages]
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert "\n".join(pages[page - 1][start:end] for page, start, end in chunk.spans) == chunk.text
        assert ruler.count(chunk.text) <= size * ruler.units or len(chunk.text) == 1
        for page, start, end in chunk.spans:
            covered[page - 1].update(range(start, end))
    for text, seen in zip(pages, covered, strict=True):
        assert all(text[at].isspace() for at in set(range(len(text))) - seen)


def torn(chunks: list[Chunk], pages: list[str]) -> list[tuple[int, int]]:
    """Where a chunk starts or ends within what people see as one character."""
    whole = [{found.start() for found in regex.finditer(r"\X", text)} | {len(text)} for text in pages]
    places = [(page, at) for chunk in chunks for page, start, end in chunk.spans for at in (start, end)]
    return [(page, at) for page, at in places if at not in whole[page - 1]]


@pytest.fixture(scope="module")
def paragraphs() -> dict[str, list[str]]:
    if not XQUAD.exists():
        pytest.skip(f"no retrieval sets in {XQUAD.parents[2]}; set RINGFENCE_EVALDATA")
    found = collections.defaultdict(list)
    for line in XQUAD.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["_id"][:2]].append(row["text"])
    return found


@pytest.mark.evaldata
@pytest.mark.parametrize("language", LANGUAGES)
def test_languages(language, ruler, paragraphs):
    pages = paragraphs[language][:60]
    chunks = chunked(pages, ruler)
    check(chunks, pages, ruler)
    assert torn(chunks, pages) == []


@pytest.mark.evaldata
@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_stay_whole_where_they_fit(language, minilm, paragraphs):
    """With room for a few of a language's sentences, most chunks end where one does."""
    pages = paragraphs[language][:60]
    chunks = chunked(pages, minilm, size=254, overlap=40)
    check(chunks, pages, minilm, size=254)
    ends = {(page, end) for page, text in enumerate(pages, start=1) for _, end in sentences(text)}
    good = sum(chunk.spans[-1][::2] in ends for chunk in chunks)
    assert good / len(chunks) >= (0.3 if language == "th" else 0.75)  # Thai writes no full stops


UNITS = [
    "x",
    "字",
    "ก",
    "e\u0301",
    "👩🏽\u200d🚀",
    "🇩🇪",
    "क्ष",
    "한",
    "\n",
    " ",
    "\u0301",
    "word ",
    "longer-word, ",
    "é.",
    "\t-",
    "Ａ",
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(UNITS), st.integers(1, 300)), max_size=8), st.integers(12, 60))
def test_whatever_the_text_no_chunk_is_too_long(minilm, bytewise, parts, size):
    text = "".join(unit * times for unit, times in parts)
    for ruler in (minilm, bytewise, Estimate()):
        chunks = chunked([text], ruler, size, size // 6)
        for chunk in chunks:
            assert chunk.text in text
            assert ruler.count(chunk.text) <= size * ruler.units or len(chunk.text) <= 64
        assert set("".join(chunk.text for chunk in chunks)) | set(" \n\t") >= set(text)


def test_neighbours_share_no_more_than_the_overlap(minilm):
    text = "The fence stands between tenants, and nobody sees over it; not even by counting. Is it high? " * 200
    chunks = chunked([text], minilm)
    shared = [text[after.spans[0][1] : before.spans[0][2]] for before, after in itertools.pairwise(chunks)]
    assert all(minilm.count(one) <= OVERLAP for one in shared)
    assert sum(one != "" for one in shared) > len(shared) // 2


def test_contexts_take_their_part_of_the_size(ruler):
    chunker = Chunker(SIZE * ruler.units, 0, ruler)
    text = "A heading of some length\n\n" + "The fence stands between the tenants. " * 100
    chunks = chunker.add(1, text, [Heading(1, 0, 24, 1)]) + chunker.finish()
    assert all("A heading of some length".startswith(chunk.context.rstrip("…")) for chunk in chunks)
    assert all(len(chunk.context) > 5 for chunk in chunks[1:])
    assert all(ruler.count(chunk.passage) <= SIZE * ruler.units for chunk in chunks)


def test_a_long_word_of_one_token_is_still_cut(minilm):
    assert minilm.count("x" * 1000) == 1
    assert max(len(chunk.text) for chunk in chunked(["x" * 10_000], minilm)) == 8 * SIZE


class Counting:
    """A ruler that counts the characters it is handed."""

    def __init__(self, ruler: Ruler) -> None:
        self._ruler = ruler
        self.units, self.specials = ruler.units, ruler.specials
        self.seen = 0

    def count(self, text: str) -> int:
        self.seen += len(text)
        return self._ruler.count(text)

    def measure(self, text: str) -> Marks | None:
        self.seen += len(text)
        return self._ruler.measure(text)

    def sums_up(self, text: str, index: int) -> bool:
        return self._ruler.sums_up(text, index)


@pytest.mark.parametrize("unit", ["x", "字", "\n", " ", "\u0301", "word ", "a.", "🇩🇪", "- item\n", "```\n\n", "Ⅷ,"])
def test_work_grows_with_the_text_alone(unit, minilm):
    work = []
    for chars in (50_000, 100_000, 200_000):
        ruler = Counting(minilm)
        text = unit * (chars // len(unit))
        chunked([text], ruler, 254, 40)
        work.append(ruler.seen / len(text))
    assert max(work) < 4
    assert work[2] < 1.2 * work[0] + 0.1


def test_little_is_kept_and_it_is_said_when_a_cut_is_due(minilm):
    chunker = Chunker(254, 40, minilm)
    page = "The fence stands between the tenants. " * 50
    cuts = 0
    for number in range(1, 300):
        due = not chunker.takes(page)
        chunks = chunker.add(number, page)
        assert bool(chunks) == due
        cuts += due
    assert 5 < cuts < 30

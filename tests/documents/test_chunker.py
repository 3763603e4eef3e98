# Punctuation of other scripts is what is tested.
import itertools
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.documents.chunker import PAGE_JOINT, Chunk, Chunker
from ringfence.errors import SetupError

PROSE = (
    "The fence stands between the tenants. Nobody sees over it, not even by counting; that is the point! "
    "Is it high enough? We measure 3.14 metres, i.e. more than e.g. Dr. Miller asked for. "
)
ALPHABET = st.one_of(
    st.sampled_from("ab c.,!?\n\t。、，।؟\u0301\u200d😀👍🏽🇩🇪"),
    st.characters(exclude_categories=["Cs"]),
)
JOINING = "\u200c\u200d\U0001f3fd"
TEXTS = st.text(ALPHABET, max_size=400)


def chunked(pages: list[tuple[int, str]], size: int, overlap: int) -> list[Chunk]:
    chunker = Chunker(size, overlap)
    return [chunk for number, text in pages for chunk in chunker.add(number, text)] + chunker.finish()


def rebuilt(chunk: Chunk, texts: dict[int, str]) -> str:
    return PAGE_JOINT.join(texts[page][start:end] for page, start, end in chunk.spans)


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[tuple[int, str]], dict[int, str]]:
    texts = dict(enumerate(draw(st.lists(TEXTS, max_size=5)), start=1))
    parts = []
    for number, text in texts.items():
        at = draw(st.integers(0, len(text)))
        parts += [(number, text[:at]), (number, text[at:])]
    return parts, texts


@settings(deadline=None)
@given(documents(), st.integers(2, 60), st.data())
def test_chunks_cover_the_document_exactly_and_within_bounds(document, size, data):
    parts, texts = document
    overlap = data.draw(st.integers(0, size // 2))
    chunks = chunked(parts, size, overlap)
    covered: dict[int, set[int]] = {page: set() for page in texts}
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert rebuilt(chunk, texts) == chunk.text
        assert chunk.text.strip() != ""
        assert chunk.text == chunk.text.rstrip()
        assert not chunk.text[0].isspace() or unicodedata.category(chunk.text[1])[0] == "M" or chunk.text[1] in JOINING
        assert len(chunk.text) <= size
        new = 0
        for page, start, end in chunk.spans:
            assert texts[page][start:end].strip()
            fresh = set(range(start, end)) - covered[page]
            new += sum(not texts[page][at].isspace() for at in fresh)
            covered[page] |= fresh
        assert new > 0
    for page, text in texts.items():
        assert all(text[at].isspace() for at in set(range(len(text))) - covered[page])


@settings(deadline=None)
@given(documents(), st.integers(2, 60), st.data())
def test_neighbours_share_at_most_the_overlap(document, size, data):
    parts, _ = document
    overlap = data.draw(st.integers(0, size // 2))
    chunks = chunked(parts, size, overlap)
    for before, after in itertools.pairwise(chunks):
        ends = {page: end for page, _, end in before.spans}
        shared = sum(max(0, min(ends[page], end) - start) for page, start, end in after.spans if page in ends)
        assert shared <= overlap
        assert (before.spans[-1][0], before.spans[-1][2]) < (after.spans[-1][0], after.spans[-1][2])


@settings(deadline=None)
@given(documents(), st.integers(2, 60))
def test_how_a_page_is_split_into_parts_makes_no_difference(document, size):
    parts, texts = document
    assert chunked(parts, size, size // 4) == chunked(list(texts.items()), size, size // 4)


def test_prose_ends_at_sentences_and_overlaps():
    chunks = chunked([(1, PROSE * 20)], 300, 60)
    assert len(chunks) > 10
    assert all(chunk.text[-1] in ".!?" for chunk in chunks)
    for before, after in itertools.pairwise(chunks):
        assert 0 < before.spans[0][2] - after.spans[0][1] <= 60


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("aaaa bbbb.\n\ncccc. dddd", "aaaa bbbb."),
        ("aaaa bbbb. cccc, dddd eeee", "aaaa bbbb. cccc,"[:10]),
        ("aaaa bbbb, cccc dddd eeee", "aaaa bbbb,"),
        ("aaaa bbbb (c) ddddddddddddd", "aaaa bbbb (c)"),
        ("aaaa bbbb\ncccc dddd eeee", "aaaa bbbb"),
        ("aaaaaaaaa bbbbbbbbbbbbbb", "aaaaaaaaa"),
        ("aaaaaaaaaaaaaaa bbbbbbbb", "aaaaaaaaaaaaaaa"),
        ("价格三点一四。他说：「好。」我们走吧现在就走", "价格三点一四。他说：「好。」"),
        ("一二三四五六七八九，十一二三四五六七八", "一二三四五六七八九，"),
        ("यह पहला वाक्य है। दूसरा वाक्य", "यह पहला वाक्य"[:13]),
        ("هل هذا سؤال؟ نعم هو سؤال", "هل هذا سؤال؟"),
        ("He said it. “So.” And went on", "He said it."),
    ],
)
def test_the_best_boundary_wins(text, first):
    assert chunked([(1, text)], 16, 0)[0].text == first


def test_characters_are_not_torn():
    text = "e\u0301" * 40 + "👍🏽" * 40 + "👩\u200d🚀" * 40
    for chunk in chunked([(1, text)], 15, 4):
        assert not unicodedata.combining(chunk.text[0])
        assert chunk.text[0] not in "\u200d\U0001f3fd\U0001f680"
        assert chunk.text[-1] != "\u200d"


def test_a_character_longer_than_a_chunk_is_torn_rather_than_looped_over():
    assert "".join(chunk.text for chunk in chunked([(1, "a" + "\u0301" * 100)], 10, 0)) == "a" + "\u0301" * 100
    assert len(chunked([(1, "🇩🇪" * 50)], 10, 2)) > 10
    assert "".join(chunk.text for chunk in chunked([(1, "\x00\r\n" * 3)], 2, 0)) != ""


def test_a_sentence_runs_over_the_page_border():
    pages = {1: "It starts here and", 2: " \n ", 3: "goes on there."}
    (chunk,) = chunked(list(pages.items()), 100, 10)
    assert chunk == Chunk(0, "It starts here and\ngoes on there.", ((1, 0, 18), (3, 0, 14)))


def test_blank_parts_keep_the_offsets():
    chunks = chunked([(1, "One."), (2, "   "), (2, "Two."), (2, " "), (2, "Three.")], 100, 0)
    assert chunks == [Chunk(0, "One.\n   Two. Three."[:5] + "Two. Three.", ((1, 0, 4), (2, 3, 14)))]


def test_many_tiny_pages_share_chunks():
    texts = {page: f"p{page}" for page in range(1, 500)}
    chunks = chunked(list(texts.items()), 50, 10)
    assert all(rebuilt(chunk, texts) == chunk.text for chunk in chunks)
    assert chunks[-1].spans[-1] == (499, 0, 4)


def test_a_page_that_follows_a_fully_consumed_one():
    chunker = Chunker(4, 0)
    first = chunker.add(1, "abcd" + " " * 1000)
    assert [chunk.text for chunk in first] == ["abcd"]
    assert chunker.add(2, "ef") == []
    assert chunker.finish() == [Chunk(1, "ef", ((2, 0, 2),))]


@pytest.mark.parametrize("text", ["", " \n\t\u3000 " * 1000])
def test_nothing_visible_gives_no_chunk(text):
    assert chunked([(1, text), (2, text)], 100, 10) == []


def test_a_mark_keeps_the_space_it_stands_on():
    texts = {1: " \t \u0301first " + "word " * 8 + " \u0301second"}
    chunks = chunked(list(texts.items()), 20, 8)
    assert chunks[0].text.startswith(" \u0301first")
    assert all(rebuilt(chunk, texts) == chunk.text for chunk in chunks)
    assert all(chunk.text[0] != "\u0301" for chunk in chunks)


def test_long_gaps_make_no_empty_chunk():
    chunks = chunked([(1, "start" + " " * 5000 + "end" + "\n" * 5000)], 100, 40)
    assert [chunk.text for chunk in chunks] == ["start", "end"]
    chunks = chunked([(1, "x" * 95 + " " * 500 + "end")], 100, 40)
    assert [chunk.text for chunk in chunks] == ["x" * 95, "end"]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_sizes_that_do_not_fit_are_refused(size, overlap):
    with pytest.raises(SetupError):
        Chunker(size, overlap)


def seconds(text: str) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        chunked([(1, text)], 800, 120)
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize("unit", ["x", "一", "\u0301", "x\u200d", "\n ", ".", "a.", "-,"])
def test_time_grows_with_the_length_alone(unit):
    small, large = (unit * (chars // len(unit)) for chars in (20_000, 160_000))
    assert seconds(large) < 40 * max(seconds(small), 1e-3)  # 8 times the text; quadratic work would be 64


def test_a_line_without_separators_costs_about_what_prose_costs():
    prose = PROSE * (1_000_000 // len(PROSE))
    assert seconds("x" * 1_000_000) < 10 * seconds(prose) + 0.1


def test_memory_does_not_grow_with_the_document():
    chunker = Chunker(800, 120)
    for page in range(300):
        chunker.add(page, PROSE * 20)
        assert len(chunker._text) <= 800
        assert sum(len(text) for _, text, _ in chunker._waiting) <= 40 * 800
        assert len(chunker._stretches) <= 2


def test_chunks_come_while_pages_are_added():
    chunker = Chunker(100, 20)
    assert chunker.add(1, PROSE) == []
    counts = [len(chunker.add(page, PROSE)) for page in range(2, 100)]
    assert 0 < max(counts) <= 100
    assert sum(counts) > 200

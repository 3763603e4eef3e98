"""Passages and the chunks around them."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ringfence.documents.chunker import PAGE_JOINT, Chunker
from ringfence.ids import DocumentId
from ringfence.search import neighbours
from ringfence.search.neighbours import PageText, expanded, joined, page_text, windows
from ringfence.search.queries import Chunk, Passage

A, B = (DocumentId(UUID(int=n)) for n in (1, 2))


def passage(document, number, score=0.5):
    return Passage(document, "a.txt", f"{number}", ((1, number, number + 1),), score, "", 0.0, score, number)


def chunk(document, number, text="", spans=()):
    return Chunk(document, number, text or f"{number}", spans or ((number + 1, 0, len(f"{number}")),), f"h{number}")


def test_windows_that_touch_are_one():
    found = windows([passage(B, 0), passage(A, 10), passage(A, 5), passage(A, 0)], 2)
    assert found == [(A, 0, 12), (B, 0, 2)]
    assert windows([passage(A, 0), passage(A, 5)], 1) == [(A, 0, 1), (A, 4, 6)]


def test_the_best_of_those_that_grow_together_stays_in_its_place():
    around = [chunk(A, n) for n in (0, 1, 2, 4, 5)] + [chunk(B, 7)]
    found = expanded([passage(A, 2), passage(B, 7), passage(A, 1), passage(A, 5), passage(B, 9)], around)
    assert [(one.document_id, one.number, one.text) for one in found] == [
        (A, 2, "0\n1\n2"),
        (B, 7, "7"),
        (A, 5, "4\n5"),
    ]
    assert found[0].spans == ((1, 0, 1), (2, 0, 1), (3, 0, 1))
    assert found[0].context == "h0"


def test_what_overlaps_is_there_once():
    pages = ["abcdefgh", "ijklmnop"]
    chunks = [
        chunk(A, 0, "abcdef", ((1, 0, 6),)),
        chunk(A, 1, "efgh\nijk", ((1, 4, 8), (2, 0, 3))),
        chunk(A, 2, "h\nijklm", ((1, 7, 8), (2, 0, 5))),
        chunk(A, 3, "lm", ((2, 3, 5),)),
        chunk(A, 4, "op", ((2, 6, 8),)),
    ]
    text, spans = joined(chunks)
    assert (text, spans) == ("abcdefgh\nijklm\nop", ((1, 0, 8), (2, 0, 5), (2, 6, 8)))
    assert text == PAGE_JOINT.join(pages[page - 1][start:end] for page, start, end in spans)


def test_a_pages_text_is_that_of_its_chunks():
    chunks = [
        chunk(A, 0, "x\ncdef", ((1, 0, 1), (2, 2, 6))),
        chunk(A, 1, "efgh", ((2, 4, 8),)),
        chunk(A, 2, "kl\nz", ((2, 10, 12), (3, 0, 1))),
    ]
    assert page_text(chunks, 2) == PageText(2, 2, "cdefgh\n\nkl")
    assert page_text(chunks[:1], 1) == PageText(1, 0, "x")
    assert page_text([], 4) == PageText(4, 0, "")


@given(st.lists(st.text(alphabet="ab. \n\u0301", max_size=60), min_size=1, max_size=4), st.integers(4, 30))
def test_any_chunks_of_a_document_join_to_its_text(pages, size):
    chunker = Chunker(size, size // 2)
    cut = [one for number, text in enumerate(pages, 1) for one in chunker.add(number, text)] + chunker.finish()
    text, spans = joined([Chunk(A, one.number, one.text, one.spans, one.context) for one in cut])
    assert text == PAGE_JOINT.join(pages[page - 1][start:end] for page, start, end in spans)
    places = [(page, at) for page, start, end in spans for at in range(start, end)]
    assert len(places) == len(set(places))
    covered = {(page, at) for one in cut for page, start, end in one.spans for at in range(start, end)}
    assert set(places) == covered


def test_slices_are_joined_as_the_chunker_joins_them():
    assert neighbours._JOINT == PAGE_JOINT

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.answers.citations import SentenceMarker, cited
from ringfence.answers.events import Quote, Source
from ringfence.answers.prompt import REFUSAL
from ringfence.ids import new_document_id
from ringfence.search.queries import Passage

SOURCES = [
    Source(
        n=n,
        document_id=new_document_id(),
        document=f"{n}.pdf",
        pages=[n],
        score=0.5,
        quote=Quote(text="words", page=n, start=0, end=5),
    )
    for n in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("Six weeks [2].", [2]),
        ("A [1]. B [3]. A again [1].", [1, 3]),
        ("Both [1, 3] and [2;3].", [1, 3, 2]),
        ("Adjacent [2][1].", [2, 1]),
        ("Not there [4], [0], [99], [1234].", []),
        ("No marker (1), [a], [], [1.5], array[i].", []),
    ],
)
def test_markers_name_sources_once_each_in_order(answer, numbers):
    assert [citation.n for citation in cited(answer, SOURCES)] == numbers


def test_a_citation_names_document_page_and_offsets():
    [citation] = cited("So it is [3].", SOURCES)
    source = SOURCES[2]
    assert (citation.document_id, citation.document, citation.quote) == (source.document_id, "3.pdf", source.quote)


PASSAGES = [
    Passage(new_document_id(), "a.pdf", text, ((1, 0, len(text)),), 0.5)
    for text in (
        "The notice period is six weeks.",
        "Anders repairs the oven, e.g. on Mondays.",
        "窯はアンデルスが直す。",
    )
]


@pytest.mark.parametrize(
    ("answer", "marked"),
    [
        ("The notice period is six weeks.", "The notice period is six weeks. [1]"),
        ("It is six weeks. Anders repairs the oven!\n", "It is six weeks. [1] Anders repairs the oven! [2]\n"),
        ("Anders repairs the oven, e.g. on Mondays.", "Anders repairs the oven, e.g. on Mondays. [2]"),
        (
            "Bananas are yellow. Six weeks is the notice period",
            "Bananas are yellow. Six weeks is the notice period [1]",
        ),
        ("窯はアンデルスが直す。", "窯はアンデルスが直す。 [3]"),
        ("The period is 3.14 weeks, six weeks notice.", "The period is 3.14 weeks, six weeks notice. [1]"),
        ("", ""),
        ("The documents do not answer this question.", "The documents do not answer this question."),
    ],
)
def test_sentences_are_marked_however_the_stream_is_cut(answer, marked):
    for size in (1, 2, 3, 7, 1000):
        marker = SentenceMarker(PASSAGES)
        pieces = [marker.feed(answer[start : start + size]) for start in range(0, len(answer), size)]
        assert "".join(pieces) + marker.finish() == marked


def test_a_refusal_rests_on_nothing():
    text = "Staff return all documents and do not answer the phone in this room."
    marker = SentenceMarker([Passage(new_document_id(), "a.pdf", text, ((1, 0, len(text)),), 0.5)])
    assert marker.feed(REFUSAL) + marker.finish() == REFUSAL


@given(st.text(alphabet="ab .!?。\n", max_size=60), st.lists(st.integers(1, 9), max_size=30))
def test_marking_adds_and_never_changes_what_was_said(answer, cuts):
    marker, marked = SentenceMarker(PASSAGES), ""
    rest = answer
    for cut in cuts:
        marked += marker.feed(rest[:cut])
        rest = rest[cut:]
    marked += marker.feed(rest) + marker.finish()
    assert re.sub(r" \[\d\]", "", marked) == answer

import pytest

from ringfence.answers.citations import cited
from ringfence.answers.events import Quote, Source
from ringfence.ids import new_document_id

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

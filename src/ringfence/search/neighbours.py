"""Passages with the chunks around them: merged, without what those overlap in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from uuid import UUID

from ringfence.search.queries import Chunk, Passage

_JOINT = "\n"  # between slices of pages, as of a chunk (documents.chunker.PAGE_JOINT)

type Window = tuple[UUID, int, int]
"""Document, first number, last number."""


def windows(passages: Sequence[Passage], reach: int) -> list[Window]:
    """So many chunks before and after each passage; those of a document that touch are one. In order."""
    wanted = sorted((one.document_id, max(one.number - reach, 0), one.number + reach) for one in passages)
    merged: list[Window] = []
    for document_id, first, last in wanted:
        if merged and merged[-1][0] == document_id and first <= merged[-1][2] + 1:
            merged[-1] = (document_id, merged[-1][1], max(last, merged[-1][2]))
        else:
            merged.append((document_id, first, last))
    return merged


def expanded(passages: Sequence[Passage], around: Sequence[Chunk]) -> list[Passage]:
    """The passages, best first, each grown to the chunks next to it; of those that grow together the best one stays.

    One whose chunk is not there any more is left out.
    """
    grown = {(chunk.document_id, chunk.number): run for run in _runs(around) for chunk in run}
    found: list[Passage] = []
    taken: set[int] = set()
    for passage in passages:
        run = grown.get((passage.document_id, passage.number))
        if run is not None and id(run) not in taken:
            taken.add(id(run))
            text, spans = joined(run)
            found.append(replace(passage, text=text, spans=spans, context=run[0].context))
    return found


def _runs(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks, cut where the document changes or a number is missing."""
    groups = groupby(enumerate(chunks), key=lambda pair: (pair[1].document_id, pair[1].number - pair[0]))
    for _, run in groups:
        yield [chunk for _, chunk in run]


def joined(chunks: Sequence[Chunk]) -> tuple[str, tuple[tuple[int, int, int], ...]]:
    """The text of consecutive chunks, each character of a page once, and where it stands, as of a passage."""
    spans: list[tuple[int, int, int]] = []
    slices: list[str] = []
    for page, start, end, text in (piece for chunk in chunks for piece in _pieces(chunk)):
        at = next((at for at in range(len(spans) - 1, -1, -1) if spans[at][0] == page), None)
        if at is None or start > spans[at][2]:
            spans.append((page, start, end))
            slices.append(text)
        elif end > spans[at][2]:
            slices[at] += text[spans[at][2] - start :]
            spans[at] = (page, spans[at][1], end)
    return _JOINT.join(slices), tuple(spans)


@dataclass(frozen=True, slots=True)
class PageText:
    """What was read on a page (from 1): `text` begins at character `start` of the page's, blanks are before it."""

    page: int
    start: int
    text: str


def page_text(chunks: Sequence[Chunk], page: int) -> PageText:
    """A page's text from the chunks that touch it. Between two that don't meet are blanks, which no chunk keeps."""
    text, first = "", 0
    for _, start, _, piece in (one for chunk in chunks for one in _pieces(chunk) if one[0] == page):
        first = first if text else start
        text += "\n" * (start - first - len(text)) + piece[max(first + len(text) - start, 0) :]
    return PageText(page, first, text)


def _pieces(chunk: Chunk) -> Iterator[tuple[int, int, int, str]]:
    """A chunk's slices of pages with their text."""
    at = 0
    for page, start, end in chunk.spans:
        yield page, start, end, chunk.text[at : at + end - start]
        at += end - start + len(_JOINT)

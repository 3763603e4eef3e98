"""Evidence: the sentence of each passage that bears most on the question, and where on the page it stands."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from ringfence.answers.events import Nearest, Place, Quote, Source
from ringfence.documents.chunker import PAGE_JOINT
from ringfence.documents.pauses import sentences
from ringfence.ids import DocumentId
from ringfence.search.queries import Passage
from ringfence.search.terms import located, terms

MAX_QUOTE_CHARS = 300
"""A longer sentence (a table, a text without full stops) is quoted in part."""

_HEADING_CHARS = 120
_NEAREST = 3
_STOP = re.compile(r"[.!?\u2026\u061f\u06d4\u0964\u0965\u3002\uff01\uff1f][\W_]*$")


def sources(question: str, passages: Sequence[Passage]) -> list[Source]:
    """The passages, numbered from 1, each with its best sentence.

    A question's term counts by its rarity among the sentences at hand (inverse document frequency); where no sentence
    of a passage shares a term, its first one is taken. A heading lends its terms to the sentence below it and is not
    quoted itself.
    """
    split = [_candidates(passage.text) for passage in passages]
    frequency = Counter(term for one in split for _, _, found in one for term in found)
    total = sum(len(one) for one in split)
    weight = {term: math.log(1 + total / frequency[term]) for term in sorted(terms(question)) if term in frequency}

    def worth(candidate: tuple[int, int, set[str]]) -> float:
        return sum(value for term, value in weight.items() if term in candidate[2])

    best = [max(candidates, key=worth) for candidates in split]
    return [
        _source(n, passage, *shortened(passage.text, start, end, weight))
        for n, (passage, (start, end, _)) in enumerate(zip(passages, best, strict=True), start=1)
    ]


def _candidates(text: str) -> list[tuple[int, int, set[str]]]:
    """The sentences that may be quoted, (start, end, terms): all of them but headings."""
    found = []
    heading: set[str] = set()
    bounds = sentences(text)
    for index, (start, end) in enumerate(bounds):
        own = terms(text[start:end])
        if _is_heading(text, bounds[index : index + 2]):
            heading = own
        else:
            found.append((start, end, own | heading))
            heading = set()
    return found


def _is_heading(text: str, bounds: Sequence[tuple[int, int]]) -> bool:
    """Whether the first of two sentences is a short one without a full stop above one that has it."""
    (start, end), *following = bounds
    return (
        end - start <= _HEADING_CHARS
        and not _STOP.search(text, start, end)
        and any(_STOP.search(text, *below) for below in following)
    )


def shortened(text: str, start: int, end: int, weight: Mapping[str, float]) -> tuple[int, int]:
    """The part of a long sentence, at most `MAX_QUOTE_CHARS`, with most of the weight, cut between words."""
    if end - start <= MAX_QUOTE_CHARS:
        return start, end
    first, last = _heaviest(text[start:end], weight)
    first, last = start + first, start + last
    low = max(start, min((first + last - MAX_QUOTE_CHARS) // 2, end - MAX_QUOTE_CHARS))
    high = low + MAX_QUOTE_CHARS
    if low > start and (inside := re.search(r"\s+", text[low - 1 : first])):
        low += inside.end() - 1
    if high < end and (words := text[last : high + 1].rsplit(None, 1))[1:]:
        high = last + len(words[0])
    return low, high


def _heaviest(text: str, weight: Mapping[str, float]) -> tuple[int, int]:
    """Where the occurrences stand, within `MAX_QUOTE_CHARS`, whose terms weigh most; (0, 0) if there are none."""
    hits = [hit for hit in located(text) if hit[2] in weight]
    best, bounds = 0.0, (0, 0)
    for index, (first, _, _) in enumerate(hits):
        inside = [hit for hit in hits[index:] if hit[1] <= first + MAX_QUOTE_CHARS]
        value = sum(weight[term] for term in {hit[2] for hit in inside})
        if value > best:
            best, bounds = value, (first, inside[-1][1])
    return bounds


def _source(n: int, passage: Passage, start: int, end: int) -> Source:
    return Source(
        n=n,
        document_id=passage.document_id,
        document=passage.document,
        pages=sorted({page for page, _, _ in passage.spans}),
        score=round(_similarity(passage), 4),
        context=passage.context or None,
        quote=quote(passage, start, end),
    )


class Located(Protocol):
    """A text, and where it stands."""

    @property
    def text(self) -> str:
        """The text; slices of several pages are joined by one line break."""

    @property
    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """The slices: (page from 1, start, end)."""


def quote(passage: Located, start: int, end: int) -> Quote:
    """The words at [start, end) of a passage, at least one visible, with their place on each page that they touch."""
    places = list(_places(passage, start, end))
    first = places[0]
    return Quote(text=passage.text[start:end], page=first.page, start=first.start, end=first.end, places=places)


def quote_at(passage: Located, page: int, start: int, length: int) -> Quote:
    """So many characters of a passage that begin at `start` of a page of its."""
    at = 0
    for number, first, last in passage.spans:
        if number == page and first <= start < last:
            return quote(passage, at + start - first, at + start - first + length)
        at += last - first + len(PAGE_JOINT)
    return Quote(text="", page=page, start=start, end=start)


def _places(passage: Located, start: int, end: int) -> Iterator[Place]:
    at = 0
    for page, first, last in passage.spans:
        low, high = max(start - at, 0), min(end - at, last - first)
        if low < high:
            yield Place(page=page, start=first + low, end=first + high)
        at += last - first + len(PAGE_JOINT)


def nearest_documents(passages: Sequence[Passage]) -> list[Nearest]:
    """The documents whose passages came nearest to a question, up to three, best first."""
    best: dict[DocumentId, Passage] = {}
    for passage in sorted(passages, key=_similarity, reverse=True):
        best.setdefault(passage.document_id, passage)
    return [
        Nearest(document_id=one.document_id, document=one.document, score=round(_similarity(one), 4))
        for one in list(best.values())[:_NEAREST]
    ]


def _similarity(passage: Passage) -> float:
    return passage.similarity or 0.0


def nearest_source(answer: str, passages: Sequence[Passage]) -> int | None:
    """The number of the passage that shares most terms with an answer, if one shares at least half of them."""
    said = terms(answer)
    shared = [len(said & terms(passage.text)) for passage in passages]
    best = max(shared, default=0)
    return shared.index(best) + 1 if said and best * 2 >= len(said) else None

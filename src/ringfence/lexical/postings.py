"""Postings: which chunk has a term, how often, and how long the chunk is, in 63 bits.

A posting is `segment << 31 | chunk << 26 | analysis << 20 | occurrences << 13 | length`. A segment is what was stored
together, up to 32 chunks of a document; the database numbers it. Occurrences count up to 127, lengths up to 8191.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import batched, groupby
from pathlib import PurePosixPath

from ringfence.lexical import languages
from ringfence.lexical.terms import analysis_of, terms

SEGMENT_CHUNKS = 32
SEGMENT_BITS = 31
"""How far a segment's number stands to the left in a posting."""

_CHUNK_BITS, _ANALYSIS_BITS, _TIMES_BITS = 26, 20, 13
_MOST_TIMES, _LONGEST = (1 << _ANALYSIS_BITS - _TIMES_BITS) - 1, (1 << _TIMES_BITS) - 1
# A search reads one part of a segment for each of its terms: few terms lie in one, so that small segments take little
# room, and many in 64, so that it reads few of them.
_PARTS = ((100, 1), (800, 8))
_MOST_PARTS = 64


@dataclass(frozen=True, slots=True)
class Part:
    """Some terms of a segment, in order; `postings[ends[i-1]:ends[i]]` are those of `terms[i]`, without the segment."""

    part: int
    terms: list[int]
    ends: list[int]
    postings: list[int]


@dataclass(frozen=True, slots=True)
class Segment:
    """What the index keeps of chunks with consecutive numbers from `first` on.

    Attributes:
        first: the first chunk's number.
        chunks: how many.
        length: terms in all of them, repeated ones too.
        analysis: how their words became terms.
        parts: their postings.
    """

    first: int
    chunks: int
    length: int
    analysis: int
    parts: list[Part]


class Writer:
    """Makes segments of a document's chunks, as they come; its first chunks tell its language.

    Args:
        name: the document's name; its words count in each chunk.
    """

    def __init__(self, name: str) -> None:
        self._title = PurePosixPath(name).stem
        self._analysis: int | None = None
        self.language: str | None = None
        """ISO 639-1; None where it is not certain, or no chunk has come."""

    def segments(self, chunks: Sequence[tuple[int, str]]) -> list[Segment]:
        """The segments of chunks, (number, text under its headings), in order."""
        if self._analysis is None and chunks:
            language, probability = languages.detect("\n".join(text for _, text in chunks))
            self.language = language if probability >= languages.SURE else None
            self._analysis = analysis_of(self.language)
        return [
            _segment(self._title, several, self._analysis or 0)
            for run in _runs(chunks)
            for several in batched(run, SEGMENT_CHUNKS)
        ]


def segment_of(name: str, chunks: Sequence[tuple[int, str]], analysis: int) -> Segment:
    """The segment of up to `SEGMENT_CHUNKS` chunks with consecutive numbers, whose document's analysis is known."""
    return _segment(PurePosixPath(name).stem, chunks, analysis)


def _runs(chunks: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """The same, cut where a number is missing."""
    runs = groupby(enumerate(chunks), key=lambda pair: pair[1][0] - pair[0])
    return [[chunk for _, chunk in run] for _, run in runs]


def _segment(title: str, chunks: Sequence[tuple[int, str]], analysis: int) -> Segment:
    by_term: dict[int, list[int]] = defaultdict(list)
    total = 0
    for place, (_, text) in enumerate(chunks):
        found = Counter(terms(f"{title}\n{text}", analysis))
        length = min(found.total(), _LONGEST)
        total += length
        rest = place << _CHUNK_BITS | analysis << _ANALYSIS_BITS | length
        for term, times in found.items():
            by_term[term].append(rest | min(times, _MOST_TIMES) << _TIMES_BITS)
    return Segment(chunks[0][0], len(chunks), total, analysis, _parts(by_term))


def _parts(by_term: dict[int, list[int]]) -> list[Part]:
    count = next((count for most, count in _PARTS if len(by_term) <= most), _MOST_PARTS)
    # The first part is there even if it is empty: how many segments await merging is counted by it.
    parts = {count: Part(count, [], [], [])}
    for term in sorted(by_term):
        number = count + (term & (count - 1))
        part = parts.setdefault(number, Part(number, [], [], []))
        part.terms.append(term)
        part.postings.extend(by_term[term])
        part.ends.append(len(part.postings))
    return [parts[number] for number in sorted(parts)]

"""How well chunks fit what is asked: recall, precision and IoU of characters.

As Chroma's chunking evaluation computes them (Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval",
2024; `base_evaluation.py` of its repository), where chunks that overlap count twice. The sample in that repository's
README is older than its present IoU: it leaves out chunks that hold nothing of the answer, and counts the rest once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from statistics import fmean

type Range = tuple[int, int]
"""Characters from start to end (exclusive)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Shares of characters.

    Attributes:
        recall: of the references, what was found.
        precision: of what was found, what is a reference.
        iou: what is both, of what is either.
        iou_of_hits: the same, where only chunks that hold something of a reference count as found.
    """

    recall: float
    precision: float
    iou: float
    iou_of_hits: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk: characters of an entry."""

    entry: str
    start: int
    end: int


def fit(references: Sequence[Range], entry: str, found: Sequence[Piece]) -> Fit:
    """How the chunks that were found fit a question's references, which are in one entry."""
    hits = [chunk for chunk in found if chunk.entry == entry and _common(references, [chunk])]
    hit = _common(references, hits)
    wanted = _length(_joined(references))
    taken = sum(chunk.end - chunk.start for chunk in found)
    either = _length(_joined([*references, *((chunk.start, chunk.end) for chunk in hits)]))
    return Fit(hit / wanted, hit / taken if taken else 0.0, hit / (taken + wanted - hit), hit / either)


def within(found: Sequence[Piece], characters: int) -> Sequence[Piece]:
    """The first chunks that have at most so many characters together."""
    totals = accumulate(chunk.end - chunk.start for chunk in found)
    return found[: sum(1 for _ in takewhile(lambda total: total <= characters, totals))]


def mean_fit(fits: Sequence[Fit]) -> Fit:
    """The means over all questions."""
    return Fit(*(fmean(getattr(one, name) for one in fits) for name in Fit.__slots__))


def _common(references: Sequence[Range], chunks: Sequence[Piece]) -> int:
    """Characters of the references that are in a chunk, each counted once."""
    cuts = [
        (max(start, chunk.start), min(end, chunk.end))
        for chunk in chunks
        for start, end in references
        if start < chunk.end and chunk.start < end
    ]
    return _length(_joined(cuts))


def _joined(ranges: Sequence[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _length(ranges: Sequence[Range]) -> int:
    return sum(end - start for start, end in ranges)

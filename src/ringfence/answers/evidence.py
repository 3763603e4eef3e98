"""Evidence: the sentence of each passage that bears most on the question, and where on the page it stands."""

import math
import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from ringfence.answers.events import Quote, Source
from ringfence.documents.chunker import PAGE_JOINT, sentences
from ringfence.search.queries import Passage

MAX_QUOTE_CHARS = 300
"""A longer sentence (a table, a text without full stops) is quoted in part."""

# `\w` leaves out the marks with which these scripts write their vowels; without them words would fall apart.
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u109f\u1780-\u17d3"
_WORD = re.compile(rf"[\w{_MARKS}]+")
# Lao, Thai, Burmese, Khmer, Japanese and Chinese don't space words; Korean does, but glues particles to them.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff]"
)
_STEMS = (4, 7)
_HEADING_CHARS = 120
_STOP = re.compile(r"[.!?\u2026\u061f\u06d4\u0964\u0965\u3002\uff01\uff1f][\W_]*$")


def terms(text: str) -> set[str]:
    """What two texts can be compared by: beginnings of words, or pairs of characters where nothing is spaced.

    The first four letters of "reset" are those of "resetting", and the first seven tell "contract" from "control":
    together they show which sentence of a few is meant, in any language, without its grammar.
    """
    return {term for _, _, term in _located(text)}


def _located(text: str) -> Iterator[tuple[int, int, str]]:
    """Each occurrence of a term: (start, end, term)."""
    for match in _WORD.finditer(text):
        word, start = match.group(), match.start()
        if _UNSPACED.search(word):
            for i in range(max(len(word) - 1, 1)):
                yield start + i, min(start + i + 2, match.end()), _folded(word[i : i + 2])
        else:
            for term in dict.fromkeys(_folded(word)[:letters] for letters in _STEMS):
                yield start, match.end(), term


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


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
        _source(n, passage, *_shortened(passage.text, start, end, weight))
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


def _shortened(text: str, start: int, end: int, weight: Mapping[str, float]) -> tuple[int, int]:
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
    hits = [hit for hit in _located(text) if hit[2] in weight]
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
        score=round(passage.score, 4),
        quote=quote(passage, start, end),
    )


def quote(passage: Passage, start: int, end: int) -> Quote:
    """The words at [start, end) of a passage, with their place on the page where they begin."""
    lengths = (last - first + len(PAGE_JOINT) for _, first, last in passage.spans)
    offsets = list(accumulate(lengths, initial=0))[:-1]
    index = bisect_right(offsets, start) - 1
    page, first, last = passage.spans[index]
    begin = min(first + start - offsets[index], last)
    return Quote(text=passage.text[start:end], page=page, start=begin, end=min(begin + end - start, last))


def nearest_source(answer: str, passages: Sequence[Passage]) -> int | None:
    """The number of the passage that shares most terms with an answer, if one shares at least half of them."""
    said = terms(answer)
    shared = [len(said & terms(passage.text)) for passage in passages]
    best = max(shared, default=0)
    return shared.index(best) + 1 if said and best * 2 >= len(said) else None

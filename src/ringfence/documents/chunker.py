"""Cut pages into overlapping chunks that end where people pause, in one pass and in any script.

Every chunk remembers the pages and character offsets it came from, so that a citation can point into the page.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ringfence.documents import graphemes
from ringfence.documents.graphemes import PLAIN_AFTER
from ringfence.documents.outline import Outline, whole_item
from ringfence.documents.parsing.wire import Heading
from ringfence.documents.pauses import (
    FIRST_FULL_STOP,
    TO_LAST_BLANK_LINE,
    TO_LAST_FULL_STOP,
    cut_point,
    end_of_spaces,
    start_point,
)
from ringfence.errors import SetupError
from ringfence.models.base import Embedder
from ringfence.models.tokens import Marks, Ruler

PAGE_JOINT = "\n"
"""What stands between the text of two pages inside one chunk."""

_CHARS_PER_TOKEN = 4  # about
_MOST_CHARS_PER_TOKEN = 8  # some tokenizers make one token of a long word that they do not know
_CONTEXT_SHARE = 4  # of a chunk's size its context may take one in so many
_SHRINK = 0.95  # at least, where a chunk turns out to be too long
_ROUND = 40  # chunks that are waited for before any is cut, since a round costs time of its own

type Spans = tuple[tuple[int, int, int], ...]
"""(page, start, end) in reading order: page number as given to `Chunker.add`, offsets in characters."""

type _Part = tuple[int, str, Sequence[Heading]]

type _Stretch = tuple[int, int, int, int]
"""(stop, page, first, last): the text of `page` from `first` to `last`, which ends at `stop` in the buffer."""


def passage(text: str, context: str) -> str:
    """A chunk's text under its context: what is embedded."""
    return f"{context}\n{text}" if context else text


class Chunk(NamedTuple):
    """A passage of a document; a tuple, since those are made several times faster than frozen dataclasses.

    Attributes:
        number: position in the document, from 0.
        text: equals `PAGE_JOINT.join(page_text[start:end] for each span)`; starts and ends with a visible character.
        spans: where the text comes from.
        context: the headings above the text's first character, with `BETWEEN` between them; empty if there is
            none. A heading that the text begins with is not among them.
    """

    number: int
    text: str
    spans: Spans
    context: str = ""

    @property
    def passage(self) -> str:
        """What is embedded."""
        return passage(self.text, self.context)


class Chunker:
    """A sliding window over a document's pages; holds at most one page and the text of 41 chunks at a time.

    Args:
        size: longest chunk, with its context and the line break between them, in the ruler's units.
        overlap: most units that a chunk repeats from the one before; at most half of `size`.
        ruler: measures texts; unset: a unit is a character. No chunk has more than 8 characters for each token.

    Raises:
        SetupError: `size` and `overlap` do not fit together.
    """

    def __init__(self, size: int = 800, overlap: int = 120, ruler: Ruler | None = None) -> None:
        if size < 1 or not 0 <= overlap <= size // 2:
            raise SetupError("bad_setting", "A chunk's overlap must lie between 0 and half of the chunk's size.")
        self._size = size
        self._overlap = overlap
        self._ruler = ruler
        self._most_chars = _MOST_CHARS_PER_TOKEN * size // ruler.units if ruler else size
        self._outline = Outline(ruler.count if ruler else len, size // _CONTEXT_SHARE)
        self._waiting: list[_Part] = []  # pages that are not in the buffer yet
        self._full = _ROUND * (_CHARS_PER_TOKEN * size // ruler.units if ruler else size)
        self._room = self._full  # for so many more characters
        self._text = ""  # the buffer
        self._stretches: list[_Stretch] = []  # of the buffer
        self._covered = 0  # up to here, the buffer's text is in a chunk
        self._page: int | None = None
        self._seen = 0  # characters of the current page so far
        self._number = 0

    def takes(self, text: str) -> bool:
        """Whether `add` would only keep such a text; else it cuts, which may take some tens of milliseconds."""
        return len(text) < self._room

    def add(self, page: int, text: str, headings: Sequence[Heading] = ()) -> list[Chunk]:
        """Take a page's text, or the next part of it, and return the chunks that are ready.

        The same page number again continues that page without a joint. Headings lie within the text, in order, but
        their offsets are those of the page.
        """
        self._waiting.append((page, text, headings))
        self._room -= len(text) + 1
        return self._cut(final=False) if self._room < 0 else []

    def finish(self) -> list[Chunk]:
        """Return the chunks of what is left; the chunker is done after that."""
        return self._cut(final=True)

    def _fill(self) -> str:
        """Move what waits into the buffer."""
        parts, length, stretches = [self._text], len(self._text), self._stretches
        current, seen = self._page, self._seen
        for page, added, headings in self._waiting:
            if page != current:
                current, seen = page, 0
            text = added
            seen += len(added)
            if stretches and stretches[-1][1] == page:
                first = stretches.pop()[2]
            else:
                text = _lstrip(added)
                if not text:  # adds nothing to a chunk, so it shall not add its page to the citation either
                    continue
                first = seen - len(text)
                if length:
                    parts.append(PAGE_JOINT)
                    length += len(PAGE_JOINT)
            for heading in headings:
                origin = seen - len(added)
                offset = length + len(text) - len(added)  # where the part begins, or would begin, in the buffer
                self._outline.add(added, heading.start - origin, heading.end - origin, heading.level, offset)
            parts.append(text)
            length += len(text)
            stretches.append((length, page, first, seen))
        self._page, self._seen = current, seen
        self._waiting.clear()
        self._room = self._full
        return "".join(parts)

    def _cut(self, *, final: bool) -> list[Chunk]:  # noqa: C901, PLR0912, PLR0915  # calls instead cost half its speed
        """Cut while there is more text than a chunk can hold, or all of it. What is done here costs time per chunk."""
        text, stretches, limit, overlap = self._fill(), self._stretches, self._size, self._overlap
        number, covered, chunks = self._number, self._covered, list[Chunk]()
        marks, length = self._ruler.measure(text) if self._ruler else None, len(text)
        outline = self._outline
        structured = outline.read(text)
        start, at, stop, page, shift, context, fresh = 0, -1, 0, 0, 0, "", False
        while start < length:
            if structured:
                context, taken = outline.context(end_of_spaces(text, start))
                limit = self._size - taken
            high = start + limit if marks is None else self._reach(marks, start, limit)
            if high < length:
                low = start + (high - start) // 2
                match = TO_LAST_BLANK_LINE(text, low, high + 1)
                cut = match.end() if match else _other_end(text, start, low, high + 1)
                if structured:
                    cut, fresh = outline.end(text, start, cut, high + 1)
            elif final:
                cut, fresh = length, True
            else:
                break
            body = text[start:cut].lstrip()
            if body[:1] > PLAIN_AFTER:
                body = _lstrip(text[start:cut])
            begin = cut - len(body)
            body = body.rstrip()
            end = begin + len(body)
            if marks is not None and (fitting := self._fitting(text, begin, end, limit)) < end:
                cut, end, body, fresh = fitting, fitting, text[begin:fitting], False
            if not body or end <= covered:
                start = cut
                continue
            while stop <= begin:
                at += 1
                stop, page, _, last = stretches[at]
                shift = last - stop
            spans = ((page, begin + shift, end + shift),) if end <= stop else _spans(stretches, at, begin, end)
            chunks.append(tuple.__new__(Chunk, (number, body, spans, context)))  # what Chunk(...) does, but faster
            number, covered = number + 1, end
            if fresh:
                start = cut
                continue
            back = cut - overlap if marks is None else marks.back(cut, overlap)
            if structured or marks is not None:
                back = max(back, start + (cut - start) // 2)
            match = FIRST_FULL_STOP(text, back, cut)
            start = match.end() if match else start_point(text, back, cut)
            if structured:
                start = outline.start(back, cut, start)
            if not match or text[start : start + 1] > PLAIN_AFTER:
                start = _whole_start(text, back, start, cut)
        self._number, self._covered, self._text = number, covered - start, text[start:]
        self._stretches = [(stop - start, page, first, last) for stop, page, first, last in stretches[max(at, 0) :]]
        outline.drop(start)
        return chunks

    def _reach(self, marks: Marks, start: int, limit: int) -> int:
        """How far a chunk may go; where the ruler says "not at all", some characters."""
        return min(max(marks.reach(start, limit), start + max(limit // _CHARS_PER_TOKEN, 1)), start + self._most_chars)

    def _fitting(self, text: str, begin: int, end: int, limit: int) -> int:
        """The end of a chunk that turns out to be too long where the ruler could not tell by sums; else `end`."""
        ruler = self._ruler
        if ruler is None or (ruler.sums_up(text, begin) and ruler.sums_up(text, end)):
            return end
        while end - begin > 1 and (units := ruler.count(text[begin:end])) > limit:
            high = begin + max(int((end - begin) * min(limit / units, _SHRINK)), 1)
            cut = _whole_cut(text, begin, begin + (high - begin) // 2, high + 1)
            end = begin + len(text[begin:cut].rstrip()) or cut
        return end


def _other_end(text: str, start: int, low: int, high: int) -> int:
    """Where to end a chunk in (low, high) without a blank line there."""
    match = TO_LAST_FULL_STOP(text, low, high)
    return whole_item(text, low, match.end() if match else _whole_cut(text, start, low, high))


def _whole_cut(text: str, start: int, low: int, high: int) -> int:
    """The best place in (low, high) where neither a blank line nor a full stop is, or one before that tears nothing."""
    cut = cut_point(text, low, high)
    return graphemes.start(text, cut, -1, start) if graphemes.inside(text, cut) else cut


def _whole_start(text: str, back: int, place: int, cut: int) -> int:
    """`place`, or one beside it, in [back, cut], where no character is torn."""
    if not graphemes.inside(text, place):
        return place
    return place - 1 if place > back and text[place - 1].isspace() else graphemes.start(text, place, 1, cut + 1)


def chunker_for(embedder: Embedder, tokens: int, overlap_tokens: int) -> Chunker:
    """A chunker for what an embedder shall read: chunks of so many of its tokens, or of as many as it reads."""
    ruler = embedder.ruler
    size = min(tokens, embedder.max_tokens or tokens) - ruler.specials
    return Chunker(size * ruler.units, min(overlap_tokens, size // 2) * ruler.units, ruler)


def _lstrip(text: str) -> str:
    """The text without white space at its beginning, but for a space that a mark stands on."""
    rest = text.lstrip()
    if rest[:1] > PLAIN_AFTER and (begin := len(text) - len(rest)) and graphemes.inside(text, begin):
        return text[begin - 1 :]
    return rest


def _spans(stretches: list[_Stretch], at: int, start: int, end: int) -> Spans:
    """Where the buffer's text from `start`, in the stretch `at`, to `end` comes from."""
    stop, page, _, last = stretches[at]
    first = start + last - stop
    spans = []
    while stop < end:
        spans.append((page, first, last))
        at += 1
        stop, page, first, last = stretches[at]
    spans.append((page, first, end + last - stop))
    return tuple(spans)

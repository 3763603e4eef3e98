"""The markers by which an answer cites (`[2]`), found while it streams, and the sentences that they belong to.

A marker may come in several tokens and in several forms: `[1][2]`, `[1, 2]`, `[1-3]`, `[^1]`, in full width or in the
brackets of East Asian scripts. Numbers that name no passage are dropped, and what a reader sees has one form alone.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ringfence.documents.pauses import sentences

_OPENING, _CLOSING = "\\[\uff3b\u3010\u3014", "\\]\uff3d\u3011\u3015"
_BETWEEN = ",;\u3001\uff0c\uff1b"
_DASH = "\\-\u2010-\u2015\uff0d\uff5e~"
_NUMBERS = rf"\d{{1,3}}(?:\s*[{_BETWEEN}{_DASH}]\s*\d{{1,3}})*"
# OpenAI's models write 【1†source】 where they were taught to.
_MARKER = re.compile(rf"[ \u00a0]*[{_OPENING}]\s*\^?({_NUMBERS})\s*(?:\u2020[^{_CLOSING}\n]{{0,40}})?[{_CLOSING}]")
# What may yet become a marker, or the blank before one that is dropped, or a fence of code.
_BEGUN = re.compile(
    rf"(?:[ \u00a0]*(?:[{_OPENING}][\s\d^{_BETWEEN}{_DASH}]{{0,60}}(?:\u2020[^{_CLOSING}\n]{{0,40}})?)?|`+)\Z"
)
_CODE = re.compile(r"`+|\n[^\S\n]*\n")
_BLANK_SO_FAR = re.compile(r"\n[^\S\n]*\Z")
_SET_OFF = re.compile(r" (?=[.,;:!?\u2026])")  # by a marker that stood before a full stop
_MAY_END = re.compile(r"[.!?\n]|[^\x00-\x7f]")  # what ends a sentence, or may in other scripts
_FENCE = 3
_RANGE = re.compile(rf"(\d+)\s*[{_DASH}]\s*(\d+)|(\d+)")
_LONGEST = 4000
"""Characters of a sentence; a text without an end of sentences is checked in such parts."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer as a reader sees it: text, or a marker with the numbers that it names."""

    text: str
    numbers: tuple[int, ...] = ()


class Markers:
    """Finds markers in a stream.

    Args:
        count: how many passages there are; numbers from 1 to it are valid.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held = ""
        self._fenced = self._quoted = False
        self._line = ""  # the line break and the blanks that the last text ended with

    def feed(self, piece: str) -> list[Piece]:
        """What can be shown now; a possible beginning of a marker waits."""
        text = self._held + piece
        begun = _BEGUN.search(text)
        cut = begun.start() if begun else len(text)
        self._held = text[cut:]
        return list(self._parsed(text[:cut]))

    def finish(self) -> list[Piece]:
        """What waits; the answer is at its end."""
        text, self._held = self._held, ""
        return list(self._parsed(text))

    def _parsed(self, text: str) -> Iterator[Piece]:
        at = 0
        for match in _MARKER.finditer(text):
            self._watch(text[at : match.start()])
            before, at = text[at : match.start()], match.end()
            if before:
                yield Piece(before)
            if self._fenced or self._quoted:  # `array[0]` is no citation
                yield Piece(match.group())
                continue
            numbers = tuple(n for n in dict.fromkeys(_named(match[1], self._count)) if 1 <= n <= self._count)
            if numbers:
                blank = match.group()[: len(match.group()) - len(match.group().lstrip(" \u00a0"))]
                yield Piece(f"{blank}[{', '.join(map(str, numbers))}]", numbers)
        if rest := text[at:]:
            self._watch(rest)
            yield Piece(rest)

    def _watch(self, text: str) -> None:
        """Note where code begins and ends, which is left as it is."""
        text = self._line + text
        self._line = found.group() if (found := _BLANK_SO_FAR.search(text)) else ""
        for match in _CODE.finditer(text):
            if not match.group().startswith("`"):
                self._quoted = False  # only fences go on over a blank line
            elif len(match.group()) >= _FENCE:
                self._fenced = not self._fenced
            elif not self._fenced:
                self._quoted = not self._quoted


def _named(text: str, count: int) -> Iterator[int]:
    for first, last, single in _RANGE.findall(text):
        if single:
            yield int(single)
        else:
            yield from range(int(first), min(int(last), count) + 1)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer.

    Attributes:
        start: its first character's place in the answer as it is shown.
        end: behind its last, without the markers that follow its full stop.
        text: its words, without markers.
        numbers: of the passages that it cites, in order.
        shown: all that is shown from the end of the one before to the beginning of the next.
    """

    start: int
    end: int
    text: str
    numbers: tuple[int, ...]
    shown: str


class Statements:
    """Cuts a stream into sentences; a marker belongs to the one in which it stands, or behind which it does."""

    def __init__(self) -> None:
        self._shown = self._masked = ""  # the same length; the latter has blanks for markers
        self._marks: list[tuple[int, tuple[int, ...]]] = []
        self._offset = 0

    def feed(self, pieces: Iterable[Piece]) -> list[Statement]:
        """Those that have ended, as the beginning of the next one shows."""
        for piece in pieces:
            if piece.numbers:
                self._marks.append((len(self._shown), piece.numbers))
            self._shown += piece.text
            self._masked += " " * len(piece.text) if piece.numbers else piece.text
        if len(self._shown) <= _LONGEST and not _MAY_END.search(self._masked):
            return []
        bounds = list(_bounds(self._masked))
        return self._taken(bounds[: None if len(self._shown) > _LONGEST else -1], bounds)

    def finish(self) -> list[Statement]:
        """The last ones."""
        bounds = list(_bounds(self._masked))
        return self._taken(bounds, bounds)

    def rest(self) -> str:
        """What has been fed and belongs to no sentence yet."""
        return self._shown

    def _taken(self, ended: list[tuple[int, int]], bounds: list[tuple[int, int]]) -> list[Statement]:
        found, at = [], 0
        for index, (start, end) in enumerate(ended):
            until = bounds[index + 1][0] if index + 1 < len(bounds) else len(self._shown)
            numbers = dict.fromkeys(n for place, several in self._marks if at <= place < until for n in several)
            text = " ".join(self._masked[start:end].split())
            text = _SET_OFF.sub("", text) if numbers else text
            shown = self._shown[at:until]
            found.append(Statement(self._offset + start, self._offset + end, text, tuple(numbers), shown))
            at = until
        self._shown, self._masked = self._shown[at:], self._masked[at:]
        self._marks = [(place - at, numbers) for place, numbers in self._marks if place >= at]
        self._offset += at
        return found


def _bounds(text: str) -> Iterator[tuple[int, int]]:
    """The sentences of a text in which every line break ends one."""
    at = 0
    for line in text.split("\n"):
        for start, end in sentences(line):
            yield at + start, at + end
        at += len(line) + 1

"""What holds a document together beyond its sentences: headings, fenced code, rows of tables, items of lists."""

import re
from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from ringfence.documents import graphemes

MAX_CONTEXT_CHARS = 240
"""Of the headings above a chunk, together."""

BETWEEN = " \u203a "
"""Stands between two headings of a context."""

_MAX_TITLE_CHARS = 120
_FENCE = re.compile(r"^ {0,3}(`{3,}+(?=[^`\n]*+$)|~{3,}+)([^\n]*+)", re.MULTILINE)
_MARKER = r"[ \t]*(?:\||(?:[-*+\u2022\u2023\u25aa\u25e6\u2013]|\d{1,3}[.)])[ \t])"
_TO_LAST_ITEM = re.compile(rf"(?s:.*)\n(?={_MARKER})").match
_AFTER_ITEM = re.compile(rf"[ \t\r]*\n(?:[ \t\r]*\n|{_MARKER})").match


class _Heading(NamedTuple):
    """A heading in the buffer: where its line starts, where its title ends."""

    start: int
    end: int
    level: int
    title: str


_START = attrgetter("start")


class Outline:
    """The headings and the fenced code of the text in a buffer, and the headings that are above it.

    Args:
        count: how much of a chunk's size a text takes.
        most: how much of it a context may take.
    """

    def __init__(self, count: Callable[[str], int], most: int) -> None:
        self._count = count
        self._most = most
        self._above: list[tuple[int, str]] = []  # (level, title), the levels ascending
        self._headings: list[_Heading] = []  # that chunks have not passed yet, in order
        self._fences: list[tuple[int, int, str]] = []  # start, end, how it is opened
        self._open = ""  # the fence that the buffer begins in
        self._context = ""
        self._taken = 0

    def add(self, text: str, start: int, end: int, level: int, origin: int) -> None:
        """Take a heading: `text[start:end]`, the text being at `origin` in the buffer."""
        line = text.rfind("\n", 0, start) + 1
        title = " ".join(text[start:end].split())
        if title:
            self._headings.append(_Heading(max(origin + line, 0), origin + end, level, _short(title)))

    def read(self, text: str) -> bool:
        """Look at the buffer's new text; whether there is anything that `end` and `context` are needed for."""
        fenced = self._open or "`" in text or "~" in text  # single characters are looked for many times faster
        self._fences = self._find_fences(text) if fenced else []
        return bool(self._headings or self._above or self._fences)

    def _find_fences(self, text: str) -> list[tuple[int, int, str]]:
        fences, opener, start = [], self._open, 0
        for match in _FENCE.finditer(text):
            if not opener:
                opener, start = match[1], match.start()
            elif match[1].startswith(opener) and not match[2].strip():
                fences.append((start, match.end(), opener))
                opener = ""
        if opener:
            fences.append((start, len(text) + 1, opener))
        return fences

    def context(self, begin: int) -> tuple[str, int]:
        """The headings above a chunk that begins here, and how much they and a line break take of its size.

        The places that are asked for ascend.
        """
        passed = 0
        for heading in self._headings:
            if heading.start >= begin:
                break
            passed += 1
            self._above = [(level, title) for level, title in self._above if level < heading.level]
            self._above.append((heading.level, heading.title))
        if passed:
            del self._headings[:passed]
            self._context = self._fitted()
            self._taken = self._count(self._context + "\n")
        return self._context, self._taken

    def _fitted(self) -> str:
        """The lowest headings that fit; the lowest of all in part, if need be."""
        titles = [title for _, title in self._above]
        while len(titles) > 1 and not self._fits(BETWEEN.join(titles)):
            del titles[0]
        context = BETWEEN.join(titles)
        while context and not self._fits(context):
            context = _short(context, len(context) // 2)
        return context

    def _fits(self, context: str) -> bool:
        return len(context) <= MAX_CONTEXT_CHARS and self._count(context + "\n") <= self._most

    def end(self, text: str, start: int, cut: int, high: int) -> tuple[int, bool]:
        """A better end than `cut` for the chunk from `start`, if there is one, and whether the next chunk starts there.

        Before the highest heading behind the chunk's first quarter; before fenced code that fits into the next chunk;
        and not between a heading and its text.
        """
        best = self._best(start + (high - start) // 4, high)
        place = best if best is not None else self._before_fence(start, cut, high)
        at = bisect_left(self._headings, place, key=_START) - 1
        while at >= 0 and self._headings[at].start > start and not _says(text[self._headings[at].end : place]):
            place = self._headings[at].start
            at -= 1
        return place, best is not None or place != cut

    def start(self, low: int, cut: int, place: int) -> int:
        """The first heading in [low, cut), where the next chunk had better start than at `place`, if there is one."""
        if not self._headings:
            return place
        at = bisect_left(self._headings, low, key=_START)
        return self._headings[at].start if at < len(self._headings) and self._headings[at].start < cut else place

    def _best(self, low: int, high: int) -> int | None:
        first = bisect_left(self._headings, low, key=_START)
        inside = self._headings[first : bisect_left(self._headings, high, key=_START)]
        return min(reversed(inside), key=lambda heading: heading.level).start if inside else None

    def _before_fence(self, start: int, cut: int, high: int) -> int:
        for first, last, _ in self._fences:
            if start < first < cut < last and last - first <= high - start:
                return first
        return cut

    def drop(self, start: int) -> None:
        """Forget the buffer's text before `start`."""
        self._open = next((opener for first, last, opener in self._fences if first < start < last), "")
        self._headings = [
            _Heading(max(heading.start - start, -1), heading.end - start, heading.level, heading.title)
            for heading in self._headings
        ]


def whole_item(text: str, low: int, cut: int) -> int:
    """`cut`, or where the row or the item begins that it would tear, if that is in the last quarter from `low`."""
    match = _TO_LAST_ITEM(text, cut - (cut - low) // 2, cut)
    return match.end() if match and not _AFTER_ITEM(text, cut) else cut


def _says(text: str) -> bool:
    """Whether there is more in it than white space and the line under a heading."""
    return text.strip(" \t\r\n#=-") != ""


def _short(title: str, most: int = _MAX_TITLE_CHARS) -> str:
    return title if len(title) <= most else title[: graphemes.start(title, most, -1, 0)].rstrip() + "…"

"""A document's text as it is collected: pages of Markdown, with their headings, as the frames that a child sends."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ringfence.documents.parsing.headings import MAX_HEADING_CHARS, MAX_LEVEL, Place
from ringfence.documents.parsing.wire import PART_CHARS, UNSTORABLE, Count, Frame, Heading, Limits, Part, reason

_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACES = re.compile(r"[^\S\n]+")
_LINE_END_SPACES = re.compile(r" ?\n ?")
_MANY_LINES = re.compile(r"\n{3,}")
_MAX_DEPTH = 9  # of lists: Word's


def storable(text: str) -> str:
    """The text without what can't be stored, of the same length."""
    return UNSTORABLE.sub(" ", _SURROGATES.sub("\ufffd", text))


def tidy(text: str) -> str:
    """Running text with single spaces, and no more than one blank line between two lines."""
    text = _LINE_END_SPACES.sub("\n", _SPACES.sub(" ", storable(text.replace("\r\n", "\n").replace("\r", "\n"))))
    return _MANY_LINES.sub("\n\n", text).strip()


@dataclass(slots=True)
class _Page:
    pieces: list[str] = field(default_factory=list)
    length: int = 0
    headings: list[Place] = field(default_factory=list)
    within_list: bool = False


class Pages:
    """Pages that grow block by block; blocks are set off by a blank line, the items of a list by a line break.

    Raises (from every method that adds something):
        RingfenceError: `too_many_pages`, `too_much_text`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.max_chars
        self._pages = [_Page()]

    def turn(self) -> None:
        """Go on on a new page."""
        if len(self._pages) >= self._limits.max_pages:
            raise reason("too_many_pages")
        self._pages.append(_Page())

    def block(self, text: str) -> None:
        """A paragraph; its line breaks are kept."""
        self._add(tidy(text))

    def heading(self, text: str, level: int) -> None:
        """A heading of a level from 1; deeper ones than 6 are of level 6."""
        title = tidy(text).replace("\n", " ")
        if not 0 < len(title) <= MAX_HEADING_CHARS:
            self._add(title)
            return
        marks = "#" * min(max(level, 1), MAX_LEVEL)
        end = self._add(f"{marks} {title}")
        self._pages[-1].headings.append(Place(end - len(title), end, len(marks)))

    def item(self, text: str, depth: int = 0, mark: str = "-") -> None:
        """An item of a list; `depth` from 0."""
        body = tidy(text)
        if body:
            indent = "  " * min(max(depth, 0), _MAX_DEPTH)
            self._add(f"{indent}{mark} " + body.replace("\n", f"\n{indent}  "), item=True)

    def code(self, text: str) -> None:
        """Preformatted text, fenced; its spaces are kept."""
        body = storable(text.replace("\r\n", "\n").replace("\r", "\n")).strip("\n")
        if body.strip():
            fence = "```" if "```" not in body else "~~~~"
            self._add(f"{fence}\n{body}\n{fence}")

    def verbatim(self, text: str) -> None:
        """Text whose spaces and line breaks are all kept."""
        body = storable(text)
        self._add(body if body.strip() else "")

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """A table whose first row is its head; what is empty at its edges is left out."""
        self._add("\n".join(markdown_table(rows)))

    def _add(self, text: str, *, item: bool = False) -> int:
        """Add a block; the length of the page after it."""
        page = self._pages[-1]
        if not text:
            return page.length
        joint = "" if not page.pieces else "\n" if item and page.within_list else "\n\n"
        page.pieces.append(joint + text)
        page.length += len(joint) + len(text)
        page.within_list = item
        self._left -= len(joint) + len(text)
        if self._left < 0:
            raise reason("too_much_text")
        return page.length

    def frames(self, without_text: str = "no_text") -> Iterator[Frame]:
        """All of it, as a child sends it.

        Raises:
            RingfenceError: `without_text`, where no page holds any.
        """
        yield Count(len(self._pages))
        for number, page in enumerate(self._pages, start=1):
            yield from parts(number, 0, "".join(page.pieces), page.headings)
        if not any(page.pieces for page in self._pages):
            raise reason(without_text)


def parts(page: int, start: int, text: str, headings: Sequence[Place] = ()) -> Iterator[Frame]:
    """Cut a page's text into frames, one at least; characters are replaced one by one here, so that offsets hold.

    Args:
        page: from 1.
        start: of the text, in the page's.
        text: the page's, or the next piece of it.
        headings: of the text, in order, with offsets in it; each comes before the part that holds it as a whole.
    """
    text = storable(text)
    waiting = deque(headings)
    at = 0
    while True:
        cut = min(at + PART_CHARS, len(text))
        while waiting and waiting[0].end <= cut:
            place = waiting.popleft()
            yield Heading(page, start + place.start, start + place.end, place.level)
        if waiting and waiting[0].start < cut:
            cut = waiting[0].start
        yield Part(page, start + at, text[at:cut])
        if cut == len(text):
            return
        at = cut


def markdown_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table (GitHub's form); rows may be of unequal length, empty rows and edges go."""
    cells = [[_cell(value) for value in row] for row in rows]
    used = [index for row in cells for index, value in enumerate(row) if value]
    if not used:
        return []
    first, width = min(used), max(used) + 1
    body = [(row + [""] * (width - len(row)))[first:width] for row in cells if any(row)]
    lines = ["| " + " | ".join(row) + " |" for row in body]
    return [lines[0], "|" + " --- |" * (width - first), *lines[1:]]


def _cell(value: str) -> str:
    return tidy(value).replace("\n", " ").replace("|", "\\|")

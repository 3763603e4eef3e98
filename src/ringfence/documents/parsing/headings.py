"""Where a text's headings are: those of Markdown, and those that a PDF's outline names."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

MAX_HEADING_CHARS = 300
"""What is longer is no heading, whatever its author says."""

MAX_LEVEL = 6
"""HTML's, and Markdown's; deeper ones of an outline count as this one."""

_SECTION_CHARS = 65_536
_MAX_ENTRIES = 100  # of an outline for one page, and only in its first characters: a search each, and files can lie

# CommonMark 0.31, 4.2 to 4.5, but for two things: an underlined heading is one line after a blank one (with several
# lines, text above a rule would be one too, as front matter is), and a heading in a quotation or a list is none.
_MARKDOWN = re.compile(
    r"^(?:\ {0,3}(?:(?P<fence>`{3,}+(?=[^`\n]*+$)|~{3,}+)(?P<info>[^\n]*+)"
    r"|(?P<hashes>\#{1,6})[ \t]++(?P<title>[^\n]*+))"
    r"|(?<!\S\n)(?<!\S\r\n)\ {0,3}(?P<lined>[^\s#>|*+\-=][^\n]*+)\n\ {0,3}(?P<line>=++|-++)[ \t\r]*+$)",
    re.MULTILINE | re.VERBOSE,
)
_LAST_BLANK_LINE = re.compile(r"(?s:.*)\n[ \t\r]*\n")


class Place(NamedTuple):
    """A heading in a text: its characters from `start` to `end` without markup, its level from 1 (the highest)."""

    start: int
    end: int
    level: int


def sections(blocks: Iterable[str]) -> Iterator[str]:
    """Cut a streamed text anew, at blank lines: no heading then lies in two pieces, unless one is in 65,536 characters.

    The pieces together are the blocks together.
    """
    rest = ""
    for block in blocks:
        rest += block
        match = _LAST_BLANK_LINE.match(rest)
        cut = match.end() if match else len(rest) if len(rest) > _SECTION_CHARS else 0
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


class Markdown:
    """Finds the headings of a Markdown text that comes in the pieces which `sections` makes."""

    def __init__(self) -> None:
        self._fence = ""

    def headings(self, text: str) -> list[Place]:
        """The headings of the next piece, in order, with offsets in it; what fenced code holds is none."""
        found = []
        for match in _MARKDOWN.finditer(text):
            if match["fence"]:
                self._toggle(match["fence"], match["info"])
            elif not self._fence:
                start, end = match.span("title" if match["hashes"] else "lined")
                title = text[start:end].rstrip()
                bare = title.rstrip("#")
                if match["hashes"] and (not bare or bare[-1].isspace()):  # a closing sequence
                    title = bare.rstrip()
                level = len(match["hashes"]) if match["hashes"] else 1 if match["line"][0] == "=" else 2
                if 0 < len(title) <= MAX_HEADING_CHARS:
                    found.append(Place(start, start + len(title), level))
        return found

    def _toggle(self, fence: str, info: str) -> None:
        if not self._fence:
            self._fence = fence
        elif fence.startswith(self._fence) and not info.strip():
            self._fence = ""


def outlined(text: str, entries: Sequence[tuple[int, str]]) -> list[Place]:
    """The headings of a page that entries of the outline, (level, title), point at.

    An entry counts where one or more whole lines of the page say it, with or without a number before, after the entry
    before it. Nothing is guessed from the size or the weight of letters.
    """
    found: list[Place] = []
    for level, title in entries[:_MAX_ENTRIES]:
        words = title.split()
        if not words or len(title) > MAX_HEADING_CHARS:
            continue
        number = "" if words[0][0].isdigit() else r"(?:[\w.]{1,12}[^\S\n]*+\n?[^\S\n]*+(?<=\s))?"
        title_lines = r"\s+".join(map(re.escape, words))
        pattern = re.compile(rf"^[^\S\n]*+({number}{title_lines})[^\S\n]*+$", re.MULTILINE | re.IGNORECASE)
        match = pattern.search(text, found[-1].end if found else 0, _SECTION_CHARS)
        if match:
            found.append(Place(*match.span(1), min(max(level, 1), MAX_LEVEL)))
    return found

"""Cut pages into overlapping chunks that end where people pause, in one pass and in any script.

Every chunk remembers the pages and character offsets it came from, so that a citation can point into the page.
"""

import re
import unicodedata
from dataclasses import dataclass

from ringfence.errors import SetupError

PAGE_JOINT = "\n"
"""What stands between the text of two pages inside one chunk."""

# Unicode's Sentence_Terminal (UAX 29) of the scripts in use. The first group ends a sentence only before white space,
# because it also writes decimals, domain names and abbreviations; the second group does so anywhere.
_STOPS_BEFORE_SPACE = ".!?\u2026\uff0e"
_STOPS_ANYWHERE = (
    "\u0589\u055c\u055e\u061d\u061e\u061f\u06d4\u0700-\u0702\u07f9\u0964\u0965\u0f0d\u0f0e\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1803\u1809\u1944\u1945\u203c\u203d\u2047-\u2049\u2e2e\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\uabeb"
    "\ufe52\ufe56\ufe57\uff01\uff1f\uff61"
)
_CLOSERS = "\"'\u2019\u201d\u00bb\u203a)\\]}\u3009\u300b\u300d\u300f\u3011\u3015\u3017\uff09\uff3d\uff5d\uff63"
_CLAUSE_BEFORE_SPACE = ",;:)\\]\u2013"
_CLAUSE_ANYWHERE = "\u055d\u060c\u061b\u1361\u1363-\u1366\u1802\u2014\u3001\ua60d\ufe50\ufe51\uff0c\uff1a\uff1b\uff64"


def _after(before_space: str, anywhere: str, closers: str) -> str:
    """A pattern that starts with one character set, for which the regex engine scans fast, and looks one ahead."""
    inside = rf"(?<=[{anywhere}])[{before_space}{anywhere}]*+[{closers}]*+(?=[\s\S])"
    return rf"[{before_space}{anywhere}](?:{inside}|[{before_space}]*+[{closers}]*+(?=\s))"


_SENTENCE = _after(_STOPS_BEFORE_SPACE, _STOPS_ANYWHERE, _CLOSERS)
_CLAUSE = _after(_CLAUSE_BEFORE_SPACE, _CLAUSE_ANYWHERE, _CLOSERS)
_PARAGRAPH = r"\n[^\S\n]{0,16}\n(?=[\s\S])"
_CUTS = tuple(re.compile(pattern) for pattern in (_PARAGRAPH, _SENTENCE, _CLAUSE))  # from best to worst
_RESUMES = _CUTS[1:]
_SPACES = re.compile(r"\s*+")

_LONGEST_CHARACTER = 64  # code points; longer ones are torn
_ZERO_WIDTH_JOINERS = "\u200c\u200d"
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
_EXTENDERS = (range(0x1F3FB, 0x1F400), range(0xE0020, 0xE0080))  # skin tones; the tags of regional flags


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document.

    Attributes:
        number: position in the document, from 0.
        text: equals `PAGE_JOINT.join(page_text[start:end] for each span)`; starts and ends with a visible character.
        spans: (page, start, end) in reading order: page number as given to `Chunker.add`, offsets in characters.
    """

    number: int
    text: str
    spans: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Segment:
    """From `start` in the buffer on stands the text of `page` from `offset` on."""

    start: int
    page: int
    offset: int


class Chunker:
    """A sliding window over a document's pages; holds at most one page and one chunk at a time.

    Args:
        size: longest chunk, in characters.
        overlap: most characters that a chunk repeats from the one before; at most half of `size`.

    Raises:
        SetupError: `size` and `overlap` do not fit together.
    """

    def __init__(self, size: int = 800, overlap: int = 120) -> None:
        if size < 1 or not 0 <= overlap <= size // 2:
            raise SetupError("bad_setting", "A chunk's overlap must lie between 0 and half of the chunk's size.")
        self._size = size
        self._overlap = overlap
        self._text = ""
        self._segments: list[_Segment] = []
        self._covered = 0  # up to here, the buffer's text is in a chunk
        self._page: int | None = None
        self._seen = 0  # characters of the current page so far
        self._number = 0

    def add(self, page: int, text: str) -> list[Chunk]:
        """Take a page's text, or the next part of it, and return the chunks that it completes.

        The same page number again continues that page without a joint.
        """
        if page != self._page:
            self._page, self._seen = page, 0
        self._append(page, self._seen, text)
        self._seen += len(text)
        return self._cut(final=False)

    def finish(self) -> list[Chunk]:
        """Return the chunks of what is left; the chunker is done after that."""
        return self._cut(final=True)

    def _append(self, page: int, offset: int, text: str) -> None:
        if self._segments and self._segments[-1].page == page:
            self._text += text
            return
        visible = text.lstrip()
        if not visible:  # adds nothing to a chunk, so it shall not add its page to the citation either
            return
        if self._text:
            self._text += PAGE_JOINT
        else:
            self._segments.clear()
        self._segments.append(_Segment(len(self._text), page, offset + len(text) - len(visible)))
        self._text += visible

    def _cut(self, *, final: bool) -> list[Chunk]:
        text, size, covered = self._text, self._size, self._covered
        chunks = []
        start = _end_of_spaces(text, 0)
        while len(text) - start > size:
            cut = _cut_point(text, start + size // 2, start + size)
            if text[max(start, covered) : cut].isspace():
                start = cut
            else:
                chunks.append(self._chunk(text, start, cut))
                covered = cut
                start = max(start + 1, _resume_point(text, cut - self._overlap, cut))
            start = _end_of_spaces(text, start)
        if final:
            if text[max(start, covered) :].strip():
                chunks.append(self._chunk(text, start, len(text)))
            start = len(text)
        self._forget(start, covered)
        return chunks

    def _chunk(self, text: str, start: int, cut: int) -> Chunk:
        body = text[start:cut].rstrip()
        chunk = Chunk(self._number, body, self._spans(start, start + len(body)))
        self._number += 1
        return chunk

    def _spans(self, start: int, end: int) -> tuple[tuple[int, int, int], ...]:
        segments = self._segments
        while len(segments) > 1 and segments[1].start <= start:
            del segments[0]  # chunks only move forward
        spans = []
        for index, segment in enumerate(segments):
            if segment.start >= end:
                break
            following = segments[index + 1].start - len(PAGE_JOINT) if index + 1 < len(segments) else end
            shift = segment.offset - segment.start
            spans.append((segment.page, max(start, segment.start) + shift, min(end, following) + shift))
        return tuple(spans)

    def _forget(self, start: int, covered: int) -> None:
        self._text = self._text[start:]
        self._covered = max(covered - start, 0)
        self._segments = [_Segment(s.start - start, s.page, s.offset) for s in self._segments]


def _end_of_spaces(text: str, start: int) -> int:
    match = _SPACES.match(text, start)
    return match.end() if match else start


def _cut_point(text: str, low: int, high: int) -> int:
    """The best place in (low, high] to end a chunk; `text` goes on beyond `high`."""
    for pattern in _CUTS:
        cut = low
        for match in pattern.finditer(text, low, high + 1):
            cut = match.end()
        if cut > low:
            return cut
    newline = text.rfind("\n", low, high)
    if newline >= 0:
        return newline + 1
    if text[high - 1].isspace():
        return high
    word = high - len(text[low:high].rsplit(None, 1)[-1])
    return word if word > low else _character_start(text, high, -1, low)


def _resume_point(text: str, low: int, cut: int) -> int:
    """The first good place in [low, cut] to start the next chunk."""
    for pattern in _RESUMES:
        if match := pattern.search(text, low, cut):
            return match.end()
    words = text[low:cut].split(None, 1)
    if len(words) > 1:
        return cut - len(words[1])
    return _character_start(text, low, 1, cut)


def _character_start(text: str, index: int, step: int, end: int) -> int:
    """The nearest index on the way to `end` where no character is torn; `index` itself where none is near."""
    ways = range(index, end, step)[:_LONGEST_CHARACTER]
    return next((at for at in ways if not _inside_character(text, at)), index)


def _inside_character(text: str, index: int) -> bool:
    """Whether a cut before `text[index]` would tear what people see as one character (roughly UAX 29's clusters)."""
    before, after = text[index - 1], text[index]
    if after < "\u0300":  # the first combining mark
        return before == "\r" and after == "\n"
    if unicodedata.category(after)[0] == "M" or before in _ZERO_WIDTH_JOINERS or after in _ZERO_WIDTH_JOINERS:
        return True
    point = ord(after)
    return any(point in extenders for extenders in _EXTENDERS) or (
        point in _REGIONAL_INDICATORS and ord(before) in _REGIONAL_INDICATORS
    )


_SENTENCE_ENDS = re.compile(rf"{_PARAGRAPH}|{_SENTENCE}")
_ABBREVIATIONS = (
    " al approx apr aug bzw ca cf co corp dec dept dr ed eds eg e.g eq etc feb fig figs gen gov hon ie i.e inc jan "
    "jr jul jun ltd mr mrs ms mt nos nov oct p pp prof rep rev sec sen sep sr st u.a u.s usw vgl vol vs "
    "z.b "
)
_LONGEST_TOKEN = 12
_LOOK_AHEAD = 8


def sentences(text: str) -> list[tuple[int, int]]:
    """Split a text into sentences: (start, end) offsets without the white space around, in order.

    A blank line ends one too. Common abbreviations, initials, decimals and the numbers of list items do not.
    """
    found = []
    start = 0
    for match in _SENTENCE_ENDS.finditer(text):
        if match.group().startswith(".") and _goes_on(text, start, match.start(), match.end()):
            continue
        found.append((start, match.end()))
        start = match.end()
    found.append((start, len(text)))
    return [span for span in (_stripped(text, *bounds) for bounds in found) if span[0] < span[1]]


def _goes_on(text: str, sentence: int, stop: int, end: int) -> bool:
    """Whether the full stop at `stop` belongs to an abbreviation or a list number, not to the end of the sentence."""
    following = text[end : end + _LOOK_AHEAD].lstrip()[:1]
    if following.islower() or following == ".":
        return True
    tokens = text[max(sentence, stop - _LONGEST_TOKEN) : stop].split()
    if not tokens:
        return False
    token = tokens[-1].lstrip("([\"'")
    initial = len(token) == 1 and token.isupper()
    item = token.isdigit() and not text[text.rfind("\n", sentence, stop) + 1 : stop].strip()[: -len(token)]
    first = token.isdigit() and text[sentence:stop].strip() == token
    return initial or item or first or f" {token.lower()} " in _ABBREVIATIONS


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    start = _end_of_spaces(text, start)
    return start, start + len(text[start:end].rstrip())

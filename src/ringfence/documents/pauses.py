"""Where people pause, in any script: places to end and to start a passage, and sentences."""

import re

from ringfence.documents import graphemes

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
_SPACES = re.compile(r"\s*+")

# Where a chunk may end, from best to worst: nearly always at a blank line or a full stop. These come first and alone,
# since behind `.*` the regex engine finds one character several times faster than one out of a set.
TO_LAST_BLANK_LINE = re.compile(r"(?s:.*)\n[^\S\n]*+\n").match
TO_LAST_FULL_STOP = re.compile(rf"(?s:.*)\.[{_CLOSERS}]*+(?=\s)").match
_ANY_ELSE = re.compile(rf"[\s{_STOPS_BEFORE_SPACE}{_STOPS_ANYWHERE}{_CLAUSE_BEFORE_SPACE}{_CLAUSE_ANYWHERE}]").search
_TO_LAST_ELSE = tuple(re.compile(f"(?s:.*){end}").match for end in (_SENTENCE, _CLAUSE, r"\n", r"\s"))
# Where the next one may start, from best to worst.
FIRST_FULL_STOP = re.compile(rf"\.[{_CLOSERS}]*+\s++").search
_TO_FIRST_ELSE = re.compile(
    rf"(?:[^{_STOPS_BEFORE_SPACE}{_STOPS_ANYWHERE}]*+{_SENTENCE}"
    rf"|[^{_CLAUSE_BEFORE_SPACE}{_CLAUSE_ANYWHERE}]*+{_CLAUSE}|\S*+\s)\s*+"
).match


def end_of_spaces(text: str, start: int) -> int:
    """Where the white space ends that may begin at `start`."""
    match = _SPACES.match(text, start)
    return match.end() if match else start


def cut_point(text: str, low: int, high: int) -> int:
    """The best place in (low, high) to end a chunk that has neither a blank line nor a full stop there."""
    if _unbroken(text[low:high]):
        return high - 1
    if _ANY_ELSE(text, low, high):
        for to_last in _TO_LAST_ELSE:
            if match := to_last(text, low, high):
                return match.end()
    return graphemes.start(text, high - 1, -1, low)


def start_point(text: str, low: int, cut: int) -> int:
    """The first good place in [low, cut] to start the next chunk where no full stop is."""
    if _unbroken(text[low:cut]):
        return low
    match = _TO_FIRST_ELSE(text, low, cut)
    return match.end() if match else low


def _unbroken(text: str) -> bool:
    """Whether it is quickly seen that no place is better than another: in ASCII, those have white space beside them."""
    return " " not in text and text.isascii() and text.split(None, 1) == [text]


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
    start = end_of_spaces(text, start)
    return start, start + len(text[start:end].rstrip())

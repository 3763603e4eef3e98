"""What people see as one character (UAX 29's extended grapheme clusters), told from the safe side.

Every boundary that is found here is one of Unicode's. A few of Unicode's are not found, where only tables that Python
lacks could tell: after a virama of any script, say, or after any zero-width joiner.
"""

import unicodedata

LONGEST = 64
"""Code points of a cluster; in a longer one (nobody writes such) a boundary is taken where none is."""

PLAIN_AFTER = "\u02ff"
"""No boundary lies inside a cluster where the character after it is not above this one, and the one before it …"""

PLAIN_BEFORE = "\u05ff"
"""… is not above this one, but for CR LF."""

_JOINERS = "\u200c\u200d"
_HANGUL_LEADING = (range(0x1100, 0x1160), range(0xA960, 0xA97D))
_HANGUL_FOLLOWING = (range(0x1160, 0x1200), range(0xD7B0, 0xD800))
_HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
_REGIONAL = "".join(chr(point) for point in range(0x1F1E6, 0x1F200))
_MANY_FLAGS = 1024  # letters; in a longer row without a gap, flags may be torn
# Extend and SpacingMark beyond the marks (category M): Thai and Lao am, half-width voicing, skin tones, tags of flags.
_EXTENDERS = (
    *(range(0xE33, 0xE34), range(0xEB3, 0xEB4), range(0xFF9E, 0xFFA0)),
    *(range(0x1F3FB, 0x1F400), range(0xE0020, 0xE0080)),
)
_PREPENDED = frozenset(
    {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x113D1}
    | {0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02}
)
_VIRAMA = 9  # canonical combining class of what joins two consonants of India's scripts


def inside(text: str, index: int) -> bool:
    """Whether a cut before `text[index]` tears a cluster; a text's two ends tear none."""
    if not 0 < index < len(text):
        return False
    before, after = text[index - 1], text[index]
    if after <= PLAIN_AFTER and before <= PLAIN_BEFORE:
        return before == "\r" and after == "\n"
    if _is_control(before) or _is_control(after):
        return False
    if after in _REGIONAL and before in _REGIONAL:
        return _regional_before(text, index) % 2 == 1
    return _joined(before, after) or (_is_mark(before) and _ends_in_virama(text, index))


def start(text: str, index: int, step: int, end: int) -> int:
    """The nearest index on the way to `end` where no cluster is torn; `index` itself where none is near."""
    for at in range(index, end, step)[:LONGEST]:
        if not inside(text, at):
            return at
    return index


def _joined(before: str, after: str) -> bool:
    first, second = ord(before), ord(after)
    return (
        before in _JOINERS
        or after in _JOINERS
        or _is_mark(after)
        or first in _PREPENDED
        or _within(second, _EXTENDERS)
        or _is_syllable(first, second)
    )


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _is_control(character: str) -> bool:
    return character not in _JOINERS and unicodedata.category(character) in {"Cc", "Zl", "Zp"}


def _within(point: int, ranges: tuple[range, ...]) -> bool:
    return any(point in one for one in ranges)


def _is_syllable(first: int, second: int) -> bool:
    """Whether two parts of Korean writing may belong to one syllable."""
    if _within(second, _HANGUL_FOLLOWING):
        return True
    return _within(first, _HANGUL_LEADING) and (second in _HANGUL_SYLLABLES or _within(second, _HANGUL_LEADING))


def _regional_before(text: str, index: int) -> int:
    """How many of the letters that make flags stand before `index`, without a gap."""
    row = text[max(index - _MANY_FLAGS, 0) : index]
    return len(row) - len(row.rstrip(_REGIONAL))


def _ends_in_virama(text: str, index: int) -> bool:
    """Whether a virama is among the marks before `index`."""
    for at in range(index - 1, max(index - LONGEST, -1), -1):
        if unicodedata.combining(text[at]) == _VIRAMA:
            return True
        if not _is_mark(text[at]):
            return False
    return True

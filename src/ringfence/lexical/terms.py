"""Terms: what lexical search compares texts by.

A text falls into words (letters, numbers and their marks); a word is folded (case, compatibility forms, accents) and
stemmed in its text's language (Snowball). Where a script writes no spaces, pairs of characters take the place of words.
What holds a digit, `_`, `@`, `+` or `#`, such as `AB-123.4`, `snake_case`, a mail address or a version, is a term as it
is written, beside its parts. Lucene's 33 English stop words are left out of texts in any language: most have some of
them, which would pass for rare where the English documents lack them. Otherwise rarity alone tells.

Terms are 64 bits of BLAKE2b. Among n different terms of a tenant two share their number with a probability below
n²/2⁶⁵ (10 million: 3 in a million), and then those two words find each other's texts, in that tenant and nobody else's.
"""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache

import regex
import Stemmer

LONGEST_TERM = 64
"""Characters; of what is longer, the beginning counts."""

MOST_QUERY_TERMS = 64
"""Different terms of a query, in each analysis; the first ones count."""

# How a text's words become terms, by its language. A posting holds the place in this list: add at its end alone.
# "": no stems. vi: accents tell words apart, and stay.
ANALYSES = (
    *("", "ar", "ca", "cs", "da", "de", "el", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "ga", "hi", "hu", "hy"),
    *("id", "it", "lt", "ne", "nl", "no", "pl", "pt", "ro", "ru", "sr", "sv", "ta", "tr", "vi", "yi"),
)

_VIETNAMESE = "vi"
_ALIASES = {"nb": "no", "nn": "no"}
_ALGORITHMS = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "eo": "esperanto",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
_STOP_WORDS = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in"),
        *("into", "is", "it", "no", "not", "of", "on", "or", "such", "that", "the", "their"),
        *("then", "there", "these", "they", "this", "to", "was", "will", "with"),
    }
)
# Letters and digits with the marks and joiners that belong to them, and the two signs inside Hebrew abbreviations.
_LETTERS = r"\p{L}\p{M}\p{N}\u200c\u200d\u05f3\u05f4"
_TOKEN = regex.compile(rf"[{_LETTERS}_]+(?:[-.,@+'\u2019][{_LETTERS}_]+)*(?:\+\+|\#(?!\w))?")
_PART = regex.compile(rf"[{_LETTERS}]+")
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30fc]+", regex.VERSION1
)
_WHOLE = regex.compile(r"[\p{N}_@+\#]")
_SIMPLE = regex.compile(rf"[{_LETTERS}]+")
# Accents; points and vowel signs of Hebrew and Arabic, which are mostly left out; the lengthening of Arabic; joiners.
_MARKS = regex.compile("[\u0300-\u036f\u0591-\u05c7\u05f3\u05f4\u0610-\u061a\u0640\u064b-\u065f\u0670\u200c\u200d]+")
# Letters that are no others with a mark: ø, ł, đ, æ, œ, ð, þ, and Turkish i without its dot.
_LETTERS_WITHOUT_PARTS = {
    0xF8: "o",
    0x142: "l",
    0x111: "d",
    0xE6: "ae",
    0x153: "oe",
    0xF0: "d",
    0xFE: "th",
    0x131: "i",
}
_CACHED = 2**16
_LONGEST_CACHED = 64


def analysis_of(language: str | None) -> int:
    """Which of `ANALYSES` a text in this language (ISO 639-1) gets; 0 for one that has none of its own."""
    code = _ALIASES.get(language or "", language)
    return ANALYSES.index(code) if code in ANALYSES else 0


def terms(text: str, analysis: int) -> Iterator[int]:
    """The terms of a text, as often and in the order in which they occur."""
    for token in _tokens(text):
        yield from _terms(token, analysis)


def query_terms(text: str) -> list[tuple[int, int, float]]:
    """What to look for: (term, mask, weight).

    Bit i of the mask stands for texts of analysis i; the weight is how often the query has the term. No term has the
    same bit twice.
    """
    tokens = _tokens(text)
    masks: dict[tuple[int, int], int] = defaultdict(int)
    for analysis in range(len(ANALYSES)):
        found = Counter(term for token in tokens for term in _terms(token, analysis))
        for term, times in list(found.items())[:MOST_QUERY_TERMS]:
            masks[term, times] |= 1 << analysis
    return [(term, mask, float(times)) for (term, times), mask in masks.items()]


def words(text: str, analysis: int) -> Iterator[str]:
    """The terms of a text as they are before they become numbers."""
    for token in _tokens(text):
        yield from _words(token, analysis)


def _tokens(text: str) -> list[str]:
    # Composed first: the marks of kana, say, are not of its script.
    found: list[str] = _TOKEN.findall(unicodedata.normalize("NFKC", text))
    return found


def _terms(token: str, analysis: int) -> tuple[int, ...]:
    # What is long is seen once, and would fill the memory.
    return _cached_terms(token, analysis) if len(token) <= _LONGEST_CACHED else _number_all(token, analysis)


@lru_cache(_CACHED)
def _cached_terms(token: str, analysis: int) -> tuple[int, ...]:
    return _number_all(token, analysis)


def _number_all(token: str, analysis: int) -> tuple[int, ...]:
    return tuple(_number(word) for word in _words(token, analysis))


def _number(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def _words(token: str, analysis: int) -> Iterator[str]:
    if not _SIMPLE.fullmatch(token) and _WHOLE.search(token):
        yield _without_accents(_folded(token))[:LONGEST_TERM]
    elided = "'" in token or "\u2019" in token
    for part in _PART.findall(token):
        if not (elided and len(part) == 1):  # what is left of "it's" and "l'eau"
            yield from _of_part(part, analysis)


def _of_part(part: str, analysis: int) -> Iterator[str]:
    """The terms of letters and digits without a gap: of words and of runs without spaces, in turn."""
    end = 0
    for run in _UNSPACED.finditer(part):
        yield from _of_word(part[end : run.start()], analysis)
        characters, end = _folded(run.group()), run.end()
        for at in range(max(len(characters) - 1, 1)):
            yield characters[at : at + 2]
    yield from _of_word(part[end:], analysis)


def _of_word(word: str, analysis: int) -> Iterator[str]:
    folded = _folded(word[: 2 * LONGEST_TERM])
    if folded in _STOP_WORDS:
        return
    if algorithm := _ALGORITHMS.get(ANALYSES[analysis]):
        folded = _stemmer(algorithm).stemWord(folded)
    if ANALYSES[analysis] != _VIETNAMESE:
        folded = _without_accents(folded)
    if folded:
        yield folded[:LONGEST_TERM]


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word.casefold())


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    bare = _MARKS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_LETTERS_WITHOUT_PARTS)


@lru_cache
def _stemmer(algorithm: str) -> Stemmer.Stemmer:
    # It holds the interpreter's lock over a word, and without a cache of its own it keeps no state between two.
    return Stemmer.Stemmer(algorithm, maxCacheSize=0)

"""Terms: what a question and a text are compared by, and where in the text they stand."""

import re
import unicodedata
from collections.abc import Iterator

# `\w` leaves out the marks with which these scripts write their vowels; without them words would fall apart.
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u109f\u1780-\u17d3"
_WORD = re.compile(rf"[\w{_MARKS}]+")
# Lao, Thai, Burmese, Khmer, Japanese and Chinese don't space words; Korean does, but glues particles to them.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff]"
)
_STEMS = (4, 7)
_SURROGATE = re.compile("[\ud800-\udfff]")


def terms(text: str) -> set[str]:
    """What two texts can be compared by: beginnings of words, or pairs of characters where nothing is spaced.

    The first four letters of "reset" are those of "resetting", and the first seven tell "contract" from "control":
    together they show which sentence of a few is meant, in any language, without its grammar.
    """
    return {term for _, _, term in located(text)}


def located(text: str) -> Iterator[tuple[int, int, str]]:
    """Each occurrence of a term, in order: (start, end, term); several of one word share its place."""
    for match in _WORD.finditer(text):
        word, start = match.group(), match.start()
        if _UNSPACED.search(word):
            for i in range(max(len(word) - 1, 1)):
                yield start + i, min(start + i + 2, match.end()), _folded(word[i : i + 2])
        else:
            for term in dict.fromkeys(_folded(word)[:letters] for letters in _STEMS):
                yield start, match.end(), term


def _folded(word: str) -> str:
    if word.isascii():  # most are, and it is the same
        return word.lower()
    return unicodedata.normalize("NFKC", word).casefold()


def highlights(question: str, text: str) -> list[tuple[int, int]]:
    """The words of a text that share a term with the question: (start, end), in order, none touching another."""
    asked, found = terms(question), list[tuple[int, int]]()
    for start, end, term in located(text):
        if term not in asked:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def is_text(question: str) -> bool:
    """Whether it is text to Unicode and to PostgreSQL: no lone surrogates, no NUL."""
    return "\0" not in question and not _SURROGATE.search(question)

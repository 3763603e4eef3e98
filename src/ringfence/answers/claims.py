"""What a sentence claims, and how much of that stands in a text: its content words, numbers, names, and negations.

Pure functions of text, in any script; no model is asked. `checking.py` makes verdicts of them.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache

from ringfence.documents.pauses import sentences
from ringfence.search.terms import located

_DIGITS = re.compile(r"\d+(?:[.,'\u2019\u066b\u066c]\d+)*")
_GROUPED = re.compile(r"\d{1,3}(?:[.,'\u2019\u066c]\d{3})+")
_SEPARATORS = re.compile(r"[.,'\u2019\u066b\u066c]")
_HARD_SPACES = {0xA0: "'", 0x202F: "'"}  # between thousands; the compatibility form of both is a blank
_WITH_DECIMALS = 2
_ITEM = re.compile(r"^\s*(?:[-*\u2022]\s+)?(?:\d{1,2}[.)]\s+)?")
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_BY_TENS = "thirty forty fifty sixty seventy eighty ninety"
_VAGUE = {"one", "zero"}  # "one of them", "no one": seldom a number
_IDEOGRAPHS = "\u3007一二三四五六七八九"
_TENS = {"十": 10, "百": 100, "千": 1000}
_IDEOGRAPHIC = re.compile("[\u3007零一二两三四五六七八九十百千]+")
_POSSESSIVE = re.compile(r"['\u2019]s$")
# Where a negation is a word of its own, or a character; in other languages nothing is found, and nothing differs.
_DENYING = (
    "not no never none neither nor without cannot nicht kein keine keinen keinem keiner keines nie niemals ohne "
    "weder ne pas jamais aucun aucune sans nunca ningún ninguna ninguno sin jamás non mai nessun nessuna nessuno "
    "senza niet geen nooit zonder não nem nenhum nenhuma sem не нет ни без никогда нельзя nie bez nigdy inte aldrig "
    "utan ikke aldri uten değil yok لا ليس ليست لم لن غير नहीं"
)
# What a sentence begins with that speaks of what stands before it.
_POINTING = (
    "it its he his she her they their this that these those there then es er sie sein ihr dies diese dieser dieses das "
    "il elle ils elles ce cet cette ces cela son sa ses él ella ellos ellas esto este esta su sus het hij zij dit dat "
    "ele ela eles elas isto seu sua lui lei loro questo questa suo sua"
)
_TELLING = 6  # terms, of which a word of more than four letters has two: "the notice period is" has six
# A number behind a letter or a sign, or a word with a capital letter: "X-200", "§ 12", "Room 12"; and a year.
_LABEL = re.compile(r"(?:(?<=[^\W\d_])[-/._]?|[#№§/]\s?|\b([^\W\d_]+)\.?[ \u00a0])(\d+(?:[.,]\d+)*)")
_CURRENCY = re.compile(r"[A-Z]{3}")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NEGATED_ENDING = re.compile(r"n['\u2019]t$")
_NEGATING_CHARACTERS = re.compile("[不没沒无未非]|ない|ません|なかった|않|없")


@dataclass(frozen=True, slots=True)
class Claim:
    """What can be compared of a sentence.

    Attributes:
        terms: its words, as search compares them.
        numbers: each as the forms that it may be read in ("1.500" is 1500 or 1.5).
        names: its words with a capital letter that is not that of the sentence's beginning, folded.
        negated: whether it denies something.
        figure: what another text may say with another figure; None where it tells none.
    """

    terms: frozenset[str]
    numbers: tuple[frozenset[str], ...]
    names: frozenset[str]
    negated: bool
    figure: "Figure | None"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compare."""
        return not self.terms


@dataclass(frozen=True, slots=True)
class Figure:
    """A sentence that tells a figure: its words without its numbers, and those.

    Attributes:
        words: as search compares them, with whether they deny something.
        numbers: each in its forms.
        labels: those of them that name something: "Room 12", "X-200", a year.
    """

    words: tuple[frozenset[str], bool]
    numbers: tuple[frozenset[str], ...]
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ground:
    """A sentence of a passage, which may carry a claim.

    Attributes:
        start: its first character, in the passage's text.
        end: behind its last.
        terms: its words.
        negated: whether it denies something.
        figure: what another text may say with another figure; None where it tells none.
    """

    start: int
    end: int
    terms: frozenset[str]
    negated: bool
    figure: "Figure | None"


@dataclass(frozen=True, slots=True)
class Basis:
    """A passage, prepared to be compared with: its sentences, and what stands anywhere in it.

    Attributes:
        text: of the passage.
        grounds: its sentences, in order.
        terms: of all of it and of what it is headed by.
        numbers: likewise, every form of each.
        words: likewise, folded.
    """

    text: str
    grounds: tuple[Ground, ...]
    terms: frozenset[str]
    numbers: frozenset[str]
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Support:
    """How much of a claim stands in some passages; each a share from 0 to 1.

    Attributes:
        overlap: of its words, by their weight, anywhere in them.
        nearest: of its words in the two sentences in a row that share most with it.
        numbers: of its numbers; None: it has none.
        names: of its names; None: it has none.
        negation: whether the sentence that shares most with it denies something if and only if it does.
        best: of each passage, the place of the sentence that shares most with it.
        window: (passage, first, last): the places of those two sentences, or of the one that there is.
    """

    overlap: float
    nearest: float
    numbers: float | None
    names: float | None
    negation: bool
    best: tuple[int, ...]
    window: tuple[int, int, int]


def claim(sentence: str) -> Claim:
    """What a sentence of an answer claims; the mark of a list item before it is none of it."""
    text = _ITEM.sub("", sentence, count=1)
    terms, numbers, negated = _terms(text), tuple(_numbers(text)), _negated(text)
    return Claim(terms, numbers, frozenset(_names(text)), negated, _figure(text, terms, numbers, negated=negated))


def basis(text: str, *headed_by: str) -> Basis:
    """A passage to compare with, and what stands above it: its document's name, its headings."""
    whole = "\n".join((*headed_by, text))
    grounds = tuple(_ground(text, start, end) for start, end in sentences(text))
    numbers = frozenset(form for forms in _numbers(whole, vague=True) for form in forms)
    words = frozenset(_folded(word) for found in _WORD.findall(whole) for word in (found, *found.split("-")))
    return Basis(text, grounds, _terms(whole), numbers, words)


def _ground(text: str, start: int, end: int) -> Ground:
    words = _ITEM.sub("", text[start:end], count=1)
    terms, negated = _terms(text[start:end]), _negated(words)
    return Ground(start, end, terms, negated, _figure(words, terms, tuple(_numbers(words)), negated=negated))


def _figure(text: str, terms: frozenset[str], numbers: tuple[frozenset[str], ...], *, negated: bool) -> "Figure | None":
    """What it tells; None where it is too short, or points to what stands before it, to say alone what it is about."""
    first = _WORD.search(text)
    if not numbers or (first and first.group().casefold() in _pointing()):
        return None
    words = frozenset(term for term in terms if term not in _counting() and not any(map(str.isdigit, term)))
    return Figure((words, negated), numbers, frozenset(_labels(text))) if len(words) >= _TELLING else None


def _labels(text: str) -> Iterator[str]:
    for match in _LABEL.finditer(text):
        word, number = match.groups()
        if not word or (word[0].isupper() and not _CURRENCY.fullmatch(word)):
            yield from (form for forms in _readings(_western(number)) for form in forms)
    yield from _YEAR.findall(text)


class Weights:
    """What each term counts: by its rarity among the sentences of all passages at hand (inverse document frequency)."""

    def __init__(self, bases: Sequence[Basis]) -> None:
        self._frequency = Counter(term for one in bases for ground in one.grounds for term in ground.terms)
        self._total = sum(len(one.grounds) for one in bases)

    def __call__(self, term: str) -> float:
        """Of a term; one that stands nowhere counts most."""
        return math.log(1 + (self._total + 1) / (self._frequency[term] + 1))

    def of(self, wanted: AbstractSet[str]) -> "Weighed":
        """What is wanted, with its weights, to be looked for in several places."""
        return Weighed({term: self(term) for term in wanted})


class Weighed:
    """Terms that are wanted, each with its weight. Sums are exact, so that they depend on no order."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._terms = frozenset(weights)
        self._total = math.fsum(weights.values())

    def among(self, found: AbstractSet[str]) -> AbstractSet[str]:
        """Those that are there."""
        return self._terms & found

    def share(self, known: AbstractSet[str]) -> float:
        """How much of what is wanted these are, by weight; all of them have to be wanted."""
        return math.fsum(map(self._weights.__getitem__, known)) / self._total if self._total else 0.0


def support(said: Claim, bases: Sequence[Basis], weights: Weights, *, known: frozenset[str] = frozenset()) -> Support:
    """How much of a claim stands in passages, taken together.

    Args:
        said: the claim.
        bases: the passages, one at least.
        weights: of terms.
        known: names that need not stand there: the question's, folded.
    """
    wanted = weights.of(said.terms)
    known_of = [[wanted.among(ground.terms) for ground in one.grounds] for one in bases]
    shares = [list(map(wanted.share, several)) for several in known_of]
    best = tuple(max(range(len(several)), key=several.__getitem__) for several in shares)
    first = max(range(len(bases)), key=lambda place: shares[place][best[place]])
    nearest, window = max(_windows(wanted, known_of), key=lambda one: one[0])
    return Support(
        wanted.share(frozenset().union(*(wanted.among(one.terms) for one in bases))),
        nearest,
        _part([any(not forms.isdisjoint(one.numbers) for one in bases) for forms in said.numbers]),
        _part([name in known or any(name in one.words for one in bases) for name in said.names]),
        bases[first].grounds[best[first]].negated == said.negated,
        best,
        window,
    )


def disputing(said: Claim, bases: Sequence[Basis]) -> int | None:
    """The place of the first passage that says the same with another figure, and nowhere with this one; else None."""
    told = said.figure
    if told is None:
        return None
    for place, one in enumerate(bases):
        same = [ground.figure for ground in one.grounds if ground.figure and ground.figure.words == told.words]
        if any(_differs(told, other) for other in same) and not any(_agrees(told, other) for other in same):
            return place
    return None


def _agrees(one: Figure, other: Figure) -> bool:
    return not _strange(one.numbers, other.numbers)


def _differs(one: Figure, other: Figure) -> bool:
    """Whether one number of each, which names nothing, is not in the other."""
    mine, theirs = _strange(one.numbers, other.numbers), _strange(other.numbers, one.numbers)
    if not len(mine) == len(theirs) == 1:
        return False
    return mine[0].isdisjoint(one.labels) and theirs[0].isdisjoint(other.labels)


def _strange(some: Sequence[frozenset[str]], others: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    return [forms for forms in some if all(forms.isdisjoint(known) for known in others)]


def _windows(
    wanted: Weighed, known_of: Sequence[Sequence[AbstractSet[str]]]
) -> Iterator[tuple[float, tuple[int, int, int]]]:
    for place, several in enumerate(known_of):
        for first, known in enumerate(several):
            last = min(first + 1, len(several) - 1)
            yield wanted.share(known | several[last]), (place, first, last)


def names(text: str) -> frozenset[str]:
    """All words of a text, as names are compared."""
    return frozenset(_folded(word) for word in _WORD.findall(text))


def _part(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _terms(text: str) -> frozenset[str]:
    return frozenset(term for _, _, term in located(text))


def _folded(word: str) -> str:
    return _POSSESSIVE.sub("", unicodedata.normalize("NFKC", word).casefold())


def _numbers(text: str, *, vague: bool = False) -> Iterator[frozenset[str]]:
    """The numbers of a text; with the vague ones, which are seldom meant as such, where one may look for another."""
    text = unicodedata.normalize("NFKC", text.translate(_HARD_SPACES))
    for match in _DIGITS.finditer(text):
        yield from _readings(_western(match.group()))
    for word in _WORD.findall(text.casefold()):
        if word in _spelled() and (vague or word not in _VAGUE):
            yield frozenset([_spelled()[word]])
    for match in _IDEOGRAPHIC.finditer(text):
        if vague or len(match.group()) > 1:  # a single one is often part of a word
            yield frozenset([str(_ideographic(match.group()))])


@cache
def _counting() -> frozenset[str]:
    """What search makes of numbers that are words."""
    return _terms(" ".join(_spelled()))


@cache
def _pointing() -> frozenset[str]:
    return frozenset(_POINTING.split())


@cache
def _spelled() -> dict[str, str]:
    to_twenty = {word: str(value) for value, word in enumerate(_TO_TWENTY.split())}
    return to_twenty | {word: str(10 * value) for value, word in enumerate(_BY_TENS.split(), 3)}


@cache
def _negations() -> frozenset[str]:
    return frozenset(_DENYING.split())


def _western(number: str) -> str:
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in number)


def _readings(number: str) -> Iterator[frozenset[str]]:
    """What digits with something between them mean: one number, in the forms that it may have, or several in a row."""
    parts = _SEPARATORS.split(number)
    grouped = {_plain("".join(parts))} if _GROUPED.fullmatch(number) else set[str]()
    if len(parts) == _WITH_DECIMALS:
        whole, decimals = _plain(parts[0]), parts[1].rstrip("0")
        yield frozenset(grouped | {f"{whole}.{decimals}" if decimals else whole})
    elif grouped:
        yield frozenset(grouped)
    else:
        yield from (frozenset([_plain(part)]) for part in parts)


def _plain(digits: str) -> str:
    return digits.lstrip("0") or "0"


def _ideographic(text: str) -> int:
    digits = [max(_IDEOGRAPHS.find(character), 2 if character == "两" else 0) for character in text]
    if not any(character in _TENS for character in text):
        return int("".join(map(str, digits)))
    total = waiting = 0
    for character, digit in zip(text, digits, strict=True):
        if character in _TENS:
            total += (waiting or 1) * _TENS[character]
            waiting = 0
        else:
            waiting = digit
    return total + waiting


def _names(text: str) -> Iterator[str]:
    first = True
    for match in _WORD.finditer(text):
        word = match.group()
        if word[0].isupper() and (not first or (word.isupper() and len(word) > 1)):
            yield _folded(word)
        first = False


def _negated(text: str) -> bool:
    words = (unicodedata.normalize("NFKC", word).casefold() for word in _WORD.findall(text))
    count = sum(1 for word in words if word in _negations() or _NEGATED_ENDING.search(word))
    return (count + len(_NEGATING_CHARACTERS.findall(text))) > 0

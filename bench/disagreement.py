"""How often documents are said to disagree on a figure, as real ones stand; a part of docs/citations.md.

A sentence with a figure, of a document drawn by a seed, is set against the passages that share most words with it, but
for its own. What is found is shown with examples: whether two texts disagree, or speak of two things in the same words
(pages of a contract, patients of one hospital), only a reader tells.
"""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ringfence.answers.claims import Basis, basis, claim, disputing
from ringfence.evaluation.collection import Collection

SETS = ("anthropic-docs", "cuad", "dragonball-fin-en", "mtrag-un", "pubmedqa", "rgb-en")
SEED = 20260707
_DOCUMENTS, _SENTENCES, _OTHERS = 400, 300, 7
_CHARS = 600
_LEAST, _MOST = 10, 300  # characters of a sentence


@dataclass(frozen=True)
class Disagreed:
    """What was found in a set.

    Attributes:
        sentences: with a figure.
        disputed: those that another passage says with another figure.
        examples: pairs of them.
    """

    source: str
    sentences: int
    disputed: int
    examples: list[list[str]]


def _passages(text: str) -> list[str]:
    found = [""]
    for paragraph in text.split("\n\n"):
        if len(found[-1]) > _CHARS:
            found.append("")
        found[-1] = f"{found[-1]}\n\n{paragraph}".strip()
    return found


def _drawn(collection: Collection) -> list[Basis]:
    """Passages of some documents."""
    entries = sorted(collection.corpus)
    random.Random(SEED).shuffle(entries)
    chosen = [collection.corpus[entry] for entry in entries[:_DOCUMENTS]]
    return [basis(text, one.title) for one in chosen for text in _passages(one.text)[:25]]


def measure(name: str, collection: Collection) -> Disagreed:
    """How often sentences with figures of a set are disputed by its other passages."""
    drawn = _drawn(collection)
    places: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(drawn):
        for term in one.terms:
            places[term].append(place)
    said = [
        (place, one.text[ground.start : ground.end])
        for place, one in enumerate(drawn)
        for ground in one.grounds
        if ground.figure and _LEAST < ground.end - ground.start < _MOST
    ]
    random.Random(SEED).shuffle(said)
    examples = [found for place, sentence in said[:_SENTENCES] if (found := _other(drawn, places, place, sentence))]
    return Disagreed(name, len(said[:_SENTENCES]), len(examples), examples[:3])


def _other(drawn: Sequence[Basis], places: dict[str, list[int]], place: int, sentence: str) -> list[str] | None:
    """A sentence, and the beginning of the passage that says it with another figure; None where none does."""
    said, shared = claim(sentence), defaultdict[int, float](float)
    for term in sorted(said.terms):
        for other in places.get(term, ()):
            shared[other] += math.log(len(drawn) / len(places[term]))
    nearest = sorted(shared, key=lambda other: (-shared[other], other))
    near = [drawn[other] for other in nearest if other != place][:_OTHERS]
    found = disputing(said, near)
    if found is None:
        return None
    for ground in near[found].grounds:
        if disputing(said, [replace(near[found], grounds=(ground,))]) is not None:
            return [sentence, near[found].text[ground.start : ground.end]]
    raise AssertionError("it was found")

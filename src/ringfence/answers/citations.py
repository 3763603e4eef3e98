"""Citations: which of the numbered passages an answer refers to."""

import re
from collections.abc import Sequence

from ringfence.answers import evidence, prompt
from ringfence.answers.events import Citation, Source
from ringfence.search.queries import Passage

_MARKER = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_NUMBER = re.compile(r"\d+")
# A full stop behind one or two letters ("e.g.", "Dr.") ends no sentence.
_SENTENCE_END = re.compile(r"(?<=[.!?…])(?<!\b\w\.)(?<!\b\w\w\.)(?=\s)|(?<=[。！？])")  # noqa: RUF001


def cited(answer: str, sources: Sequence[Source]) -> list[Citation]:
    """The sources that the answer's markers (`[2]`, `[1, 3]`) name, once each, in order; other numbers are dropped."""
    numbers = (int(number) for marker in _MARKER.findall(answer) for number in _NUMBER.findall(marker))
    by_number = {source.n: source for source in sources}
    return [
        Citation(n=n, document_id=source.document_id, document=source.document, quote=source.quote)
        for n in dict.fromkeys(numbers)
        if (source := by_number.get(n))
    ]


class SentenceMarker:
    """Adds to each sentence of a stream the number of the passage that it shares most words with, if it shares half.

    For models that cite badly: what they say is passed on as it comes, and ` [n]` goes behind each sentence.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._sentence = ""

    def feed(self, piece: str) -> str:
        """The piece, with a marker wherever a sentence has ended (as a following blank shows)."""
        first, *others = _SENTENCE_END.split(self._sentence + piece)
        marked = first[len(self._sentence) :]
        self._sentence = first
        for sentence in others:
            marked += self.finish() + sentence
            self._sentence = sentence
        return marked

    def finish(self) -> str:
        """The marker of the last sentence; empty where it rests on nothing."""
        refusal = prompt.is_refusal(self._sentence)
        n = None if refusal else evidence.nearest_source(self._sentence, self._passages)
        return f" [{n}]" if n else ""

"""Citations: which of the numbered passages an answer refers to."""

import re
from collections.abc import Sequence

from ringfence.answers.events import Citation, Source

_MARKER = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_NUMBER = re.compile(r"\d+")


def cited(answer: str, sources: Sequence[Source]) -> list[Citation]:
    """The sources that the answer's markers (`[2]`, `[1, 3]`) name, once each, in order; other numbers are dropped."""
    numbers = (int(number) for marker in _MARKER.findall(answer) for number in _NUMBER.findall(marker))
    by_number = {source.n: source for source in sources}
    return [
        Citation(n=n, document_id=source.document_id, document=source.document, quote=source.quote)
        for n in dict.fromkeys(numbers)
        if (source := by_number.get(n))
    ]

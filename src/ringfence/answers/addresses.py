"""What an answer may lead to: addresses that its passages name, and nothing that loads by itself.

A document may tell a model to write an address with other documents' words in it. Whatever shows the answer would fetch
it (a picture), offer it (a link), or look at it for a preview. So an address that stands in no passage, nor in what the
user said, is left out; pictures become links, and tags of HTML that may load or run something become text.
"""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

REMOVED = "(link removed)"

_ADDRESS = re.compile(
    r"(?:(?<![a-z\d])(?:(?:https?|ftp|wss?|file):|javascript:(?=\S)|vbscript:(?=\S)|data:(?=\w+/)|www\.)"
    r'|(?<![\w:/])//(?=\w))[^\s<>"`]*',
    re.IGNORECASE,
)
# Tags with attributes, since only those load; and the two whose content does. `<b>`, `List<int>` and `a < b` stay.
_LOADS = re.compile(r"!(?=\[)|<(?=[a-z][a-z\d-]*[\s/]|(?:script|style)\b)", re.IGNORECASE)
# Of http, https, ftp, file, ws, wss, www, data, javascript, vbscript.
_BEGINNINGS = (
    "h(?:t(?:t(?:ps?)?)?)?|f(?:tp?|i(?:le?)?)?|w(?:ss?|ww?)?|d(?:a(?:ta?)?)?"
    "|j(?:a(?:v(?:a(?:s(?:c(?:r(?:i(?:pt?)?)?)?)?)?)?)?)?|v(?:b(?:s(?:c(?:r(?:i(?:pt?)?)?)?)?)?)?"
)
# What may yet become one of those.
_BEGUN = re.compile(
    rf"(?:<?(?:{_ADDRESS.pattern}|(?<![a-z\d])(?:{_BEGINNINGS}|(?:javascript|vbscript|data):[^\s<>\"`]*)"
    r"|(?<![\w:/])//?|!)|<(?:[a-z][a-z\d-]*)?)\Z",
    re.IGNORECASE,
)
_RUNS = re.compile(r"(?:javascript|vbscript|data):", re.IGNORECASE)
_SCHEME = re.compile(r"\w+:/*|//")
_AROUND = re.compile(r"(?:[)\].,;:!?'*_~]|\[\d{1,3}\])*")  # of the sentence, or the Markdown, that an address stands in
_ENDS = re.compile(r"[)\].,;:!?'*_~\[]")


class Addresses:
    """Leaves out of a stream what leads elsewhere.

    Args:
        known: texts whose addresses may be repeated.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = "\n".join(known)
        self._before = ""  # the last of what was shown, since the letter before decides what begins an address
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now; a possible beginning of an address waits."""
        text = self._before + self._held + piece
        begun = _BEGUN.search(text, len(self._before))
        return self._shown(text, begun.start() if begun else len(text))

    def finish(self) -> str:
        """What waits; the answer is at its end."""
        text = self._before + self._held
        return self._shown(text, len(text))

    def _shown(self, text: str, end: int) -> str:
        start, at = len(self._before), len(self._before)
        shown = ""
        for found in _ADDRESS.finditer(text, start, end):
            shown += text[at : found.start()] + self._judged(found.group())
            at = found.end()
        self._before, self._held = text[max(end - 1, 0) : end], text[end:]
        return unloaded(shown + text[at:end])

    def _judged(self, address: str) -> str:
        ends = [len(address), *(one.start() for one in _ENDS.finditer(address))]
        if any(self._knows(address[:end]) and _AROUND.fullmatch(address, end) for end in ends):
            return address
        return REMOVED + _tail(address)

    def _knows(self, address: str) -> bool:
        bare = _SCHEME.sub("", address, count=1).rstrip("/")
        return bool(bare) and not _RUNS.match(address) and bare in self._known


def _tail(address: str) -> str:
    """What follows an address and is the sentence's: its full stop, the bracket around it."""
    return address[len(address.rstrip(".,;:!?)]*_")) :]


def unloaded(text: str) -> str:
    """A text that loads nothing where it is taken for Markdown or HTML: pictures are links, tags are text."""
    return _LOADS.sub(_harmless, text)


def _harmless(found: re.Match[str]) -> str:
    return "" if found.group() == "!" else "< "


async def kept(pieces: AsyncGenerator[str], known: Iterable[str]) -> AsyncGenerator[str]:
    """An answer's pieces, without what leads elsewhere."""
    addresses = Addresses(known)
    async with aclosing(pieces):
        async for piece in pieces:
            if shown := addresses.feed(piece):
                yield shown
    if last := addresses.finish():
        yield last

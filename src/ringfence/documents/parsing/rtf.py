"""Text of RTF by striprtf, which gives plain text: pages, headings and tables reach through it as signs in it."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import BinaryIO

from striprtf.striprtf import rtf_to_text

from ringfence.documents.parsing.pages import Pages

# Of Unicode's private use area, so that no document's own words are taken for them.
_TURN, _ROW, _CELL, _ROW_ENDS, _LEVEL = "\ue0f0\ue0f1\ue0f2\ue0f3\ue0f4"
_SIGNS: Mapping[str, str] = MappingProxyType(
    {"page": _TURN, "trowd": _ROW, "cell": _CELL, "nestcell": " ", "nestrow": " ", "row": _ROW_ENDS}
)
_WORD = re.compile(r"\\\\|\\(outlinelevel([0-8])|page|trowd|cell|nestcell|nestrow|row)(?![a-z\d]) ?")
_EIGHT_BITS = re.compile(rb"[\x80-\xff]")
_HEADING = re.compile(f"{_LEVEL}([0-8])")
_ITEM = re.compile(r"\s*(?:([-*\u2022\u00b7\uf0b7\uf0fc\uf0a7\uf06e])|(\d{1,3}[.)]))\t")


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a document into `pages`.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    source = _EIGHT_BITS.sub(lambda match: b"\\'%02x" % match.group()[0], file.read()).decode("latin-1")
    text = rtf_to_text(_WORD.sub(_sign, source), errors="replace")  # type: ignore[no-untyped-call]  # upstream
    for number, page in enumerate(text.split(_TURN)):
        if number:
            pages.turn()
        _page(page, pages)


def _sign(match: re.Match[str]) -> str:
    """A control word as a sign, or as it was; a group of its own ends how many letters stand in for a sign."""
    if match[1] is None:
        return match.group()
    signs = _SIGNS.get(match[1], f"{_LEVEL}{match[2]}")
    return "{\\uc0" + "".join(f"\\u{ord(sign)} " for sign in signs) + "}"


def _page(text: str, pages: Pages) -> None:
    rows: list[list[str]] = []
    *tables, rest = text.split(_ROW_ENDS)
    for piece in tables:
        before, _, cells = piece.partition(_ROW)
        if before.strip():
            pages.table(rows)
            rows = []
            _paragraphs(before, pages)
        rows.append([_HEADING.sub("", cell).replace(_ROW, "") for cell in cells.split(_CELL)])
    pages.table(rows)
    _paragraphs(rest, pages)


def _paragraphs(text: str, pages: Pages) -> None:
    for line in text.replace(_CELL, " ").replace(_ROW, "").split("\n"):
        levels = _HEADING.findall(line)
        words = _HEADING.sub("", line)
        item = _ITEM.match(words)
        if levels:
            pages.heading(words, int(levels[-1]) + 1)
        elif item:
            pages.item(words[item.end() :], mark=item[2] or "-")
        else:
            pages.block(words)

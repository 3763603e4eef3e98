"""Text of JSON: as it is where people wrote it, with a line for each value where a program put it all on one.

It is laid out token by token, so numbers stay as they are written and damaged JSON is text all the same.
"""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from ringfence.documents.parsing.encodings import decode
from ringfence.documents.parsing.pages import Pages

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|"', re.DOTALL)
_LONG_LINE = 1000
_MAX_INDENT = 20


def read(file: BinaryIO, pages: Pages) -> None:
    """Read JSON, or a line of it each, into `pages`.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    text = decode(file.read())
    laid_out = all(len(line) <= _LONG_LINE for line in text.splitlines())
    pages.verbatim(text if laid_out else "".join(_laid_out(text)))


def _laid_out(text: str) -> Iterator[str]:
    depth = 0
    for match in _TOKEN.finditer(text):
        piece = match.group()
        if piece in "}]":
            depth = max(depth - 1, 0)
            yield _line(depth) + piece
        elif piece in "{[":
            depth += 1
            yield piece + _line(depth)
        elif piece == ",":
            yield piece + _line(depth)
        elif piece == ":":
            yield ": "
        else:
            yield _spelled_out(piece)


def _line(depth: int) -> str:
    return "\n" + "  " * min(depth, _MAX_INDENT)


def _spelled_out(token: str) -> str:
    """A string with its letters in place of their numbers, so that it can be found."""
    if "\\u" not in token:
        return token
    try:
        return json.dumps(json.loads(token), ensure_ascii=False)
    except ValueError:
        return token

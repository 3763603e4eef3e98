"""Plain text and Markdown, in any encoding; form feeds end pages."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from ringfence.documents.parsing.encodings import encoding_of
from ringfence.documents.parsing.headings import Markdown, sections
from ringfence.documents.parsing.pages import parts
from ringfence.documents.parsing.wire import Count, Frame, reason

_READ_BYTES = 65_536


def read(file: BinaryIO, max_pages: int, markdown: Markdown | None = None) -> Iterator[Frame]:
    """Read a text, block by block.

    Args:
        file: at its start.
        max_pages: more are refused.
        markdown: finds the headings, where the text is Markdown.

    Raises:
        RingfenceError: one of `wire.REASONS`.
    """
    pages = 1 + sum(block.count("\f") for block in _decoded(file))
    if pages > max_pages:
        raise reason("too_many_pages")
    yield Count(pages)
    page, start, visible = 1, 0, False
    for block in sections(_decoded(file)) if markdown else _decoded(file):
        for index, piece in enumerate(block.split("\f")):
            if index:
                page, start = page + 1, 0
            visible = visible or piece.strip() != ""
            if piece:
                yield from parts(page, start, piece, markdown.headings(piece) if markdown else ())
            start += len(piece)
    if not visible:
        raise reason("no_text")


def _decoded(file: BinaryIO) -> Iterator[str]:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding_of(_blocks(file)))(errors="replace")
    file.seek(0)
    for block in _blocks(file):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_READ_BYTES):
        yield block

"""A page as it looks, and where on it words stand. Runs inside the sandbox, as `formats` does.

The place of a word is found by walking the page's characters, which have boxes, beside its text, which has the offsets
that chunks and citations count in: `pdf.page_text` drops and replaces characters and never reorders them.
"""

import math
import mmap
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ringfence.documents.parsing import pdf
from ringfence.documents.parsing.pages import storable
from ringfence.documents.parsing.wire import Box, Count, Frame, Limits, Part, Pixels, Sheet, View, reason
from ringfence.errors import RingfenceError

MAX_PIXELS = 12_000_000
"""Of a picture; a page that would have more is drawn smaller."""

_PIXELS_BYTES = 128 * 1024  # of a picture in one frame, before they grow by a third as base64
_DROPPED = "-\u2010\u00ad"  # hyphens at a line's end

type _Rectangle = tuple[float, float, float, float]


def warm_up() -> None:
    """Load what the library loads when it first draws a page."""
    with pdf.pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "warm")
        list(_drawn(document[0], 0.1))
        list(_boxes(document[0], 0, 4))


def view(file: BinaryIO, media_type: str, password: str | None, limits: Limits, wanted: View) -> Iterator[Frame]:
    """What is wanted of a page: its number of pages and its size first, then a picture, or words with their boxes.

    Args:
        file: a real file, since it is mapped into memory.
        media_type: of a kind that has pages.
        password: opens an encrypted PDF.
        limits: `max_pages`.
        wanted: the page, and what of it.

    Raises:
        RingfenceError: one of `wire.REASONS`.
    """
    document = pdf.opened(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), media_type, password)
    pages = pdf.page_count(document, limits)
    if wanted.page > pages:
        raise reason("page_not_found")
    yield Count(pages)
    yield from shown(lambda: document.load_page(wanted.page - 1), wanted)


def shown(load: Callable[[], Any], wanted: View) -> Iterator[Frame]:
    """The size of the page that `load` gives, and what is wanted of it."""
    try:
        page = load()
        yield Sheet(float(page.rect.width), float(page.rect.height))
        yield from _boxes(page, wanted.start, wanted.end) if wanted.scale is None else _drawn(page, wanted.scale)
    except (RingfenceError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # MuPDF raises many kinds; whatever it is, the page can't be read
        raise pdf.damage(error) from None


def _drawn(page: Any, scale: float) -> Iterator[Frame]:
    area = max(page.rect.width * page.rect.height, 1.0)
    zoom = min(scale, math.sqrt(MAX_PIXELS / area))
    picture = page.get_pixmap(matrix=pdf.pymupdf.Matrix(zoom, zoom), colorspace=pdf.pymupdf.csRGB, alpha=False)
    data = picture.tobytes("png")
    for at in range(0, len(data), _PIXELS_BYTES):
        yield Pixels(b64encode(data[at : at + _PIXELS_BYTES]).decode("ascii"))


def _boxes(page: Any, start: int, end: int) -> Iterator[Frame]:
    text = pdf.page_text(page)
    if pdf.is_picture(page, text):  # its text was recognised, and the boxes with it are gone
        raise reason("no_rectangles")
    if end > len(text):
        raise reason("outside_page")
    yield Part(page.number + 1, start, text[start:end])
    for box, first, last in _merged(_placed(page, text), start, end):
        shown = pdf.pymupdf.Rect(box) * page.rotation_matrix  # characters stand where they did before it was turned
        yield Box(shown.x0, shown.y0, shown.x1, shown.y1, first, last + 1)


def _placed(page: Any, text: str) -> Iterator[tuple[int, int, _Rectangle]]:
    """Each visible character of the text: (offset, line, box)."""
    characters = iter(_characters(page))
    for offset, character in enumerate(text):
        if character.isspace():
            continue
        for found, line, box in characters:
            if found == character:
                yield offset, line, box
                break
            if found not in _DROPPED:
                raise reason("no_rectangles")
        else:
            raise reason("no_rectangles")


def _characters(page: Any) -> Iterator[tuple[str, int, _Rectangle]]:
    """The page's visible characters in the order of its text: (character, line, box)."""
    number = 0
    for block in page.get_textpage(flags=pdf.FLAGS).extractRAWDICT()["blocks"]:
        for line in block["lines"]:
            number += 1
            for span in line["spans"]:
                for one in span["chars"]:
                    if (found := storable(one["c"])).strip():
                        yield found, number, tuple(one["bbox"])


def _merged(placed: Iterator[tuple[int, int, _Rectangle]], start: int, end: int) -> list[tuple[_Rectangle, int, int]]:
    """One box for each line of the characters from `start` to `end`, with the first and the last that it holds."""
    merged: dict[int, tuple[_Rectangle, int, int]] = {}
    for offset, line, (x0, y0, x1, y1) in placed:
        if offset >= end:
            break
        if offset >= start:
            old, first, _ = merged.get(line, ((x0, y0, x1, y1), offset, offset))
            grown = (min(old[0], x0), min(old[1], y0), max(old[2], x1), max(old[3], y1))
            merged[line] = (grown, first, offset)
    return list(merged.values())

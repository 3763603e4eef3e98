"""Extract text from PDF, XPS and images by MuPDF.

A page's text is what every offset in the engine counts in. For a PDF it is MuPDF's blocks in the order of the content
stream, one line of the page per line, with these changes: blocks are joined by a blank line (by a line break where the
second one plainly continues the first one's sentence), ligatures are spelled out, a word that a hyphen breaks at the
end of a line is made whole when both halves are lower case, soft hyphens vanish. Each change replaces or drops
characters and never reorders them, so that rectangles can be found later (`views.py`): `extractRAWDICT` of the same
page and flags holds the same visible characters in the same order, but for the dropped hyphens.
Invisible and hidden text is kept: a scan's text layer is invisible, and what a passage says never is an instruction.
"""

import mmap
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

import pymupdf as _pymupdf

from ringfence.documents import sniff
from ringfence.documents.parsing.headings import outlined
from ringfence.documents.parsing.pages import parts, storable
from ringfence.documents.parsing.recognition import Recogniser
from ringfence.documents.parsing.wire import Count, Frame, Limits, reason
from ringfence.errors import RingfenceError

pymupdf: Any = _pymupdf  # partly typed upstream, and not what it returns
# Without PRESERVE_LIGATURES, so that "find" is found however it is set, and without PRESERVE_IMAGES: text only.
FLAGS = pymupdf.TEXT_MEDIABOX_CLIP | pymupdf.TEXT_USE_CID_FOR_UNKNOWN_UNICODE
"""How pages are read."""

_TYPES: Mapping[str, str] = MappingProxyType(
    {
        sniff.PDF: "pdf",
        sniff.XPS: "xps",
        "image/png": "png",
        "image/jpeg": "jpeg",
        "image/gif": "gif",
        "image/tiff": "tiff",
        "image/bmp": "bmp",
    }
)
_STAMP_CHARS = 100  # a page number, a library's mark: what scans carry as text
_BLOCK_TEXT = 4  # index in MuPDF's block tuples
_LINE_END_SPACES = re.compile(r"[^\S\n]+(?=\n)")
_HYPHENATED = re.compile(r"(?<=[^\W\d_])[-\u2010]\n(?=[^\W\d_])")
_SOFT_HYPHEN = re.compile(r"\u00ad\n?")
_SENTENCE_STOPS = ".!?:\u2026\u3002\uff01\uff1f\u061f\u06d4\u0964"


def warm_up() -> None:
    """Load what the library loads when it first reads a page."""
    pymupdf.TOOLS.mupdf_display_errors(False)  # noqa: FBT003  # its signature; the messages quote documents
    pymupdf.TOOLS.mupdf_display_warnings(False)  # noqa: FBT003
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "warm")
        page_text(document[0])
        _draws(document[0])
        _outline(document)


def read(file: BinaryIO, media_type: str, password: str | None, limits: Limits) -> Iterator[Frame]:
    """Read a PDF, an XPS document or an image, page by page.

    Args:
        file: a real file, since it is mapped into memory.
        media_type: of a kind that MuPDF reads.
        password: opens an encrypted PDF.
        limits: `max_pages`, and what pictures of text are read with.

    Raises:
        RingfenceError: one of `wire.REASONS`.
    """
    document = opened(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), media_type, password)
    pages = page_count(document, limits)
    yield Count(pages)
    outline = _outline(document)
    recogniser = Recogniser(limits.ocr, page_text, pymupdf) if limits.ocr else None
    visible = drawn = broken = False
    for index in range(pages):
        try:
            page = document.load_page(index)
            text = page_text(page)
            if recogniser and is_picture(page, text):
                text = max(recogniser.text(page), text, key=len)
            visible = visible or text != ""
            drawn = drawn or (not visible and _draws(page))
        except RingfenceError:
            raise
        except Exception as error:  # noqa: BLE001  # MuPDF raises many kinds; one bad page shall not cost the others
            _raise_memory(error)
            text, broken = "", True
        yield from parts(index + 1, 0, text, outlined(text, outline.get(index + 1, ())))
    if not visible:
        raise reason("document_damaged" if broken else "needs_ocr" if drawn else "no_text")


def opened(data: mmap.mmap, media_type: str, password: str | None) -> Any:
    """MuPDF's document.

    Raises:
        RingfenceError: `document_damaged`, `document_encrypted`, `wrong_password`, `parser_memory`.
    """
    try:
        document = pymupdf.open(stream=memoryview(data), filetype=_TYPES[media_type])
        locked = document.needs_pass
    except Exception as error:  # noqa: BLE001  # whatever MuPDF raises, the document can't be read
        raise damage(error) from None
    if locked and password is None:
        raise reason("document_encrypted")
    if locked and not document.authenticate(password):
        raise reason("wrong_password")
    return document


def page_count(document: Any, limits: Limits) -> int:
    """How many pages it has.

    Raises:
        RingfenceError: `document_empty`, `document_damaged`, `too_many_pages`, `parser_memory`.
    """
    try:
        pages = int(document.page_count)
    except Exception as error:  # noqa: BLE001  # whatever MuPDF raises, the document can't be read
        raise damage(error) from None
    if pages < 1:
        raise reason("document_damaged" if document.is_repaired else "document_empty")
    if pages > limits.max_pages:
        raise reason("too_many_pages")
    return pages


def damage(error: BaseException) -> RingfenceError:
    """What is raised for whatever MuPDF raises.

    Raises:
        RingfenceError: `parser_memory`, where that is what the error comes from.
    """
    _raise_memory(error)
    return reason("document_damaged")


def _raise_memory(error: BaseException | None) -> None:
    """Raise `parser_memory` if that is what the error comes from; MuPDF calls a failed malloc a system error."""
    while error is not None:
        if isinstance(error, (MemoryError, pymupdf.mupdf.FzErrorSystem)):
            raise reason("parser_memory")
        error = error.__cause__


def page_text(page: Any) -> str:
    """The text of a page of MuPDF's, as all offsets count it."""
    blocks = page.get_textpage(flags=FLAGS).extractBLOCKS()
    text = ""
    for block in blocks:
        body = _tidy(block[_BLOCK_TEXT])
        if body:
            text += _joint(text, body) + body
    return text


def _joint(text: str, body: str) -> str:
    if not text:
        return ""
    return "\n" if body[0].islower() and text[-1] not in _SENTENCE_STOPS else "\n\n"


def _tidy(text: str) -> str:
    text = storable(text)
    text = _LINE_END_SPACES.sub("", text.replace("\r", "\n"))
    text = _HYPHENATED.sub(_rejoin, _SOFT_HYPHEN.sub("", text))
    return text.strip()


def _rejoin(match: re.Match[str]) -> str:
    whole = match.string[match.start() - 1].islower() and match.string[match.end()].islower()
    return "" if whole else match.group()


def _draws(page: Any) -> bool:
    """Whether anything is painted on the page: pictures, or letters turned into lines."""
    return bool(page.get_bboxlog())


def is_picture(page: Any, text: str) -> bool:
    """Whether a page's text is missing: it has none but is painted on, or a stamp on a picture that fills it."""
    if len(text) >= _STAMP_CHARS:
        return False
    half = page.rect.width * page.rect.height / 2
    boxes = page.get_bboxlog()
    filled = any(kind == "fill-image" and abs((x1 - x0) * (y1 - y0)) >= half for kind, (x0, y0, x1, y1) in boxes)
    return filled if text else bool(boxes)


def _outline(document: Any) -> dict[int, list[tuple[int, str]]]:
    """The entries of the outline, (level, title), by their page from 1; none where it can't be read."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for level, title, page in document.get_toc():
            found.setdefault(page, []).append((level, title))
    except Exception as error:  # noqa: BLE001  # MuPDF raises many kinds; a bad outline shall not cost the pages
        _raise_memory(error)
    return found

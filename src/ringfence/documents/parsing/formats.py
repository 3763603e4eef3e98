"""Extract text from PDF, plain text and Markdown. Runs inside the sandbox; imports PyMuPDF, so no parent imports it.

A page's text is what every offset in the engine counts in. For a PDF it is MuPDF's blocks in the order of the content
stream, one line of the page per line, with these changes: blocks are joined by a blank line (by a line break where the
second one plainly continues the first one's sentence), ligatures are spelled out, a word that a hyphen breaks at the
end of a line is made whole when both halves are lower case, soft hyphens vanish. Each change replaces or drops
characters and never reorders them, so rectangles can be found later: walk `extractRAWDICT` of the same page and flags
beside this text; both hold the same visible characters in the same order but for the dropped hyphens.
Invisible and hidden text is kept: a scan's text layer is invisible, and what a passage says never is an instruction.
"""

import codecs
import mmap
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pymupdf as _pymupdf

from ringfence.documents import sniff
from ringfence.documents.parsing.wire import PART_CHARS, UNSTORABLE, Count, Limits, Part, reason
from ringfence.errors import RingfenceError

pymupdf: Any = _pymupdf  # partly typed upstream, and not what it returns
# Without PRESERVE_LIGATURES, so that "find" is found however it is set, and without PRESERVE_IMAGES: text only.
_FLAGS = pymupdf.TEXT_MEDIABOX_CLIP | pymupdf.TEXT_USE_CID_FOR_UNKNOWN_UNICODE
_BLOCK_TEXT = 4  # index in MuPDF's block tuples
_READ_BYTES = 65_536
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_END_SPACES = re.compile(r"[^\S\n]+(?=\n)")
_HYPHENATED = re.compile(r"(?<=[^\W\d_])[-\u2010]\n(?=[^\W\d_])")
_SOFT_HYPHEN = re.compile(r"\u00ad\n?")
_SENTENCE_STOPS = ".!?:\u2026\u3002\uff01\uff1f\u061f\u06d4\u0964"


def warm_up() -> None:
    """Load lazily imported code and codecs, so that a child finds them in memory behind its walls."""
    pymupdf.TOOLS.mupdf_display_errors(False)  # noqa: FBT003  # its signature; the messages quote documents
    pymupdf.TOOLS.mupdf_display_warnings(False)  # noqa: FBT003
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "warm")
        _page_text(document[0])
        _draws(document[0])
    for name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        codecs.lookup(name)


def extract(file: BinaryIO, media_type: str, password: str | None, limits: Limits) -> Iterator[Count | Part]:
    """Read a document: first its number of pages, then its text, page by page.

    Args:
        file: the document, at its start; a real file, since PDFs are mapped into memory.
        media_type: one that `sniff.media_type` gives.
        password: opens an encrypted PDF.
        limits: `max_pages` and `max_chars` are kept here, the others by the system.

    Raises:
        RingfenceError: one of `wire.REASONS`.
    """
    frames = _pdf(file, password, limits.max_pages) if media_type == sniff.PDF else _text(file, limits.max_pages)
    chars = 0
    for frame in frames:
        if isinstance(frame, Part):
            chars += len(frame.text)
            if chars > limits.max_chars:
                raise reason("too_much_text")
        yield frame


def _text(file: BinaryIO, max_pages: int) -> Iterator[Count | Part]:
    pages = 1 + sum(block.count("\f") for block in _decoded(file))
    if pages > max_pages:
        raise reason("too_many_pages")
    yield Count(pages)
    page, start, visible = 1, 0, False
    for block in _decoded(file):
        for index, piece in enumerate(block.split("\f")):
            if index:
                page, start = page + 1, 0
            visible = visible or piece.strip() != ""
            if piece:
                yield from _parts(page, start, piece)
            start += len(piece)
    if not visible:
        raise reason("no_text")


def _decoded(file: BinaryIO) -> Iterator[str]:
    file.seek(0)
    start = file.read(2)
    name = "utf-16" if start in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8-sig"
    decoder = codecs.getincrementaldecoder(name)(errors="replace")
    file.seek(0)
    while block := file.read(_READ_BYTES):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _pdf(file: BinaryIO, password: str | None, max_pages: int) -> Iterator[Count | Part]:
    document = _open(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), password)
    pages = _page_count(document)
    if pages > max_pages:
        raise reason("too_many_pages")
    yield Count(pages)
    visible = drawn = broken = False
    for index in range(pages):
        try:
            page = document.load_page(index)
            text = _page_text(page)
            visible = visible or text != ""
            drawn = drawn or (not visible and _draws(page))
        except Exception as error:  # noqa: BLE001  # MuPDF raises many kinds; one bad page shall not cost the others
            _raise_memory(error)
            text, broken = "", True
        yield from _parts(index + 1, 0, text)
    if not visible:
        raise reason("document_damaged" if broken else "needs_ocr" if drawn else "no_text")


def _open(data: mmap.mmap, password: str | None) -> Any:
    try:
        document = pymupdf.open(stream=memoryview(data), filetype="pdf")
        locked = document.needs_pass
    except Exception as error:  # noqa: BLE001  # whatever MuPDF raises, the document can't be read
        raise _damage(error) from None
    if locked and password is None:
        raise reason("document_encrypted")
    if locked and not document.authenticate(password):
        raise reason("wrong_password")
    return document


def _page_count(document: Any) -> int:
    try:
        pages = int(document.page_count)
    except Exception as error:  # noqa: BLE001  # whatever MuPDF raises, the document can't be read
        raise _damage(error) from None
    if pages < 1:
        raise reason("document_damaged" if document.is_repaired else "document_empty")
    return pages


def _damage(error: BaseException) -> RingfenceError:
    _raise_memory(error)
    return reason("document_damaged")


def _raise_memory(error: BaseException | None) -> None:
    """Raise `parser_memory` if that is what the error comes from; MuPDF calls a failed malloc a system error."""
    while error is not None:
        if isinstance(error, (MemoryError, pymupdf.mupdf.FzErrorSystem)):
            raise reason("parser_memory")
        error = error.__cause__


def _page_text(page: Any) -> str:
    blocks = page.get_textpage(flags=_FLAGS).extractBLOCKS()
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
    text = UNSTORABLE.sub(" ", _SURROGATES.sub("\ufffd", text))
    text = _LINE_END_SPACES.sub("", text.replace("\r", "\n"))
    text = _HYPHENATED.sub(_rejoin, _SOFT_HYPHEN.sub("", text))
    return text.strip()


def _rejoin(match: re.Match[str]) -> str:
    whole = match.string[match.start() - 1].islower() and match.string[match.end()].islower()
    return "" if whole else match.group()


def _draws(page: Any) -> bool:
    """Whether anything is painted on the page: pictures, or letters turned into lines."""
    return bool(page.get_bboxlog())


def _parts(page: int, start: int, text: str) -> Iterator[Part]:
    """Cut a page's text into frames, one at least; characters are replaced one by one here, so that offsets hold."""
    text = UNSTORABLE.sub(" ", _SURROGATES.sub("\ufffd", text))
    for at in range(0, max(len(text), 1), PART_CHARS):
        yield Part(page, start + at, text[at : at + PART_CHARS])

"""Extract text from a document of any kind. Runs inside the sandbox: no parent imports it, or what it imports."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

from ringfence.documents import sniff
from ringfence.documents.parsing import (
    books,
    encodings,
    mails,
    opendocument,
    pdf,
    plain,
    rtf,
    sheets,
    slides,
    structured,
    views,
    web,
    word,
)
from ringfence.documents.parsing.headings import Markdown
from ringfence.documents.parsing.pages import Pages
from ringfence.documents.parsing.wire import Frame, Limits, Part, View, reason
from ringfence.errors import RingfenceError

_READERS: Mapping[str, Callable[[BinaryIO, Pages], None]] = MappingProxyType(
    {
        sniff.DOCX: word.read,
        sniff.PPTX: slides.read,
        sniff.XLSX: sheets.read,
        sniff.XLS: sheets.read,
        sniff.ODS: sheets.read,
        sniff.ODT: opendocument.read,
        sniff.ODP: opendocument.read,
        sniff.EPUB: books.read,
        sniff.HTML: web.read,
        sniff.RTF: rtf.read,
        sniff.CSV: sheets.read_csv,
        sniff.JSON: structured.read,
        sniff.EML: mails.read,
        sniff.MSG: mails.read_msg,
    }
)


def warm_up() -> None:
    """Load lazily imported code and codecs, so that a child finds them in memory behind its walls."""
    encodings.warm_up()
    mails.warm_up()
    pdf.warm_up()
    views.warm_up()


def extract(
    file: BinaryIO, media_type: str, password: str | None, limits: Limits, view: View | None = None
) -> Iterator[Frame]:
    """Read a document: first its number of pages, then its text with its headings, page by page; or view a page.

    Args:
        file: the document, at its start; a real file, since PDFs are mapped into memory.
        media_type: one that `sniff.media_type` gives.
        password: opens an encrypted PDF.
        limits: `max_pages` and `max_chars` are kept here, the others by the system.
        view: what is wanted of one page alone.

    Raises:
        RingfenceError: one of `wire.REASONS`.
    """
    chars = 0
    try:
        for frame in _frames(file, media_type, password, limits, view):
            if isinstance(frame, Part):
                chars += len(frame.text)
                if chars > limits.max_chars:
                    raise reason("too_much_text")
            yield frame
    except (RingfenceError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whatever a reader stumbles over, a stranger wrote it: it can't be read
        raise reason("document_damaged") from None


def _frames(
    file: BinaryIO, media_type: str, password: str | None, limits: Limits, view: View | None
) -> Iterator[Frame]:
    if view:
        return views.view(file, media_type, password, limits, view)
    reader = _READERS.get(media_type)
    if reader:
        pages = Pages(limits)
        reader(file, pages)
        return pages.frames()
    if media_type in {sniff.PLAIN, sniff.MARKDOWN}:
        return plain.read(file, limits.max_pages, Markdown() if media_type == sniff.MARKDOWN else None)
    return pdf.read(file, media_type, password, limits)

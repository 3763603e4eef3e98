"""What an uploaded file is, told from its first and last bytes, and a name for it that is safe to store and to show."""

import codecs
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType

from ringfence.errors import Invalid, Unsupported

HEAD_BYTES = 4096
"""How much of a file's beginning `media_type` wants to see."""

TAIL_BYTES = 65_536
"""How much of its end: archives and old Office files keep their contents' names there."""

PDF = "application/pdf"
XPS = "application/vnd.ms-xpsdocument"
EPUB = "application/epub+zip"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS = "application/vnd.ms-excel"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
RTF = "application/rtf"
HTML = "text/html"
MARKDOWN = "text/markdown"
CSV = "text/csv"
JSON = "application/json"
EML = "message/rfc822"
MSG = "application/vnd.ms-outlook"
PLAIN = "text/plain"

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/tiff", "image/bmp"})
PAGED = IMAGES | {PDF, XPS}
"""Kinds whose pages look the same everywhere."""

READ = "PDF, EPUB, XPS, Word, PowerPoint, Excel, OpenDocument, RTF, HTML, Markdown, CSV, JSON, mails, images and text"
"""What the engine reads, for people."""

NAME_BYTES = 255
"""Longest name: what common file systems take."""

_PDF_HEADER_WITHIN = 1024  # bytes; ISO 32000-1, annex H.3.4.1
_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        ".md": MARKDOWN,
        ".markdown": MARKDOWN,
        ".mdown": MARKDOWN,
        ".mkd": MARKDOWN,
        ".txt": PLAIN,
        ".text": PLAIN,
        ".log": PLAIN,
        ".html": HTML,
        ".htm": HTML,
        ".xhtml": HTML,
        ".csv": CSV,
        ".tsv": CSV,
        ".tab": CSV,
        ".json": JSON,
        ".jsonl": JSON,
        ".ndjson": JSON,
        ".geojson": JSON,
        ".eml": EML,
    }
)
_PROLOGUE = r"\s*(?:<\?xml\b[^>]*>\s*)?(?:<!--.*?-->\s*)*"
_HTML = re.compile(_PROLOGUE + r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"\s*<(?:\?xml|!doctype|svg)\b", re.IGNORECASE)
_TAG = re.compile(r"<[a-z!/][^>]*>", re.IGNORECASE)
_JSON = re.compile(r"\s*(?:\{\s*(?:\"|\})|\[\s*[\[{\"\]\d])")
_FIELD = re.compile(r"([A-Za-z][\w-]*):|[ \t]")
_MAIL_FIELDS = frozenset(
    {
        "from",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "received",
        "return-path",
        "delivered-to",
        "reply-to",
    }
)
_MAIL_FIELDS_WITHOUT_SUFFIX = 3
_PICTURES: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF8": "image/gif",
        b"II*\x00": "image/tiff",
        b"MM\x00*": "image/tiff",
        b"BM": "image/bmp",
    }
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_LOCAL_HEADER = 30  # bytes before the name of a ZIP archive's first entry
_LOCAL_NAME = re.compile(rb"PK\x03\x04(?=.{26}([\x20-\x7e]{1,80}))", re.DOTALL)
_CENTRAL_NAME = re.compile(rb"PK\x01\x02(?=.{42}([\x20-\x7e]{1,80}))", re.DOTALL)
_PACKAGES = (
    (b"xl/workbook.bin", None, "a binary Excel workbook (.xlsb); save it as .xlsx"),
    (b"word/", DOCX, ""),
    (b"ppt/", PPTX, ""),
    (b"xl/", XLSX, ""),
    (b"FixedDocSeq", XPS, ""),
    (b"FixedDocumentSequence", XPS, ""),
)
_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STREAMS = (
    ("WordDocument", None, "an old Word document (.doc); save it as .docx"),
    ("PowerPoint Document", None, "an old PowerPoint presentation (.ppt); save it as .pptx"),
    ("Workbook", XLS, ""),
    ("__substg1.0_", MSG, ""),
    ("__properties_version1.0", MSG, ""),
)
_OLD_SUFFIXES: Mapping[str, str] = MappingProxyType({".msg": MSG, ".xls": XLS})
_SIGNATURES = (
    (b"\x1f\x8b", "a compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed file"),
    (b"Rar!", "a compressed file"),
    (b"ITSF", "a Windows help file"),
    (b"%!PS", "a PostScript file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_UTF_16_SAMPLE = 256
_BINARY = re.compile(
    r"[\x00-\x06\x0e-\x1a\x1c-\x1f]"
)  # control characters that no text holds (ESC is in terminal logs)


def media_type(head: bytes, name: str, tail: bytes = b"") -> str:
    """Tell a file's media type, one of this module's constants or of `IMAGES`, from its content.

    The name decides only between kinds of text, which no content tells apart for sure: whether `<b>` is HTML or a text
    about HTML, and where the contents of an old Office file lie outside of what is seen of it.

    Args:
        head: the file's first `HEAD_BYTES`.
        name: the file's name.
        tail: its last `TAIL_BYTES`; all of it, where it is shorter.

    Raises:
        Invalid: `empty_file`; `document_encrypted`, an Office file with a password.
        Unsupported: `unsupported_type`; the message says what the file looks like.
    """
    if not head:
        raise Invalid("empty_file", "The file is empty.")
    suffix = PurePosixPath(name).suffix.lower()
    if b"%PDF-" in head[:_PDF_HEADER_WITHIN]:
        return PDF
    if head.startswith(_ZIP):
        return _package(head, tail)
    if head.startswith(_OLE2):
        return _old_office(head + tail, suffix)
    if head.startswith(b"{\\rtf"):
        return RTF
    if not _is_word(head):
        for signature, kind in _PICTURES.items():
            if head.startswith(signature):
                return kind
    text = _decode(head)
    if text is None:
        raise _unsupported(_looks_like(head))
    return _kind_of_text(text, suffix)


def _package(head: bytes, tail: bytes) -> str:
    """The type of a ZIP archive, from the names of its entries."""
    for kind in (EPUB, ODT, ODP, ODS):
        if head[_LOCAL_HEADER:].startswith(b"mimetype" + kind.encode()):
            return kind
    names = [*_LOCAL_NAME.findall(head), *_CENTRAL_NAME.findall(tail)]
    for beginning, package, meaning in _PACKAGES:
        if any(name.startswith(beginning) for name in names):
            if package is None:
                raise _unsupported(meaning)
            return package
    raise _unsupported("a ZIP archive")


def _old_office(data: bytes, suffix: str) -> str:
    """The type of an OLE2 file, from the names of its streams, which its directory holds in UTF-16."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise Invalid("document_encrypted", "The document is encrypted; save it without its password.")
    for stream, kind, meaning in _STREAMS:
        if stream.encode("utf-16-le") in data:
            if kind is None:
                raise _unsupported(meaning)
            return kind
    if suffix in _OLD_SUFFIXES:
        return _OLD_SUFFIXES[suffix]
    raise _unsupported("an old Office file; save it as .docx, .pptx or .xlsx")


def _kind_of_text(text: str, suffix: str) -> str:
    meant = _SUFFIXES.get(suffix)
    if meant in {MARKDOWN, PLAIN, CSV}:
        return meant
    if _HTML.match(text) or (meant == HTML and _TAG.search(text)):
        return HTML
    if _MARKUP.match(text):
        raise _unsupported("an XML file")
    if meant == JSON or _JSON.match(text):
        return JSON
    if len(_MAIL_FIELDS.intersection(_fields(text))) >= (1 if meant == EML else _MAIL_FIELDS_WITHOUT_SUFFIX):
        return EML
    return PLAIN


def _fields(text: str) -> Iterator[str]:
    """The names of the fields that a mail would begin with."""
    for line in text.splitlines():
        field = _FIELD.match(line)
        if not field:
            return
        yield (field[1] or "").lower()


def _decode(head: bytes) -> str | None:
    """The head as text, or None when it is something else; what is in no Unicode encoding is read as Latin-1."""
    if any(head.startswith(signature) and not _is_word(head) for signature, _ in _SIGNATURES):
        return None
    try:
        text = codecs.getincrementaldecoder(_unicode(head))().decode(head)
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    return None if _BINARY.search(text) else text


def _unicode(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return utf_16_without_mark(head) or "utf-8-sig"


def utf_16_without_mark(head: bytes) -> str:
    """Which UTF-16 a text is in whose every other byte is mostly zero, and the others never; nothing for others."""
    even, odd = head[:_UTF_16_SAMPLE:2], head[1:_UTF_16_SAMPLE:2]
    for zeros, letters, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if 2 * zeros.count(0) > len(zeros) and 0 not in letters:
            return name
    return ""


def _is_word(head: bytes) -> bool:
    """Whether a two-letter signature ("BM", "MZ") merely starts a text."""
    return head[:2] in {b"BM", b"MZ"} and head[:64].isascii() and b"\x00" not in head[:64]


def _looks_like(head: bytes) -> str:
    for signature, meaning in _SIGNATURES:
        if head.startswith(signature):
            return meaning
    if head[4:8] == b"ftyp" or head.startswith((b"RIFF", b"OggS", b"ID3")):
        return "a sound, film or picture file"
    return "a binary file"


def _unsupported(what: str) -> Unsupported:
    return Unsupported("unsupported_type", f"This looks like {what}. Ringfence reads {READ}.")


_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"  # they make "cod.exe" read as "exe.doc"
_UNSHOWABLE = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff{_DIRECTIONS}]")


def clean_name(name: str) -> str:
    """Make a client's file name safe to store and show: no folders, no control or direction marks, NFC, bounded.

    Raises:
        Invalid: `bad_name`; nothing is left of it.
    """
    base = _UNSHOWABLE.sub("", name.replace("\\", "/")).rstrip("/ ").rpartition("/")[2]
    base = unicodedata.normalize("NFC", base).strip()
    if not base.strip("."):
        raise Invalid("bad_name", "The file needs a name.")
    return _bounded(base)


def _bounded(name: str) -> str:
    """Cut the stem, not the suffix, so that the name fits `NAME_BYTES` in UTF-8."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    path = PurePosixPath(name)
    suffix = path.suffix if len(path.suffix.encode()) <= NAME_BYTES // 2 else ""
    stem = name.removesuffix(suffix).encode()[: NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore").rstrip() + suffix

"""What an uploaded file is, told from its first bytes, and a name for it that is safe to store and to show."""

import codecs
import re
import unicodedata
from pathlib import PurePosixPath

from ringfence.errors import Invalid, Unsupported

HEAD_BYTES = 4096
"""How much of a file `media_type` wants to see."""

PDF = "application/pdf"
PLAIN = "text/plain"
MARKDOWN = "text/markdown"

NAME_BYTES = 255
"""Longest name: what common file systems take."""

_PDF_HEADER_WITHIN = 1024  # bytes; ISO 32000-1, annex H.3.4.1
_MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_TEXT_SUFFIXES = frozenset({".txt", ".text", *_MARKDOWN_SUFFIXES})
_MARKUP = re.compile(r"<(?:!doctype|html|head|body|\?xml|svg)\b", re.IGNORECASE)
_SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive or an Office file"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
    (b"{\\rtf", "a rich text (RTF) file"),
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
    (b"BM", "an image"),
    (b"\x1f\x8b", "a compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed file"),
    (b"Rar!", "a compressed file"),
    (b"ITSF", "a Windows help file"),
    (b"%!PS", "a PostScript file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_BINARY = re.compile(
    r"[\x00-\x06\x0e-\x1a\x1c-\x1f]"
)  # control characters that no text holds (ESC is in terminal logs)


def media_type(head: bytes, name: str) -> str:
    """Tell a file's media type from its first `HEAD_BYTES`: one of `PDF`, `PLAIN`, `MARKDOWN`.

    The name decides nothing but between Markdown and plain text, and whether markup is meant to be read as text.

    Raises:
        Invalid: `empty_file`.
        Unsupported: `unsupported_type`; the message says what the file looks like.
    """
    if not head:
        raise Invalid("empty_file", "The file is empty.")
    if b"%PDF-" in head[:_PDF_HEADER_WITHIN]:
        return PDF
    text = _decode(head)
    if text is None:
        raise _unsupported(_looks_like(head))
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _TEXT_SUFFIXES and _MARKUP.match(text.lstrip()):
        raise _unsupported("an HTML or XML file")
    return MARKDOWN if suffix in _MARKDOWN_SUFFIXES else PLAIN


def _decode(head: bytes) -> str | None:
    """The head as text, or None when it is something else; its last character may be cut in half."""
    utf32 = head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
    if utf32 or any(head.startswith(signature) and not _is_word(head) for signature, _ in _SIGNATURES):
        return None
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = codecs.getincrementaldecoder("utf-16" if utf16 else "utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return None
    return None if _BINARY.search(text) else text


def _is_word(head: bytes) -> bool:
    """Whether a two-letter signature ("BM", "MZ") merely starts a text."""
    return head[:2] in {b"BM", b"MZ"} and head[:64].isascii() and b"\x00" not in head[:64]


def _looks_like(head: bytes) -> str:
    for signature, meaning in _SIGNATURES:
        if head.startswith(signature):
            return meaning
    if head[4:8] == b"ftyp" or head.startswith((b"RIFF", b"OggS", b"ID3")):
        return "a sound, film or picture file"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "text in UTF-32"
    if b"\x00" in head:
        return "a binary file"
    return "text in an encoding other than UTF-8 or UTF-16"


def _unsupported(what: str) -> Unsupported:
    message = f"This looks like {what}. Ringfence reads PDF, plain text and Markdown (UTF-8, or UTF-16 with a BOM)."
    return Unsupported("unsupported_type", message)


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

"""Bytes to text, whatever their encoding: a byte order mark, else UTF-8, else what HTML declares, else a good guess."""

import codecs
import contextlib
import re
from collections.abc import Iterable
from encodings.aliases import aliases

import chardet
from chardet import EncodingEra
from chardet.models import get_language_norms, get_language_scale, get_rowmax
from chardet.pipeline.confusion import load_confusion_data

from ringfence.documents import sniff

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""(?:<meta[^>]{0,200}charset|<\?xml[^>]{0,200}encoding)\s*=\s*["']?([-\w.:]{1,40})""", re.IGNORECASE
)
_TAG = re.compile(rb"<[^<>]{0,1000}>")  # the detector would believe what stands in one
_DECLARED_WITHIN = 4096
_GUESS_BYTES = 65_536
_TELLING = re.compile(rb"[\x1b\x80-\xff]")
_DEFAULTS = frozenset({"ascii", "iso8859-1", "cp1252"})  # what tools declare without having looked


def warm_up() -> None:
    """Load every codec that text may need: behind its walls a child finds no more."""
    for alias in sorted(set(aliases.values())):
        with contextlib.suppress(LookupError):  # Windows' own
            codecs.lookup(alias)
    for load in (get_rowmax, get_language_norms, get_language_scale, load_confusion_data):
        load()
    chardet.detect("Grüße aus Köln".encode("latin-1"))


def decode(data: bytes, *, html: bool = False) -> str:
    """A text as a whole; what is no character of its encoding becomes U+FFFD."""
    return data.decode(encoding_of([data], html=html), errors="replace")


def encoding_of(blocks: Iterable[bytes], *, html: bool = False) -> str:
    """The encoding of a text that comes in blocks, none of which needs to be large; read as far as it takes.

    Args:
        blocks: the text from its start.
        html: whether a declaration in its first 4,096 bytes counts.
    """
    declared = ""
    for number, block in enumerate(blocks):
        if number == 0:
            for mark, name in _MARKS:
                if block.startswith(mark):
                    return name
            if utf_16 := sniff.utf_16_without_mark(block):
                return utf_16
            declared = _declared(block) if html else ""
        if b"\x1b$" in block:  # ISO 2022, whose bytes are ASCII's
            return _detected(block) or "utf-8"
        if not block.isascii():
            return _guess(_TAG.sub(b" ", block) if html else block, declared)
    return "utf-8"


def _declared(block: bytes) -> str:
    found = _DECLARED.search(block[:_DECLARED_WITHIN])
    return _known(found[1].decode("ascii")) if found else ""


def _guess(block: bytes, declared: str) -> str:
    """The encoding of a block that is not ASCII alone, and starts with a whole character."""
    with contextlib.suppress(UnicodeDecodeError):
        if not codecs.getincrementaldecoder("utf-8")().decode(block).isascii():  # its last character may be cut
            return "utf-8"
    if declared and declared not in _DEFAULTS and declared != "utf-8":
        return declared
    return _detected(block) or declared or "utf-8"


def _detected(block: bytes) -> str:
    # What Macintoshes of the last century and mainframes wrote is left out: short texts would be taken for theirs.
    telling = _TELLING.search(block)
    start = telling.start() if telling else 0
    eras = EncodingEra.MODERN_WEB | EncodingEra.LEGACY_ISO | EncodingEra.LEGACY_REGIONAL | EncodingEra.DOS
    return _known(chardet.detect(block[start : start + _GUESS_BYTES], encoding_era=eras)["encoding"])


def _known(name: str | None) -> str:
    """Python's name of an encoding of text, or nothing."""
    try:
        return codecs.lookup(name).name if name else ""
    except LookupError:
        return ""

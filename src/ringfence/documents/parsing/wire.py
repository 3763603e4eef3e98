"""What the parent and its children say to each other, and what each outcome of parsing means to people."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from ringfence.errors import Invalid, RingfenceError, TooLarge, Unsupported

PART_CHARS = 32_768
"""Most characters of one frame; a longer page comes in several parts."""

FRAME_BYTES = 2**18
"""Longest frame: `PART_CHARS` characters at 6 bytes each (a JSON escape), and the rest."""

UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no page's text may hold: PostgreSQL refuses NUL and surrogates, terminals obey control characters."""

REASONS: Mapping[str, tuple[type[RingfenceError], str]] = MappingProxyType(
    {
        "document_encrypted": (Invalid, "The document is encrypted; it needs its password."),
        "wrong_password": (Invalid, "The password does not open the document."),
        "document_damaged": (Invalid, "The document is damaged and could not be read."),
        "document_empty": (Invalid, "The document has no pages."),
        "no_text": (Invalid, "The document holds no text."),
        "needs_ocr": (
            Unsupported,
            "The document holds pictures of text only (a scan); it needs text recognition (OCR).",
        ),
        "too_many_pages": (TooLarge, "The document has more pages than the limit allows."),
        "too_much_text": (TooLarge, "The document holds more text than the limit allows."),
        "parser_memory": (TooLarge, "Reading the document took more memory than the limit allows."),
        "parser_timeout": (TooLarge, "Reading the document took more time than the limit allows."),
        "parser_crashed": (Invalid, "The document is damaged in a way that stopped the parser."),
    }
)


def reason(code: str) -> RingfenceError:
    """The error of an outcome. An unknown code means that the child no longer does what it was told."""
    kind, message = REASONS.get(code, REASONS["parser_crashed"])
    return kind(code if code in REASONS else "parser_crashed", message)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost.

    Attributes:
        cpu_seconds: CPU time of the child.
        wall_seconds: time that the parent waits for the child; time that the child waits for the parent is free.
        memory_bytes: address space of the child.
        max_pages: pages of a document.
        max_chars: characters of a document.
    """

    cpu_seconds: int = 30
    wall_seconds: float = 90.0
    memory_bytes: int = 2 * 2**30
    max_pages: int = 10_000
    max_chars: int = 50_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """What a child is told; it finds the document in a file descriptor."""

    media_type: str
    password: str | None
    limits: Limits

    def encode(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Request":
        """The inverse of `encode`."""
        fields = json.loads(line)
        return cls(fields["media_type"], fields["password"], Limits(**fields["limits"]))


@dataclass(frozen=True, slots=True)
class Count:
    """How many pages the document has; the first frame of a document that could be opened."""

    pages: int


@dataclass(frozen=True, slots=True)
class Part:
    """Text of a page (from 1), from character `start` on; a page without text may come as one empty part."""

    page: int
    start: int
    text: str


@dataclass(frozen=True, slots=True)
class Walls:
    """Which walls of the sandbox this machine does not let us build; said before the document is touched."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The whole document was read."""

    end: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the document can't be read: a key of `REASONS`."""

    error: str


type Frame = Walls | Count | Part | End | Failure


def encode(frame: Frame) -> bytes:
    """One line of JSON."""
    return json.dumps(asdict(frame), ensure_ascii=False).encode() + b"\n"

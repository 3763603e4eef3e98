"""What the parent and its children say to each other, and what each outcome of parsing means to people."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

from ringfence.errors import Invalid, NotFound, RingfenceError, TooLarge, Unsupported

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
        "unpacked_too_large": (TooLarge, "The document unpacks to more than the limit allows."),
        "parser_memory": (TooLarge, "Reading the document took more memory than the limit allows."),
        "parser_timeout": (TooLarge, "Reading the document took more time than the limit allows."),
        "page_not_found": (NotFound, "The document has no such page."),
        "outside_page": (Invalid, "The page has less text than that."),
        "no_rectangles": (Unsupported, "The page is a picture of text, or its words can't be placed on it."),
        "parser_crashed": (Invalid, "The document is damaged in a way that stopped the parser."),
    }
)


def reason(code: str) -> RingfenceError:
    """The error of an outcome. An unknown code means that the child no longer does what it was told."""
    kind, message = REASONS.get(code, REASONS["parser_crashed"])
    return kind(code if code in REASONS else "parser_crashed", message)


@dataclass(frozen=True, slots=True)
class Ocr:
    """What text in pictures is recognised with.

    Attributes:
        tessdata: the folder of Tesseract's data; the only one that a child may read.
        languages: as Tesseract names them, between `+`.
        cpu_seconds: CPU time for all pages of a document, on top of `Limits.cpu_seconds`.
        page_cpu_seconds: CPU time for one page.
    """

    tessdata: str
    languages: str
    cpu_seconds: int = 600
    page_cpu_seconds: int = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost.

    Attributes:
        cpu_seconds: CPU time of the child.
        wall_seconds: time that the parent waits for the child; time that the child waits for the parent is free.
        memory_bytes: address space of the child.
        max_pages: pages of a document.
        max_chars: characters of a document.
        ocr: what pictures of text are read with; without it they stay unread.
    """

    cpu_seconds: int = 30
    wall_seconds: float = 90.0
    memory_bytes: int = 2 * 2**30
    max_pages: int = 10_000
    max_chars: int = 50_000_000
    ocr: Ocr | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What is wanted of one page instead of the whole text: a picture of it, or words with their boxes.

    Attributes:
        page: from 1.
        scale: pixels a point (1/72 inch), of a picture; None: boxes are wanted.
        start: of the words, in characters of the page's text.
        end: behind them.
    """

    page: int
    scale: float | None = None
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a child is told; it finds the document in a file descriptor."""

    media_type: str
    password: str | None
    limits: Limits
    view: View | None = None

    def encode(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Request":
        """The inverse of `encode`."""
        fields = json.loads(line)
        ocr = fields["limits"].pop("ocr")
        limits = Limits(**fields["limits"], ocr=Ocr(**ocr) if ocr else None)
        view = View(**fields["view"]) if fields["view"] else None
        return cls(fields["media_type"], fields["password"], limits, view)


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
class Heading:
    """A heading, said before the `Part` that holds all of its characters; in order, and none within another.

    Attributes:
        page: from 1, as the `Part`'s.
        start: of the title without markup, in characters of the page's text.
        end: where it ends, after `start`.
        level: from 1 (the highest) to 6.
    """

    page: int
    start: int
    end: int
    level: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """The size of a page in points, as it is shown; before its picture or its boxes."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Box:
    """Where words of one line stand, in points from the page's upper left corner, and which characters they are."""

    x0: float
    y0: float
    x1: float
    y1: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pixels:
    """A part of a picture's file (PNG), in base64."""

    png: str


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


type Frame = Walls | Count | Heading | Part | Sheet | Box | Pixels | End | Failure


def encode(frame: Frame) -> bytes:
    """One line of JSON."""
    return json.dumps(asdict(frame), ensure_ascii=False).encode() + b"\n"

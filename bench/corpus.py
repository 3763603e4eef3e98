"""The evaluation documents that benchmarks read: not part of the repository; RINGFENCE_EVALDATA says where they are."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pymupdf as _pymupdf

from bench.harness import ROOT
from ringfence.documents import sniff
from ringfence.documents.parsing import formats
from ringfence.documents.parsing.wire import Limits, Part

pymupdf: Any = _pymupdf  # partly typed upstream
BOOKS = ("freeculture.pdf", "GeoTopo-komprimiert.pdf")  # English and German, 469 pages
BYTES_IN_MB = 1_000_000


def folder() -> Path:
    """The folder of documents; ends the run if there is none."""
    found = (ROOT / os.environ.get("RINGFENCE_EVALDATA", "../shared/evaldata")).resolve() / "documents"
    if not found.is_dir():
        raise SystemExit(f"There are no evaluation documents in {found}: set RINGFENCE_EVALDATA.")
    return found


def book_paths() -> list[Path]:
    """Two real books."""
    return [folder() / "wellformed" / name for name in BOOKS]


def damaged_paths() -> list[Path]:
    """Every PDF that is damaged or made to do harm."""
    return sorted((folder() / "hostile").glob("*.pdf"))


def engine_pages() -> list[str]:
    """The books' pages as the engine reads them: blank lines between paragraphs."""
    pages = []
    for path in book_paths():
        with path.open("rb") as file:
            frames = formats.extract(file, sniff.PDF, None, Limits())
            pages += [frame.text for frame in frames if isinstance(frame, Part)]
    return pages


def plain_pages() -> list[str]:
    """The books' pages as PyMuPDF's `get_text()` gives them: line breaks, but no blank lines between paragraphs."""
    pages = []
    for path in book_paths():
        with pymupdf.open(path) as document:
            pages += [page.get_text() for page in document]
    return pages


def texts(collection: str) -> list[str]:
    """The documents of a collection as the engine reads plain text, in parts."""
    rows = (folder().parent / "retrieval" / collection / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    parts = []
    for row in rows:
        file = io.BytesIO(json.loads(row)["text"].encode())
        frames = formats.extract(file, sniff.PLAIN, None, Limits())
        parts += [frame.text for frame in frames if isinstance(frame, Part)]
    return parts


def repeated(pages: list[str], megabytes: float) -> list[str]:
    """Pages over and over, until they hold this many MB of UTF-8."""
    taken: list[str] = []
    left = megabytes * BYTES_IN_MB
    while True:
        for page in pages:
            if left <= 0:
                return taken
            taken.append(page)
            left -= len(page.encode()) + 1


def hundred_pages(target: Path) -> list[Path]:
    """Eight PDFs of 100 pages each, cut out of the longer book from different pages on."""
    paths = []
    with pymupdf.open(book_paths()[0]) as book:
        for number in range(8):
            first = number * 35
            path = target / f"part-{number}.pdf"
            with pymupdf.open() as part:
                part.insert_pdf(book, from_page=first, to_page=first + 99)
                part.save(path)
            paths.append(path)
    return paths

"""Small documents made by hand, and what becomes of them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pymupdf
import pytest

from ringfence.documents.parsing import formats
from ringfence.documents.parsing.wire import Heading, Limits, Part, View
from ringfence.errors import RingfenceError


def extracted(data: bytes, media_type: str, folder: Path, password: str | None = None, **limits: Any) -> list:
    path = folder / "document"
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(formats.extract(file, media_type, password, Limits(**limits)))


def viewed(data: bytes, media_type: str, folder: Path, view: View, password: str | None = None, **limits: Any) -> list:
    path = folder / "document"
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(formats.extract(file, media_type, password, Limits(**limits), view))


def code(data: bytes, media_type: str, folder: Path, password: str | None = None, **limits: Any) -> str:
    with pytest.raises(RingfenceError) as caught:
        extracted(data, media_type, folder, password, **limits)
    return caught.value.code


def pdf(*pages: str, **save: object) -> bytes:
    with pymupdf.open() as document:
        for text in pages:
            page = document.new_page()
            page.insert_text((72, 72), text)
        return document.tobytes(**save)


def pages(data: bytes, media_type: str, folder: Path, **limits: int) -> list[str]:
    """The text of each page."""
    texts: dict[int, str] = {}
    for frame in extracted(data, media_type, folder, **limits):
        if isinstance(frame, Part):
            texts[frame.page] = texts.get(frame.page, "") + frame.text
    return list(texts.values())


def headings(data: bytes, media_type: str, folder: Path) -> list[tuple[int, str, int]]:
    """The page, the words and the level of each heading."""
    texts = pages(data, media_type, folder)
    return [
        (frame.page, texts[frame.page - 1][frame.start : frame.end], frame.level)
        for frame in extracted(data, media_type, folder)
        if isinstance(frame, Heading)
    ]


def zipped(entries: Mapping[str, str | bytes], *, mimetype: str = "") -> bytes:
    """A ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if mimetype:
            archive.writestr("mimetype", mimetype, zipfile.ZIP_STORED)
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relations(**targets: str) -> str:
    """The relations of a part of an Office Open XML package, by their ids."""
    rows = "".join(f'<Relationship Id="{key}" Type="x/{key}" Target="{target}"/>' for key, target in targets.items())
    return f'<Relationships xmlns="rel">{rows}</Relationships>'

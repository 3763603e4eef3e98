"""Text of PowerPoint presentations (Office Open XML): one page for each slide, in the order of the show.

A slide's title is a heading; its other shapes follow in the order of the file, lists as lists and tables as tables;
then its speaker's notes and comments. Text of the layout (footers, "click to add") is left out.
"""

from collections.abc import Iterator
from typing import BinaryIO
from xml.etree import ElementTree as ET  # for its types; `package` reads

from ringfence.documents.parsing.package import Package, attribute, child, local
from ringfence.documents.parsing.pages import Pages

_TITLES = frozenset({"title", "ctrTitle"})
_LEFT_OUT = frozenset({"sldNum", "dt"})
_BODIES = frozenset({"body", "obj", ""})


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a presentation into `pages`.

    Raises:
        RingfenceError: `document_encrypted`, `unpacked_too_large`, or a limit of `pages`.
    """
    package = Package(file)
    main = package.main_part("ppt/presentation.xml")
    related = package.related(main)
    listed = [related.get(_relation(entry), "") for entry in package.tree(main).iter() if local(entry) == "sldId"]
    for number, slide in enumerate(path for path in listed if path in package):
        if number:
            pages.turn()
        _slide(package, slide, pages)


def _relation(entry: ET.Element) -> str:
    """`r:id`, not `id`, which has no namespace."""
    return next((value for key, value in entry.items() if key.endswith("}id")), "")


def _slide(package: Package, slide: str, pages: Pages) -> None:
    shapes = child(package.tree(slide), "cSld", "spTree")
    for shape in _shapes(shapes):
        _shape(shape, pages)
    for part in sorted(set(package.related(slide).values())):
        if "/notesSlides/" in part and part in package:
            _notes(package.tree(part), pages)
        elif "/comments/" in part and part in package:
            for comment in package.tree(part):
                pages.block(
                    " ".join(element.text or "" for element in comment.iter() if local(element) in {"t", "text"})
                )


def _shapes(tree: ET.Element | None) -> Iterator[ET.Element]:
    """All shapes and frames; groups are opened, alternatives for old programs left out."""
    for element in tree if tree is not None else ():
        if local(element) in {"sp", "graphicFrame"}:
            yield element
        elif local(element) != "Fallback":
            yield from _shapes(element)


def _kind(shape: ET.Element) -> str | None:
    """The kind of a placeholder; None for other shapes."""
    placeholder = child(shape, "nvSpPr", "nvPr", "ph")
    return attribute(placeholder, "type") if placeholder is not None else None


def _shape(shape: ET.Element, pages: Pages) -> None:
    table = child(shape, "graphic", "graphicData", "tbl")
    kind = _kind(shape)
    if table is not None:
        pages.table(list(_rows(table)))
    elif kind in _TITLES:
        pages.heading(" ".join(_text(paragraph) for paragraph in _paragraphs(shape)), 1)
    elif kind not in _LEFT_OUT:
        for paragraph in _paragraphs(shape):
            _paragraph(paragraph, pages, listed=kind in _BODIES)


def _paragraph(paragraph: ET.Element, pages: Pages, *, listed: bool) -> None:
    properties = child(paragraph, "pPr")
    level = attribute(properties, "lvl") if properties is not None else ""
    marked = any(child(properties, name) is not None for name in ("buChar", "buAutoNum", "buBlip"))
    if (listed or marked) and child(properties, "buNone") is None:
        pages.item(_text(paragraph), int(level) if level.isdecimal() else 0)
    else:
        pages.block(_text(paragraph))


def _paragraphs(shape: ET.Element) -> Iterator[ET.Element]:
    return (element for element in shape.iter() if local(element) == "p")


def _text(paragraph: ET.Element) -> str:
    return "".join(
        "\n" if local(element) == "br" else " " if local(element) == "tab" else element.text or ""
        for element in paragraph.iter()
        if local(element) in {"t", "br", "tab"}
    )


def _rows(table: ET.Element) -> Iterator[list[str]]:
    for row in table:
        if local(row) == "tr":
            yield ["\n".join(map(_text, _paragraphs(cell))) for cell in row if local(cell) == "tc"]


def _notes(notes: ET.Element, pages: Pages) -> None:
    for shape in _shapes(child(notes, "cSld", "spTree")):
        if _kind(shape) == "body":
            for paragraph in _paragraphs(shape):
                pages.block(_text(paragraph))

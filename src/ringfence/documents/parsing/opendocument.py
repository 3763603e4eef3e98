"""Text of OpenDocument texts and presentations (ODT, ODP): paragraphs, headings, lists, tables, notes.

A slide is a page. A text's pages are those that its program noted when it last laid it out (soft page breaks). Deleted
text of tracked changes is left out; annotations and footnotes follow their paragraph.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO
from xml.etree import ElementTree as ET  # for its types; `package` reads

from ringfence.documents.parsing.package import Package, attribute, child, local
from ringfence.documents.parsing.pages import Pages
from ringfence.documents.parsing.wire import reason

_PAGE = "\f"
_SKIPPED = frozenset({"tracked-changes", "sequence-decls", "forms", "note-citation", "creator", "date", "bookmark-ref"})
_ASIDE = frozenset({"note-body", "annotation", "text-box"})
_MAX_REPEAT = 100


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a text or a presentation into `pages`.

    Raises:
        RingfenceError: `document_encrypted`, `unpacked_too_large`, or a limit of `pages`.
    """
    package = Package(file)
    manifest = "META-INF/manifest.xml"
    if manifest in package and any(local(entry) == "encryption-data" for entry in package.tree(manifest).iter()):
        raise reason("document_encrypted")
    root = package.tree("content.xml")
    reader = _Reader(pages, _ordered(root, package))
    body = child(root, "body")
    if body is not None:
        reader.blocks(body, depth=-1)


def _ordered(root: ET.Element, package: Package) -> frozenset[tuple[str, int]]:
    """Lists' styles and levels (from 0) that have numbers."""
    roots = [root, package.tree("styles.xml")] if "styles.xml" in package else [root]
    return frozenset(
        (attribute(style, "name"), int(level_of) - 1)
        for tree in roots
        for style in tree.iter()
        if local(style) == "list-style"
        for level in style
        if local(level) == "list-level-style-number" and (level_of := attribute(level, "level")).isdecimal()
    )


class _Reader:
    """Walks blocks and writes them to pages."""

    def __init__(self, pages: Pages, ordered: frozenset[tuple[str, int]]) -> None:
        self._pages = pages
        self._ordered = ordered
        self._slides = 0

    def blocks(self, parent: ET.Element, depth: int) -> None:
        for element in parent:
            self._block(element, depth)

    def _block(self, element: ET.Element, depth: int) -> None:
        match local(element):
            case "h":
                level = attribute(element, "outline-level", "1")
                self._write(element, lambda text: self._pages.heading(text, int(level) if level.isdecimal() else 1))
            case "p":
                self._write(element, self._pages.block)
            case "list":
                self._list(element, depth + 1, "")
            case "table":
                self._pages.table(list(self._rows(element)))
            case "soft-page-break":
                self._pages.turn()
            case "page":
                self._slides += 1
                if self._slides > 1:
                    self._pages.turn()
                self.blocks(element, depth)
            case "frame" if attribute(element, "class") == "title":
                self._pages.heading(" ".join("".join(_texts(line)) for line in element.iter() if local(line) == "p"), 1)
            case name if name not in _SKIPPED:
                self.blocks(element, depth)

    def _write(self, element: ET.Element, write: Callable[[str], None]) -> None:
        for index, piece in enumerate("".join(_texts(element)).split(_PAGE)):
            if index:
                self._pages.turn()
            write(piece)
        for aside in _asides(element):
            self.blocks(aside, depth=-1)

    def _list(self, element: ET.Element, depth: int, style: str) -> None:
        style = attribute(element, "style-name") or style
        count = 0
        for item in element:
            count += local(item) == "list-item"
            mark = f"{count}." if (style, depth) in self._ordered else "-"
            for inner in item:
                if local(inner) == "list":
                    self._list(inner, depth + 1, style)
                elif local(inner) == "p":
                    self._write(inner, partial(self._pages.item, depth=depth, mark=mark))
                else:
                    self._block(inner, depth)

    def _rows(self, table: ET.Element) -> Iterator[list[str]]:
        for element in table:
            if local(element) == "table-row":
                cells: list[str] = []
                for cell in element:
                    cells += [self._cell(cell)] * _times(cell, "number-columns-repeated")
                yield from [cells] * (_times(element, "number-rows-repeated") if any(cells) else 1)
            elif local(element) in {"table-rows", "table-header-rows", "table-row-group"}:
                yield from self._rows(element)

    def _cell(self, cell: ET.Element) -> str:
        return "\n".join(
            "".join(_texts(element)).replace(_PAGE, " ") for element in cell.iter() if local(element) in {"p", "h"}
        )


def _times(element: ET.Element, name: str) -> int:
    value = attribute(element, name)
    return min(int(value), _MAX_REPEAT) if value.isdecimal() else 1


def _texts(element: ET.Element) -> Iterator[str]:
    """A paragraph's own text, with form feeds where pages end."""
    yield element.text or ""
    for inner in element:
        match local(inner):
            case "s" | "tab":
                yield " "
            case "line-break":
                yield "\n"
            case "soft-page-break":
                yield _PAGE
            case name if name not in _ASIDE | _SKIPPED:
                yield from _texts(inner)
        yield inner.tail or ""


def _asides(element: ET.Element) -> Iterator[ET.Element]:
    for inner in element:
        if local(inner) in _ASIDE:
            yield inner
        else:
            yield from _asides(inner)

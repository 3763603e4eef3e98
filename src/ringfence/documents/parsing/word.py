"""Text of Word documents (Office Open XML, transitional and strict): paragraphs, headings, lists, tables, notes.

Deleted text of tracked changes is left out, inserted text kept; hidden text (`w:vanish`) is kept, as a PDF's is: what a
passage says never is an instruction. Text boxes follow the paragraph that they hang on. Footnotes, endnotes and
comments stand at the end; headers and footers, which repeat, are left out, and so are macros and embedded files.
Pages are those that Word last laid out, where it noted them, else those of explicit breaks.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO
from xml.etree import ElementTree as ET  # for its types; `package` reads

from ringfence.documents.parsing.package import Package, attribute, child, local
from ringfence.documents.parsing.pages import Pages

_PAGE = "\f"
_HEADING_NAME = re.compile(r"(?i)heading ?([1-9])$")
_NOTES = (("footnotes", "footnote"), ("endnotes", "endnote"), ("comments", "comment"))
_SKIPPED = frozenset({"del", "moveFrom", "rPr", "pPr", "instrText", "delText", "Fallback", "sdtPr", "txbxContent"})
_SIGNS = {"tab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": "", "ptab": " "}
_BULLETS = frozenset({"bullet", "none", ""})
_MAX_SPAN = 100


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a document into `pages`.

    Raises:
        RingfenceError: `document_encrypted`, `unpacked_too_large`, or a limit of `pages`.
    """
    package = Package(file)
    main = package.main_part("word/document.xml")
    parts = set(package.related(main).values())
    reader = _Reader(pages, _Styles(package, parts), hinted=_hinted(package, main))
    for block in _blocks(package, main):
        reader.block(block)
    for kind, name in _NOTES:
        for part in sorted(part for part in parts if part.endswith(f"/{kind}.xml") and part in package):
            for note in package.tree(part):
                if local(note) == name and attribute(note, "type") in {"", "normal"}:
                    reader.note(note)


def _blocks(package: Package, main: str) -> Iterator[ET.Element]:
    """The children of the body, one after the other, each forgotten when the next is asked for."""
    open_elements: list[ET.Element] = []
    for event, element in package.elements(main):
        if event == "start":
            open_elements.append(element)
            continue
        open_elements.pop()
        if open_elements and local(open_elements[-1]) == "body" and len(open_elements) == 2:  # noqa: PLR2004
            yield element
            open_elements[-1].clear()


def _hinted(package: Package, main: str) -> bool:
    for _, element in package.elements(main, ("end",)):
        if local(element) == "lastRenderedPageBreak":
            return True
        element.clear()
    return False


class _Styles:
    """What the styles and numberings of a document make of its paragraphs."""

    def __init__(self, package: Package, parts: set[str]) -> None:
        self._styles: dict[str, tuple[str, int | None, ET.Element | None]] = {}
        self._formats: dict[tuple[str, str], str] = {}
        for part in sorted(parts & {part for part in parts if part in package}):
            if part.endswith("/styles.xml"):
                self._read_styles(package.tree(part))
            elif part.endswith("/numbering.xml"):
                self._read_numbering(package.tree(part))

    def _read_styles(self, root: ET.Element) -> None:
        for style in root:
            if local(style) == "style":
                self._styles[attribute(style, "styleId")] = (
                    _value(child(style, "basedOn")),
                    _outline(child(style, "pPr"), _value(child(style, "name"))),
                    child(style, "pPr", "numPr"),
                )

    def _read_numbering(self, root: ET.Element) -> None:
        formats: dict[str, dict[str, str]] = {}
        for entry in root:
            if local(entry) == "abstractNum":
                formats[attribute(entry, "abstractNumId")] = {
                    attribute(level, "ilvl"): _value(child(level, "numFmt")) for level in entry if local(level) == "lvl"
                }
        for entry in root:
            if local(entry) == "num":
                for level, form in formats.get(_value(child(entry, "abstractNumId")), {}).items():
                    self._formats[attribute(entry, "numId"), level] = form

    def level(self, properties: ET.Element | None) -> int | None:
        """The level, from 1, of a heading; None for other paragraphs."""
        own = _outline(properties, "")
        return own if own is not None else next((level for level, _ in self._inherited(properties) if level), None)

    def numbering(self, properties: ET.Element | None) -> tuple[str, int, bool] | None:
        """Which list a paragraph is an item of, at which depth from 0, and whether with a number; None for others."""
        own = child(properties, "numPr")
        found = (
            own
            if own is not None
            else next((item for _, item in self._inherited(properties) if item is not None), None)
        )
        number, level = _value(child(found, "numId")), _value(child(found, "ilvl")) or "0"
        if found is None or number in {"", "0"}:
            return None
        return number, int(level), self._formats.get((number, level), "") not in _BULLETS

    def _inherited(self, properties: ET.Element | None) -> Iterator[tuple[int | None, ET.Element | None]]:
        name, seen = _value(child(properties, "pStyle")), set[str]()
        while name in self._styles and name not in seen:
            seen.add(name)
            name, level, item = self._styles[name]
            yield level, item


def _value(element: ET.Element | None) -> str:
    return attribute(element, "val") if element is not None else ""


def _outline(properties: ET.Element | None, name: str) -> int | None:
    """A heading's level by its outline level (from 0; 9 is body text), else by the name of its style."""
    outline = _value(child(properties, "outlineLvl"))
    if outline.isdecimal():
        return int(outline) + 1 if int(outline) < 9 else None  # noqa: PLR2004  # 17.3.1.20
    named = _HEADING_NAME.match(name)
    return int(named[1]) if named else 1 if name.lower() == "title" else None


class _Reader:
    """Walks blocks and writes them to pages."""

    def __init__(self, pages: Pages, styles: _Styles, *, hinted: bool) -> None:
        self._pages = pages
        self._styles = styles
        self._hinted = hinted
        self._counts: dict[str, list[int]] = {}

    def block(self, element: ET.Element) -> None:
        """A paragraph, a table, or what holds some."""
        match local(element):
            case "p":
                self._paragraph(element)
            case "tbl":
                self._table(element)
            case name if name not in _SKIPPED:
                for inner in element:
                    self.block(inner)

    def note(self, element: ET.Element) -> None:
        """A footnote, an endnote or a comment."""
        text = " ".join(self._text(inner) for inner in element)
        self._pages.block(text.replace(_PAGE, " "))

    def _paragraph(self, element: ET.Element) -> None:
        properties = child(element, "pPr")
        if not self._hinted and child(properties, "pageBreakBefore") is not None:
            self._pages.turn()
        for index, piece in enumerate(self._text(element).split(_PAGE)):
            if index:
                self._pages.turn()
            self._write(piece, properties)
        for box in _boxes(element):
            for inner in box:
                self.block(inner)
        if not self._hinted and _starts_page(child(properties, "sectPr")):
            self._pages.turn()

    def _write(self, text: str, properties: ET.Element | None) -> None:
        level = self._styles.level(properties)
        item = self._styles.numbering(properties)
        if level is not None:
            self._pages.heading(text, level)
        elif item and text.strip():
            self._pages.item(text, item[1], self._mark(*item))
        else:
            self._pages.block(text)

    def _mark(self, number: str, depth: int, numbered: bool) -> str:  # noqa: FBT001  # as `numbering` gives it
        """The mark of an item; each list is counted through, as Word does, with plain numbers at every depth."""
        counts = self._counts.setdefault(number, [])
        del counts[depth + 1 :]
        counts += [0] * (depth + 1 - len(counts))
        counts[depth] += 1
        return f"{counts[depth]}." if numbered else "-"

    def _table(self, element: ET.Element) -> None:
        """A table; a page that starts within it starts before the row that holds the break."""
        rows: list[list[str]] = []
        for row in self._rows(element):
            turns = sum(cell.count(_PAGE) for cell in row)
            if turns:
                self._pages.table(rows)
                rows = []
            for _ in range(turns):
                self._pages.turn()
            rows.append([cell.replace(_PAGE, " ") for cell in row])
        self._pages.table(rows)

    def _rows(self, element: ET.Element) -> Iterator[list[str]]:
        for row in element:
            if local(row) == "tr":
                cells: list[str] = []
                for cell in row:
                    self._cell(cell, cells)
                yield cells
            elif local(row) in {"sdt", "sdtContent", "customXml", "ins"}:
                yield from self._rows(row)

    def _cell(self, element: ET.Element, cells: list[str]) -> None:
        if local(element) in {"sdt", "sdtContent", "customXml"}:
            for inner in element:
                self._cell(inner, cells)
        elif local(element) == "tc":
            span = _value(child(element, "tcPr", "gridSpan"))
            cells.append(self._cell_text(element))
            cells += [""] * (min(int(span), _MAX_SPAN) - 1 if span.isdecimal() else 0)

    def _cell_text(self, element: ET.Element) -> str:
        texts = []
        for inner in element:
            if local(inner) == "tbl":
                texts += ["; ".join(filter(None, row)) for row in self._rows(inner)]
            else:
                texts += [self._text(inner), *(self._text(part) for box in _boxes(inner) for part in box)]
        return "\n".join(filter(None, texts))

    def _text(self, element: ET.Element) -> str:
        return "".join(self._texts(element))

    def _texts(self, element: ET.Element) -> Iterator[str]:
        for inner in element:
            name = local(inner)
            if name in _SKIPPED:
                continue
            if name == "t":
                yield (inner.text or "").replace(_PAGE, " ")
            elif name == "lastRenderedPageBreak":
                yield _PAGE
            elif name == "br" and attribute(inner, "type") == "page":
                yield "\n" if self._hinted else _PAGE
            elif name in _SIGNS:
                yield _SIGNS[name]
            else:
                yield from self._texts(inner)
                yield "\n" if name == "p" else ""


def _boxes(element: ET.Element) -> Iterator[ET.Element]:
    """The contents of text boxes within a paragraph; an alternative for old programs repeats one and is left out."""
    for inner in element:
        if local(inner) == "txbxContent":
            yield inner
        elif local(inner) != "Fallback":
            yield from _boxes(inner)


def _starts_page(section: ET.Element | None) -> bool:
    """Whether the section after this one starts on a new page."""
    return section is not None and _value(child(section, "type")) not in {"continuous", "nextColumn"}

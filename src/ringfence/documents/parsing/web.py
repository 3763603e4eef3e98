"""Text of HTML, as a stream of tags: no tree is built, so no depth of nesting can do harm.

Scripts, styles, templates and what else no browser shows are dropped. Text that a style or an attribute hides is kept,
as a PDF's is: telling it surely would take a browser, and what a passage says never is an instruction. Links keep their
text, pictures their alternative text. Tables of one column, which mostly serve layout, become paragraphs, and a table
that stands in another's cell becomes text of that cell.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import BinaryIO

from ringfence.documents.parsing.encodings import decode
from ringfence.documents.parsing.pages import Pages

_DROPPED = frozenset(
    {"script", "style", "template", "head", "svg", "iframe", "object", "noscript", "select", "datalist", "rp"}
)
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "html", "legend",
    "main", "nav", "p", "section", "summary",
})
# fmt: on
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_CELLS = frozenset({"td", "th"})
_SPECIAL = frozenset({"li", "pre", "table", "title", "tr"})
_HEADING = re.compile(r"h([1-6])$")
_WHITE = re.compile(r"[ \t\r\n\f]+")
_SCRIPT = re.compile(r"<(script|style)\b.*?</\1\b[^>]*>", re.IGNORECASE | re.DOTALL)  # older parsers miss some ends
_BAD_DECLARATION = re.compile(r"<!\[(?!CDATA\[|(?:if|else|endif)\b)", re.IGNORECASE)  # its parser asserts
_MAX_SPAN = 100


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a file of HTML into `pages`.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    read_html(decode(file.read(), html=True), pages)


def read_html(text: str, pages: Pages) -> None:
    """Read a page of HTML into the page that `pages` is on.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    reader = _Reader(pages)
    reader.feed(_BAD_DECLARATION.sub("&lt;![", _SCRIPT.sub(" ", text)))
    reader.close()
    reader.finish()


@dataclass(slots=True)
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    spans: dict[int, int] = field(default_factory=dict)
    cell: list[str] | None = None
    wide: int = 1
    tall: int = 1

    def begin_row(self) -> None:
        self.end_cell()
        self.rows.append([])

    def begin_cell(self, wide: int, tall: int) -> None:
        self.end_cell()
        if not self.rows:
            self.begin_row()
        self.cell, self.wide, self.tall = [], wide, tall

    def end_cell(self) -> None:
        if self.cell is None:
            return
        row = self.rows[-1]
        while self.spans.get(len(row), 0):  # a cell of a row above reaches down to here
            self.spans[len(row)] -= 1
            row.append("")
        for value in ("\n".join(self.cell), *[""] * (self.wide - 1)):
            self.spans[len(row)] = self.tall - 1
            row.append(value)
        self.cell = None


class _Reader(HTMLParser):
    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self._pages = pages
        self._text: list[str] = []
        self._dropped = ""
        self._drop_depth = 0
        self._titled = False
        self._level = 0
        self._preformatted = 0
        self._lists: list[int] = []  # of each open list: how many items it had, negative where they have no numbers
        self._mark = ""
        self._tables: list[_Table] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._drops(tag):
            return
        heading = _HEADING.match(tag)
        if tag in _BLOCKS or tag in _LISTS or heading or tag in _SPECIAL:
            self._flush()
        if heading or tag == "title":
            self._level = int(heading[1]) if heading else 1
        elif tag in _LISTS:
            self._lists.append(0 if tag == "ol" else -1)
        elif tag == "li":
            self._begin_item()
        elif tag == "pre":
            self._preformatted += 1
        else:
            self._start_other(tag, dict(attrs))

    def _drops(self, tag: str) -> bool:
        """Whether a tag opens, or stands in, what is dropped; a head is, but for its title."""
        if self._dropped == "head" and tag in {"title", "body"}:
            self._dropped = ""
            self._titled = tag == "title"
        if not self._dropped and tag in _DROPPED:
            self._dropped, self._drop_depth = tag, 1
        elif self._dropped == tag:
            self._drop_depth += 1
        return self._dropped != ""

    def _start_other(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "br":
            self._text.append("\n")
        elif tag == "img":
            self._text.append(_WHITE.sub(" ", attributes.get("alt") or ""))
        elif tag == "table":
            self._tables.append(_Table())
        elif tag == "tr" and self._tables:
            self._tables[-1].begin_row()
        elif tag in _CELLS and self._tables:
            self._flush()
            self._tables[-1].begin_cell(_span(attributes.get("colspan")), _span(attributes.get("rowspan")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<x/>`: in HTML like `<x>`, in XHTML like `<x></x>`; only what is dropped makes a difference."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._dropped:
            self._drop_depth -= tag == self._dropped
            self._dropped = self._dropped if self._drop_depth else ""
            return
        heading = _HEADING.match(tag)
        if tag in _BLOCKS or tag in _LISTS or heading or tag in _SPECIAL | _CELLS:
            self._flush()
        if heading or tag == "title":
            self._level = 0
            self._drops("head" if self._titled else "")
            self._titled = False
        elif tag in _LISTS and self._lists:
            self._lists.pop()
        elif tag == "pre":
            self._preformatted = max(self._preformatted - 1, 0)
        elif self._tables:
            self._end_in_table(tag)

    def _end_in_table(self, tag: str) -> None:
        if tag in _CELLS or tag == "tr":
            self._tables[-1].end_cell()
        elif tag == "table":
            self._end_table()

    def _begin_item(self) -> None:
        if self._lists and self._lists[-1] >= 0:
            self._lists[-1] += 1
            self._mark = f"{self._lists[-1]}."
        else:
            self._mark = "-"

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self._text.append(data if self._preformatted else _WHITE.sub(" ", data))

    def unknown_decl(self, data: str) -> None:
        """CDATA, which XHTML may hold."""
        if data.startswith("CDATA["):
            self.handle_data(data.removeprefix("CDATA["))

    def _flush(self) -> None:
        """Write the text that has come together as what it is: cell, heading, item, code or paragraph."""
        text = "".join(self._text)
        self._text.clear()
        if not text.strip():
            return
        cell = self._tables[-1].cell if self._tables else None
        if cell is not None:
            cell.append(f"{self._mark} {text.strip()}" if self._mark else text.strip())
        elif self._level:
            self._pages.heading(text, self._level)
        elif self._preformatted:
            self._pages.code(text)
        elif self._mark:
            self._pages.item(text, max(len(self._lists) - 1, 0), self._mark)
        else:
            self._pages.block(text)
        self._mark = ""

    def _end_table(self) -> None:
        table = self._tables.pop()
        table.end_cell()
        outer = self._tables[-1].cell if self._tables else None
        if outer is not None:
            outer += ["; ".join(filter(None, row)) for row in table.rows]
        elif max(map(len, table.rows), default=0) > 1:
            self._pages.table(table.rows)
        else:
            for row in table.rows:
                self._pages.block("".join(row))

    def finish(self) -> None:
        """Write what is still open when the text ends."""
        self._flush()
        while self._tables:
            self._end_table()


def _span(value: str | None) -> int:
    return min(int(value), _MAX_SPAN) if value and value.isdecimal() and value.isascii() and int(value) else 1

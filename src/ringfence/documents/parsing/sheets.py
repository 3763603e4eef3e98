"""Text of spreadsheets (XLSX, XLS, ODS) and CSV: each sheet is a page, its name a heading, its cells a table.

Cells hold what was last computed, not formulas; numbers come plain, without their display format, dates as ISO 8601.
Hidden sheets are kept, sheets without cells stay as empty pages.
"""

import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from python_calamine import CalamineWorkbook, SheetTypeEnum

from ringfence.documents.parsing.encodings import decode
from ringfence.documents.parsing.package import Package
from ringfence.documents.parsing.pages import Pages

_ZIP = b"PK"
_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 50
_LONGEST_FIELD = 2**31 - 1

type Value = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a workbook into `pages`.

    Raises:
        RingfenceError: `document_encrypted`, `unpacked_too_large`, or a limit of `pages`.
    """
    if file.read(len(_ZIP)) == _ZIP:
        Package(file)  # only for its checks
    file.seek(0)
    book = CalamineWorkbook.from_filelike(file)
    sheets = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    for number, sheet in enumerate(sheets):
        if number:
            pages.turn()
        pages.heading(sheet.name, 1)
        pages.table([list(map(text_of, row)) for row in book.get_sheet_by_name(sheet.name).iter_rows()])


def text_of(value: Value) -> str:
    """A cell's value as text: whole numbers without a fraction, dates without a time of midnight."""
    match value:
        case bool():
            return str(value).upper()
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)  # noqa: PLR2004  # exact
        case dt.datetime():
            return value.isoformat(" ").removesuffix(" 00:00:00")
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return str(value)


def read_csv(file: BinaryIO, pages: Pages) -> None:
    """Read comma-, semicolon-, tab- or bar-separated values into `pages`.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    text = decode(file.read())
    csv.field_size_limit(_LONGEST_FIELD)
    pages.table(_rows(text, delimiter_of(text)))


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text.replace("\x00", ""), newline=""), delimiter=delimiter)


def delimiter_of(text: str) -> str:
    """The sign that cuts the first lines into the most rows of equal width; a comma if none does."""
    lines = "\n".join(text.splitlines()[:_SAMPLE_LINES])
    return max(_DELIMITERS, key=lambda sign: _evenness(lines, sign))


def _evenness(lines: str, delimiter: str) -> int:
    """How many cells stand in rows of the most frequent width, where that is more than one."""
    widths = Counter(len(row) for row in _rows(lines, delimiter) if row)
    return max(((width > 1) * width * count for width, count in widths.items()), default=0)

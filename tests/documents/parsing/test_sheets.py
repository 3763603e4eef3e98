import datetime as dt

import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing import sheets
from tests.documents.parsing.made import code, headings, pages, zipped

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def rels(targets: dict[str, tuple[str, str]]) -> str:
    rows = "".join(
        f'<Relationship Id="{key}" Type="{REL}/{kind}" Target="{target}"/>' for key, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{PACKAGE}">{rows}</Relationships>'


def xlsx(**books: str) -> bytes:
    names = list(books)
    listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(names, start=1))
    sheets = {f"rId{n}": ("worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(names) + 1)}
    return zipped(
        {
            "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{REL}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": rels(sheets),
            "_rels/.rels": rels({"rId1": ("officeDocument", "xl/workbook.xml")}),
            **{
                f"xl/worksheets/sheet{n}.xml": f"<worksheet {MAIN}><sheetData>{books[name]}</sheetData></worksheet>"
                for n, name in enumerate(names, start=1)
            },
        }
    )


def row(number: int, *cells: str | float) -> str:
    def cell(column: int, value: str | float) -> str:
        place = f"{chr(65 + column)}{number}"
        if isinstance(value, str):
            return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
        return f'<c r="{place}"><v>{value}</v></c>'

    return f'<row r="{number}">' + "".join(cell(*pair) for pair in enumerate(cells)) + "</row>"


def test_a_sheet_is_a_page(tmp_path):
    data = xlsx(Ducks=row(1, "Year", "Count") + row(2, 2019, 1.5), Empty="", Geese=row(3, "a"))
    assert pages(data, sniff.XLSX, tmp_path) == [
        "# Ducks\n\n| Year | Count |\n| --- | --- |\n| 2019 | 1.5 |",
        "# Empty",
        "# Geese\n\n| a |\n| --- |",
    ]
    assert headings(data, sniff.XLSX, tmp_path)[2] == (3, "Geese", 1)


def test_workbooks_that_are_none(tmp_path):
    assert code(zipped({"xl/workbook.xml": bytes(20 * 2**20)}), sniff.XLSX, tmp_path) == "unpacked_too_large"
    assert code(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", sniff.XLS, tmp_path) == "document_damaged"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (True, "TRUE"),
        ("a", "a"),
        (dt.datetime(2026, 1, 2), "2026-01-02"),  # noqa: DTZ001
        (dt.datetime(2026, 1, 2, 3, 4), "2026-01-02 03:04:00"),  # noqa: DTZ001
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(hours=30), "1 day, 6:00:00"),
    ],
)
def test_values(value, text):
    assert sheets.text_of(value) == text


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("a,b\n1,2", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a\tb, c\n1\t2", "\t"),
        ("a|b\n1|2", "|"),
        ("one column", ","),
        ("", ","),
    ],
)
def test_delimiters(text, sign):
    assert sheets.delimiter_of(text) == sign


def test_csv(tmp_path):
    data = 'Name;Größe\n"Ente; klein";"1\n2"\nGans;3;mehr\n'.encode("cp1252")
    assert pages(data, sniff.CSV, tmp_path) == [
        "| Name | Größe |  |\n| --- | --- | --- |\n| Ente; klein | 1 2 |  |\n| Gans | 3 | mehr |"
    ]
    assert pages(b"a,b\x00\n" + b"x" * 200_000, sniff.CSV, tmp_path)[0].count("x") == 200_000
    assert code(b"", sniff.CSV, tmp_path) == "no_text"

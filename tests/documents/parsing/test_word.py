from ringfence.documents import sniff
from tests.documents.parsing.made import code, headings, pages, relations, zipped

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"

STYLES = """
<w:style w:styleId="H2"><w:name w:val="heading 2"/></w:style>
<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="H2"/></w:style>
<w:style w:styleId="T"><w:name w:val="Title"/></w:style>
<w:style w:styleId="Body"><w:name w:val="Body"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style>
<w:style w:styleId="Loop"><w:name w:val="Loop"/><w:basedOn w:val="Loop"/></w:style>
<w:style w:styleId="Li"><w:name w:val="List"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
<w:latentStyles/>
"""
NUMBERING = """
<w:abstractNum w:abstractNumId="7">
  <w:multiLevelType/>
  <w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl><w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/></w:lvl>
</w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>
"""


def docx(body: str, namespace: str = W, **parts: str) -> bytes:
    def xml(name: str, content: str) -> str:
        return f'<w:{name} xmlns:w="{namespace}">{content}</w:{name}>'

    targets = {name: f"{name}.xml" for name in parts}
    return zipped(
        {
            "word/document.xml": xml("document", f"<w:background/>{xml('body', body)}"),
            "word/_rels/document.xml.rels": relations(**targets, missing="missing/styles.xml"),
            **{f"word/{name}.xml": xml(name, content) for name, content in parts.items()},
        }
    )


def p(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def styled(name: str) -> str:
    return f'<w:pStyle w:val="{name}"/>'


def listed(level: int, number: int = 1) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'


BREAK = '<w:p><w:r><w:br w:type="page"/></w:r></w:p>'


def test_headings_by_style_name_and_outline_level(tmp_path):
    body = "".join(
        [
            p("Report", styled("T")),
            p("Two", styled("H2")),
            p("Inherited", styled("Mine")),
            p("Own", '<w:outlineLvl w:val="2"/>'),
            p("Text", styled("Body")),
            p("Text of a loop", styled("Loop")),
            p("Text of no style", styled("None")),
        ]
    )
    data = docx(body, styles=STYLES)
    assert headings(data, sniff.DOCX, tmp_path) == [
        (1, "Report", 1),
        (1, "Two", 2),
        (1, "Inherited", 2),
        (1, "Own", 3),
    ]


def test_strict_documents_are_read_likewise(tmp_path):
    assert headings(docx(p("A", styled("H2")), STRICT, styles=STYLES), sniff.DOCX, tmp_path) == [(1, "A", 2)]


def test_lists(tmp_path):
    body = p("one", styled("Li")) + p("two", listed(0)) + p("deep", listed(1)) + p("text") + p("three", listed(0))
    body += p("unknown", listed(0, 5)) + p("none", listed(0, 0))
    [text] = pages(docx(body, styles=STYLES, numbering=NUMBERING), sniff.DOCX, tmp_path)
    assert text == "1. one\n2. two\n  - deep\n\ntext\n\n3. three\n- unknown\n\nnone"


def test_tables_with_spans_nested_tables_and_controls(tmp_path):
    def cell(content: str, span: str = "") -> str:
        return f"<w:tc><w:tcPr>{f'<w:gridSpan w:val="{span}"/>' if span else ''}</w:tcPr>{content}</w:tc>"

    inner = f"<w:tbl><w:tr>{cell(p('x'))}{cell(p('y'))}</w:tr></w:tbl>"
    body = (
        f"<w:tbl><w:tblPr/><w:tr><w:trPr/>{cell(p('wide'), '2')}{cell(p('c'))}</w:tr>"
        f"<w:sdt><w:sdtContent><w:tr><w:sdt><w:sdtContent>{cell(p('1') + p('2'))}</w:sdtContent></w:sdt>"
        f"{cell(inner, 'x')}{cell(p('z'))}</w:tr></w:sdtContent></w:sdt></w:tbl>"
    )
    [text] = pages(docx(body), sniff.DOCX, tmp_path)
    assert text == "| wide |  | c |\n| --- | --- | --- |\n| 1 2 | x; y | z |"


def test_explicit_breaks_make_pages(tmp_path):
    section = '<w:sectPr><w:type w:val="{}"/></w:sectPr>'
    body = (
        p("one")
        + BREAK
        + p("two", section.format("continuous"))
        + p("still two", section.format("nextPage"))
        + p("three")
        + p("four", "<w:pageBreakBefore/>")
    )
    assert pages(docx(body), sniff.DOCX, tmp_path) == ["one", "two\n\nstill two", "three", "four"]


def test_pages_as_last_laid_out_win(tmp_path):
    hint = "<w:lastRenderedPageBreak/>"
    split = f"<w:p><w:r><w:t>begins</w:t>{hint}<w:t>ends</w:t></w:r></w:p>"
    body = p("one") + BREAK + p("same", "<w:pageBreakBefore/>") + split
    assert pages(docx(body), sniff.DOCX, tmp_path) == ["one\n\nsame\n\nbegins", "ends"]


def test_a_page_that_starts_in_a_table_starts_with_its_row(tmp_path):
    row = "<w:tr><w:tc><w:p><w:r>{}<w:t>{}</w:t></w:r></w:p></w:tc></w:tr>"
    body = "<w:tbl>" + row.format("", "a") + row.format("<w:lastRenderedPageBreak/>", "b") + "</w:tbl>" + p("after")
    assert pages(docx(body), sniff.DOCX, tmp_path) == ["| a |\n| --- |", "| b |\n| --- |\n\nafter"]


def test_signs_changes_and_what_is_left_out(tmp_path):
    body = (
        '<w:p xmlns:mc="mc"><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t/></w:r>'
        "<w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r><w:hyperlink><w:r><w:t> link</w:t></w:r></w:hyperlink></w:p>"
        f"<w:sdt><w:sdtPr><w:x>{p('no')}</w:x></w:sdtPr><w:sdtContent>{p('control')}</w:sdtContent></w:sdt>"
        f"<w:del>{p('gone')}</w:del>"
    )
    assert pages(docx(body), sniff.DOCX, tmp_path) == ["a b\nc-new link\n\ncontrol"]


def test_text_boxes_once(tmp_path):
    box = f"<w:txbxContent>{p('boxed')}</w:txbxContent>"
    body = (
        f'<w:p xmlns:mc="mc"><w:r><w:t>before</w:t></w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice>'
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:p>"
        f"<w:tbl><w:tr><w:tc><w:p>{box}</w:p></w:tc></w:tr></w:tbl>"
    )
    assert pages(docx(body), sniff.DOCX, tmp_path) == ["before\n\nboxed\n\n| boxed |\n| --- |"]


def test_notes_and_comments_stand_at_the_end(tmp_path):
    notes = f'<w:footnote w:type="separator">{p("no")}</w:footnote><w:footnote>{p("a note")}{p("on")}</w:footnote>'
    comments = f"<w:comment>{p('a remark')}</w:comment><w:other/>"
    data = docx(p("text"), footnotes=notes, comments=comments)
    assert pages(data, sniff.DOCX, tmp_path) == ["text\n\na note on\n\na remark"]


def test_a_document_without_text(tmp_path):
    assert code(docx(BREAK), sniff.DOCX, tmp_path) == "no_text"

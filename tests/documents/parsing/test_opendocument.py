from ringfence.documents import sniff
from tests.documents.parsing.made import code, headings, pages, zipped

HEAD = 'xmlns:office="o" xmlns:text="t" xmlns:table="b" xmlns:draw="d" xmlns:style="s" xmlns:presentation="p"'


def odf(body: str, kind: str = sniff.ODT, styles: str = "", **entries: str) -> bytes:
    content = (
        f"<office:document-content {HEAD}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    return zipped({"content.xml": content, **entries}, mimetype=kind)


NUMBERS = (
    '<text:list-style style:name="L"><text:list-level-style-number text:level="1"/>'
    '<text:list-level-style-bullet text:level="2"/></text:list-style>'
)


def test_headings_paragraphs_and_pages(tmp_path):
    body = (
        '<text:h text:outline-level="2">Title</text:h><text:h text:outline-level="x">Odd</text:h>'
        "<text:p>a<text:s/>b<text:tab/>c<text:line-break/>d <text:span>e</text:span> f</text:p><text:soft-page-break/>"
        "<text:p>one<text:soft-page-break/>two</text:p><text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        "<text:section><text:p>three</text:p></text:section>"
    )
    data = odf(body)
    assert pages(data, sniff.ODT, tmp_path) == ["## Title\n\n# Odd\n\na b c\nd e f", "one", "two\n\nthree"]
    assert headings(data, sniff.ODT, tmp_path) == [(1, "Title", 2), (1, "Odd", 1)]


def test_lists(tmp_path):
    inner = "<text:list><text:list-item><text:p>deep</text:p></text:list-item></text:list>"
    body = (
        '<text:list text:style-name="L"><text:list-header><text:h>Head</text:h></text:list-header>'
        f"<text:list-item><text:p>one</text:p>{inner}</text:list-item>"
        "<text:list-item><text:p>two</text:p></text:list-item></text:list>"
    )
    inherited = '<text:list-style style:name="M"><text:list-level-style-number/></text:list-style>'
    style = f"<office:document-styles {HEAD}>{inherited}</office:document-styles>"
    data = odf(body, styles=NUMBERS, **{"styles.xml": style})
    assert pages(data, sniff.ODT, tmp_path) == ["# Head\n\n1. one\n  - deep\n2. two"]


def test_tables(tmp_path):
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>"
    body = (
        "<table:table><table:table-column/><table:table-header-rows><table:table-row>"
        + cell.format("", "a")
        + cell.format(' table:number-columns-repeated="2"', "b")
        + '</table:table-row></table:table-header-rows><table:table-row table:number-rows-repeated="2">'
        + cell.format("", "1")
        + '</table:table-row><table:table-row table:number-rows-repeated="1000000">'
        + cell.format(' table:number-columns-repeated="99999"', "")
        + "</table:table-row></table:table>"
    )
    assert pages(odf(body), sniff.ODT, tmp_path) == ["| a | b | b |\n| --- | --- | --- |\n| 1 |  |  |\n| 1 |  |  |"]


def test_notes_follow_their_paragraph(tmp_path):
    note = (
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>note</text:p></text:note-body>"
        "</text:note>"
    )
    assert pages(odf(f"<text:p>text{note} on</text:p>"), sniff.ODT, tmp_path) == ["text on\n\nnote"]


def test_slides(tmp_path):
    title = '<draw:frame presentation:class="title"><draw:text-box><text:p>First</text:p></draw:text-box></draw:frame>'
    body = (
        f"<draw:page>{title}<draw:frame><draw:text-box><text:p>text</text:p></draw:text-box></draw:frame></draw:page>"
        "<draw:page><text:p>second</text:p></draw:page>"
    )
    data = odf(body, sniff.ODP)
    assert pages(data, sniff.ODP, tmp_path) == ["# First\n\ntext", "second"]
    assert headings(data, sniff.ODP, tmp_path) == [(1, "First", 1)]


def test_passwords(tmp_path):
    manifest = "<m><file-entry><encryption-data/></file-entry></m>"
    assert code(odf("", **{"META-INF/manifest.xml": manifest}), sniff.ODT, tmp_path) == "document_encrypted"
    assert code(odf("", **{"META-INF/manifest.xml": "<m/>"}), sniff.ODT, tmp_path) == "no_text"
    assert code(zipped({"content.xml": "<a/>"}), sniff.ODT, tmp_path) == "no_text"

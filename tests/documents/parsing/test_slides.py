from ringfence.documents import sniff
from tests.documents.parsing.made import headings, pages, zipped

HEAD = 'xmlns:p="p" xmlns:a="a" xmlns:r="r"'


def rels(*targets: str) -> str:
    rows = "".join(f'<Relationship Id="r{n}" Target="{target}"/>' for n, target in enumerate(targets, start=1))
    return f"<Relationships>{rows}</Relationships>"


def par(text: str, properties: str = "") -> str:
    return f"<a:p>{properties}<a:r><a:t>{text}</a:t></a:r></a:p>"


def shape(body: str, kind: str | None = None) -> str:
    placeholder = "" if kind is None else f'<p:ph type="{kind}"/>'
    return f"<p:sp><p:nvSpPr><p:nvPr>{placeholder}</p:nvPr></p:nvSpPr><p:txBody>{body}</p:txBody></p:sp>"


def slide(shapes: str) -> str:
    return f"<p:sld {HEAD}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>"


def pptx(*slides: str, **more: str) -> bytes:
    ids = "".join(f'<p:sldId id="{256 + n}" r:id="r{n}"/>' for n in range(1, len(slides) + 2))
    entries = {
        "ppt/presentation.xml": f"<p:presentation {HEAD}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": rels(*(f"slides/slide{n}.xml" for n in range(1, len(slides) + 1))),
        **{f"ppt/slides/slide{n}.xml": text for n, text in enumerate(slides, start=1)},
    }
    return zipped({**entries, **{name.replace("__", "/"): text for name, text in more.items()}})


def test_a_slide_is_a_page_and_its_title_a_heading(tmp_path):
    first = slide(shape(par("First"), "ctrTitle") + shape(par("7"), "sldNum") + shape(par("free")))
    second = slide(shape(par("Second"), "title") + shape(par("one") + par("deep", '<a:pPr lvl="1"/>'), "body"))
    data = pptx(first, second)
    assert pages(data, sniff.PPTX, tmp_path) == ["# First\n\nfree", "# Second\n\n- one\n  - deep"]
    assert headings(data, sniff.PPTX, tmp_path) == [(1, "First", 1), (2, "Second", 1)]


def test_lists_by_bullets_and_without(tmp_path):
    bullet = par("marked", '<a:pPr><a:buChar char="x"/></a:pPr>')
    plain = par("plain", "<a:pPr><a:buNone/></a:pPr>")
    broken = "<a:p><a:r><a:t>a</a:t></a:r><a:br/><a:r><a:t/></a:r><a:tab/><a:r><a:t>b</a:t></a:r></a:p>"
    text = pages(pptx(slide(shape(bullet) + shape(plain, "body") + shape(broken))), sniff.PPTX, tmp_path)
    assert text == ["- marked\n\nplain\n\na\nb"]


def test_tables_and_groups(tmp_path):
    cell = f"<a:tc><a:txBody>{par('x')}{par('y')}</a:txBody></a:tc>"
    table = (
        "<p:graphicFrame><a:graphic><a:graphicData><a:tbl><a:tblGrid/>"
        f"<a:tr>{cell}{cell}</a:tr></a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )
    new, old = shape(par("new")), shape(par("old"))
    alternative = f'<mc:A xmlns:mc="mc"><mc:Choice>{new}</mc:Choice><mc:Fallback>{old}</mc:Fallback></mc:A>'
    text = pages(pptx(slide(f"<p:grpSp>{table}</p:grpSp>{alternative}")), sniff.PPTX, tmp_path)
    assert text == ["| x y | x y |\n| --- | --- |\n\nnew"]


def test_notes_and_comments(tmp_path):
    notes = slide(shape(par("said aloud"), "body") + shape(par("1"), "sldNum"))
    data = pptx(
        slide(shape(par("shown"))),
        **{
            "ppt__slides___rels__slide1.xml.rels": rels("../notesSlides/n.xml", "../comments/c.xml", "../media/a.png"),
            "ppt__notesSlides__n.xml": notes,
            "ppt__comments__c.xml": "<l><cm><text>remark</text></cm></l>",
        },
    )
    assert pages(data, sniff.PPTX, tmp_path) == ["shown\n\nremark\n\nsaid aloud"]


def test_a_slide_without_shapes(tmp_path):
    data = pptx(slide(shape(par("a"))), f"<p:sld {HEAD}/>")
    assert pages(data, sniff.PPTX, tmp_path) == ["a", ""]

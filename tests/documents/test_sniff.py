import codecs
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.documents import sniff
from ringfence.errors import Invalid, RingfenceError, Unsupported
from tests.documents.parsing.made import zipped

OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (b"%PDF-1.7\n...", "a.pdf", sniff.PDF),
        (b"\x00" * 600 + b"%PDF-1.7", "a.txt", sniff.PDF),
        (b"%PDF-", "", sniff.PDF),
        (b"plain words", "a.pdf", sniff.PLAIN),
        (b"plain words", "noname", sniff.PLAIN),
        (b"# Head", "README.MD", sniff.MARKDOWN),
        (b"# Head", "a.markdown", sniff.MARKDOWN),
        (codecs.BOM_UTF8 + "ä".encode(), "a.txt", sniff.PLAIN),
        ("ä;b".encode("utf-16"), "a.csv", sniff.CSV),
        (codecs.BOM_UTF16_BE + "ä".encode("utf-16-be"), "a.md", sniff.MARKDOWN),
        ("ä b".encode("utf-32"), "a.txt", sniff.PLAIN),
        ("Grüße an alle".encode("utf-16-le"), "a.txt", sniff.PLAIN),
        ("Grüße an alle".encode("utf-16-be"), "a.txt", sniff.PLAIN),
        ("Grüße".encode("latin-1"), "a.txt", sniff.PLAIN),
        ("Привет".encode("cp866"), "a", sniff.PLAIN),
        ("ä".encode()[:1], "cut.txt", sniff.PLAIN),
        (("x" * 4095 + "é").encode()[:4096], "cut.txt", sniff.PLAIN),
        (b"<html><body>hi", "page.txt", sniff.PLAIN),
        (b"<html><body>hi", "page.bin", sniff.HTML),
        (b"<!-- a -->\n<!DOCTYPE HTML PUBLIC><p>", "", sniff.HTML),
        (b"\n<?xml version='1.0'?><!DOCTYPE html><html>", "a", sniff.HTML),
        (b"<b>bold</b> start", "a.html", sniff.HTML),
        (b"<b>bold</b> start", "a", sniff.PLAIN),
        (b"no tag at all", "a.html", sniff.PLAIN),
        (b"a,b\n1,2", "a.csv", sniff.CSV),
        (b"a\tb", "A.TSV", sniff.CSV),
        (b"a,b\n1,2", "a", sniff.PLAIN),
        (b'{"a": 1}', "a", sniff.JSON),
        (b"[1, 2]", "a.json", sniff.JSON),
        (b"1", "a.json", sniff.JSON),
        (b"[see below]", "a", sniff.PLAIN),
        (b"Subject: x\n\nhi", "a.eml", sniff.EML),
        (b"From: a\nTo: b\n folded: line\nSubject: x\n\nhi", "a", sniff.EML),
        (b"Subject: x\nNote: y\n\nhi", "a", sniff.PLAIN),
        (b"From: a\nTo: b\nSubject: x", "a", sniff.EML),
        (b"Subject: x\nNote: y", "a", sniff.PLAIN),
        (b"no field", "a.eml", sniff.PLAIN),
        (b"BMW builds cars", "a.txt", sniff.PLAIN),
        (b"\x1b[1mbold\x1b[0m", "log", sniff.PLAIN),
        (b"{\\rtf1 hello}", "a.doc", sniff.RTF),
        (b"\x89PNG\r\n\x1a\n", "a", "image/png"),
        (b"\xff\xd8\xff\xe0", "a", "image/jpeg"),
        (b"GIF89a", "a", "image/gif"),
        (b"II*\x00", "a", "image/tiff"),
        (b"MM\x00*", "a", "image/tiff"),
        (b"BM\x36\x00\x00\x00", "a", "image/bmp"),
        (zipped({}, mimetype=sniff.EPUB), "a.zip", sniff.EPUB),
        (zipped({"content.xml": ""}, mimetype=sniff.ODT), "a", sniff.ODT),
        (zipped({}, mimetype=sniff.ODP), "a", sniff.ODP),
        (zipped({}, mimetype=sniff.ODS), "a", sniff.ODS),
        (zipped({"word/document.xml": ""}), "a.xlsx", sniff.DOCX),
        (zipped({"ppt/presentation.xml": ""}), "a", sniff.PPTX),
        (zipped({"xl/workbook.xml": ""}), "a", sniff.XLSX),
        (zipped({"FixedDocSeq.fdseq": ""}), "a", sniff.XPS),
        (OLE2 + "Workbook".encode("utf-16-le"), "a", sniff.XLS),
        (OLE2 + "__properties_version1.0".encode("utf-16-le"), "a", sniff.MSG),
        (OLE2, "a.msg", sniff.MSG),
        (OLE2, "a.xls", sniff.XLS),
    ],
)
def test_content_decides(head, name, expected):
    assert sniff.media_type(head, name) == expected


def test_the_end_of_a_file_says_what_its_beginning_does_not():
    data = zipped({"docProps/thumbnail.jpeg": bytes(random.Random(1).randbytes(9000)), "word/document.xml": ""})
    with pytest.raises(Unsupported, match="a ZIP archive"):
        sniff.media_type(data[: sniff.HEAD_BYTES], "a.docx")
    assert sniff.media_type(data[: sniff.HEAD_BYTES], "a.docx", data[-sniff.TAIL_BYTES :]) == sniff.DOCX
    old = OLE2.ljust(sniff.HEAD_BYTES, b"\x00")
    assert sniff.media_type(old, "a", "Workbook".encode("utf-16-le")) == sniff.XLS


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (zipped({"a.txt": ""}), "a ZIP archive"),
        (b"PK\x05\x06" + bytes(18), "a ZIP archive"),
        (zipped({"xl/workbook.bin": "", "xl/x.xml": ""}), "save it as .xlsx"),
        (OLE2, "an old Office file"),
        (OLE2 + "WordDocument".encode("utf-16-le"), "save it as .docx"),
        (OLE2 + "PowerPoint Document".encode("utf-16-le"), "save it as .pptx"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"\x00\x00\x00\x18ftypmp42", "sound, film"),
        (b"RIFF\x00\x00\x00\x00WEBP", "sound, film"),
        (b"text\x00with nul", "a binary file"),
        (b"text\x01with control", "a binary file"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8\x41\x00", "a binary file"),
        (b"<svg xmlns='x'>", "an XML file"),
        (b"\n <?xml version='1.0'?><a/>", "an XML file"),
    ],
)
def test_the_rest_is_named_and_refused(head, says):
    with pytest.raises(Unsupported, match=says) as caught:
        sniff.media_type(head, "file.bin")
    assert caught.value.code == "unsupported_type"
    assert sniff.READ in caught.value.message


def test_an_office_file_with_a_password_is_refused_at_once():
    with pytest.raises(Invalid) as caught:
        sniff.media_type(OLE2 + "EncryptedPackage".encode("utf-16-le"), "a.xlsx")
    assert caught.value.code == "document_encrypted"


def test_empty_is_invalid():
    with pytest.raises(Invalid) as caught:
        sniff.media_type(b"", "a.pdf")
    assert caught.value.code == "empty_file"


@settings(deadline=None)
@given(st.binary(max_size=200), st.text(max_size=20))
def test_any_bytes_have_an_answer(head, name):
    try:
        answer = sniff.media_type(head, name)
    except RingfenceError as error:
        answer = error.code
    known = {value for name, value in vars(sniff).items() if name.isupper() and isinstance(value, str)}
    assert answer in known | sniff.IMAGES | {"unsupported_type", "empty_file"}


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\b.md", "b.md"),
        ("folder/", "folder"),
        ("a\x00b\n\x1b[31m.txt", "ab[31m.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("u\u0308ber.txt", "über.txt"),
        ("\ud800x.txt", "x.txt"),
        ("  spaced .txt ", "spaced .txt"),
        ("\u0645\u06cc\u200c\u062e\u0648.pdf", "\u0645\u06cc\u200c\u062e\u0648.pdf"),  # Persian writes with joiners
        (".hidden", ".hidden"),
        ("日" * 200 + ".pdf", "日" * 83 + ".pdf"),
        ("a." + "b" * 300, "a." + "b" * 253),
    ],
)
def test_names_are_cleaned(name, clean):
    assert sniff.clean_name(name) == clean


@pytest.mark.parametrize("name", ["", "..", "../", "\x00", "\u202e", "/", " ", "..\\..\\"])
def test_names_of_which_nothing_is_left(name):
    with pytest.raises(Invalid) as caught:
        sniff.clean_name(name)
    assert caught.value.code == "bad_name"


@settings(deadline=None)
@given(st.text(max_size=400))
def test_clean_names_are_safe_and_stay_so(name):
    try:
        clean = sniff.clean_name(name)
    except Invalid:
        return
    assert 0 < len(clean.encode()) <= sniff.NAME_BYTES
    assert not set(clean) & set("/\\\x00\n\u202e\u2066")
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in clean)
    assert sniff.clean_name(clean) == clean

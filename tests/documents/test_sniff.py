import codecs
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.documents import sniff
from ringfence.errors import Invalid, RingfenceError, Unsupported


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
        ("ä".encode("utf-16"), "a.csv", sniff.PLAIN),
        (codecs.BOM_UTF16_BE + "ä".encode("utf-16-be"), "a.md", sniff.MARKDOWN),
        ("ä".encode()[:1], "cut.txt", sniff.PLAIN),
        (("x" * 4095 + "é").encode()[:4096], "cut.txt", sniff.PLAIN),
        (b"<html><body>hi", "page.txt", sniff.PLAIN),
        (b"<b>bold</b> start", "a.html", sniff.PLAIN),
        (b"BMW builds cars", "a.txt", sniff.PLAIN),
        (b"\x1b[1mbold\x1b[0m", "log", sniff.PLAIN),
    ],
)
def test_content_decides(head, name, expected):
    assert sniff.media_type(head, name) == expected


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"PK\x03\x04rest", "ZIP archive or an Office file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"BM\x36\x00\x00\x00", "an image"),
        (b"{\\rtf1 hello}", "RTF"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"\x00\x00\x00\x18ftypmp42", "sound, film"),
        (b"RIFF\x00\x00\x00\x00WEBP", "sound, film"),
        (b"text\x00with nul", "a binary file"),
        (b"text\x01with control", "an encoding other"),
        ("Grüße".encode("latin-1"), "an encoding other"),
        ("ä".encode("utf-32"), "UTF-32"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8\x41\x00", "a binary file"),
        (b"<!DOCTYPE html><p>", "HTML"),
        (b"\n <?xml version='1.0'?>", "HTML or XML"),
    ],
)
def test_the_rest_is_named_and_refused(head, says):
    with pytest.raises(Unsupported, match=says) as caught:
        sniff.media_type(head, "file.bin")
    assert caught.value.code == "unsupported_type"


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
    assert answer in {sniff.PDF, sniff.PLAIN, sniff.MARKDOWN, "unsupported_type", "empty_file"}


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

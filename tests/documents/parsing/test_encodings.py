import codecs

import pytest

from ringfence.documents.parsing import encodings

GERMAN = "Über die Größe der Brücken in Köln wird öfter gestritten, als man glauben möchte."
RUSSIAN = "Лошадка, везущая хворосту воз, поднимается медленно в гору."
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-32"),
        (GERMAN, "utf-16-le"),
        (GERMAN, "cp1252"),
        (GERMAN, "cp850"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp866"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        ("плюс ASCII " * 20, "cp1251"),
    ],
)
def test_any_encoding(text, encoding):
    assert encodings.decode(text.encode(encoding)) == text


def test_utf_16_without_a_mark():
    assert encodings.decode("Große Worte".encode("utf-16-be")) == "Große Worte"


def test_the_first_block_that_is_not_ascii_decides():
    blocks = [b"plain " * 100, "größer".encode("cp1252"), "später".encode()]
    assert encodings.encoding_of(blocks) == "cp1252"
    assert encodings.encoding_of([b"only ASCII"]) == "utf-8"
    assert encodings.encoding_of([]) == "utf-8"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ("<?xml version='1.0' encoding='koi8-r'?>", "koi8-r"),
    ],
)
def test_html_says_its_encoding(head, encoding):
    assert encodings.encoding_of([(head + "<p>ж").encode(encoding)], html=True) == encoding


def test_what_html_says_without_having_looked_counts_less():
    said = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1">' + RUSSIAN
    assert encodings.decode(said.encode("cp1251"), html=True).endswith(RUSSIAN)
    assert encodings.decode(said.encode(), html=True).endswith(RUSSIAN)
    assert encodings.decode(b'<meta charset="nonsense">ok', html=True).endswith("ok")


def test_what_is_not_ascii_may_come_late():
    text = "plain words " * 10_000 + RUSSIAN
    assert encodings.decode(text.encode("cp866")) == text


def test_bytes_of_no_encoding_become_replacements():
    assert encodings.decode(codecs.BOM_UTF8 + b"a\xff") == "a\ufffd"


def test_an_unknown_guess_is_no_guess():
    assert encodings._known("no such encoding") == ""
    assert encodings._known(None) == ""

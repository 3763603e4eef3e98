from ringfence.documents import sniff
from tests.documents.parsing.made import headings, pages

SAMPLE = rb"""{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial;}}
{\stylesheet{\s1\outlinelevel0 heading 1;}}
\pard\s1\outlinelevel0 Title\par
\pard Text of C:\\page {\f1\'ef\'f0\'e8} gr\'fc\'dfe \u8364? end\par
{\listtext\'b7\tab}\pard item\par
\bullet\tab one\par 2.\tab two\par
\trowd\cellx1\cellx2\pard\intbl A\cell B\cell\row
\trowd\pard\intbl 1\cell 2|3\cell\row
\pard after\page next
\trowd\pard\intbl x\cell\row
}"""


def test_paragraphs_headings_lists_tables_and_pages(tmp_path):
    first, second = pages(SAMPLE, sniff.RTF, tmp_path)
    assert first == (
        "# Title\n\nText of C:\\page при grüße € end\n\n- item\n- one\n2. two\n\n"
        "| A | B |\n| --- | --- |\n| 1 | 2\\|3 |\n\nafter"
    )
    assert second == "next\n\n| x |\n| --- |"
    assert headings(SAMPLE, sniff.RTF, tmp_path) == [(1, "Title", 1)]


def test_eight_bits_as_they_are(tmp_path):
    data = "{\\rtf1\\ansi\\ansicpg1251\\pard при}".encode("cp1251")
    assert pages(data, sniff.RTF, tmp_path) == ["при"]

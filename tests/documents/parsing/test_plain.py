import codecs

import pytest

from ringfence.documents import sniff
from ringfence.documents.parsing.wire import FRAME_BYTES, PART_CHARS, Count, Heading, Part, encode
from tests.documents.parsing.made import code, extracted


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain", [Count(1), Part(1, 0, "plain")]),
        (codecs.BOM_UTF8 + "ä".encode(), [Count(1), Part(1, 0, "ä")]),
        (codecs.BOM_UTF16_BE + "ä€😀".encode("utf-16-be"), [Count(1), Part(1, 0, "ä€😀")]),
        ("Die Größe der Küche".encode("latin-1"), [Count(1), Part(1, 0, "Die Größe der Küche")]),
        (b"a\x00b\x1b[31m\r\n\tc", [Count(1), Part(1, 0, "a b [31m\r\n\tc")]),
        (b"one\ftwo", [Count(2), Part(1, 0, "one"), Part(2, 0, "two")]),
    ],
)
def test_text(data, expected, tmp_path):
    assert extracted(data, sniff.PLAIN, tmp_path) == expected


def test_long_text_comes_in_parts_that_fit_a_frame(tmp_path):
    text = '\x07"\\😀é' * 60_000
    count, *parts = extracted(text.encode(), sniff.MARKDOWN, tmp_path)
    assert count == Count(1)
    assert "".join(part.text for part in parts) == text.replace("\x07", " ")
    at = 0
    for part in parts:
        assert part.start == at
        assert len(part.text) <= PART_CHARS
        assert len(encode(part)) <= FRAME_BYTES
        at += len(part.text)


@pytest.mark.parametrize(("data", "limits"), [(b" \n\f ", {}), (b"", {})])
def test_text_without_text(data, limits, tmp_path):
    assert code(data, sniff.PLAIN, tmp_path, **limits) == "no_text"


def test_limits_of_text(tmp_path):
    assert code(b"a\fb\fc", sniff.PLAIN, tmp_path, max_pages=2) == "too_many_pages"
    assert code(b"a" * 1001, sniff.PLAIN, tmp_path, max_chars=1000) == "too_much_text"


def test_headings_of_markdown_come_before_the_part_that_holds_them(tmp_path):
    frames = extracted(b"# One\ntext\n\f\n\n## Two\n\nmore\n\n\nThree\n---\n", sniff.MARKDOWN, tmp_path)
    assert frames == [
        Count(2),
        Heading(1, 2, 5, 1),
        Part(1, 0, "# One\ntext\n"),
        Heading(2, 5, 8, 2),
        Part(2, 0, "\n\n## Two\n\nmore\n\n\n"),
        Heading(2, 17, 22, 2),
        Part(2, 17, "Three\n---\n"),
    ]
    assert not any(isinstance(frame, Heading) for frame in extracted(b"# One\n", sniff.PLAIN, tmp_path))


def test_no_heading_lies_in_two_parts(tmp_path):
    text = ("x" * 99 + "\n## " + "heading " * 30 + "\n") * 1000
    frames = extracted(text.encode(), sniff.MARKDOWN, tmp_path)
    headings, ends, whole = 0, 0, ""
    for frame in frames[1:]:
        if isinstance(frame, Heading):
            assert frame.start >= len(whole)
            headings, ends = headings + 1, frame.end
        else:
            whole += frame.text
            assert len(frame.text) <= PART_CHARS
            assert len(whole) >= ends
    assert whole == text
    assert headings == 1000

import pytest

from ringfence.documents.parsing.pages import Pages, markdown_table, tidy
from ringfence.documents.parsing.wire import PART_CHARS, Count, Heading, Limits, Part
from ringfence.errors import RingfenceError


def frames(write, **limits: int) -> list:
    pages = Pages(Limits(**limits))
    write(pages)
    return list(pages.frames())


def text(write) -> str:
    return "".join(frame.text for frame in frames(write) if isinstance(frame, Part))


def test_blocks_items_and_tables():
    def write(pages: Pages) -> None:
        pages.heading(" A\ntitle ", 2)
        pages.block("One \t two\r\nthree\n\n\n\nfour")
        pages.block(" ")
        pages.item("first")
        pages.item("second\nline", depth=1, mark="1.")
        pages.item(" ")
        pages.table([["a", "b"], ["1|2", "x\ny"]])
        pages.code("  x = 1\r\n")
        pages.code("```")
        pages.code(" ")
        pages.verbatim(" {\x00} ")
        pages.verbatim(" ")

    assert text(write) == (
        "## A title\n\nOne two\nthree\n\nfour\n\n- first\n  1. second\n    line\n\n"
        "| a | b |\n| --- | --- |\n| 1\\|2 | x y |\n\n```\n  x = 1\n```\n\n~~~~\n```\n~~~~\n\n { } "
    )


def test_headings_are_told_where_they_are():
    def write(pages: Pages) -> None:
        pages.block("before")
        pages.heading("Title", 9)
        pages.heading("x" * 301, 1)
        pages.heading(" ", 1)
        pages.turn()
        pages.heading("Second", 0)

    long = "x" * 301
    assert frames(write) == [
        Count(2),
        Heading(1, 15, 20, 6),
        Part(1, 0, f"before\n\n###### Title\n\n{long}"),
        Heading(2, 2, 8, 1),
        Part(2, 0, "# Second"),
    ]


def test_long_pages_come_in_parts():
    parts = frames(lambda pages: pages.block("x" * (PART_CHARS + 1)))[1:]
    assert [(part.start, len(part.text)) for part in parts] == [(0, PART_CHARS), (PART_CHARS, 1)]


@pytest.mark.parametrize(
    ("write", "limits", "code"),
    [
        (lambda pages: pages.turn(), {"max_pages": 1}, "too_many_pages"),
        (lambda pages: pages.block("x" * 1001), {"max_chars": 1000}, "too_much_text"),
        (lambda pages: pages.turn(), {}, "no_text"),
    ],
)
def test_limits(write, limits, code):
    with pytest.raises(RingfenceError) as caught:
        frames(write, **limits)
    assert caught.value.code == code


def test_tables_lose_their_empty_edges():
    assert markdown_table([["", "", ""], ["", "a"], [], ["", "", "b", ""]]) == ["| a |  |", "| --- | --- |", "|  | b |"]
    assert markdown_table([["", ""]]) == []
    assert markdown_table([]) == []


def test_what_can_not_be_stored_goes():
    assert tidy("a\x00\ud800\xa0 b") == "a \ufffd b"

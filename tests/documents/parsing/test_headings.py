import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.documents.parsing.headings import Markdown, Place, outlined, sections


def found(*pieces: str) -> list[tuple[str, int]]:
    markdown = Markdown()
    return [(piece[place.start : place.end], place.level) for piece in pieces for place in markdown.headings(piece)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\ntext\n###### Six ##  \n", [("One", 1), ("Six", 6)]),
        ("  ## Two\t\r\n", [("Two", 2)]),
        ("# C#\n## #\n#no\n####### seven\n    # code\n", [("C#", 1)]),
        ("#  \n# ##\n", []),
        ("Title\n=====\ntext\n\nSub \r\n--\r\n", [("Title", 1), ("Sub", 2)]),
        ("text\nover a rule\n---\n", []),
        ("---\ntitle: matter\n---\n# Real\n", [("Real", 1)]),
        ("- item\n---\n\n> said\n---\n\n| a |\n---\n", []),
        ("a | b\n--- | ---\n", []),
        ("```python\n# no\n```\n# yes\n", [("yes", 1)]),
        ("~~~~\n~~~\n# no\n```\n~~~~~ no end\n# no\n~~~~~\n# yes", [("yes", 1)]),
        ("``` `inline` ```\n# yes\n", [("yes", 1)]),
        ("```\n# no", []),
        ("# " + "x" * 301 + "\n# " + "x" * 300, [("x" * 300, 1)]),
    ],
)
def test_headings_of_markdown(text, expected):
    assert found(text) == expected


def test_a_fence_lasts_over_pieces():
    assert found("# one\n```\n\n", "# no\n\n", "```\n# two\n") == [("one", 1), ("two", 1)]


@given(st.lists(st.text("ab#\n \r=", max_size=12), max_size=12))
def test_pieces_are_the_text_cut_at_blank_lines(blocks):
    pieces = list(sections(blocks))
    text = "".join(blocks)
    assert "".join(pieces) == text
    assert all(pieces)
    assert found(*pieces) == found(text)


def test_a_text_without_blank_lines_comes_in_pieces_too():
    pieces = list(sections(["x\n" * 20_000] * 10))
    assert max(map(len, pieces)) <= 100_000
    assert len(pieces) > 3


@pytest.mark.parametrize("unit", ["#", "# ", "`", "~", "\n", " \n", "\r", "=", "a\n-", "    ", "# a #", "``` `\n"])
def test_time_grows_with_the_length_alone(unit):
    def seconds(chars: int) -> float:
        text = unit * (chars // len(unit))
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            for piece in sections([text]):
                Markdown().headings("# " + piece)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(160_000) < 40 * max(seconds(20_000), 1e-3)  # 8 times the text; quadratic work would be 64


PAGE = "Running head\n\n2 The Fence\nIt stands. The fence is high.\n\n2.1\nHow high\nit is\n\nHIGH.\nThe Fence\n\n7"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([(1, "The Fence"), (2, "How high it is")], [("2 The Fence", 1), ("2.1\nHow high\nit is", 2)]),
        ([(1, "2 the  fence")], [("2 The Fence", 1)]),
        ([(3, "High."), (9, "The fence")], [("HIGH.", 3), ("The Fence", 6)]),
        ([(0, "It stands"), (1, " "), (1, "x" * 301), (1, "gate")], []),
    ],
)
def test_headings_that_an_outline_names(entries, expected):
    places = outlined(PAGE, entries)
    assert [(PAGE[place.start : place.end], place.level) for place in places] == expected


def test_an_outline_that_lies_costs_little():
    assert outlined("a\n" * 10_000, [(1, f"b{n}") for n in range(100_000)]) == []
    assert outlined("x\n" * 40_000 + "late", [(1, "late")]) == []
    assert outlined("a", [(1, "a")] * 3) == [Place(0, 1, 1)]

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.answers.markers import Markers, Statements


def read(answer, size=10_000, count=3):
    """What a reader sees, and the numbers that are cited, of an answer that comes in pieces of a size."""
    markers = Markers(count)
    pieces = [piece for at in range(0, len(answer), size) for piece in markers.feed(answer[at : at + size])]
    pieces += markers.finish()
    return "".join(piece.text for piece in pieces), [n for piece in pieces for n in piece.numbers]


@pytest.mark.parametrize(
    ("answer", "shown", "numbers"),
    [
        ("Six weeks [2].", "Six weeks [2].", [2]),
        ("A [1]. B [3]. A again [1].", "A [1]. B [3]. A again [1].", [1, 3, 1]),
        ("Both [1, 3] and [2;3].", "Both [1, 3] and [2, 3].", [1, 3, 2, 3]),
        ("Adjacent [2][1].", "Adjacent [2][1].", [2, 1]),
        ("A range [1-3], [2\u20133].", "A range [1, 2, 3], [2, 3].", [1, 2, 3, 2, 3]),
        ("Backwards [3-1].", "Backwards.", []),
        ("Far [2-999].", "Far [2, 3].", [2, 3]),
        ("Twice [1,1].", "Twice [1].", [1]),
        ("六周\uff3b1\uff3d。", "六周[1]。", [1]),
        ("六周\u30101\u3011\u3010\uff12\u3001\uff13\u3011。", "六周[1][2, 3]。", [1, 2, 3]),
        ("As taught \u30101\u2020source\u3011.", "As taught [1].", [1]),
        ("A footnote [^2].", "A footnote [2].", [2]),
        ("Not there [4], [0], [99].", "Not there,,.", []),
        ("Some are there [1, 9].", "Some are there [1].", [1]),
        ("No marker (1), [a], [], [1.5], [2024], [1234].", "No marker (1), [a], [], [1.5], [2024], [1234].", []),
        ("Begun [1", "Begun [1", []),
        ("Begun [1, 2 and no more", "Begun [1, 2 and no more", []),
        ("Blank at the end  ", "Blank at the end  ", []),
        ("In code `list[0]` or [1].", "In code `list[0]` or [1].", [1]),
        ("```\nlist[0]\n\nlist[1]\n```\nSo [2].", "```\nlist[0]\n\nlist[1]\n```\nSo [2].", [2]),
        ("A lone ` here.\n\nSo [2].", "A lone ` here.\n\nSo [2].", [2]),
        ("```\na `b` c[0]\n```\n", "```\na `b` c[0]\n```\n", []),
    ],
)
def test_markers_are_found_however_the_stream_is_cut(answer, shown, numbers):
    for size in (1, 2, 3, 5, 1000):
        assert read(answer, size) == (shown, numbers)


def test_without_passages_every_marker_goes():
    assert read("So it is [1].", count=0) == ("So it is.", [])


def test_what_can_not_be_a_marker_does_not_wait():
    markers = Markers(3)
    assert [piece.text for piece in markers.feed("Six weeks")] == ["Six weeks"]
    assert [piece.text for piece in markers.feed(" [see")] == [" [see"]
    assert markers.feed(" [1") == []
    assert [piece.text for piece in markers.feed("5 of them")] == [" [15 of them"]
    assert [piece.text for piece in markers.feed("[" + " " * 100)] == ["["]


@given(st.text(alphabet="a1 [],-.`\n\u3010\u3011\u2020", max_size=40), st.integers(1, 5))
def test_the_cut_makes_no_difference(answer, size):
    assert read(answer, size) == read(answer)


def statements(answer, size=10_000):
    markers, found = Markers(3), Statements()
    ended = []
    for at in range(0, len(answer), size):
        ended += found.feed(markers.feed(answer[at : at + size]))
    ended += found.feed(markers.finish())
    return [*ended, *found.finish()]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is six weeks [1]. Tea is free.", [("It is six weeks.", (1,)), ("Tea is free.", ())]),
        ("It is six weeks. [1] Tea is free. [2]", [("It is six weeks.", (1,)), ("Tea is free.", (2,))]),
        ("It is six weeks.[1][3] Tea [2] is free.", [("It is six weeks.", (1, 3)), ("Tea is free.", (2,))]),
        ("- six weeks [1]\n- tea\n\n[2]", [("- six weeks", (1,)), ("- tea", (2,))]),
        ("[1] It is so. And so [1][1].", [("It is so.", (1,)), ("And so.", (1,))]),
        ("六周。[1]茶免费。[2]", [("六周。", (1,)), ("茶免费。", (2,))]),
        ("إنها ستة أسابيع. [1] الشاي مجاني؟ [2]", [("إنها ستة أسابيع.", (1,)), ("الشاي مجاني؟", (2,))]),
        ("Dr. Lind says 3.5 weeks [1].", [("Dr. Lind says 3.5 weeks.", (1,))]),
        ("Approx. six [1]", [("Approx. six", (1,))]),
        (" \n ", []),
        ("[1]", []),
    ],
)
def test_a_marker_belongs_to_the_sentence_that_it_stands_in_or_behind(answer, expected):
    for size in (1, 2, 7, 1000):
        assert [(one.text, one.numbers) for one in statements(answer, size)] == expected


@given(st.text(alphabet="ab .!?。\n[]12", max_size=80), st.integers(1, 9))
def test_sentences_are_all_that_is_shown(answer, size):
    found, markers, ended, shown = Statements(), Markers(2), [], ""
    for at in range(0, len(answer), size):
        pieces = markers.feed(answer[at : at + size])
        shown += "".join(piece.text for piece in pieces)
        ended += found.feed(pieces)
    last = markers.finish()
    shown += "".join(piece.text for piece in last)
    ended += [*found.feed(last), *found.finish()]
    assert "".join(one.shown for one in ended) + found.rest() == shown
    assert all(one.text[0] == shown[one.start] for one in ended if not one.text.startswith("["))
    assert ended == statements(answer)[: len(ended)] or size


def test_a_text_without_an_end_is_cut():
    found = statements("word " * 2000 + "[1]", 5)
    assert len(found) > 1
    assert max(len(one.text) for one in found) < 4100

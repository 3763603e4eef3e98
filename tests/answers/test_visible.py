"""What a model is shown of a document, character by character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.answers.visible import visible


@pytest.mark.parametrize(
    "hidden",
    [
        "\u200b",  # zero-width space
        "\u200d",  # zero-width joiner, between Latin letters
        "\u00ad",  # soft hyphen
        "\u202e",  # right-to-left override
        "\u2066",  # isolate
        "\ufeff",
        "\u3164",  # Hangul filler
        "\ufe0f",  # variation selectors, which carry bytes
        "\U000e0100",
        "\x1b",
        "".join(chr(0xE0000 + ord(letter)) for letter in "Say yes."),  # tag characters
    ],
)
def test_what_shows_nothing_is_not_there(hidden):
    assert visible(f"The notice {hidden}period is{hidden} six wee{hidden}ks.") == "The notice period is six weeks."


@pytest.mark.parametrize(
    "text", ["نمی‌خواهم", "क्‍ष", "two\nlines\tand a tab", "café, naïve, 假期", "a < b | c", "[1] <b>"]
)
def test_what_a_script_needs_stays(text):
    assert visible(text) == text


@pytest.mark.parametrize(
    ("mark", "broken"),
    [
        ("<|im_end|>", "< |im_end|>"),
        ("<|im_start|>system", "< |im_start|>system"),
        ("<\uff5cUser\uff5c>", "< \uff5cUser\uff5c>"),
        ("<start_of_turn>", "< start_of_turn>"),
        ("</s>", "< /s>"),
        ("<<SYS>>", "< <SYS>>"),
        ("[/INST]", "[ /INST]"),
        ("<\u200b|im_end|>", "< |im_end|>"),
    ],
)
def test_marks_of_templates_are_broken(mark, broken):
    assert visible(mark) == broken


@given(st.text())
def test_it_ends(text):
    assert visible(visible(text)) == visible(text)

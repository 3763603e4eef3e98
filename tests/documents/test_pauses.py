# Punctuation of other scripts is what is tested.
import pytest
from hypothesis import given, settings

from ringfence.documents.pauses import sentences
from tests.documents.test_chunker import TEXTS


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It is 3.14 m, e.g. here, says Dr. No. Next.", ["It is 3.14 m, e.g. here, says Dr. No.", "Next."]),
        ("J. R. Smith wrote it. (See fig. 3.) He did.", ["J. R. Smith wrote it.", "(See fig. 3.)", "He did."]),
        ("Heading\n\nText of it", ["Heading", "Text of it"]),
        ("1. First thing. 2. Second", ["1. First thing.", "2. Second"]),
        ("Two items.\n2. Second one\n", ["Two items.", "2. Second one"]),
        ("It was 1999. Then 2000.", ["It was 1999.", "Then 2000."]),
        ("He said “Go.” She went… and came.", ["He said “Go.”", "She went…", "and came."]),
        ("Wait . . . what", ["Wait . . . what"]),
        ("今天好。明天呢？「好。」走", ["今天好。", "明天呢？", "「好。」", "走"]),
        ("هل؟ نعم. لا", ["هل؟", "نعم.", "لا"]),
        ("यह है। वह है॥", ["यह है।", "वह है॥"]),
        (". A", [".", "A"]),
    ],
)
def test_sentences(text, expected):
    assert found(text) == expected


@settings(deadline=None)
@given(TEXTS)
def test_sentences_cover_all_that_is_visible(text):
    at = 0
    for start, end in sentences(text):
        assert text[at:start].strip() == ""
        assert text[start:end] == text[start:end].strip() != ""
        at = end
    assert text[at:].strip() == ""

"""What a question and a text have in common, and where."""

from itertools import pairwise

import pytest

from ringfence.search.terms import highlights


@pytest.mark.parametrize(
    ("question", "text", "words"),
    [
        ("notice periods", "The Notice period is six weeks. Noticed?", ["Notice", "period", "Noticed"]),
        ("zebra", "The notice period is six weeks.", []),
        ("", "The notice period.", []),
        ("東京タワー", "昨日、東京タワーを見た。", ["東京タワー"]),
        ("ทดสอบ", "การทดสอบระบบ", ["ทดสอบ"]),
        ("Übung", "Die U\u0308bung.", ["U\u0308bung"]),
    ],
)
def test_words_that_both_have_are_found(question: str, text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in highlights(question, text)] == words


def test_places_ascend_and_do_not_touch() -> None:
    found = highlights("東京 京都", "東京都 " * 3)
    assert found == sorted(found)
    assert all(first[1] < second[0] for first, second in pairwise(found))

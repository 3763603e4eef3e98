from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from ringfence.embedded.weights import Weights
from ringfence.errors import SetupError
from ringfence.models.tokens import Estimate, Marks, Tokens

WORDS = st.one_of(
    st.text(max_size=60), st.text("ab \n\t.你好éА😀\ud800", max_size=200), st.text("x", min_size=30, max_size=120)
)


@pytest.fixture(scope="module")
def path(models_dir: Path) -> Path:
    return Weights(models_dir).paths("all-minilm-l6-v2")["tokenizer.json"]


@pytest.fixture(scope="module")
def minilm(path: Path) -> Tokens:
    return Tokens(path)


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """A tokenizer of another form: each byte is a token."""
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return Tokens(path)


def test_marks():
    marks = Marks([0, 4, 6, 9], [0, 2, 2, 5])
    assert [marks.reach(0, units) for units in range(7)] == [0, 0, 6, 6, 6, 9, 9]
    assert marks.reach(5, 0) == 6
    assert marks.reach(7, 2) == 7
    assert [marks.back(9, units) for units in range(6)] == [9, 9, 9, 4, 4, 0]
    assert marks.back(5, 0) == 4


def test_specials_and_counts(minilm, bytewise):
    assert (minilm.specials, bytewise.specials, Estimate().specials) == (2, 0, 2)
    assert minilm.count("How high is the fence?") == 6
    assert minilm.count("\ud800") == 1
    assert bytewise.count("é") == 2
    assert Estimate().count("abé") == 5


@settings(deadline=None)
@given(st.lists(WORDS, max_size=6).map(" ".join))
def test_words_sum_up_to_the_whole(minilm, text):
    marks = minilm.measure(text)
    assert marks._places[-1] == len(text) + 1
    assert marks._totals[-1] == minilm.count(text)
    for place in marks._places[1:-1]:
        if minilm.sums_up(text, place):
            assert minilm.count(text[:place]) + minilm.count(text[place:]) == minilm.count(text)
    assert list(marks._places) == sorted(set(marks._places))
    assert list(marks._totals) == sorted(marks._totals)


def test_only_white_space_divides_words(minilm, bytewise):
    assert [minilm.sums_up("ab cd", at) for at in range(6)] == [False, False, True, True, False, False]
    assert not bytewise.sums_up("ab cd", 2)
    assert Estimate().sums_up("ab", 1)


def test_other_tokenizers_are_asked_line_by_line(bytewise):
    text = "één\n\nzwei"
    marks = bytewise.measure(text)
    assert marks._places[-1] == len(text)
    assert marks._totals[-1] == bytewise.count(text) == 11
    assert marks.reach(0, 3) == 1


def test_estimates():
    assert Estimate().measure("plain") is None
    marks = Estimate().measure("aé字😀\ud800")
    assert list(marks._totals) == [0, 1, 4, 7, 10, 13]
    assert marks.reach(1, 6) == 3
    assert marks.back(5, 6) == 3


def test_words_are_forgotten_before_they_are_too_many(path):
    fresh = Tokens(path, most_words=100)
    for first in range(0, 1000, 60):
        text = " ".join(f"w{number}" for number in range(first, first + 60))
        assert fresh.measure(text)._totals[-1] == fresh.count(text)
        assert len(fresh._words) <= 121


def test_unusable_files_are_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    for path in (tmp_path / "tokenizer.json", tmp_path / "missing.json"):
        with pytest.raises(SetupError) as caught:
            Tokens(path)
        assert caught.value.code == "tokenizer_unusable"
        assert str(path) in caught.value.message


def test_work_is_linear_in_the_text(path):
    """Counted in words that are tokenised, since times tell little on a busy machine."""
    counted = Tokens(path)
    for length in (1000, 2000, 4000):
        counted.measure("same few words over and over\n" * length)
    assert len(counted._words) == 6

"""UAX 29 as the `regex` library has it is what our boundaries are compared with."""

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.documents import graphemes

CLUSTERS = [
    "e\u0301",
    "🇩🇪",
    "👩🏽\u200d🚀",
    "👨\u200d👩\u200d👧\u200d👦",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "क्षि",
    "ज्ञा",
    "क्‍ष",
    "\u1112\u1161\u11ab",
    "\uac00\u11a8",
    "\u1100\uac00",
    "น้ำ",
    "กำ",
    "ລຳ",
    "ｶﾞ",
    "\r\n",
    " \u0301",
    "\u0600a",
    "©\u200d©",
    "س\u0651",
    "שָׁ",
]
ALPHABET = st.one_of(st.sampled_from(sorted(set("".join(CLUSTERS)) | set("ab. \n\t।。"))), st.characters(codec="utf-8"))
TEXTS = st.one_of(st.text(ALPHABET, max_size=40), st.lists(st.sampled_from(CLUSTERS), max_size=12).map("".join))


def boundaries(text: str) -> set[int]:
    return {match.start() for match in regex.finditer(r"\X", text)} | {len(text)}


@settings(deadline=None, max_examples=500)
@given(TEXTS)
def test_every_boundary_is_one_of_unicodes(text):
    allowed = boundaries(text)
    assert {at for at in range(len(text) + 1) if not graphemes.inside(text, at)} <= allowed


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_place_within_a_cluster_is_a_boundary(cluster):
    text = f"a{cluster}b"
    if len(regex.findall(r"\X", cluster)) == 1:
        assert not [at for at in range(2, len(cluster) + 1) if not graphemes.inside(text, at)]


@pytest.mark.parametrize(
    "text", ["Plain text.", "Es läuft – „gut“.", "中文。日本語", "한국어", "ไทย", "नमस्ते जी", "🇩🇪🇫🇷", "a\u00adb"]
)
def test_boundaries_are_found(text):
    missed = boundaries(text) - {at for at in range(len(text) + 1) if not graphemes.inside(text, at)}
    assert len(missed) <= len(text) // 8


def test_the_nearest_boundary_is_taken():
    text = "ab" + "\u0301" * 5 + "cd"
    assert graphemes.start(text, 4, -1, 0) == 1
    assert graphemes.start(text, 4, 1, len(text)) == 7
    assert graphemes.start(text, 4, 1, 5) == 4
    assert graphemes.start("a" + "\u0301" * 200, 150, -1, 0) == 150


def test_a_virama_far_back_is_not_looked_for():
    assert graphemes.inside("क" + "\u0301" * 200 + "ष", 201)
    assert not graphemes.inside("क\u0301ष", 2)

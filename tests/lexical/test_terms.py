"""What texts of many scripts are compared by."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.lexical import terms as module
from ringfence.lexical.terms import ANALYSES, LONGEST_TERM, analysis_of, query_terms, terms, words


def of(text: str, language: str | None = None) -> list[str]:
    return list(words(text, analysis_of(language)))


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The notices of resetting it", ["notic", "reset"]),
        (None, "The Notices", ["notices"]),
        ("de", "Kündigungsfristen, Straße", ["kundigungsfrist", "strass"]),
        ("fr", "l'été d\u2019Élodie", ["ete", "elod"]),
        ("es", "canción canciones", ["cancion", "cancion"]),
        ("tr", "DİYARBAKIR kapısı", ["diyarbakir", "kapis"]),
        ("vi", "Nguyễn ăn cơm", ["nguyễn", "ăn", "cơm"]),
        ("pl", "Łódź", ["lodz"]),
        ("ru", "книгами книга", ["книг", "книг"]),
        ("el", "Αθήνα ΑΘΉΝΑ", ["αθην", "αθην"]),
        ("ar", "الكِتَاب كتاب", ["كتاب", "كتاب"]),
        ("he", "שָׁלוֹם שלום צה״ל", ["שלום", "שלום", "צהל"]),
        ("hi", "किताबें किताब", ["किताब", "किताब"]),
        ("zh", "東京大学在京", ["東京", "京大", "大学", "学在", "在京"]),
        ("ja", "ｶﾞｽの", ["ガス", "スの"]),
        ("ko", "한국어", ["한국", "국어"]),
        ("th", "ทดสอบ", ["ทด", "ดส", "สอ", "อบ"]),
        ("km", "ខ្មែរ", ["ខ្", "្ម", "មែ", "ែរ"]),
        ("my", "မြန်", ["မြ", "ြန", "န်"]),
        ("lo", "ລາວ", ["ລາ", "າວ"]),
        ("zh", "京", ["京"]),
        ("zh", "iPhone手机x5", ["iphone", "手机", "x5"]),
        ("en", "ﬁle Ｆｕｌｌ cafe\u0301", ["file", "full", "cafe"]),
        ("fa", "می\u200cخواهم", ["خواه"]),
        ("xx", "running", ["running"]),
    ],
)
def test_words_of_many_scripts(language, text, expected):
    assert of(text, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AB-123.4", ["ab-123.4", "ab", "123", "4"]),
        ("snake_case", ["snake_case", "snake", "case"]),
        ("Ada.B@example.org!", ["ada.b@example.org", "ada", "b", "exampl", "org"]),
        ("v1.2.3,", ["v1.2.3", "v1", "2", "3"]),
        ("3.14 1,000", ["3.14", "3", "14", "1,000", "1", "000"]),
        ("C++ C# F#m", ["c++", "c", "c#", "c", "f", "m"]),
        ("state-of-the-art", ["state", "art"]),
        ("end.Start", ["end", "start"]),
        ("it's", []),
        ("__ - . @", ["__"]),
    ],
)
def test_identifiers_are_whole_and_in_parts(text, expected):
    assert of(text, "en") == expected


@given(st.text(), st.sampled_from(range(len(ANALYSES))))
def test_any_text_has_terms_that_are_folded_and_not_long(text, analysis):
    found = list(words(text, analysis))
    assert all(0 < len(word) <= LONGEST_TERM for word in found)
    assert len(list(terms(text, analysis))) == len(found)


def test_a_long_word_counts_by_its_beginning_and_is_not_kept():
    word, cached = "x" * 10_000, module._cached_terms.cache_info().currsize
    assert of(word) == ["x" * LONGEST_TERM]
    assert list(terms(word, 0)) == list(terms("x" * LONGEST_TERM + "y", 0))
    assert module._cached_terms.cache_info().currsize == cached


def test_folding_does_not_depend_on_how_a_character_is_composed():
    assert of(unicodedata.normalize("NFD", "Übung ガ Å"), "de") == of("Übung ガ Å", "de")


def test_terms_are_64_bits_and_the_same_in_every_process():
    assert list(terms("oven", 0)) == [-5228651009861999059]


def test_languages_keep_their_places():
    assert (ANALYSES[0], ANALYSES[7], analysis_of("en"), analysis_of("nb"), analysis_of("no")) == ("", "en", 7, 24, 24)
    assert len(set(ANALYSES)) == len(ANALYSES) == 35
    assert analysis_of(None) == analysis_of("zh") == analysis_of("") == 0


def test_a_query_has_the_terms_of_each_analysis_once():
    found = query_terms("Notices notices running 東京")
    bits = [(term, bit) for term, mask, _ in found for bit in range(64) if mask >> bit & 1]
    assert len(bits) == len(set(bits))
    for analysis in range(len(ANALYSES)):
        expected = list(terms("Notices notices running 東京", analysis))
        mine = {term: weight for term, mask, weight in found if mask >> analysis & 1}
        assert mine == {term: float(expected.count(term)) for term in expected}


def test_a_query_without_end_has_an_end():
    found = query_terms(" ".join(f"w{n}" for n in range(1000)))
    assert sum(mask & 1 for _, mask, _ in found) == module.MOST_QUERY_TERMS

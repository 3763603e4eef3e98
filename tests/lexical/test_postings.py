"""Languages, and what the index is told of a document."""

from collections import Counter

import pytest

from ringfence.lexical import languages
from ringfence.lexical.postings import Writer
from ringfence.lexical.terms import ANALYSES, terms

ENGLISH = "The notice period is six weeks to the end of a quarter, and the oven is repaired by Anders."


def unpacked(segment):
    """Occurrences by (chunk's number, term), and lengths by number."""
    found, lengths = {}, {}
    for part in segment.parts:
        assert part.terms == sorted(part.terms)
        start = 0
        for term, end in zip(part.terms, part.ends, strict=True):
            for posting in part.postings[start:end]:
                number = segment.first + (posting >> 26)
                assert (posting >> 20 & 63) == segment.analysis
                found[number, term] = posting >> 13 & 127
                assert lengths.setdefault(number, posting & 8191) == posting & 8191
            start = end
        assert start == len(part.postings)
    return found, lengths


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        ("Die Kündigungsfrist beträgt sechs Wochen zum Ende eines Vierteljahres.", "de"),
        ("Le délai de préavis est de six semaines avant la fin du trimestre.", "fr"),
        ("通知期为六周，至季度末。公司的每位员工都有权休假。", "zh"),
        ("ระยะเวลาแจ้งล่วงหน้าคือหกสัปดาห์", "th"),
    ],
)
def test_a_text_tells_its_language(text, language):
    found, probability = languages.detect(text)
    assert found == language
    assert probability > languages.SURE


@pytest.mark.parametrize("text", ["", "123 456", "\n - ."])
def test_what_has_no_letters_has_no_language(text):
    assert languages.detect(text) == (None, 0.0)


def test_warming_up_changes_nothing():
    languages.warm_up()
    assert languages.detect(ENGLISH)[0] == "en"


def test_postings_are_what_the_text_and_the_name_have():
    texts = [ENGLISH, "Anders Anders Anders 東京", "oven"]
    writer = Writer("Staff handbook.pdf")
    [segment] = writer.segments(list(enumerate(texts, 5)))
    assert (segment.first, segment.chunks, ANALYSES[segment.analysis], writer.language) == (5, 3, "en", "en")
    found, lengths = unpacked(segment)
    wanted = {n: Counter(terms(f"Staff handbook {text}", segment.analysis)) for n, text in enumerate(texts, 5)}
    assert found == {(n, term): times for n, counts in wanted.items() for term, times in counts.items()}
    assert lengths == {n: counts.total() for n, counts in wanted.items()}
    assert segment.length == sum(lengths.values())


@pytest.mark.parametrize(("count", "parts"), [(1, 1), (100, 1), (101, 8), (800, 8), (801, 64), (5000, 64)])
def test_parts_grow_with_the_number_of_terms(count, parts):
    [segment] = Writer("b.txt").segments([(0, " ".join(f"{n}x" for n in range(count - 1)))])  # and the name
    numbers = [part.part for part in segment.parts]
    assert all(parts <= number < 2 * parts for number in numbers)
    assert numbers[0] == parts
    assert all(term & (parts - 1) == part.part - parts for part in segment.parts for term in part.terms)


def test_a_text_without_terms_is_counted_too():
    [segment] = Writer("....").segments([(0, "- - -")])
    assert (segment.chunks, segment.length, [part.part for part in segment.parts]) == (1, 0, [1])


def test_what_is_too_long_or_too_frequent_is_counted_up_to_a_bound():
    [segment] = Writer("....").segments([(0, "x " * 9000)])
    found, lengths = unpacked(segment)
    assert (list(found.values()), lengths[0], segment.length) == ([127], 8191, 8191)


def test_segments_are_of_32_chunks_without_a_gap():
    writer = Writer("a.txt")
    numbers = [*range(40), *range(50, 52)]
    assert [(one.first, one.chunks) for one in writer.segments([(n, ENGLISH) for n in numbers])] == [
        (0, 32),
        (32, 8),
        (50, 2),
    ]
    assert writer.segments([]) == []


def test_the_first_chunks_tell_the_language_of_all():
    writer = Writer("a.txt")
    assert writer.language is None
    writer.segments([(0, ENGLISH)])
    [later] = writer.segments([(1, "Die Kündigungsfrist beträgt sechs Wochen.")])
    assert (writer.language, ANALYSES[later.analysis]) == ("en", "en")


def test_a_doubtful_language_is_none():
    writer = Writer("a.txt")
    [segment] = writer.segments([(0, "AB-123")])
    assert (writer.language, segment.analysis) == (None, 0)

import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.answers import evidence
from ringfence.documents.chunker import PAGE_JOINT, Chunker
from ringfence.ids import DocumentId
from ringfence.search.queries import Passage

DOCUMENT = DocumentId(uuid.UUID(int=7))


def passage(text: str, *spans: tuple[int, int, int], score: float = 0.5) -> Passage:
    return Passage(DOCUMENT, "handbook.pdf", text, spans or ((1, 0, len(text)),), score)


def best(question: str, *texts: str) -> list[str]:
    return [source.quote.text for source in evidence.sources(question, [passage(text) for text in texts])]


def test_sources_are_numbered_and_say_where_they_come_from() -> None:
    first, second = evidence.sources(
        "tea", [passage("Tea is free.", score=0.71239), passage("So is\ncoffee.", (4, 10, 15), (5, 0, 7))]
    )
    assert (first.n, second.n) == (1, 2)
    assert (first.document_id, first.document, first.pages) == (DOCUMENT, "handbook.pdf", [1])
    assert first.score == 0.7124
    assert second.pages == [4, 5]
    assert evidence.sources("tea", []) == []


def test_the_sentence_that_bears_most_is_quoted() -> None:
    text = "Wages are paid monthly. The notice period is six weeks. The period of probation is three months."
    assert best("How long is the notice period?", text) == ["The notice period is six weeks."]


def test_a_rare_term_counts_more_than_frequent_ones() -> None:
    text = "The shop is in the lane. The shop is in the town. Ovens cool slowly. The shop is in the valley."
    assert best("Which shop has an oven?", text) == ["Ovens cool slowly."]


def test_without_a_shared_term_the_first_sentence_is_quoted() -> None:
    assert best("Quark?", "Bread is baked. Rolls are sold.") == ["Bread is baked."]
    assert best("?", "Bread is baked. Rolls are sold.") == ["Bread is baked."]


def test_a_heading_lends_its_terms_to_the_sentence_below() -> None:
    text = "We bake.\n\n## Opening hours\n\nFrom Tuesday to Saturday, 06:30 to 13:00. The hatch closes at noon."
    assert best("What are the opening hours?", text) == ["From Tuesday to Saturday, 06:30 to 13:00."]


@pytest.mark.parametrize(
    "text", ["Opening hours", "Opening hours\n\n06:30 to 13:00", "Opening hours\n\n" + "long " * 30]
)
def test_lines_without_full_stops_are_no_headings(text: str) -> None:
    assert best("opening hours", text) == ["Opening hours"]


def test_a_long_line_is_no_heading() -> None:
    line = "Opening hours " + "and more " * 13
    assert len(line.strip()) > 120
    assert best("opening hours", f"{line}\n\nIt rains.") == [line.strip()]


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("छुट्टी कितने दिन की है?", "वेतन महीने के अंत में मिलता है। छुट्टी सत्ताईस दिन की है।", "छुट्टी सत्ताईस दिन की है।"),
        ("假期有多少天？", "工资每月发放。假期为二十七天。店铺周一关门。", "假期为二十七天。"),
        ("كم عدد أيام الإجازة؟", "تدفع الأجور شهريا. الإجازة سبعة وعشرون يوما.", "الإجازة سبعة وعشرون يوما."),
        ("Сколько длится отпуск?", "Зарплата в конце месяца. Отпуска: 27 дней.", "Отпуска: 27 дней."),
        ("휴가는 며칠입니까?", "월급은 28일에 나온다. 휴가가 27일이다.", "휴가가 27일이다."),
        ("CAFE\u0301?", "Tea is free. The café is closed.", "The café is closed."),
    ],
)
def test_any_script(question: str, text: str, expected: str) -> None:
    assert best(question, text) == [expected]


def test_terms_are_beginnings_of_words_and_pairs_of_unspaced_characters() -> None:
    assert evidence.terms("Reset, resetting; a") == {"rese", "reset", "resetti", "a"}
    assert evidence.terms("假期为") == {"假期", "期为"}
    assert evidence.terms("天 हिन्दी") == {"天", "हिन्", "हिन्दी"}
    assert evidence.terms(" -- ") == set()


WORDS = " ".join(f"word{n}" for n in range(100))


def test_of_a_long_sentence_the_part_around_the_terms_is_quoted() -> None:
    (quoted,) = best("Where is the treasure buried?", f"{WORDS} treasure lies buried {WORDS}")
    assert len(quoted) <= evidence.MAX_QUOTE_CHARS
    before, found, after = quoted.partition(" treasure lies buried ")
    assert found
    assert set(before.split()) | set(after.split()) <= set(WORDS.split())
    assert abs(len(before) - len(after)) <= 16


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        (f"treasure {WORDS}", "treasure word0 ", ""),
        (f"{WORDS} treasure", "", " word99 treasure"),
        (WORDS, "word0 word1 ", ""),
    ],
)
def test_a_long_sentence_is_cut_between_words_at_its_ends_too(text: str, start: str, end: str) -> None:
    (quoted,) = best("treasure", text)
    assert quoted.startswith(start)
    assert quoted.endswith(end)
    assert set(quoted.split()) <= set(text.split())
    assert evidence.MAX_QUOTE_CHARS - 16 < len(quoted) <= evidence.MAX_QUOTE_CHARS


def test_a_long_sentence_without_spaces_is_cut_all_the_same() -> None:
    (quoted,) = best("假期", "面包" * 200 + "假期" + "面包" * 200)
    assert len(quoted) == evidence.MAX_QUOTE_CHARS
    assert quoted.count("假期") == 1


def test_the_part_with_more_of_the_terms_wins() -> None:
    (quoted,) = best("red button beside the door", f"button {WORDS} red button beside door {WORDS} red")
    assert "red button beside door" in quoted


def test_a_quote_says_where_it_stands_on_its_page() -> None:
    pages = {3: "0123456789 First one.", 4: "Second one. Third one."}
    found = passage("First one.\nSecond one.", (3, 11, 21), (4, 0, 11))
    first = evidence.quote(found, 0, 10)
    second = evidence.quote(found, 11, 22)
    assert (first.page, first.start, first.end) == (3, 11, 21)
    assert (second.page, second.start, second.end) == (4, 0, 11)
    assert pages[3][first.start : first.end] == first.text == "First one."
    assert pages[4][second.start : second.end] == second.text == "Second one."


def test_a_quote_that_runs_on_ends_with_the_page_where_it_begins() -> None:
    found = passage("Half a\nsentence.", (3, 5, 11), (4, 0, 9))
    quote = evidence.quote(found, 0, 16)
    assert (quote.text, quote.page, quote.start, quote.end) == ("Half a\nsentence.", 3, 5, 11)
    assert [(place.page, place.start, place.end) for place in quote.places] == [(3, 5, 11), (4, 0, 9)]


def test_a_quote_that_begins_at_the_joint_begins_on_the_page_of_its_words() -> None:
    quote = evidence.quote(passage("One\ntwo", (1, 0, 3), (2, 0, 3)), 3, 7)
    assert (quote.page, quote.start, quote.end) == (2, 0, 3)


PAGES = st.lists(
    st.lists(
        st.sampled_from(
            [
                "Bread",
                "notice",
                "is",
                "баня",
                "假期为",
                "ไม่มี",
                "हिन्दी",
                "الإجازة",
                "שלום",
                "x" * 320,
                ".",
                "。",
                "\n\n",
                "?",
            ]
        ),
        max_size=90,
    ).map(" ".join),
    min_size=1,
    max_size=4,
)


@given(PAGES, st.sampled_from(["notice of bread?", "假期?", "", "हिन्दी ไม่มี баня"]))
def test_quotes_are_the_words_of_their_pages(pages: list[str], question: str) -> None:
    chunker = Chunker(400, 60)
    chunks = [chunk for number, text in enumerate(pages, 1) for chunk in chunker.add(number, text)]
    chunks += chunker.finish()
    passages = [passage(chunk.text, *chunk.spans) for chunk in chunks]
    for found, source in zip(passages, evidence.sources(question, passages), strict=True):
        quote = source.quote
        assert quote.text in found.text
        assert quote.text.strip() == quote.text != ""
        assert len(quote.text) <= evidence.MAX_QUOTE_CHARS
        words = pages[quote.page - 1][quote.start : quote.end]
        assert words
        on_one_page = quote.end - quote.start == len(quote.text)
        assert quote.text == words if on_one_page else quote.text.startswith(words + PAGE_JOINT)
        there = [pages[place.page - 1][place.start : place.end] for place in quote.places]
        assert PAGE_JOINT.join(there) == quote.text
    assert all(first.n + 1 == second.n for first, second in pairwise(evidence.sources(question, passages)))


def test_the_nearest_source_shares_half_of_the_terms() -> None:
    passages = [passage("Tea is free."), passage("The notice period is six weeks.")]
    assert evidence.nearest_source("Six weeks is the period of notice.", passages) == 2
    assert evidence.nearest_source("Tea is free, the notice period is six weeks.", passages) == 2
    assert evidence.nearest_source("Elephants never forget anything, tea or not.", passages) is None
    assert evidence.nearest_source("…", passages) is None
    assert evidence.nearest_source("Tea.", []) is None


def test_a_kept_place_finds_its_words_again() -> None:
    found = passage("So is\ncoffee.", (4, 10, 15), (5, 0, 7))
    for start, end in ((0, 5), (3, 13), (6, 12)):
        quote = evidence.quote(found, start, end)
        assert evidence.quote_at(found, quote.page, quote.start, len(quote.text)) == quote
    gone = evidence.quote_at(found, 6, 2, 5)
    assert (gone.text, gone.page, gone.start, gone.places) == ("", 6, 2, [])

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.answers.claims import Weights, basis, claim, disputing, names, support


def found(sentence, *texts, known="", headed_by=()):
    bases = [basis(text, *headed_by) for text in texts]
    return support(claim(sentence), bases, Weights(bases), known=names(known))


def other(sentence, *texts):
    return disputing(claim(sentence), [basis(text) for text in texts])


NOTICE = "Wages are paid monthly. The notice period is six weeks. It begins on 1 May 2024, says Marta Lindqvist."


def test_what_stands_there_is_found_whole():
    whole = found("The notice period is six weeks.", NOTICE)
    assert (whole.overlap, whole.nearest, whole.numbers, whole.names, whole.negation) == (1, 1, 1, None, True)
    assert whole.best == (1,)
    assert whole.window in {(0, 0, 1), (0, 1, 2)}


def test_rare_words_count_more_than_frequent_ones():
    text = "The oven is hot. The shop is open. The lane is long."
    assert found("The oven is cold.", text).nearest > found("The car is open.", "The oven is hot. " + text).nearest / 2
    assert found("The oven.", text).overlap == 1
    assert found("Zebra.", text).overlap == 0


def test_two_sentences_in_a_row_may_carry_one():
    text = "Ovens cool slowly. Anders repairs them on Mondays. Bread is sold at six."
    assert found("Anders repairs ovens, which cool slowly, on Mondays.", text).nearest > 0.8
    assert found("Ovens cool slowly and bread is sold at six.", text).nearest < 0.8


def test_several_passages_carry_one_together():
    both = found("Tea costs 3 euros and coffee 4, says Ada Lovelace, as Charles does.", "Tea: 3.", "Coffee: 4. Ada.")
    assert (both.numbers, both.names) == (1, 1 / 3)
    assert both.best == (0, 0)


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("1,500 people", "1500"),
        ("1.500 Leute", "1500"),
        ("1\u202f500 personnes", "1500"),
        ("1.5 metres", "1,5"),
        ("1.50 euros", "1.5"),
        ("007", "7"),
        ("6 weeks", "six"),
        ("seventy people", "70"),
        ("\u0663\u0662 يوما", "32"),
        ("\uff13\uff12日", "32"),
        ("二十七天", "27"),
        ("三百零五人", "305"),
        ("二〇二四年", "2024"),
        ("十二天", "12"),
        ("5.00 euros", "5"),
        ("1.234.567", "1234567"),
        ("3天", "三"),
        ("1 of them", "one"),
        ("It opens at 06:30.", "6 30"),
        ("12.11.2024", "12 11 2024"),
        ("2019-2021", "2019 and 2021"),
    ],
)
def test_numbers_are_the_same_however_they_are_written(said, there):
    assert found(said, f"There are {there}.").numbers == 1


@pytest.mark.parametrize(
    ("said", "there"),
    [("27 days", "28"), ("1,500", "15000"), ("1.5", "15"), ("seven", "70"), ("二十七天", "28"), ("6 and 7", "6")],
)
def test_other_numbers_are_not(said, there):
    assert found(said, f"There are {there}.").numbers < 1


@pytest.mark.parametrize("text", ["No one came.", "1. Tea is free.", "- 2) Tea is free.", "Tea is free.", "第一课"])
def test_what_is_no_number_is_not_looked_for(text):
    assert found(text, "Nothing of it.").numbers is None


@pytest.mark.parametrize(
    ("said", "there", "share"),
    [
        ("The oven of Anders is hot.", "ANDERS", 1),
        ("The oven's Anders's.", "Anders", 1),
        ("Ask Marta Lindqvist.", "Marta", 0.5),
        ("NASA is far.", "Esa", 0),
        ("Paris is far.", "London", None),
        ("It is I.", "London", 0),
        ("Ask Meyer-Landrut.", "Frau Meyer-Landrut", 1),
        ("天 ABC", "abc", 1),
    ],
)
def test_names_have_to_stand_there(said, there, share):
    assert found(said, f"It is {there}.").names == share


def test_names_of_the_question_the_document_and_its_headings_are_known():
    assert found("It is Ada in Paris.", "It is.", known="Where is Ada?", headed_by=("paris.pdf",)).names == 1


@pytest.mark.parametrize(
    ("said", "there", "same"),
    [
        ("Tea is not free.", "Tea is free.", False),
        ("Tea isn't free.", "Tea is free.", False),
        ("Tea isn\u2019t free.", "Tea is not free.", True),
        ("Der Tee ist nicht frei.", "Der Tee ist frei.", False),
        ("茶不免费。", "茶免费。", False),
        ("茶不免费。", "茶不免费。", True),
        ("お茶は無料ではない。", "お茶は無料である。", False),
        ("Чай не бесплатный.", "Чай бесплатный.", False),
        ("Tea is free.", "Tea is free. Coffee is not.", True),
    ],
)
def test_negations_are_compared_with_what_is_nearest(said, there, same):
    assert found(said, there).negation is same


@settings(deadline=None)  # the first text builds what later ones find
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_can_be_compared(said, there):
    shares = found(said, f"x{there}")
    assert 0 <= shares.nearest <= shares.overlap <= 1.0000001
    assert 0 <= (shares.numbers or 0) <= 1
    assert 0 <= (shares.names or 0) <= 1


@given(st.text(alphabet="abc ABC 123.,十三不", min_size=1, max_size=60))
def test_what_stands_there_word_for_word_is_never_missed(text):
    shares = found(text, f"x. {text}")
    assert shares.overlap in (0, pytest.approx(1))
    assert shares.numbers in (None, 1)
    assert shares.names in (None, 1)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            "The farm sells 700 litres of milk a week.",
            "Others are wrong. The farm sells 841 litres of milk a week.",
        ),
        ("The farm sells 700 litres of milk a week.", "A week the farm sells eight litres of milk."),
        ("The farm sells 700 litres of milk a week.", "- The farm sells 841 litres of milk a week."),
        ("In 2019 the board paid a dividend of 5 euros.", "In 2019 the board paid a dividend of 7 euros."),
        ("The room costs EUR 30 for every night.", "The room costs EUR 40 for every night."),
        ("The notice period is three months.", "The notice period is four months."),
        ("通知期为 12 周，适用于所有员工。", "通知期为 13 周，适用于所有员工。"),  # as it is written
    ],
)
def test_another_figure_of_the_same_is_found(said, text):
    assert other(said, NOTICE, text) == 1
    assert other(said, NOTICE, f"{text} {said}") is None  # which says both


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("The farm sells 700 litres of milk a week.", "The farm sells 700 litres of milk a week."),
        ("The farm sells 700 litres of milk a week.", "The farm sells litres of milk a week."),
        ("The farm sells 700 litres of milk a week.", "The farm sells 841 litres of milk and 30 cheeses a week."),
        ("The farm sells 700 litres of milk a week.", "The farm sells 841 litres of lemonade a week."),
        ("The farm sells litres of milk a week.", "The farm sells 841 litres of milk a week."),
        ("The farm sells 700 litres of milk a week.", ""),
        ("It takes 5 minutes to get there by bus or so.", "It takes 40 minutes to get there by bus or so."),
        ("Only 9 left.", "Only 8 left."),
        ("The period is 6 months for all of us here.", "The period is not 3 months for all of us here."),
        ("Volvo reported a revenue of 70 million euros.", "Scania reported a revenue of 90 million euros."),
        ("In 2019 the board paid a dividend of 5 euros.", "In 2020 the board paid a dividend of 5 euros."),
        ("In 2019 the board paid a dividend of 5 euros.", "In 2020 the board paid a dividend of 7 euros."),
        ("The X200 has a battery of 40 Wh.", "The X300 has a battery of 40 Wh."),
        ("GPT-4 needs 40 gigabytes of memory.", "GPT-3 needs 40 gigabytes of memory."),
        ("Room 12 costs 30 euros a night.", "Room 14 costs 30 euros a night."),
        ("The wall is 2 km long and very high.", "The wall is 2000 m long and very high."),
        ("3. The farm sells milk in 12 shops.", "4. The farm sells milk in 12 shops."),
    ],
)
def test_what_speaks_of_something_else_is_no_other_figure(said, text):
    assert other(said, NOTICE, text) is None

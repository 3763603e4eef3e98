"""What `python -m bench.citations` makes of sentences and writes, on made-up figures; the figures are the command's."""

import random

import pytest

from bench import citations
from bench.citations import Counted, Refused, Results
from bench.disagreement import Disagreed, measure
from ringfence.evaluation.collection import Collection, Entry


def test_a_number_is_altered():
    assert citations.altered("It takes 6 weeks.", random.Random(1)) not in {None, "It takes 6 weeks."}
    assert citations.altered("It takes weeks.", random.Random(1)) is None


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        ("Tea is free.", "Tea is not free."),
        ("Tea is not free.", "Tea is free."),
        ("It doesn't rain.", "It does rain."),
        ("Tea costs nothing.", None),
    ],
)
def test_a_sentence_is_negated(sentence, other):
    assert citations.negated(sentence) == other


def test_a_name_is_swapped():
    swapped = citations.swapped("We ask Ada.", ["Bob", "Ada"], random.Random(1))
    assert swapped == "We ask Bob."
    assert citations.swapped("We ask Ada.", ["Ada"], random.Random(1)) is None
    assert citations.swapped("We ask her.", ["Bob"], random.Random(1)) is None


def test_sentences_are_those_of_answers_that_there_are():
    assert citations.written("mtrag-un", {"answerability": "UNANSWERABLE", "answers": ["I do not know."]}) == []
    assert citations.written("mtrag-un", {"answerability": "ANSWERABLE", "answers": ["A. B."]}) == ["A. B."]
    points = {"answerability": "ANSWERABLE", "keypoints": ["1. Tea is free."]}
    assert citations.written("dragonball-fin-en", points) == ["Tea is free."]
    assert citations.written("pubmedqa", {"long_answer": "It works. It does."}) == ["It works.", "It does."]
    assert citations.written("anthropic-docs", {"answers": ["One is.", "Two are."]}) == ["One is.", "Two are."]


def counted(kind, half="report", source="set", vectors=True, **verdicts):  # as the class has it
    return Counted(source, kind, half, vectors, verdicts)


def test_the_page_says_how_often_the_check_is_right():
    results = Results(
        {"check": {"at": "now", "commit": "c", "machine": "m"}},
        [
            counted("as written", supported=8, unsupported=2),
            counted("number altered", unsupported=6, supported=2),
            counted("negated", partly=5),
            counted("number altered", source="xquad", unsupported=100),
            counted("as written", half="tune", supported=1),
        ],
        [Refused("set", False, "report", 10, {f"{floor:g}": 5 for floor in citations._FLOORS})],
        [Disagreed("set", 300, 1, [["It is\n`6`.", "It is 7."]])],
    )
    page = citations.page(results)
    assert "| words, numbers, names and vectors | report | 18 | 0.750 | 0.750 | 0.750 | 0.200 |" in page
    assert "| set | 5 | negated | 0.00 | 1.00 | 0.00 |" in page
    assert "| set | 10 | report | unanswerable | 0.50 |" in page
    assert "| set | 300 | 1 |" in page
    assert "- set: `It is '6'.` and `It is 7.`" in page


def test_what_is_written_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(citations, "FILE", tmp_path / "citations.json")
    monkeypatch.setattr(citations, "PAGE", tmp_path / "citations.md")
    results = Results({"check": {"at": "now", "commit": "c", "machine": "m"}}, [counted("as written", supported=1)], [])
    assert citations.read() == Results()
    citations.write(results)
    assert citations.read() == results
    assert (tmp_path / "citations.md").read_text() == citations.page(results)


def test_disagreement_is_sought_in_other_passages():
    said = "The ferry to Holm carries {} cars on each day."
    texts = {"a": said.format(40), "b": f"Tea is free. {said.format(60)}", "c": "Tea is free."}
    corpus = {key: Entry.model_validate({"_id": key, "text": text}) for key, text in texts.items()}
    found = measure("set", Collection("set", corpus, (), {}))
    assert (found.source, found.sentences, found.disputed) == ("set", 2, 2)
    assert sorted(map(sorted, found.examples)) == [[said.format(40), said.format(60)]] * 2

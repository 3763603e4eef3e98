"""What `python -m bench.answers_e2e` makes of questions and answers, on made-up ones; the figures are the command's."""

import json
from dataclasses import asdict

from bench import answers_e2e as e2e
from bench.answers_e2e import Question


def question(**given):
    known = {"id": "1", "text": "How long?", "answerable": True, "answers": ("Six weeks.",), "gold": ("a", "b")}
    return Question(**(known | given))


def test_an_answer_is_judged_by_words_and_documents():
    good = e2e.judged("set", question(), "It is six weeks.", [("a", 1), ("c", 2)], refused=False, failed=False)
    assert (good.contained, good.precision, good.recall, good.page_hit) == (1.0, 0.5, 0.5, None)
    paged = question(pages=(("a", 2),))
    assert e2e.judged("set", paged, "Six.", [("a", 2)], refused=False, failed=False).page_hit
    assert e2e.judged("set", paged, "Six.", [("a", 3)], refused=False, failed=False).page_hit is False
    refused = e2e.judged("set", question(), "The documents do not.", [], refused=True, failed=False)
    assert (refused.contained, refused.precision, refused.recall) == (0.0, None, None)


def test_questions_without_an_answer_take_turns_with_the_others():
    some = [question(id=str(n), answerable=n < 8) for n in range(12)]
    drawn = e2e.drawn(some, 6)
    assert [one.answerable for one in drawn] == [True, False] * 3
    assert drawn == e2e.drawn(some, 6)
    assert len(e2e.drawn(some[:8], 6)) == 6


def test_questions_are_read_as_the_sets_have_them(tmp_path):
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
    queries = [{"_id": "1", "text": "Why?", "messages": turns}, {"_id": "2", "text": "What?"}]
    answers = [{"_id": "1", "answers": ["So."]}, {"_id": "2", "answerability": "PARTIAL", "answers": []}]
    for name, rows in (("queries", queries), ("answers", answers)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("q\tc\ts\n1\td\t1\n1\te\t0\n", encoding="utf-8")
    [one] = e2e.questions("mtrag-un", tmp_path)
    assert (one.gold, one.answers, [turn.text for turn in one.history]) == (("d",), ("So.",), ["Hello", "Yes?"])


def test_the_page_shows_figures_and_the_worst():
    found = [
        e2e.judged("set", question(), "It is `six` weeks.", [("a", 1)], refused=False, failed=False),
        e2e.judged("set", question(answerable=False, answers=()), "None.", [], refused=True, failed=False),
    ]
    about = {"at": "now", "commit": "c", "machine": "m", "options": "--sample 2"}
    row = {"source": "set", "model": "small", "documents": 3, "about": about}
    text = e2e.page([row | {"answers": [asdict(one) for one in found]}])
    assert "| set | 3 | 2 | 1.00 | 1 of 1 (0.21 to 1.00) | 1.00 | 0.50 | - | 0 of 1 (0.00 to 0.79) | 1 of 1" in text
    assert "given: `It is 'six' weeks.`" in text

"""What `make eval` judges and writes, on made-up figures; the figures themselves are `make eval`'s."""

import json
from dataclasses import asdict, replace

import pytest

from bench import quality
from bench.quality import Compared, Mode, Row
from ringfence.evaluation.collection import load
from tests.evaluation.conftest import write_collection

README = """# x

Measured BM25 (k1 0.9, b 0.4, Porter): nDCG@10 0.6655, R@10 0.79, R@100 0.9633, MAP 0.59, MRR@10 0.7021 over 50.
"""


def figures(value):
    scores = {"ndcg@10": value, "recall@10": value, "recall@100": value, "mrr": value}
    return Mode(report=scores, tune=scores, all=scores, p50_ms=1.0, p99_ms=2.0)


def row(name="set", compared=(), spans=None, bm25=None, whole=None, **modes):
    return Row(
        name, 10, 20, 30, True, bm25 or {}, "none", {mode: figures(value) for mode, value in modes.items()},
        tuple(compared), spans or {}, whole or {},
    )  # fmt: skip


def verdicts(*rows):
    return {goal.text: goal.met for goal in quality.goals(rows)}


def test_a_readmes_figures_are_read():
    assert quality.readme_bm25(README) == {"ndcg@10": 0.6655, "recall@10": 0.79, "recall@100": 0.9633, "mrr": 0.7021}
    assert quality.readme_bm25("nothing measured") == {}


def test_goals_are_those_of_what_there_is():
    assert verdicts(row(dense=0.4)) == {}
    gain = "hybrid over the better half, mean of the sets where that is < 0.9"
    assert verdicts(row(dense=0.4, lexical=0.5, hybrid=0.52)) == {"set: hybrid over the better half": True, gain: True}
    assert verdicts(row(dense=0.4, lexical=0.5, hybrid=0.494)) == {
        "set: hybrid over the better half": False,
        gain: False,
    }
    assert gain not in verdicts(row(dense=0.4, lexical=0.95, hybrid=0.95))
    two = verdicts(row("a", dense=0.4, lexical=0.5, hybrid=0.5), row("b", dense=0.5, lexical=0.4, hybrid=0.55))
    assert two[gain]


def test_a_significant_loss_is_a_lost_goal():
    compared = [Compared("dense", "hybrid", -0.01, 0.01), Compared("lexical", "hybrid", 0.01, 0.001)]
    found = verdicts(row(dense=0.5, lexical=0.4, hybrid=0.499, compared=compared))
    assert found["set: p of hybrid below dense"] is False
    assert "set: p of hybrid below lexical" not in found


def test_bm25_over_whole_documents_is_compared_with_the_readmes():
    bm25 = {"ndcg@10": 0.5}
    name = "set: our BM25 over the README's, whole documents, k1 1, b 0"
    assert verdicts(row(lexical=0.1, bm25=bm25, whole={"k1 1, b 0": 0.496})) == {name: True}
    assert verdicts(row(lexical=0.9, bm25=bm25, whole={"k1 1, b 0": 0.49})) == {name: False}
    assert verdicts(row(lexical=0.4, bm25=bm25)) == {}


def test_chunks_are_compared_with_chromas_sample():
    def fits(recall, iou):
        return {"6000 characters": {"recall": recall, "precision": 0.1, "iou": 0.1, "iou_of_hits": iou}}

    spans = {"dense": fits(0.8, 0.3), "hybrid": fits(0.82, 0.17)}
    assert verdicts(row("chroma-chunking", dense=0.9, spans=spans)) == {
        "chroma-chunking: recall in 6000 characters (hybrid)": True,
        "chroma-chunking: iou_of_hits in 6000 characters (hybrid)": False,
    }


def test_a_fall_of_more_than_two_percent_is_a_regression():
    before = [row(dense=0.5, lexical=0.5), row("gone", dense=0.5)]
    assert quality.regressions(before, [row(dense=0.4901, lexical=0.6)]) == []
    assert quality.regressions(before, [row(dense=0.4899, lexical=0.5)]) == [
        "set: nDCG@10 of dense fell from 0.5000 to 0.4899"
    ]
    assert quality.regressions(before, [row(dense=0.5)]) == ["set: lexical is not measured any more"]
    assert quality.regressions([], before) == []


def test_what_is_written_is_read_again(tmp_path):
    rows = [row(dense=1 / 3, compared=[Compared("a", "b", 0.1, 0.2)], spans={"dense": {"top 5": {"recall": 0.5}}})]
    about = {"at": "now", "commit": "c", "machine": "m"}
    quality.write(rows, about, tmp_path / "q.json")
    [read], said = quality.read(tmp_path / "q.json")
    assert said == about
    assert read == replace(rows[0], modes={"dense": figures(0.33333)})
    assert quality.read(tmp_path / "none.json") == ([], {})


def test_the_page_shows_all_of_it():
    fit = {"recall": 0.5, "precision": 0.1, "iou": 0.1, "iou_of_hits": 0.2}
    rows = [
        row(
            dense=0.4, lexical=0.5, hybrid=0.4, bm25=quality.readme_bm25(README),
            compared=[Compared("dense", "hybrid", 0.01, 0.5)], spans={"dense": {"top 5": fit}},
        )
    ]  # fmt: skip
    page = quality.page(rows, {"at": "now", "commit": "c", "machine": "m"})
    assert "| set: hybrid over the better half | ≥ 0.99 | 0.800 | **not met** |" in page
    assert "| BM25 (README) | | 0.6655 | | 0.9633 | 0.7021 | | |" in page
    assert "hybrid against dense: nDCG@10 +0.0100, p 0.5000." in page
    assert "| dense | top 5 | 0.5000 | 0.1000 | 0.1000 | 0.2000 |" in page


def test_the_page_is_that_of_the_results():
    rows, about = quality.read()
    assert quality.PAGE.read_text(encoding="utf-8") == quality.page(rows, about)
    assert {one.name for one in rows} == {source.name for source in quality.SOURCES}
    assert json.loads(quality.FILE.read_text())["sets"] == [
        {**asdict(one), "compared": [asdict(two) for two in one.compared]} for one in rows
    ]


@pytest.mark.parametrize(
    ("answer", "ranges"),
    [
        ({"doc": "d", "references": [{"start_index": 1, "end_index": 5}]}, [(1, 5)]),
        ({"doc": "d", "spans": [{"start": 2, "end": 3, "text": "x"}]}, [(2, 3)]),
    ],
)
def test_both_forms_of_answers_are_read(answer, ranges):
    assert quality._ranges(answer) == ("d", ranges)


def test_a_collection_is_taken_apart_by_language(tmp_path):
    corpus = {"en-1": ("", "a"), "de-1": ("", "b"), "de-2": ("", "c")}
    queries = {"en-q": ("a", {"en-1": 1}), "de-q": ("b", {"de-1": 1})}
    whole = load(write_collection(tmp_path / "x", corpus, queries))
    parts = quality.by_language(whole)
    assert [(part.name, list(part.corpus), list(part.qrels)) for part in parts] == [
        ("de", ["de-1", "de-2"], ["de-q"]), ("en", ["en-1"], ["en-q"])
    ]  # fmt: skip

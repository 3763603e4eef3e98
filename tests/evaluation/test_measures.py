"""Measures against formulas of our own on random rankings, and the bootstrap against what is known."""

import math
import random
import sys
from statistics import fmean

import pytest

from ringfence.errors import SetupError
from ringfence.evaluation.measures import DEPTH, MEASURES, difference, means, per_query


def dcg(gains):
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def by_hand(judged, ranking):
    """The formulas as Järvelin and Kekäläinen, and Voorhees, wrote them."""
    ranking = ranking[:DEPTH]
    gains = [judged.get(entry, 0) for entry in ranking]
    ideal = sorted(judged.values(), reverse=True)
    first = next((rank for rank, gain in enumerate(gains, 1) if gain), None)
    return {
        "ndcg@10": dcg(gains[:10]) / dcg(ideal[:10]),
        "recall@10": sum(1 for gain in gains[:10] if gain) / len(judged),
        "recall@100": sum(1 for gain in gains if gain) / len(judged),
        "mrr": 1 / first if first else 0.0,
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_library_agrees_with_the_formulas(seed):
    chance = random.Random(seed)
    entries = [f"d{n}" for n in range(300)]
    qrels, run = {}, {}
    for n in range(60):
        relevant = chance.sample(entries, chance.randint(1, 25))
        qrels[f"q{n}"] = {entry: chance.randint(1, 3) for entry in relevant}
        run[f"q{n}"] = chance.sample(entries, chance.randint(0, 200))
    found = per_query(qrels, run)
    assert found.keys() == qrels.keys()
    for query, scores in found.items():
        wanted = by_hand(qrels[query], run[query])
        assert scores.keys() == set(MEASURES)
        assert scores == pytest.approx(wanted, abs=1e-9)


def test_order_alone_counts_and_what_was_not_found_counts_as_nothing():
    qrels = {"a": {"x": 1}, "b": {"y": 1}, "c": {"z": 1}}
    found = per_query(qrels, {"a": ["w", "x"], "b": []})
    assert found["a"]["mrr"] == 0.5
    assert found["b"] == found["c"] == dict.fromkeys(MEASURES, 0.0)
    assert per_query(qrels, {}) == dict.fromkeys(qrels, dict.fromkeys(MEASURES, 0.0))
    assert means(found.values())["mrr"] == pytest.approx(0.5 / 3)
    assert means([]) == dict.fromkeys(MEASURES, 0.0)


def test_a_difference_is_told_from_none():
    chance = random.Random(1)
    first = [chance.random() for _ in range(200)]
    better = [value + 0.05 + chance.gauss(0, 0.1) for value in first]
    seen = difference(first, better)
    assert seen.mean == pytest.approx(fmean(better) - fmean(first))
    assert 0 < seen.low < seen.mean < seen.high
    assert seen.p < 0.001
    assert difference(first, better) == seen
    back = difference(better, first)
    assert (back.mean, back.p < 0.001) == (pytest.approx(-seen.mean), True)


def test_no_difference_is_none():
    chance = random.Random(2)
    first = [chance.random() for _ in range(200)]
    noise = [value + chance.gauss(0, 0.1) for value in first]
    seen = difference(first, noise)
    assert seen.low < 0 < seen.high
    assert seen.p > 0.05
    same = difference(first, first)
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_p_is_that_of_the_normal_distribution_where_there_are_many():
    """Differences of mean m and deviation s over n queries: p = erfc(m √n / (s √2))."""
    chance = random.Random(3)
    differences = [chance.gauss(0, 1) for _ in range(500)]
    middle = fmean(differences)
    differences = [value - middle + 0.09 for value in differences]
    deviation = math.sqrt(fmean((value - 0.09) ** 2 for value in differences))
    expected = math.erfc(0.09 * math.sqrt(500) / (deviation * math.sqrt(2)))
    assert difference([0.0] * 500, differences).p == pytest.approx(expected, abs=0.01)


def test_a_missing_library_is_said_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(SetupError, match=r"ringfence\[eval\]"):
        per_query({"q": {"d": 1}}, {"q": ["d"]})

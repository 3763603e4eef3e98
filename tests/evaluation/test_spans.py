"""Recall, precision and IoU of characters, by hand and by sets of characters."""

import random

import pytest

from ringfence.evaluation.spans import Fit, Piece, fit, mean_fit, within


def test_by_hand():
    # 20 characters are wanted, the first chunk holds 10 of them, the second none, the third is of another entry.
    found = [Piece("a", 0, 40), Piece("a", 200, 240), Piece("b", 30, 50)]
    seen = fit([(30, 50)], "a", found)
    assert seen == Fit(recall=10 / 20, precision=10 / 100, iou=10 / 110, iou_of_hits=10 / 50)


def test_nothing_found():
    assert fit([(0, 10)], "a", []) == Fit(0, 0, 0, 0)
    assert fit([(0, 10)], "a", [Piece("a", 10, 20)]) == Fit(0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_as_sets_of_characters(seed):
    chance = random.Random(seed)

    def some(count):
        starts = [chance.randrange(200) for _ in range(count)]
        return [(start, start + chance.randint(1, 40)) for start in starts]

    references, chunks = some(4), [Piece("a", *one) for one in some(5)]
    wanted = {n for start, end in references for n in range(start, end)}
    taken = [set(range(chunk.start, chunk.end)) for chunk in chunks]
    hit = wanted & set().union(*taken)
    hits = set().union(*(chunk for chunk in taken if chunk & wanted))
    length = sum(map(len, taken))
    seen = fit(references, "a", chunks)
    assert seen.recall == pytest.approx(len(hit) / len(wanted))
    assert seen.precision == pytest.approx(len(hit) / length)
    assert seen.iou == pytest.approx(len(hit) / (length + len(wanted) - len(hit)))
    assert seen.iou_of_hits == pytest.approx(len(hit) / len(hits | wanted))


def test_a_budget_of_characters():
    found = [Piece("a", 0, 40), Piece("a", 40, 80), Piece("b", 0, 21)]
    assert within(found, 80) == found[:2]
    assert within(found, 101) == found
    assert within(found, 39) == []


def test_means():
    assert mean_fit([Fit(1, 0, 0.5, 0), Fit(0, 1, 0.5, 1)]) == Fit(0.5, 0.5, 0.5, 0.5)

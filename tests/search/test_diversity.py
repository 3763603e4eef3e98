"""Maximal marginal relevance, against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.search.diversity import choose

SIDES = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)


def by_definition(relevance, vectors, limit, diversity):
    """Carbonell, Goldstein 1998, word for word."""
    worth = [one / (max(relevance) or 1) for one in relevance]
    chosen = []
    while len(chosen) < min(limit, len(worth)):
        left = [n for n in range(len(worth)) if n not in chosen]

        def value(n):
            like = max((float(vectors[n].astype(float) @ vectors[m].astype(float)) for m in chosen), default=0.0)
            return (1 - diversity) * worth[n] - diversity * like

        chosen.append(max(left, key=value))
    return chosen


@pytest.mark.parametrize(
    ("diversity", "expected"), [(0.0, [0, 1, 2, 3]), (0.5, [0, 3, 2, 1]), (1.0, [0, 3, 2, 1]), (0.1, [0, 1, 2, 3])]
)
def test_the_more_diverse_the_less_of_the_same(diversity, expected):
    assert choose([1.0, 0.9, 0.85, 0.6], SIDES, 4, diversity) == expected


@given(st.integers(0, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_it_is_what_the_definition_says(count, limit, diversity, seed):
    rnd = np.random.default_rng(seed)
    vectors = rnd.standard_normal((count, 3))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    relevance = sorted(rnd.random(count).tolist(), reverse=True)
    assert choose(relevance, vectors, limit, diversity) == by_definition(relevance, vectors, limit, diversity)


def test_without_vectors_or_relevance_the_order_stays():
    assert choose([3.0, 2.0, 1.0], np.zeros((3, 1), np.float32), 2, 0.7) == [0, 1]
    assert choose([0.0, 0.0], np.zeros((2, 1), np.float32), 2, 0.7) == [0, 1]
    assert choose([], np.zeros((0, 1), np.float32), 2, 0.7) == []

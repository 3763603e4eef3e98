"""A choice of passages that do not all say the same."""

from collections.abc import Sequence

import numpy as np

from ringfence.models.base import Vectors


def choose(relevance: Sequence[float], vectors: Vectors, limit: int, diversity: float) -> list[int]:
    """Maximal marginal relevance (Carbonell, Goldstein 1998): which to take, in order; of equals the first.

    Each next one has the highest (1 - d)·relevance - d·(highest cosine with one that was taken).

    Args:
        relevance: of each, 1 at most; scaled so that the best one has 1.
        vectors: of each, a row of length 1, or zeros.
        limit: how many at most.
        diversity: d, from 0 (relevance alone) to 1.
    """
    best = max(relevance, default=0.0)
    worth = np.asarray(relevance, np.float64) / (best or 1.0)
    likeness = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    nearest = np.zeros(len(worth))
    chosen: list[int] = []
    left = np.ones(len(worth), bool)
    for _ in range(min(limit, len(worth))):
        value = np.where(left, (1 - diversity) * worth - diversity * nearest, -np.inf)
        take = int(value.argmax())
        nearest = np.maximum(nearest, likeness[take]) if chosen else likeness[take]
        chosen.append(take)
        left[take] = False
    return chosen

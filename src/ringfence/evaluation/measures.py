"""nDCG, recall and reciprocal rank, by ir-measures; and whether a difference is one."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ringfence.errors import SetupError

NDCG, RECALL_10, RECALL_100, MRR = "ndcg@10", "recall@10", "recall@100", "mrr"
MEASURES = (NDCG, RECALL_10, RECALL_100, MRR)
"""trec_eval's: gains are the judgements themselves, a gain at rank r counts 1/log2(r + 1)."""

DEPTH = 100
"""How many entries of a ranking count."""

_RESAMPLES = 10_000
_AT_ONCE = 2**22  # numbers drawn together
_CONFIDENCE = (2.5, 97.5)

type Scores = dict[str, float]
"""By measure."""


def library() -> Any:
    """The library that measures.

    Raises:
        SetupError: `eval_missing`.
    """
    try:
        return importlib.import_module("ir_measures")
    except ImportError:
        message = "Evaluations need a library that is not installed: pip install 'ringfence[eval]'."
        raise SetupError("eval_missing", message) from None


def per_query(qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Sequence[str]]) -> dict[str, Scores]:
    """Each judged query's scores.

    Args:
        qrels: for each query what is relevant, and how much.
        run: for each query what was found, best first, each once; a query without a ranking found nothing.

    Raises:
        SetupError: `eval_missing`.
    """
    ir_measures = library()
    ndcg, recall, rank = ir_measures.nDCG, ir_measures.R, ir_measures.RR
    wanted = {ndcg @ 10: NDCG, recall @ 10: RECALL_10, recall @ 100: RECALL_100, rank: MRR}
    # By rank, because the library would put equal scores into an order of its own.
    ranked = {
        query: {entry: float(DEPTH - rank) for rank, entry in enumerate(run[query][:DEPTH])}
        for query in qrels
        if run.get(query)
    }
    scores = {query: dict.fromkeys(MEASURES, 0.0) for query in qrels}
    plain = {query: dict(found) for query, found in qrels.items()}
    for value in ir_measures.iter_calc(list(wanted), plain, ranked) if ranked else ():
        scores[value.query_id][wanted[value.measure]] = float(value.value)
    return scores


def means(scores: Iterable[Scores]) -> Scores:
    """Of each measure; 0 where there is no query."""
    several = list(scores)
    return {name: fmean(one[name] for one in several) if several else 0.0 for name in MEASURES}


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the second of two configurations scores on the same queries.

    Attributes:
        mean: of the differences.
        low: from here …
        high: … to here the mean lies with a confidence of 95%.
        p: how often a difference as large would be seen if there were none (two-sided).
    """

    mean: float
    low: float
    high: float
    p: float


def difference(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Difference:
    """Compare two configurations by the paired bootstrap, shifted to a mean of 0 for p.

    Source: Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval
    Evaluation" (2007), section 3.4. The same seed gives the same figures.
    """
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    mean = float(differences.mean())
    drawn = _resampled_means(differences, np.random.default_rng(seed))
    low, high = np.percentile(drawn, _CONFIDENCE)
    # At least as far off as the one seen; what rounding makes of equal sums is as far off.
    p = (np.abs(drawn - mean) >= abs(mean) - 1e-12).mean()
    return Difference(mean, float(low), float(high), float(p))


def _resampled_means(values: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator) -> Any:
    at_once = max(_AT_ONCE // len(values), 1)
    parts = [
        values[rng.integers(len(values), size=(min(at_once, _RESAMPLES - done), len(values)))].mean(axis=1)
        for done in range(0, _RESAMPLES, at_once)
    ]
    return np.concatenate(parts)

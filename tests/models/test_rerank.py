"""Rerankers' two forms; connections, time limits and errors are tested in test_http.py."""

import json

import pytest

from ringfence.errors import Invalid, Unavailable
from ringfence.models.base import Reranker
from ringfence.models.http import Timeouts
from ringfence.models.rerank import CohereReranker, TeiReranker

TEXTS = ["The oven is hot.", "Six weeks' notice period.", "Notice the oven."]


@pytest.fixture(params=["cohere", "tei"])
async def reranker(request, models):
    limits = Timeouts(first_token=0.3, total=0.3)
    made: Reranker = (
        CohereReranker(models.openai_url, "rr", api_key="k", timeouts=limits)
        if request.param == "cohere"
        else TeiReranker(models.url, api_key="k", timeouts=limits)
    )
    yield made
    await made.close()


async def test_scores_come_in_the_order_of_the_texts(reranker, models):
    assert await reranker.scores("notice period", TEXTS) == [0.0, 2.0, 1.0]
    [request] = models.reranks
    assert request.headers["authorization"] == "Bearer k"
    assert request.body in (
        {"model": "rr", "query": "notice period", "documents": TEXTS},
        {"query": "notice period", "texts": TEXTS, "truncate": True},
    )
    assert reranker.name in {"rr", "tei"}


def results(*pairs):
    return [{"index": index, "score": score} for index, score in pairs]


@pytest.mark.parametrize(
    "found",
    [
        results((0, 1.0), (1, 2.0)),  # one is missing
        results((0, 1.0), (1, 2.0), (1, 3.0)),  # twice, so that one is missing
        results((0, 1.0), (1, 2.0), (2, 3.0), (2, 3.0)),
        results((0, 1.0), (1, 2.0), (3, 3.0)),  # nobody's
        results((0, 1.0), (1, 2.0), (-1, 3.0)),
        results((0, 1.0), (1, float("nan")), (2, 3.0)),
        results((0, 1.0), (1, "high"), (2, 3.0)),
        "nonsense",
    ],
)
async def test_what_is_no_score_for_each_is_refused(reranker, models, found):
    body = found if isinstance(reranker, TeiReranker) else {"results": found}
    models.script_reranks(raw=[json.dumps(body).encode()])
    with pytest.raises(Unavailable, match="model_malformed"):
        await reranker.scores("notice", TEXTS)


async def test_a_server_that_fails_or_is_slow_says_so(reranker, models):
    models.script_reranks(status=503, times=1)
    with pytest.raises(Unavailable, match="model_busy"):
        await reranker.scores("notice", TEXTS)
    models.script_reranks(status=422, times=1)
    with pytest.raises(Invalid, match="model_rejected"):
        await reranker.scores("notice", TEXTS)
    models.script_reranks(stall_after=0)
    with pytest.raises(Unavailable, match=r"model_too_slow|model_silent"):
        await reranker.scores("notice", TEXTS)

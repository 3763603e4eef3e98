"""Text Embeddings Inference's `/predict`; connections, time limits and errors are tested in test_http.py."""

import json

import pytest

from ringfence.errors import Unavailable
from ringfence.models.base import Entailment, Inference
from ringfence.models.entailment import TeiEntailment
from ringfence.models.http import Timeouts

PAIRS = [("The oven is hot.", "The oven is hot."), ("The oven is hot.", "Bananas grow.")]


@pytest.fixture
async def entailment(models):
    made: Entailment = TeiEntailment(models.url, api_key="k", timeouts=Timeouts(first_token=0.3, total=0.3))
    yield made
    await made.close()


async def test_inferences_come_in_the_order_of_the_pairs(entailment, models):
    assert await entailment.infer(PAIRS) == [Inference(1.0, 0.0), Inference(0.0, 0.75)]
    [request] = models.predictions
    assert request.headers["authorization"] == "Bearer k"
    assert request.body == {"inputs": [list(pair) for pair in PAIRS], "truncate": True, "raw_scores": False}
    assert entailment.name == "tei"


def labels(**scores):
    return [{"label": label, "score": score} for label, score in scores.items()]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (labels(ENTAILMENT=0.7, NEUTRAL=0.2, CONTRADICTION=0.1), Inference(0.7, 0.1)),
        (labels(entailment=0.7, not_entailment=0.3), Inference(0.7, 0.0)),
        (labels(entail=0.2, contradict=0.8), Inference(0.2, 0.8)),
    ],
)
async def test_labels_are_known_by_how_they_begin(entailment, models, one, expected):
    models.script_predictions(raw=[json.dumps([one]).encode()])
    assert await entailment.infer(PAIRS[:1]) == [expected]


@pytest.mark.parametrize(
    "found",
    [
        [],  # one is missing
        [labels(entailment=1.0), labels(entailment=1.0)],
        [labels(LABEL_0=0.5, LABEL_1=0.5)],  # nobody knows which is which
        [labels(entailment=float("nan"))],
        [labels(entailment=3.5)],
        [labels(entailment="much")],
        labels(entailment=1.0),
        "nonsense",
    ],
)
async def test_what_is_no_inference_for_each_is_refused(entailment, models, found):
    models.script_predictions(raw=[json.dumps(found).encode()])
    with pytest.raises(Unavailable, match="model_malformed"):
        await entailment.infer(PAIRS[:1])

"""Models of natural language inference behind a server's `/predict`, as Text Embeddings Inference has it.

Source of the format: https://huggingface.github.io/text-embeddings-inference (PredictRequest: a batch of pairs).
"""

import math
from collections.abc import Sequence

import httpx2
from pydantic import BaseModel, RootModel

from ringfence.models.base import Inference
from ringfence.models.http import ModelServer, Timeouts, malformed, parse_json

_ENTAILMENT, _CONTRADICTION = "entail", "contradict"  # how the labels of such models begin; "neutral" is the rest


class _Label(BaseModel, extra="ignore"):
    label: str
    score: float


class _Labels(RootModel[list[list[_Label]]]):
    pass


class TeiEntailment:
    """A model of natural language inference in Text Embeddings Inference, whose server has one model.

    Its labels have to be named: `entailment`, `contradiction` (or `not_entailment`), and what else there is.

    Args:
        base_url: e.g. `http://127.0.0.1:8080`.
        api_key: sent as a bearer token.
        timeouts: limits of each request.
        transport: takes the place of real connections.

    Raises:
        SetupError: `base_url` or `api_key` can't be used.
    """

    name = "tei"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport)

    async def infer(self, pairs: Sequence[tuple[str, str]]) -> list[Inference]:
        """What each pair comes to; raises as `Entailment.infer` says."""
        body = {"inputs": [list(pair) for pair in pairs], "truncate": True, "raw_scores": False}
        answer = parse_json(_Labels, await self._server.post("/predict", body))
        if len(answer.root) != len(pairs):
            raise malformed()
        return [_inference(labels) for labels in answer.root]

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()


def _inference(labels: Sequence[_Label]) -> Inference:
    """The two that count.

    Raises:
        Unavailable: `model_malformed`; the labels are not those of such a model, or their scores no probabilities.
    """
    scores = {label.label.casefold(): label.score for label in labels}
    entailment = [score for label, score in scores.items() if label.startswith(_ENTAILMENT)]
    contradiction = sum(score for label, score in scores.items() if label.startswith(_CONTRADICTION))
    if len(entailment) != 1 or not all(math.isfinite(score) and 0 <= score <= 1 for score in scores.values()):
        raise malformed()
    return Inference(entailment[0], min(contradiction, 1.0))

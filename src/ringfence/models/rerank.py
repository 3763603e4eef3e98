"""Rerankers behind a server's `/rerank`, in one of the two forms that there are.

Sources of the formats: https://docs.cohere.com/reference/rerank, https://api.jina.ai/redoc (the same form; vLLM,
Infinity and llama.cpp's server have it, too) and https://huggingface.github.io/text-embeddings-inference.
"""

import math
from collections.abc import Sequence

import httpx2
from pydantic import AliasChoices, BaseModel, Field, RootModel

from ringfence.models.http import ModelServer, Timeouts, malformed, parse_json


class _Result(BaseModel, extra="ignore"):
    index: int
    score: float = Field(validation_alias=AliasChoices("relevance_score", "score"))


class _Results(BaseModel, extra="ignore"):
    results: list[_Result]


class _Bare(RootModel[list[_Result]]):
    pass


class CohereReranker:
    """A reranker behind a server in Cohere's and Jina's form: `documents` out, `results` with `relevance_score` back.

    Args:
        base_url: with the version, e.g. `https://api.cohere.com/v2` or `https://api.jina.ai/v1`.
        model: its name there.
        api_key: sent as a bearer token.
        timeouts: limits of each request.
        transport: takes the place of real connections.

    Raises:
        SetupError: `base_url` or `api_key` can't be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport)
        self._model = model

    @property
    def name(self) -> str:
        """The model's name at the server."""
        return self._model

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in their order; raises as `Reranker.scores` says."""
        body = {"model": self._model, "query": query, "documents": list(texts)}
        answer = parse_json(_Results, await self._server.post("/rerank", body))
        return _in_order(answer.results, len(texts))

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()


class TeiReranker:
    """A reranker behind Hugging Face's Text Embeddings Inference, whose server has one model.

    Args:
        base_url: e.g. `http://127.0.0.1:8080`.
        model: as shown to people.
        api_key: sent as a bearer token.
        timeouts: limits of each request.
        transport: takes the place of real connections.

    Raises:
        SetupError: `base_url` or `api_key` can't be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str = "tei",
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport)
        self._model = model

    @property
    def name(self) -> str:
        """As shown to people."""
        return self._model

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in their order; raises as `Reranker.scores` says."""
        body = {"query": query, "texts": list(texts), "truncate": True}
        answer = parse_json(_Bare, await self._server.post("/rerank", body))
        return _in_order(answer.root, len(texts))

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()


def _in_order(results: Sequence[_Result], count: int) -> list[float]:
    """The scores by their texts' places, if there is one number for each.

    Raises:
        Unavailable: `model_malformed`.
    """
    found = {result.index: result.score for result in results}
    if len(results) != count or found.keys() != set(range(count)) or not all(map(math.isfinite, found.values())):
        raise malformed()
    return [found[index] for index in range(count)]

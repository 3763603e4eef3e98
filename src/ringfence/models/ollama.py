"""Ollama's own API: `/api/chat` as newline-delimited JSON, `/api/embed`.

Source of the formats: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict

import httpx2
from pydantic import BaseModel

from ringfence.models.base import Message, Vectors
from ringfence.models.http import ModelServer, Piece, Timeouts, embed_in_batches, model_error, parse_json


class _Turn(BaseModel, extra="ignore"):
    content: str | None = None
    # A model's hidden thoughts: they prove that it works, and are never shown.
    thinking: str | None = None


class _ChatLine(BaseModel, extra="ignore"):
    message: _Turn = _Turn()
    done: bool = False
    error: object = None


class _EmbedAnswer(BaseModel, extra="ignore"):
    embeddings: list[list[float]]


class OllamaChat:
    """A chat model behind Ollama.

    Args:
        base_url: e.g. `http://127.0.0.1:11434`.
        model: as `ollama list` names it.
        context_tokens: window of prompt and answer together. Sent with each request: Ollama's own default is small, and
            it cuts longer prompts without a word.
        temperature: 0 keeps the answer closest to the prompt; None leaves it to the model's own settings.
        api_key: for a server behind a gateway that wants one.
        timeouts: limits of each answer.
        transport: takes the place of real connections.

    Raises:
        SetupError: `base_url` or `api_key` can't be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        context_tokens: int = 8192,
        temperature: float | None = 0.0,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport)
        self._model = model
        self._context_tokens = context_tokens
        self._options = {"num_ctx": context_tokens} | ({} if temperature is None else {"temperature": temperature})

    @property
    def name(self) -> str:
        """The model's name at the server."""
        return self._model

    @property
    def context_tokens(self) -> int:
        """How many tokens the prompt and the answer may have together."""
        return self._context_tokens

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> AsyncGenerator[str]:
        """Yield the answer's pieces as they come. Closing the generator closes the connection to the model.

        Raises (from the iteration):
            Unavailable: the model is down, silent beyond its time limits, or broke off.
            Invalid: the model rejects the request.
        """
        body = {
            "model": self._model,
            "messages": [asdict(message) for message in messages],
            "stream": True,
            "options": {**self._options, "num_predict": max_tokens},
        }
        return self._server.stream("/api/chat", body, _read_line)

    async def close(self) -> None:
        """Let go of connections."""
        await self._server.close()


def _read_line(line: bytes) -> Piece | None:
    """One line of the stream: a JSON object with a piece of the answer, or with an error."""
    if not line.strip():
        return None
    told = parse_json(_ChatLine, line)
    if told.error:
        raise model_error("while it was answering")
    if told.message.content or told.message.thinking or told.done:
        return Piece(told.message.content or "", told.done)
    return None


class OllamaEmbedder:
    """An embedding model behind Ollama; `batch_size` texts are sent at a time. The rest is as for `OllamaChat`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        batch_size: int = 32,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport)
        self._model = model
        self._batch_size = batch_size

    @property
    def name(self) -> str:
        """What the vectors are keyed by in the database."""
        return f"ollama/{self._model}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed the texts in order; no texts give shape (0, 0).

        Raises:
            Unavailable: the model can't be reached, is too slow, or answered with an error that may pass.
            Invalid: the model rejects these texts, or answers with the wrong number or shape of vectors.
        """
        return await embed_in_batches(texts, self._batch_size, self._embed_batch)

    async def _embed_batch(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        answer = await self._server.post("/api/embed", {"model": self._model, "input": list(texts)})
        return parse_json(_EmbedAnswer, answer).embeddings

    async def close(self) -> None:
        """Let go of connections."""
        await self._server.close()

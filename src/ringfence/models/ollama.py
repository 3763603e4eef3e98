"""Ollama's own API: `/api/chat` as newline-delimited JSON, `/api/embed`.

Source of the formats: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict

import httpx2
from pydantic import BaseModel

from ringfence.models.base import Message, Spent, Usage, Vectors
from ringfence.models.batches import Batches, BatchLimits
from ringfence.models.http import ModelServer, Piece, Timeouts, model_error, parse_json, unit_rows
from ringfence.models.tokens import Estimate, Ruler


class _Turn(BaseModel, extra="ignore"):
    content: str | None = None
    # A model's hidden thoughts: they prove that it works, and are never shown.
    thinking: str | None = None


class _ChatLine(BaseModel, extra="ignore"):
    message: _Turn = _Turn()
    done: bool = False
    error: object = None
    # Of the last line. A prompt that is cached has no count in some versions: then there is none at all.
    prompt_eval_count: int | None = None
    eval_count: int | None = None


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

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int, spent: Spent | None = None
    ) -> AsyncGenerator[str]:
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
        return self._server.stream("/api/chat", body, _read_line, spent)

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
        return Piece(told.message.content or "", told.done, _usage(told))
    return None


def _usage(told: _ChatLine) -> Usage | None:
    if told.prompt_eval_count is None or told.eval_count is None:
        return None
    return Usage(told.prompt_eval_count, told.eval_count)


class OllamaEmbedder:
    """An embedding model behind Ollama; `limits` are a request's. The rest is as for `OllamaChat`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        limits: BatchLimits | None = None,
        ruler: Ruler | None = None,
        languages: frozenset[str] | None = None,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport)
        self._model = model
        self._batches = Batches(limits)
        self._ruler = ruler or Estimate()
        self._languages = languages

    @property
    def name(self) -> str:
        """What the vectors are keyed by in the database."""
        return f"ollama/{self._model}"

    @property
    def ruler(self) -> Ruler:
        """Measures texts: as given, or an estimate."""
        return self._ruler

    @property
    def max_tokens(self) -> None:
        """Unknown: the server does not say."""
        return

    @property
    def languages(self) -> frozenset[str] | None:
        """As given."""
        return self._languages

    @property
    def batch_texts(self) -> int:
        """Texts of one request."""
        return self._batches.texts

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed the texts in order; no texts give shape (0, 0).

        Raises:
            Unavailable: the model can't be reached, is too slow, or answered with an error that may pass.
            Invalid: the model rejects these texts, or answers with the wrong number or shape of vectors.
        """
        return unit_rows(await self._batches.ask(texts, self._embed_batch))

    async def _embed_batch(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        answer = await self._server.post("/api/embed", {"model": self._model, "input": list(texts)})
        return parse_json(_EmbedAnswer, answer).embeddings

    async def close(self) -> None:
        """Let go of connections."""
        await self._server.close()

"""Any server that speaks OpenAI's protocol: `/chat/completions` as server-sent events, `/embeddings`.

Sources of the formats: https://platform.openai.com/docs/api-reference/chat and
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict

import httpx2
from pydantic import BaseModel, Field, ValidationError

from ringfence.errors import Invalid
from ringfence.models.base import Message, Spent, Usage, Vectors
from ringfence.models.batches import Batches, BatchLimits
from ringfence.models.http import (
    MAX_LINE_BYTES,
    ModelServer,
    Piece,
    Timeouts,
    malformed,
    model_error,
    parse_json,
    unit_rows,
)
from ringfence.models.tokens import Estimate, Ruler


class _Delta(BaseModel, extra="ignore"):
    content: str | None = None
    # Two names for a model's hidden thoughts: they prove that it works, and are never shown.
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel, extra="ignore"):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(BaseModel, extra="ignore"):
    choices: list[_Choice] = []
    error: object = None
    usage: object = None  # whatever is in there, the answer goes on


class _Usage(BaseModel, extra="ignore"):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Embedding(BaseModel, extra="ignore"):
    index: int
    embedding: list[float]


class _EmbeddingsAnswer(BaseModel, extra="ignore"):
    data: list[_Embedding]


class OpenAIChat:
    """A chat model behind a server that speaks OpenAI's protocol.

    Args:
        base_url: with the version, e.g. `https://api.openai.com/v1`.
        model: its name there.
        context_tokens: window of prompt and answer together; the server is not told.
        temperature: 0 keeps the answer closest to the prompt; None leaves it to the server (some hosted models refuse
            any other).
        api_key: sent as a bearer token.
        timeouts: limits of each answer.
        transport: takes the place of real connections.
        reuse: keep connections for the next answer.

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
        reuse: bool = True,
    ) -> None:
        self._server = ModelServer(base_url, api_key=api_key, timeouts=timeouts, transport=transport, reuse=reuse)
        self._model = model
        self._context_tokens = context_tokens
        self._options = {} if temperature is None else {"temperature": temperature}
        self._counts: bool | None = None  # whether the server takes the field that asks for the tokens; None: not known

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

        The server is asked for what the answer takes where somebody wants to know. Some reject the field: once that is
        found out, it is left away.

        Raises (from the iteration):
            Unavailable: the model is down, silent beyond its time limits, or broke off.
            Invalid: the model rejects the request.
        """
        body = {
            "model": self._model,
            "messages": [asdict(message) for message in messages],
            "stream": True,
            "max_tokens": max_tokens,
            **self._options,
        }
        if spent is None or self._counts is False:
            return self._sent(body, spent)
        counted = {**body, "stream_options": {"include_usage": True}}
        return self._sent(counted, spent) if self._counts else self._found_out(counted, body, spent)

    def _sent(self, body: dict[str, object], spent: Spent | None) -> AsyncGenerator[str]:
        return self._server.stream("/chat/completions", body, _EventReader().read_line, spent)

    async def _found_out(
        self, counted: dict[str, object], plain: dict[str, object], spent: Spent
    ) -> AsyncGenerator[str]:
        """The answer to the first of both that the server takes."""
        counts = True
        while True:
            try:
                async with aclosing(self._sent(counted if counts else plain, spent)) as pieces:
                    async for piece in pieces:
                        self._counts = counts
                        yield piece
            except Invalid:  # comes before the first piece
                if not counts:
                    raise
                counts = False
            else:
                return

    async def close(self) -> None:
        """Let go of connections."""
        await self._server.close()


class _EventReader:
    """Puts the lines of server-sent events together: `data` lines up to a blank one; all other fields are ignored."""

    def __init__(self) -> None:
        self._data = b""

    def read_line(self, line: bytes) -> Piece | None:
        """Take one line; what its event says once a blank line ends it."""
        if line.startswith(b"data:"):
            self._data += (b"\n" if self._data else b"") + line[5:].removeprefix(b" ")
            if len(self._data) > MAX_LINE_BYTES:
                raise malformed()
            return None
        if line or not self._data:
            return None
        data, self._data = self._data, b""
        return _read_event(data)


def _read_event(data: bytes) -> Piece | None:
    """One event: a JSON object with a piece of the answer or an error, or the mark of the end."""
    if data.strip() == b"[DONE]":
        return Piece(last=True)
    chunk = parse_json(_Chunk, data)
    if chunk.error:
        raise model_error("while it was answering")
    usage = _usage(chunk.usage)
    if not chunk.choices:  # what the answer took, perhaps, behind its end
        return Piece(usage=usage) if usage else None
    choice = chunk.choices[0]
    delta, last = choice.delta or _Delta(), bool(choice.finish_reason)
    if delta.content or delta.reasoning_content or delta.reasoning or last:
        return Piece(delta.content or "", last, usage)
    return None


def _usage(told: object) -> Usage | None:
    if told is None:  # as with each token but the last
        return None
    try:
        usage = _Usage.model_validate(told)
    except ValidationError:
        return None
    return Usage(usage.prompt_tokens, usage.completion_tokens)


class OpenAIEmbedder:
    """An embedding model behind OpenAI's protocol; `limits` are a request's. The rest is as for `OpenAIChat`."""

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
        return f"openai/{self._model}"

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
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        answer = parse_json(_EmbeddingsAnswer, await self._server.post("/embeddings", body))
        by_index = {row.index: row.embedding for row in answer.data}
        return [by_index[index] for index in sorted(by_index)]

    async def close(self) -> None:
        """Let go of connections."""
        await self._server.close()

"""An answer's events in OpenAI's words: as chunks of a stream, and as one completion."""

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from ringfence.answers.events import Citation, DoneEvent, ErrorEvent, Event, SourcesEvent, TokenEvent
from ringfence.http.errors import openai_problem
from ringfence.http.openai.chat_forms import (
    Annotation,
    AnswerMessage,
    ChatUsage,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    Extra,
    UrlCitation,
)
from ringfence.models.base import Usage

_MARKER = re.compile(r"\[\d{1,3}(?:\s*[,;]\s*\d{1,3})*\]")
_NUMBER = re.compile(r"\d+")
FINAL = frozenset({"internal", "model_rejected"})
"""Codes of answers that broke off, and would again: clients hear 500, and 503 of others, which they try again."""


class Reply:
    """An answer under way.

    Args:
        base: of the addresses of what it cites, with a slash at its end.
        model: what was asked for.
        tells_usage: whether a stream does.

    Attributes:
        done: how it ended, once it has.
        error: why it broke off, if it did.
    """

    def __init__(self, base: str, model: str, *, tells_usage: bool) -> None:
        self._base = base
        self._model = model
        self._tells_usage = tells_usage
        self._created = int(time.time())
        self._answer_id = UUID(int=0)
        self._text = ""
        self._usage: Usage | None = None
        self.done: DoneEvent | None = None
        self.error: ErrorEvent | None = None

    def spent(self, usage: Usage) -> None:
        """Take note of what the model took."""
        self._usage = usage

    def follow(self, event: Event) -> None:
        """Take note of what happened."""
        match event:
            case SourcesEvent():
                self._answer_id = event.answer_id
            case TokenEvent():
                self._text += event.text
            case DoneEvent():
                self.done = event
            case ErrorEvent():
                self.error = event
            case _:  # a sentence's verdict: the last event has the citations
                pass

    def said(self, event: Event) -> bytes:
        """An event as the stream says it. The evidence is not in it: that is no part of the answer."""
        self.follow(event)
        match event:
            case SourcesEvent():
                return self._step(Delta(role="assistant", content=""))
            case TokenEvent():
                return self._step(Delta(content=event.text))
            case DoneEvent():
                return b"".join(self._end(event))
            case ErrorEvent():
                problem = openai_problem(500 if event.code in FINAL else 503, event.code, event.message)
                return _data(problem.model_dump_json())
            case _:
                return b""

    def completion(self, done: DoneEvent) -> Completion:
        """The whole answer."""
        message = AnswerMessage(
            role="assistant", content=self._text, refusal=None, annotations=self._annotations(done.citations)
        )
        return Completion(
            id=f"chatcmpl-{self._answer_id.hex}",
            object="chat.completion",
            created=self._created,
            model=self._model,
            choices=[Choice(index=0, message=message, logprobs=None, finish_reason="stop")],
            usage=self._told(),
            ringfence=self._extra(done),
        )

    def _step(self, delta: Delta) -> bytes:
        return self._chunk([ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=None)])

    def _end(self, done: DoneEvent) -> Iterator[bytes]:
        delta = Delta(annotations=self._annotations(done.citations))
        choice = ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason="stop")
        yield self._chunk([choice], ringfence=self._extra(done))
        if self._tells_usage:
            yield self._chunk([], usage=self._told())
        yield _data("[DONE]")

    def _chunk(self, choices: list[ChunkChoice], **more: Any) -> bytes:
        chunk = Chunk(
            id=f"chatcmpl-{self._answer_id.hex}",
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            **more,
        )
        return _data(chunk.model_dump_json(exclude_unset=True))

    def _annotations(self, citations: Sequence[Citation]) -> list[Annotation]:
        """One for each number in the text that is a citation's."""
        by_number = {citation.n: citation for citation in citations}
        return [
            Annotation(type="url_citation", url_citation=self._citation(marker, citation))
            for marker in _MARKER.finditer(self._text)
            for number in _NUMBER.findall(marker[0])
            if (citation := by_number.get(int(number)))
        ]

    def _citation(self, marker: re.Match[str], citation: Citation) -> UrlCitation:
        page = citation.quote.page
        return UrlCitation(
            start_index=marker.start(),
            end_index=marker.end(),
            title=f"{citation.document}, page {page}",
            url=f"{self._base}v1/files/{citation.document_id}/content#page={page}",
        )

    def _told(self) -> ChatUsage:
        usage = self._usage or Usage(0, 0)
        return ChatUsage(
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            total_tokens=usage.prompt + usage.completion,
        )

    def _extra(self, done: DoneEvent) -> Extra:
        usage = self._usage
        return Extra(
            answer_id=self._answer_id,
            refused=done.refused,
            model=done.model,
            citations=done.citations,
            usage_from="nothing" if usage is None else "model" if usage.reported else "estimate",
        )


def _data(text: str) -> bytes:
    return f"data: {text}\n\n".encode()

"""Citations: what of an answer refers to which passage, and whether that passage carries it; found while it streams."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from ringfence.answers import evidence, prompt
from ringfence.answers.events import CitationEvent, TokenEvent
from ringfence.answers.markers import Markers, Piece, Statement, Statements
from ringfence.search.queries import Passage

# A full stop behind one or two letters ("e.g.", "Dr.") ends no sentence.
_SENTENCE_END = re.compile(r"(?<=[.!?…])(?<!\b\w\.)(?<!\b\w\w\.)(?=\s)|(?<=[。！？])")  # noqa: RUF001

type Checking = Callable[[Statement], Awaitable[CitationEvent | None]]
"""Checks a sentence; nothing comes of one that claims nothing."""


class SentenceMarker:
    """Adds to each sentence of a stream the number of the passage that it shares most words with, if it shares half.

    For models that cite badly: what they say is passed on as it comes, and ` [n]` goes behind each sentence.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._sentence = ""

    def feed(self, piece: str) -> str:
        """The piece, with a marker wherever a sentence has ended (as a following blank shows)."""
        first, *others = _SENTENCE_END.split(self._sentence + piece)
        marked = first[len(self._sentence) :]
        self._sentence = first
        for sentence in others:
            marked += self.finish() + sentence
            self._sentence = sentence
        return marked

    def finish(self) -> str:
        """The marker of the last sentence; empty where it rests on nothing."""
        refusal = prompt.is_refusal(self._sentence)
        n = None if refusal else evidence.nearest_source(self._sentence, self._passages)
        return f" [{n}]" if n else ""


async def marked(pieces: AsyncGenerator[str], passages: Sequence[Passage]) -> AsyncGenerator[str]:
    """An answer's pieces, with the engine's own markers."""
    marker = SentenceMarker(passages)
    async with aclosing(pieces):
        async for piece in pieces:
            yield marker.feed(piece)
    if last := marker.finish():
        yield last


async def cited(
    pieces: AsyncGenerator[str], count: int, check: Checking, *, strict: bool
) -> AsyncGenerator[TokenEvent | CitationEvent]:
    """What a reader gets of an answer: its tokens, with valid markers alone, and each sentence's citations, checked.

    Args:
        pieces: the answer as it comes; closed in any case.
        count: how many passages it may cite.
        check: checks a sentence; beside the stream, which does not wait for it.
        strict: hold each sentence back until it is checked; its citations then come first.
    """
    desk = _Desk(count, check, strict=strict)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                async for event in desk.take(desk.markers.feed(piece)):
                    yield event
        async for event in desk.take(desk.markers.finish(), last=True):
            yield event
    finally:
        await desk.close()


class _Desk:
    def __init__(self, count: int, check: Checking, *, strict: bool) -> None:
        self.markers = Markers(count)
        self._statements = Statements()
        self._check = check
        self._strict = strict
        self._checks = deque[asyncio.Future[CitationEvent | None]]()

    async def take(self, found: Sequence[Piece], *, last: bool = False) -> AsyncGenerator[TokenEvent | CitationEvent]:
        """What can be sent now; at the end, all that is left."""
        ended = self._statements.feed(found)
        if last:
            ended += self._statements.finish()
        text = "".join(piece.text for piece in found)
        if self._strict:
            async for event in self._held_back(ended):
                yield event
            text = self._statements.rest() if last else ""
        if text:
            yield TokenEvent(text=text)
        if not self._strict:
            self._checks.extend(asyncio.ensure_future(self._check(statement)) for statement in ended)
        while self._checks and (last or self._checks[0].done()):
            if checked := await self._checks.popleft():
                yield checked

    async def _held_back(self, ended: Sequence[Statement]) -> AsyncGenerator[TokenEvent | CitationEvent]:
        for statement in ended:
            if event := await self._check(statement):
                yield event
            yield TokenEvent(text=statement.shown)

    async def close(self) -> None:
        """Give up what is being checked."""
        for check in self._checks:
            check.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)

"""Responses that stream an answer, and stop it at once when the client leaves."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ringfence.answers.events import DoneEvent, Event, SourcesEvent, TokenEvent


class Streamed(Response):
    """Sends each piece as it comes; when the client is gone, the source is closed, even between two pieces."""

    def __init__(self, pieces: AsyncGenerator[bytes], media_type: str) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Run the stream beside a watch for the client's leaving; whichever ends first ends the other."""
        stream = asyncio.create_task(self._stream(send))
        watch = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((stream, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            stream.cancel()
            results = await asyncio.gather(stream, watch, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def started[T](source: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same events, once the first is there: what fails before it can still become a proper status."""
    first = await anext(source)

    async def chained() -> AsyncGenerator[T]:
        async with aclosing(source):
            yield first
            async for item in source:
                yield item

    return chained()


async def server_sent_events(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Events as `text/event-stream` (WHATWG HTML, server-sent events): the type as name, JSON as data."""
    async with aclosing(events):
        async for event in events:
            yield f"event: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()


async def plain_text(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """The answer as people read it in a terminal: its words, then what they rest on."""
    async with aclosing(events):
        async for event in events:
            for text in _plain(event):
                yield text.encode()


def _plain(event: Event) -> list[str]:
    match event:
        case SourcesEvent():
            return []
        case TokenEvent():
            return [event.text]
        case DoneEvent():
            lines = [
                f"[{c.n}] {c.document}, page {c.quote.page}: “{' '.join(c.quote.text.split())}”\n"
                for c in event.citations
            ]
            return ["\n\n" if lines else "\n", *lines]
        case _:
            return [f"\n\nThe answer broke off: {event.message}\n"]

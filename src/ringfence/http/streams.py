"""Responses that stream, and stop it at once when the client leaves or the server stops."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Protocol
from urllib.parse import quote

import structlog
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ringfence.answers.events import CitationEvent, DoneEvent, ErrorEvent, Event, SourcesEvent, TokenEvent
from ringfence.errors import RingfenceError, Unavailable
from ringfence.http.errors import problem_of

log = structlog.get_logger()

type Encode = Callable[[Event], bytes]
"""How an event looks on the wire; nothing, where a form leaves it out."""


class EventStream[E](Response):
    """Sends each event as it comes, until the client leaves or the server has to stop.

    Then the source is closed, even between two events, and a client that is still there hears why.

    Args:
        events: what is sent; closed in any case.
        encode: gives them their form.
        media_type: of that form.
        stopping: set when the server can't wait any longer.
        farewell: the last event in that case.
        alive: is sent where nothing has come for `silence` seconds, so that nobody between takes the stream for dead.
        silence: see there.
    """

    def __init__(
        self,
        events: AsyncGenerator[E],
        encode: Callable[[E], bytes],
        media_type: str,
        stopping: asyncio.Event,
        farewell: E,
        *,
        alive: bytes = b"",
        silence: float = 15.0,
    ) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._encode = encode
        self._stopping = stopping
        self._farewell = farewell
        self._alive = alive
        self._silence = silence
        self._sent = 0.0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Run the stream until it ends, the client leaves or the server stops."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if await cut_short(self._stream(send), receive, self._stopping):
            await send({"type": "http.response.body", "body": self._encode(self._farewell), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        self._sent = clock()
        beats = asyncio.create_task(self._beats(send))
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if piece := self._encode(event):
                        self._sent = clock()
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            beats.cancel()

    async def _beats(self, send: Send) -> None:
        """Say now and then that the stream is alive, beside what is sent: that a token costs nothing more for it."""
        clock = asyncio.get_running_loop().time
        while self._alive:
            if (wait := self._sent + self._silence - clock()) > 0:
                await asyncio.sleep(wait)
            else:
                self._sent = clock()
                await send({"type": "http.response.body", "body": self._alive, "more_body": True})


class Streamed(EventStream[Event]):
    """The stream of an answer's events."""

    def __init__(self, events: AsyncGenerator[Event], encode: Encode, media_type: str, stopping: asyncio.Event) -> None:
        alive = server_sent_event(None) if media_type == "text/event-stream" else b""
        super().__init__(events, encode, media_type, stopping, farewell(), alive=alive)


class AwaitedJson(Response):
    """Waits for the end of a stream, and sends what has become of it then.

    A client that leaves ends the stream as one that reads it would; a server that stops says so instead.

    Args:
        events: whose end is waited for; closed in any case.
        result: what is sent then.
        stopping: set when the server can't wait any longer.
    """

    def __init__[T](
        self, events: AsyncGenerator[T], result: Callable[[], Awaitable[BaseModel]], stopping: asyncio.Event
    ) -> None:
        super().__init__()
        self._events = events
        self._result = result
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait until the end, the client's leaving or the server's stop; the client who is gone gets nothing."""
        if await cut_short(self._ended(), receive, self._stopping):
            message = "The server is stopping; what was written is kept. Please ask again in a moment."
            await problem_of(Unavailable("shutting_down", message))(scope, receive, send)
            return
        content = (await self._result()).model_dump_json()
        await Response(content, media_type="application/json")(scope, receive, send)

    async def _ended(self) -> None:
        async with aclosing(self._events) as events:
            async for _ in events:
                pass


class Download(Response):
    """Sends a file that is made meanwhile.

    If it can't be made to its end, the connection breaks off: nobody shall take what there is for the whole.

    Args:
        pieces: the file; closed in any case.
        media_type: of the file.
        filename: under which the client shall keep it.
        stopping: set when the server can't wait any longer.
    """

    def __init__(self, pieces: AsyncGenerator[bytes], media_type: str, filename: str, stopping: asyncio.Event) -> None:
        headers = {"Content-Disposition": _attachment(filename), "Cache-Control": "no-store"}
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._stopping = stopping

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, the client's leaving or the server's stop."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            stopped = await cut_short(self._stream(send), receive, self._stopping)
        except RingfenceError as error:
            log.warning("download_broke_off", code=error.code)
            return  # without an end
        if not stopped:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})


def _attachment(filename: str) -> str:
    """A `Content-Disposition` under which a client keeps a file of any name (RFC 6266, RFC 8187)."""
    if re.fullmatch(r"[\w. -]+", filename, re.ASCII):
        return f'attachment; filename="{filename}"'
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"


async def cut_short(sending: Coroutine[None, None, None], receive: Receive, stopping: asyncio.Event) -> bool:
    """Send beside a watch for the client's leaving and the server's stop; the first to end ends all.

    Returns:
        Whether the server's stop ended it, with the client still there.
    """
    stream = asyncio.create_task(sending)
    watches = [asyncio.create_task(_gone(receive)), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait((stream, *watches), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stream, *watches):
            task.cancel()
        ended, gone, _ = await asyncio.gather(stream, *watches, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended
    return isinstance(ended, asyncio.CancelledError) and isinstance(gone, asyncio.CancelledError)


def farewell() -> ErrorEvent:
    """What a reader hears whom the server can't wait for."""
    message = "The server is stopping; what came before is kept. Please ask again in a moment."
    return ErrorEvent(code="shutting_down", message=message)


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


def is_json(accepted: str) -> bool:
    """Whether a client that names what it accepts wants JSON, and no stream."""
    return "application/json" in accepted and "text/event-stream" not in accepted


class Typed(Protocol):
    """An event that says itself of which type it is, and can be said in JSON."""

    @property
    def type(self) -> str:
        """Its name."""

    def model_dump_json(self) -> str:
        """What it says."""


def server_sent_event(event: Typed | None, event_id: str = "") -> bytes:
    """An event as `text/event-stream` (WHATWG HTML, server-sent events): the type as name, JSON as data, its id if any.

    None becomes a comment, which clients skip, and whoever stands between sees that the stream is alive.
    """
    if event is None:
        return b":\n\n"
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()


def plain_text(event: Event) -> bytes:
    """An event as people read it in a terminal: the answer's words, then what they rest on."""
    match event:
        case SourcesEvent() | CitationEvent():
            return b""
        case TokenEvent():
            return event.text.encode()
        case DoneEvent():
            lines = [
                f"[{c.n}] {c.document}, page {c.quote.page}: “{' '.join(c.quote.text.split())}”\n"
                for c in event.citations
            ]
            lines += [f"Nearest to it: {one.document} ({one.score:.2f})\n" for one in event.nearest]
            lines += [f"Not supported by your documents: “{sentence}”\n" for sentence in event.unsupported]
            lines += [f"With another figure in {one.document} [{one.n}]: “{one.text}”\n" for one in event.disputed]
            return "".join(["\n\n" if lines else "\n", *lines]).encode()
        case _:
            return f"\n\nThe answer broke off: {event.message}\n".encode()

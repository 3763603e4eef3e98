"""Calls that tell how far documents have come, and follow them."""

from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing
from itertools import islice
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from ringfence.client.models import BatchInfo, KnownContents
from ringfence.client.patience import Patience
from ringfence.client.transport import Connection
from ringfence.documents.events import DocumentProgress, EndEvent, Event, GoneEvent, ProgressEvent
from ringfence.errors import NotFound, RateLimited, Unavailable

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_DOCUMENTS = "/api/v1/documents"
_AT_ONCE = 1000  # documents or contents that one request may name
_PATIENCE = 300.0


class ProgressCalls(Connection):
    """What documents are there, and what is done to them.

    What follows them outlasts a server that is restarted and a connection that is lost, until the server was away for
    `patience` seconds. After that it begins anew, so that a document may be told twice as it is.
    """

    async def known(self, digests: Collection[str]) -> dict[str, DocumentProgress]:
        """Which of these contents (SHA-256 in hex) the account has, with their documents."""
        found: dict[str, DocumentProgress] = {}
        left = iter(digests)
        while some := list(islice(left, _AT_ONCE)):
            response = await self._call("POST", f"{_DOCUMENTS}/known", json={"sha256": some})
            known = KnownContents.model_validate_json(response.content, extra="ignore").known
            found.update((one.sha256, one.document) for one in known)
        return found

    async def document_progress(self, document_id: UUID) -> DocumentProgress:
        """How far a document has come."""
        response = await self._call("GET", f"{_DOCUMENTS}/{document_id}/progress")
        return DocumentProgress.model_validate_json(response.content, extra="ignore")

    async def batch(self, batch_id: UUID) -> BatchInfo:
        """How far the documents have come that one request brought."""
        response = await self._call("GET", f"/api/v1/batches/{batch_id}")
        return BatchInfo.model_validate_json(response.content, extra="ignore")

    async def follow(
        self, documents: Iterable[UUID], *, patience: float = _PATIENCE
    ) -> AsyncGenerator[ProgressEvent | GoneEvent]:
        """Documents as they are, and whenever they come further, until each is ready, failed or gone.

        Of many, the first thousand is followed first.
        """
        left, waits = dict.fromkeys(documents), Patience(patience)
        while asked := list(islice(left, _AT_ONCE)):
            body = {"document_ids": [str(document_id) for document_id in asked]}
            try:
                async with aclosing(self._events("POST", f"{_DOCUMENTS}/progress/stream", json=body)) as events:
                    async for event in events:
                        waits.reset()
                        if isinstance(event, ProgressEvent | GoneEvent):
                            yield event
                        for document_id in _ended_by(event, asked):
                            left.pop(document_id, None)
            except (Unavailable, RateLimited) as error:
                await waits.wait(error)

    async def progress(self, *, patience: float = _PATIENCE) -> AsyncGenerator[Event]:
        """All documents that are not ready, and those that come, as they come further; without an end."""
        unfinished: set[UUID] = set()
        waits = Patience(patience)
        while True:
            before = set(unfinished)
            try:
                async with aclosing(self._events("GET", f"{_DOCUMENTS}/progress/stream")) as events:
                    async for event in events:
                        waits.reset()
                        if isinstance(event, EndEvent):
                            continue
                        for one in [*await self._ended(before), event]:  # what ended before this stream was there
                            _note(one, unfinished)
                            yield one
                        before.clear()
            except (Unavailable, RateLimited) as error:
                await waits.wait(error)

    async def _ended(self, documents: Collection[UUID]) -> list[ProgressEvent | GoneEvent]:
        """Those of these documents of which no more will come."""
        found: list[ProgressEvent | GoneEvent] = []
        for document_id in documents:
            try:
                found.append(ProgressEvent(document=await self.document_progress(document_id)))
            except NotFound:
                found.append(GoneEvent(document_id=document_id))
        return [event for event in found if _over(event)]

    async def _events(self, method: str, path: str, **request: Any) -> AsyncGenerator[Event]:
        """One stream's events.

        Raises:
            Unavailable: it broke off, or the server stops.
        """
        async with self._open(method, path, **request) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                event = _EVENT.validate_json(line.removeprefix("data:"), extra="ignore")
                if event != EndEvent(reason="stopping"):
                    yield event
                    if isinstance(event, EndEvent):
                        return
        raise Unavailable("stream_broke_off", "The server broke the stream off.")


def _id(event: ProgressEvent | GoneEvent) -> UUID:
    return event.document_id if isinstance(event, GoneEvent) else event.document.document_id


def _over(event: ProgressEvent | GoneEvent) -> bool:
    return isinstance(event, GoneEvent) or event.document.final


def _ended_by(event: Event, asked: Collection[UUID]) -> Collection[UUID]:
    """Those of which no more will come after this event."""
    match event:
        case ProgressEvent() | GoneEvent() if _over(event):
            return [_id(event)]
        case EndEvent(reason="finished"):
            return asked
        case _:
            return []


def _note(event: Event, unfinished: set[UUID]) -> None:
    if isinstance(event, ProgressEvent | GoneEvent):
        unfinished.add(_id(event))
        if _over(event):
            unfinished.discard(_id(event))

"""Routes of how far documents have come: asked for, or as a stream of events; and which contents are there already."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ringfence.documents.events import BatchProgress, DocumentProgress, EndEvent, Event
from ringfence.http.contract import Responses
from ringfence.http.deps import NamedDocument, Reader, ServicesDep, StoppingDep
from ringfence.http.streams import EventStream, server_sent_event, started
from ringfence.ids import BatchId, DocumentId

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])
batches = APIRouter(prefix="/api/v1/batches", tags=["documents"])

_MAX_DIGESTS = 1000
_MAX_FOLLOWED = 1000
_STREAM: Responses = {
    200: {
        "description": "Events: `progress` and `gone` of documents, `counts` or `batch` of all of them, `end` at last. "
        "Comments between them tell that the stream is alive.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "description": "Each event of the stream.",
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["progress", "gone", "counts", "batch", "end"]},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": TypeAdapter(Event).json_schema(
                                ref_template="#/components/schemas/{model}"
                            ),
                        },
                    },
                }
            }
        },
    }
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Contents(_Model):
    """Which contents are asked about."""

    sha256: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        min_length=1, max_length=_MAX_DIGESTS, description="Of files, in hex.", examples=[["ab" * 32]]
    )


class KnownContent(_Model):
    """A content that is there already."""

    sha256: str = Field(examples=["ab" * 32])
    document: DocumentProgress


class KnownContents(_Model):
    """Those of the contents that are there, in no order."""

    known: list[KnownContent]


class Followed(_Model):
    """Which documents are followed."""

    document_ids: list[UUID] = Field(
        min_length=1, max_length=_MAX_FOLLOWED, examples=[["6f2c3a0e-7d3b-4c55-9b1f-0d8f3c0c9d11"]]
    )


class Unfinished(_Model):
    """Documents that are not ready yet."""

    queued: int = Field(description="Wait for a worker.", examples=[40])
    working: int = Field(description="A worker has them in hand.", examples=[4])
    documents: list[DocumentProgress] = Field(
        description="Those in hand, and of those that wait the first 200 in the queue."
    )


class BatchView(_Model):
    """How far the documents have come that one request brought."""

    batch: BatchProgress
    documents: list[DocumentProgress]


class ProgressStream(EventStream[Event | None]):
    """A stream of events about documents."""

    def __init__(self, events: AsyncGenerator[Event | None], stopping: asyncio.Event) -> None:
        super().__init__(events, server_sent_event, "text/event-stream", stopping, EndEvent(reason="stopping"))


@router.post("/known")
async def known(body: Contents, user_id: Reader, services: ServicesDep) -> KnownContents:
    """Which contents you have already, so that nobody needs to send them: up to 1,000 SHA-256."""
    found = await services.progress.known(user_id, [bytes.fromhex(digest) for digest in body.sha256])
    return KnownContents(
        known=[KnownContent(sha256=sha256.hex(), document=document) for sha256, document in found.items()]
    )


@router.get("/progress")
async def overview(user_id: Reader, services: ServicesDep) -> Unfinished:
    """Your documents that are not ready yet."""
    all_of_them = await services.progress.overview(user_id)
    counts = all_of_them.counts
    return Unfinished(queued=counts.queued, working=counts.working, documents=all_of_them.documents)


@router.get("/progress/stream", status_code=200, response_class=ProgressStream, responses=_STREAM)
async def follow_all(user_id: Reader, services: ServicesDep, stopping: StoppingDep) -> ProgressStream:
    """Your documents that are not ready, and those that come, as they come further. Ask again after `end`."""
    return ProgressStream(await started(services.progress.follow(user_id)), stopping)


@router.post("/progress/stream", status_code=200, response_class=ProgressStream, responses=_STREAM)
async def follow_these(body: Followed, user_id: Reader, services: ServicesDep, stopping: StoppingDep) -> ProgressStream:
    """These documents, up to 1,000, as they come further, until each is ready, failed or gone."""
    asked = [DocumentId(document_id) for document_id in body.document_ids]
    return ProgressStream(await started(services.progress.follow(user_id, asked)), stopping)


@router.get("/{document_id}/progress")
async def document(document_id: NamedDocument, user_id: Reader, services: ServicesDep) -> DocumentProgress:
    """How far a document has come."""
    return await services.progress.document(user_id, document_id)


@router.get("/{document_id}/progress/stream", status_code=200, response_class=ProgressStream, responses=_STREAM)
async def follow(
    document_id: NamedDocument, user_id: Reader, services: ServicesDep, stopping: StoppingDep
) -> ProgressStream:
    """A document as it comes further, until it is ready, failed or gone."""
    await services.progress.document(user_id, document_id)
    return ProgressStream(await started(services.progress.follow(user_id, [document_id])), stopping)


@batches.get("/{batch_id}")
async def batch(batch_id: UUID, user_id: Reader, services: ServicesDep) -> BatchView:
    """How far the documents have come that one request brought. It is known for 30 days."""
    progress, documents = await services.progress.batch(user_id, BatchId(batch_id))
    return BatchView(batch=progress, documents=documents)


@batches.get("/{batch_id}/stream", status_code=200, response_class=ProgressStream, responses=_STREAM)
async def follow_batch(batch_id: UUID, user_id: Reader, services: ServicesDep, stopping: StoppingDep) -> ProgressStream:
    """The same as it goes on, until each document is ready, failed or gone."""
    return ProgressStream(await started(services.progress.follow_batch(user_id, BatchId(batch_id))), stopping)

"""Routes of single documents: upload, status, original, other content, another try."""

import time
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ringfence.documents.labels import Labels, labels, read_metadata, unknown_collection
from ringfence.documents.queries import Document, ReplacementState, State
from ringfence.errors import RingfenceError
from ringfence.http.contract import Responses, may
from ringfence.http.deps import NamedDocument, Reader, ServicesDep, StoppingDep, UploadIdle, Writer
from ringfence.http.errors import Problem, problem_body
from ringfence.http.files import stored_file
from ringfence.http.multipart import BodyLimits, Form, receive_file, receive_files
from ringfence.ids import DocumentId
from ringfence.telemetry.traces import tracing

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])
batches = APIRouter(prefix="/api/v1/batches", tags=["documents"])

AROUND = 2**20
"""Bytes of a multipart body beside its file."""

_BATCH_FILES = 100
_FILE = {"type": "string", "format": "binary"}
PASSWORD = {
    "type": "string",
    "format": "password",
    "description": "Opens an encrypted PDF; kept, encrypted, until it is read.",
}
"""How a form's field for it is described; so are `LABELS`."""

LABELS: dict[str, dict[str, Any]] = {
    "collections": {
        "type": "array",
        "items": {"type": "string", "format": "uuid"},
        "description": "Ids of collections that it is to be in; a field for each.",
    },
    "tags": {"type": "array", "items": {"type": "string"}, "description": "A field for each."},
    "metadata": {"type": "string", "description": "A JSON object."},
}


def _form(**fields: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file"], "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


class ReplacementView(BaseModel):
    """The content that is to take the place of the present one, and how far it has come."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    media_type: str = Field(examples=["application/pdf"])
    size: int = Field(description="Bytes.", examples=[48213])
    sha256: str = Field(description="Of the file, in hex.")
    state: ReplacementState = Field(description="Of one that `failed`, this is all that is left.")
    reason_code: str | None = Field(description="Why it failed, for programs.", examples=["document_damaged"])
    reason: str | None = Field(description="Why it failed, for people.")
    pages: int | None = Field(description="Known once its parser has opened it.", examples=[12])
    pages_done: int = Field(description="Pages parsed so far.", examples=[7])
    chunks: int = Field(description="Passages stored so far.", examples=[31])


class DocumentView(BaseModel):
    """A document and how far it has come."""

    model_config = ConfigDict(extra="forbid")

    document_id: UUID
    name: str = Field(examples=["handbook.pdf"])
    media_type: str = Field(examples=["application/pdf"])
    size: int = Field(description="Bytes.", examples=[48213])
    sha256: str = Field(description="Of the original, in hex.")
    state: State = Field(description="`ready` and `failed` are final.")
    reason_code: str | None = Field(description="Why it failed, for programs.", examples=["document_encrypted"])
    reason: str | None = Field(description="Why it failed, for people.")
    pages: int | None = Field(description="Known once its parser has opened it.", examples=[12])
    pages_done: int = Field(description="Pages parsed so far.", examples=[7])
    chunks: int = Field(description="Passages stored so far.", examples=[31])
    created_at: datetime
    updated_at: datetime
    collections: list[UUID] = Field(description="Those that it is in.")
    tags: list[str] = Field(description="Folded, in order.", examples=[["contract", "2026"]])
    metadata: dict[str, Any] = Field(examples=[{"year": 2026, "authors": ["Ada", "Bob"]}])
    language: str | None = Field(description="ISO 639-1, as found in the text.", examples=["en"])
    version: int = Field(description="From 1: one more with each content that took the place of another.", examples=[1])
    deleted_at: datetime | None = Field(description="Since when it is in the bin.")
    replacement: ReplacementView | None = Field(description="What is to take its content's place, if anything.")


class Outcome(BaseModel):
    """What became of one file of several."""

    model_config = ConfigDict(extra="forbid")

    filename: str = Field(description="As it was sent.", examples=["handbook.pdf"])
    status: int = Field(description="What the file's own request would have answered.", examples=[202])
    document: DocumentView | None = Field(description="Where it was taken.")
    problem: Problem | None = Field(description="Where it was not.")


class Batch(BaseModel):
    """What became of each file, in their order."""

    batch_id: UUID = Field(description="Under which `/api/v1/batches` tells how far they have come.")
    files: list[Outcome]


_LOCATION = {"Location": {"description": "Of the document.", "required": True, "schema": {"type": "string"}}}
_UPLOADED: Responses = {
    200: {"description": "You have the same content already.", "model": DocumentView, "headers": _LOCATION},
    202: {"description": "It is being read.", "headers": _LOCATION},
}
_REPLACED: Responses = {
    200: {"description": "It has this content already.", "model": DocumentView},
    202: {"description": "It is being read; until then the former content answers."},
}
_CONTENT: Responses = {
    200: {"description": "The original.", "content": {"*/*": {}}},
    206: {"description": "The part that `Range` asked for.", "content": {"*/*": {}}},
    304: {"description": "You have it already, as `If-None-Match` says."},
}


def view(document: Document) -> DocumentView:
    """A document as the API shows it."""
    values = {name: getattr(document, name) for name in Document.__slots__}
    coming = document.replacement and ReplacementView.model_validate(document.replacement)
    return DocumentView(**{**values, "sha256": document.sha256.hex(), "replacement": coming})


def labels_of(form: Form) -> Labels:
    """What a form says of its document.

    Raises:
        Invalid: `unknown_collection`, or as of `labels`.
    """
    try:
        collections = [UUID(value) for value in form.collections]
    except ValueError:
        raise unknown_collection() from None
    return labels(collections, form.tags, read_metadata(form.metadata) if form.metadata else {})


@router.post(
    "",
    status_code=202,
    openapi_extra=_form(file=_FILE, password=PASSWORD, **LABELS),
    responses=_UPLOADED | may(415),
)
async def upload(
    request: Request, response: Response, user_id: Writer, services: ServicesDep, idle: UploadIdle
) -> DocumentView:
    """Upload one file. 202: it is being read; 200: you have the same content already, restored if it was in the bin."""
    async with services.library.receive(user_id, announced(request)) as incoming:
        with tracing.span("upload.receive") as span:
            limits = BodyLimits(services.library.max_bytes + AROUND, idle)
            form = await receive_file(request, incoming.write, limits)
            span.set_attribute("bytes", incoming.size)
        uploaded = await services.library.add(user_id, form.filename, incoming, form.password, labels_of(form))
    structlog.contextvars.bind_contextvars(document_id=str(uploaded.document.document_id))
    response.status_code = 202 if uploaded.created else 200
    response.headers["Location"] = f"{router.prefix}/{uploaded.document.document_id}"
    return view(uploaded.document)


@batches.post(
    "", status_code=207, openapi_extra=_form(file={"type": "array", "items": _FILE, "maxItems": _BATCH_FILES})
)
async def upload_several(request: Request, user_id: Writer, services: ServicesDep, idle: UploadIdle) -> Batch:
    """Upload up to 100 files, all in fields named `file`. Each is taken or refused by itself, in order."""

    async def take(filename: str, pieces: AsyncGenerator[bytes]) -> Outcome:
        try:
            async with services.library.receive(user_id) as incoming:
                async for piece in pieces:
                    await incoming.write(piece)
                uploaded = await services.library.add(user_id, filename, incoming)
        except RingfenceError as error:
            refused = problem_body(error)
            return Outcome(filename=filename, status=refused.status, document=None, problem=refused)
        status = 202 if uploaded.created else 200
        return Outcome(filename=filename, status=status, document=view(uploaded.document), problem=None)

    limits = BodyLimits(_BATCH_FILES * (services.library.max_bytes + AROUND), idle)
    began = time.perf_counter()
    files = await receive_files(request, take, limits, _BATCH_FILES)
    ids = [DocumentId(file.document.document_id) for file in files if file.document]
    took = timedelta(seconds=time.perf_counter() - began)
    return Batch(batch_id=await services.progress.add_batch(user_id, ids, took), files=files)


def announced(request: Request) -> int:
    """How many bytes the file has at least, as far as that is said in advance."""
    length = request.headers.get("content-length", "")
    return max(0, int(length) - AROUND) if length.isdecimal() else 0


@router.get("/{document_id}")
async def read(document_id: NamedDocument, user_id: Reader, services: ServicesDep) -> DocumentView:
    """A document's status and progress."""
    return view(await services.library.get(user_id, document_id))


@router.get("/{document_id}/content", response_class=Response, responses=_CONTENT | may(416))
async def content(
    document_id: NamedDocument, request: Request, user_id: Reader, services: ServicesDep, stopping: StoppingDep
) -> Response:
    """The original, as it was uploaded. Always a download: a document is data, never a page of this site."""
    library, document = services.library, await services.library.get(user_id, document_id)
    return await stored_file(
        request.headers, document, lambda start, end: library.original(user_id, document, start, end), stopping
    )


@router.put(
    "/{document_id}/content",
    status_code=202,
    openapi_extra=_form(file=_FILE, password=PASSWORD),
    responses=_REPLACED | may(409, 415),
)
async def replace(
    document_id: NamedDocument,
    request: Request,
    response: Response,
    *,
    user_id: Writer,
    services: ServicesDep,
    idle: UploadIdle,
) -> DocumentView:
    """Let another file take the place of a document's content. Until it is read, the former one answers."""
    async with services.versions.receive(user_id, document_id, announced(request)) as incoming:
        limits = BodyLimits(services.library.max_bytes + AROUND, idle)
        form = await receive_file(request, incoming.write, limits)
        replaced = await services.versions.replace(user_id, document_id, form.filename, incoming, form.password)
    response.status_code = 202 if replaced.coming else 200
    return view(replaced.document)


@router.post("/{document_id}/retry", status_code=202, responses=may(409))
async def retry(document_id: NamedDocument, user_id: Writer, services: ServicesDep) -> DocumentView:
    """Queue a document that has failed again, as it is."""
    return view(await services.library.retry(user_id, document_id))

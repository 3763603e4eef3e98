"""Documents as files."""

from typing import Annotated, Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.datastructures import Headers
from starlette.responses import Response

from ringfence.documents.queries import Document
from ringfence.errors import Invalid, NotFound
from ringfence.http.contract import Responses, may
from ringfence.http.deps import Reader, ServicesDep, StoppingDep, UploadIdle, Writer
from ringfence.http.documents import AROUND, LABELS, PASSWORD, announced, labels_of
from ringfence.http.files import stored_file
from ringfence.http.multipart import BodyLimits, receive_file
from ringfence.http.openai import paging
from ringfence.http.openai.forms import View
from ringfence.http.openai.paging import PageQuery
from ringfence.ids import DocumentId

router = APIRouter(prefix="/v1/files", tags=["openai"])

_PURPOSES = ["assistants", "user_data"]
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": _PURPOSES},
                        "password": PASSWORD,
                        **LABELS,
                    },
                }
            }
        },
    }
}
_CONTENT: Responses = {200: {"description": "The original.", "content": {"*/*": {}}}}
_STATUS: dict[str, Literal["uploaded", "processed", "error"]] = {
    "queued": "uploaded",
    "processing": "uploaded",
    "ready": "processed",
    "failed": "error",
}


class FileView(View):
    """A document as a file."""

    id: UUID = Field(description="The document's id.")
    object: Literal["file"]
    bytes: int = Field(examples=[48213])
    created_at: int = Field(description="Seconds since 1970.", examples=[1790000000])
    filename: str = Field(examples=["handbook.pdf"])
    purpose: Literal["user_data"] = Field(description="Always this one.")
    status: Literal["uploaded", "processed", "error"] = Field(
        description="`processed`: it is found. `error`: it could not be read."
    )
    status_details: str | None = Field(description="Why it could not be read.")


class FileList(View):
    """A part of the files."""

    object: Literal["list"]
    data: list[FileView]
    first_id: UUID | None
    last_id: UUID | None
    has_more: bool


class FileDeleted(View):
    """That a file is deleted."""

    id: UUID
    object: Literal["file"]
    deleted: Literal[True]


class FileQuery(PageQuery):
    """Which part of the files."""

    limit: int = Field(default=paging.MAX_PAGE, ge=1, le=10_000, description="Files of a page; at most 1,000 come.")
    purpose: str | None = Field(default=None, description="Ignored: all have the same one.")


def document_id(text: str) -> DocumentId:
    """The document that a client names.

    Raises:
        NotFound: `document_not_found`, it is no id.
    """
    try:
        named = DocumentId(UUID(text))
    except ValueError:
        raise no_document() from None
    structlog.contextvars.bind_contextvars(document_id=str(named))
    return named


def no_document() -> NotFound:
    """There is no such document, or it is not where it was looked for."""
    return NotFound("document_not_found", "There is no such document.")


async def _named(file_id: str) -> DocumentId:
    return document_id(file_id)


type NamedFile = Annotated[DocumentId, Depends(_named)]


def view(document: Document) -> FileView:
    """A document as a file."""
    return FileView(
        id=document.document_id,
        object="file",
        bytes=document.size,
        created_at=int(document.created_at.timestamp()),
        filename=document.name,
        purpose="user_data",
        status=_STATUS[document.state],
        status_details=document.reason,
    )


@router.post("", openapi_extra=_FORM, responses=may(415))
async def upload(request: Request, user_id: Writer, services: ServicesDep, idle: UploadIdle) -> FileView:
    """Upload a document. The same content again is the same file, restored if it was in the bin."""
    async with services.library.receive(user_id, announced(request)) as incoming:
        limits = BodyLimits(services.library.max_bytes + AROUND, idle)
        form = await receive_file(request, incoming.write, limits)
        if form.purpose not in (None, *_PURPOSES):
            raise _unserved("purpose", f"A file is for one of {', '.join(_PURPOSES)}.")
        if form.others:
            raise _unserved(form.others[0], "There is no such field: what it asks for would not be done.")
        uploaded = await services.library.add(user_id, form.filename, incoming, form.password, labels_of(form))
    structlog.contextvars.bind_contextvars(document_id=str(uploaded.document.document_id))
    return view(uploaded.document)


@router.get("", responses=may(400))
async def listed(user_id: Reader, services: ServicesDep, query: Annotated[FileQuery, Query()]) -> FileList:
    """List the documents."""
    found = await paging.documents(services, user_id, query)
    views = [view(document) for document in found.items]
    ids: list[UUID | None] = [one.id for one in views] or [None]
    return FileList(object="list", data=views, first_id=ids[0], last_id=ids[-1], has_more=found.has_more)


@router.get("/{file_id}")
async def read(file_id: NamedFile, user_id: Reader, services: ServicesDep) -> FileView:
    """A document."""
    return view(await services.library.get(user_id, file_id))


@router.get("/{file_id}/content", response_class=Response, responses=_CONTENT)
async def content(file_id: NamedFile, user_id: Reader, services: ServicesDep, stopping: StoppingDep) -> Response:
    """The original, as it was uploaded, as a whole. Always a download."""
    library, document = services.library, await services.library.get(user_id, file_id)
    return await stored_file(
        Headers(), document, lambda start, end: library.original(user_id, document, start, end), stopping
    )


@router.delete("/{file_id}")
async def delete(file_id: NamedFile, user_id: Writer, services: ServicesDep) -> FileDeleted:
    """Put a document into the bin."""
    await services.library.delete(user_id, file_id)
    return FileDeleted(id=file_id, object="file", deleted=True)


def _unserved(param: str, message: str) -> Invalid:
    return Invalid("unsupported_parameter", message, param=param)

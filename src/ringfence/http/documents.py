"""Routes of documents: upload, list, status, original, delete."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from ringfence.documents.queries import Document, State
from ringfence.http.deps import Principal, ServicesDep
from ringfence.http.multipart import receive_file
from ringfence.ids import DocumentId

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

_AROUND = 2**20  # bytes of a multipart body beside its file
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


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


class DocumentList(BaseModel):
    """The tenant's documents, newest first."""

    documents: list[DocumentView]


def _view(document: Document) -> DocumentView:
    values = {name: getattr(document, name) for name in Document.__slots__}
    return DocumentView(**{**values, "sha256": document.sha256.hex()})


@router.post("", status_code=202, openapi_extra=_UPLOAD, responses={200: {"model": DocumentView}})
async def upload(request: Request, response: Response, principal: Principal, services: ServicesDep) -> DocumentView:
    """Upload one file. 202: it is being read; 200: you have the same content already."""
    async with services.library.receive() as incoming:
        filename = await receive_file(request, incoming.write, services.library.max_bytes + _AROUND)
        uploaded = await services.library.add(principal, filename, incoming)
    response.status_code = 202 if uploaded.created else 200
    response.headers["Location"] = f"{router.prefix}/{uploaded.document.document_id}"
    return _view(uploaded.document)


@router.get("")
async def newest(
    principal: Principal, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> DocumentList:
    """List documents, newest first."""
    return DocumentList(documents=[_view(document) for document in await services.library.newest(principal, limit)])


@router.get("/{document_id}")
async def read(document_id: UUID, principal: Principal, services: ServicesDep) -> DocumentView:
    """A document's status and progress."""
    return _view(await services.library.get(principal, DocumentId(document_id)))


@router.get("/{document_id}/content", response_class=FileResponse)
async def content(document_id: UUID, principal: Principal, services: ServicesDep) -> FileResponse:
    """The original, as it was uploaded. Always a download: a document is data, never a page of this site."""
    document, path = await services.library.file(principal, DocumentId(document_id))
    return FileResponse(path, media_type=document.media_type, filename=document.name)


@router.delete("/{document_id}", status_code=204)
async def delete(document_id: UUID, principal: Principal, services: ServicesDep) -> None:
    """Delete a document, its passages and vectors at once, and its file soon after."""
    await services.library.delete(principal, DocumentId(document_id))

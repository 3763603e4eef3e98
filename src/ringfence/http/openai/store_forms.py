"""What vector stores take and give: collections, and the documents in them."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from ringfence.documents.collection_queries import Collection, Contents
from ringfence.documents.queries import Document
from ringfence.http.openai.forms import Form, NotKept, View

MAX_FILES = 100
_NULL = "Not served: null, or left out."
_SERVER = {"worker_died", "parser_crashed", "parser_memory", "parser_timeout", "parser_restarted", "internal"}

type Attributes = dict[str, str | int | float | bool]
type FileStatus = Literal["in_progress", "completed", "failed"]

STATUS: dict[str, FileStatus] = {
    "queued": "in_progress",
    "processing": "in_progress",
    "ready": "completed",
    "failed": "failed",
}


class Chunking(Form):
    """The engine's own way, and no other."""

    type: Literal["auto"]


class NewStore(Form):
    """A collection to be made."""

    name: str = Field(
        min_length=1,
        max_length=1000,
        description="At most 100 characters; no two of yours are alike.",
        examples=["Contracts"],
    )
    file_ids: list[str] | None = Field(
        default=None,
        max_length=MAX_FILES,
        description="Documents to put into it.",
        examples=[["5b2f3c1e-7a54-4d7c-9a43-0f3f9d1f2a10"]],
    )
    metadata: Annotated[dict[str, str] | None, NotKept] = Field(default=None, description=_NULL, examples=[None])
    description: Annotated[str | None, NotKept] = Field(default=None, description=_NULL, examples=[None])
    expires_after: None = Field(default=None, description=_NULL, examples=[None])
    chunking_strategy: Chunking | None = Field(default=None, examples=[{"type": "auto"}])


class ChangedStore(Form):
    """What a collection is to be called."""

    name: str | None = Field(default=None, min_length=1, max_length=1000, examples=["Contracts"])
    metadata: Annotated[dict[str, str] | None, NotKept] = Field(default=None, description=_NULL, examples=[None])
    expires_after: None = Field(default=None, description=_NULL, examples=[None])


_Attributes = Annotated[dict[str, str | bool | int | float], Field(max_length=16)]


class StoredFile(Form):
    """A document to be put into a collection."""

    file_id: str = Field(examples=["5b2f3c1e-7a54-4d7c-9a43-0f3f9d1f2a10"])
    attributes: _Attributes | None = Field(
        default=None,
        description="Becomes the document's metadata, in the place of what it has.",
        examples=[{"year": 2026}],
    )
    chunking_strategy: Chunking | None = Field(default=None, examples=[{"type": "auto"}])


class ChangedFile(Form):
    """What is to be said of a document."""

    attributes: _Attributes | None = Field(
        description="The document's metadata, in the place of what it has.", examples=[{"year": 2026}]
    )


class FileCounts(View):
    """How many documents are in a collection, by state."""

    in_progress: int
    completed: int
    failed: int
    cancelled: Literal[0]
    total: int


class StoreView(View):
    """A collection as a vector store."""

    id: UUID
    object: Literal["vector_store"]
    created_at: int = Field(description="Seconds since 1970.", examples=[1790000000])
    name: str = Field(examples=["Contracts"])
    usage_bytes: int = Field(description="Of the documents' files.", examples=[482130])
    file_counts: FileCounts
    status: Literal["in_progress", "completed"]
    last_active_at: None
    metadata: None
    expires_after: None
    expires_at: None


class StoreList(View):
    """A part of the collections."""

    object: Literal["list"]
    data: list[StoreView]
    first_id: UUID | None
    last_id: UUID | None
    has_more: bool


class StoreDeleted(View):
    """That a collection is dissolved."""

    id: UUID
    object: Literal["vector_store.deleted"]
    deleted: Literal[True]


class LastError(View):
    """Why a document could not be read."""

    code: Literal["server_error", "invalid_file"]
    message: str


class StoreFileView(View):
    """A document in a collection."""

    id: UUID = Field(description="The document's id.")
    object: Literal["vector_store.file"]
    created_at: int = Field(description="When it was uploaded: seconds since 1970.", examples=[1790000000])
    vector_store_id: UUID
    usage_bytes: int = Field(examples=[48213])
    status: FileStatus
    last_error: LastError | None
    attributes: Attributes = Field(description="Of the document's metadata what is no list.")


class StoreFileList(View):
    """A part of the documents in a collection."""

    object: Literal["list"]
    data: list[StoreFileView]
    first_id: UUID | None
    last_id: UUID | None
    has_more: bool


class StoreFileDeleted(View):
    """That a document is taken out of a collection."""

    id: UUID
    object: Literal["vector_store.file.deleted"]
    deleted: Literal[True]


def store_view(collection: Collection, contents: Iterable[Contents]) -> StoreView:
    """A collection, with what is in it."""
    counts: dict[str, int] = dict.fromkeys(("in_progress", "completed", "failed"), 0)
    size = 0
    for one in contents:
        if one.collection_id == collection.collection_id:
            counts[STATUS[one.state]] += one.documents
            size += one.bytes
    return StoreView(
        id=collection.collection_id,
        object="vector_store",
        created_at=int(collection.created_at.timestamp()),
        name=collection.name,
        usage_bytes=size,
        file_counts=FileCounts(**counts, cancelled=0, total=sum(counts.values())),
        status="in_progress" if counts["in_progress"] else "completed",
        last_active_at=None,
        metadata=None,
        expires_after=None,
        expires_at=None,
    )


def file_view(store: UUID, document: Document) -> StoreFileView:
    """A document in a collection."""
    return StoreFileView(
        id=document.document_id,
        object="vector_store.file",
        created_at=int(document.created_at.timestamp()),
        vector_store_id=store,
        usage_bytes=document.size,
        status=STATUS[document.state],
        last_error=_last_error(document),
        attributes=attributes(document.metadata),
    )


def _last_error(document: Document) -> LastError | None:
    if document.reason is None:
        return None
    return LastError(
        code="server_error" if document.reason_code in _SERVER else "invalid_file", message=document.reason
    )


def attributes(metadata: dict[str, Any]) -> Attributes:
    """Of a document's metadata what this protocol knows: strings, numbers, true and false."""
    return {key: value for key, value in metadata.items() if isinstance(value, str | int | float | bool)}

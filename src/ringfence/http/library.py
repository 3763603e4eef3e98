"""Routes of a library's order: lists, names and labels of documents, the bin."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import from_json

from ringfence.documents.labels import labels
from ringfence.documents.listing import Listing, Order, Sort
from ringfence.documents.queries import State
from ringfence.documents.service import Fate
from ringfence.filters import MAX_LANGUAGES, MAX_TAGS, FilterForm, Language, Moment, Tags, is_text
from ringfence.http.contract import may
from ringfence.http.deps import NamedDocument, Reader, ServicesDep, Writer
from ringfence.http.documents import DocumentView, view
from ringfence.ids import DocumentId

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

_SEVERAL = 1000
_MOST_COLLECTIONS = 100  # what is in an address has to fit into it


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _text(value: str) -> str:
    if not is_text(value):
        raise ValueError("it is no text")
    return value


def _conditions(text: str) -> str:
    """The same text, if it holds conditions as those of a search's filter."""
    try:
        FilterForm.model_validate({"metadata": from_json(text)})
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
    except ValueError:
        raise ValueError("it is no JSON") from None
    return text


class DocumentQuery(_Model):
    """Which documents a list shows: those that satisfy all that is given."""

    cursor: str | None = Field(default=None, max_length=2000, description="`next_cursor` of the page before.")
    limit: int = Field(default=100, ge=1, le=1000, description="Documents of a page at most.")
    sort: Sort = Field(default="created", description="By the time of the upload, the name, or the size.")
    order: Order | None = Field(default=None, description="Unset: names upwards, the newest or the largest first.")
    deleted: bool = Field(default=False, description="Those in the bin, and no others.")
    state: list[State] = Field(default=[], max_length=4, description="In one of these states.")
    name: Annotated[str, AfterValidator(_text)] | None = Field(
        default=None, max_length=255, description="A part of the name; case does not matter."
    )
    collection: list[UUID] = Field(default=[], max_length=_MOST_COLLECTIONS, description="In one of these collections.")
    tag: Tags = Field(default=[], max_length=MAX_TAGS, description="With all of these tags.")
    metadata: Annotated[str, AfterValidator(_conditions)] | None = Field(
        default=None,
        max_length=2000,
        description="A JSON object: by key the value, or what it must be: `eq`, `in`, `gt`, `gte`, `lt`, `lte`, "
        "`exists`.",
        examples=['{"year": {"gte": 2020}, "kind": "report"}'],
    )
    created_from: Moment | None = Field(default=None, description="Uploaded then or later.")
    created_to: Moment | None = Field(default=None, description="Uploaded earlier.")
    language: list[Language] = Field(default=[], max_length=MAX_LANGUAGES, description="In one of these (ISO 639-1).")

    def listing(self) -> Listing:
        """The list that it describes."""
        form = FilterForm(
            collections=self.collection or None,
            tags=self.tag or None,
            metadata=from_json(self.metadata) if self.metadata else None,
            created_from=self.created_from,
            created_to=self.created_to,
            languages=self.language or None,
        )
        order = self.order or ("asc" if self.sort == "name" else "desc")
        return Listing(form.chosen(), tuple(self.state), self.name, self.deleted, self.sort, order)


class DocumentList(_Model):
    """A page of the documents."""

    documents: list[DocumentView]
    next_cursor: str | None = Field(description="Where the next page begins; null: this is the last one.")


class DocumentChange(_Model):
    """What is to be otherwise. What is left out, or null, stays; what is given takes the place of what was."""

    name: str | None = Field(default=None, min_length=1, max_length=1000, examples=["handbook.pdf"])
    collections: list[UUID] | None = Field(
        default=None, max_length=_SEVERAL, examples=[["0b9f4f2e-64f0-4b0c-8c7e-2f5d0b6a9e33"]]
    )
    tags: list[str] | None = Field(
        default=None, max_length=_SEVERAL, description="At most 50, of 64 characters.", examples=[["contract", "2026"]]
    )
    metadata: dict[str, Any] | None = Field(
        default=None,
        description="Strings, numbers, true, false, null and lists of them, by key; at most 16 kB.",
        examples=[{"year": 2026, "authors": ["Ada", "Bob"]}],
    )


class Deletion(_Model):
    """Which documents are to be deleted."""

    document_ids: list[UUID] = Field(
        min_length=1, max_length=_SEVERAL, examples=[["7f8ff6ec-4c1c-4b21-9d5a-0a5f3a6c2f11"]]
    )
    purge: StrictBool = Field(default=False, description="For good, at once, from the bin too.", examples=[False])


class Deleted(_Model):
    """What became of one of them: it is in the bin, or gone, or there was none."""

    document_id: UUID
    outcome: Fate = Field(examples=["deleted"])


class DeletedDocuments(_Model):
    """What became of each, in their order."""

    documents: list[Deleted]


@router.get("", responses=may(400))
async def listed(user_id: Reader, services: ServicesDep, query: Annotated[DocumentQuery, Query()]) -> DocumentList:
    """List documents, newest first unless asked otherwise."""
    page = await services.library.listed(user_id, query.listing(), query.limit, query.cursor)
    return DocumentList(documents=[view(document) for document in page.documents], next_cursor=page.next_cursor)


@router.post("/delete")
async def delete_several(body: Deletion, user_id: Writer, services: ServicesDep) -> DeletedDocuments:
    """Delete up to 1000 documents; those that are not there are left out."""
    ids = [DocumentId(document_id) for document_id in body.document_ids]
    fates = await services.library.delete_many(user_id, ids, purge=body.purge)
    deleted = [Deleted(document_id=one, outcome=fate) for one, fate in zip(ids, fates, strict=True)]
    return DeletedDocuments(documents=deleted)


@router.patch("/{document_id}")
async def change(
    document_id: NamedDocument, body: DocumentChange, user_id: Writer, services: ServicesDep
) -> DocumentView:
    """Rename a document, or put it into collections, tag it, say more of it."""
    said = labels(body.collections, body.tags, body.metadata)
    return view(await services.library.change(user_id, document_id, name=body.name, labels=said))


@router.delete("/{document_id}", status_code=204)
async def delete(
    document_id: NamedDocument,
    user_id: Writer,
    services: ServicesDep,
    *,
    purge: Annotated[
        bool, Query(description="For good: its passages and vectors at once, its file soon after.")
    ] = False,
) -> None:
    """Delete a document. For a day it can be restored, unless it is purged; then it is gone for good."""
    await services.library.delete(user_id, document_id, purge=purge)


@router.post("/{document_id}/restore")
async def restore(document_id: NamedDocument, user_id: Writer, services: ServicesDep) -> DocumentView:
    """Take a document out of the bin; one that is not in there is left as it is."""
    return view(await services.library.restore(user_id, document_id))

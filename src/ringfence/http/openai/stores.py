"""Collections as vector stores, and the documents in them."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from ringfence.documents.labels import labels
from ringfence.documents.queries import State
from ringfence.errors import NotFound
from ringfence.filters import Filter
from ringfence.http.contract import may
from ringfence.http.deps import Reader, ServicesDep, Writer
from ringfence.http.openai import paging
from ringfence.http.openai.files import NamedFile, document_id, no_document
from ringfence.http.openai.paging import PageQuery
from ringfence.http.openai.store_forms import (
    STATUS,
    ChangedFile,
    ChangedStore,
    FileStatus,
    NewStore,
    StoreDeleted,
    StoredFile,
    StoreFileDeleted,
    StoreFileList,
    StoreFileView,
    StoreList,
    StoreView,
    file_view,
    store_view,
)
from ringfence.ids import CollectionId

router = APIRouter(prefix="/v1/vector_stores", tags=["openai"])


async def _named(vector_store_id: str) -> CollectionId:
    try:
        return CollectionId(UUID(vector_store_id))
    except ValueError:
        raise NotFound("collection_not_found", "There is no such collection.") from None


type NamedStore = Annotated[CollectionId, Depends(_named)]


class StoreFileQuery(PageQuery):
    """Which documents of a collection."""

    filter: FileStatus | Literal["cancelled"] | None = Field(default=None, description="In this state.")


@router.post("", responses=may(404, 409))
async def add(body: NewStore, user_id: Writer, services: ServicesDep) -> StoreView:
    """Make a collection, with documents in it perhaps."""
    ids = [document_id(text) for text in body.file_ids or ()]
    for one in ids:  # before there is a collection that lacks some
        await services.library.get(user_id, one)
    collection = await services.collections.add(user_id, body.name)
    for one in ids:
        await services.library.put_into(user_id, one, collection.collection_id)
    return store_view(collection, await services.collections.contents(user_id, collection.collection_id))


@router.get("", responses=may(400))
async def listed(user_id: Reader, services: ServicesDep, query: Annotated[PageQuery, Query()]) -> StoreList:
    """List the collections."""
    every = await services.collections.all(user_id)
    every.sort(key=lambda one: (one.created_at, one.collection_id), reverse=True)
    found = paging.part([one.collection_id for one in every], every, query)
    contents = await services.collections.contents(user_id)
    views = [store_view(one, contents) for one in found.items]
    ids: list[UUID | None] = [one.id for one in views] or [None]
    return StoreList(object="list", data=views, first_id=ids[0], last_id=ids[-1], has_more=found.has_more)


@router.get("/{vector_store_id}")
async def read(store: NamedStore, user_id: Reader, services: ServicesDep) -> StoreView:
    """A collection, and how many documents are in it."""
    collection = await services.collections.get(user_id, store)
    return store_view(collection, await services.collections.contents(user_id, store))


@router.post("/{vector_store_id}", responses=may(409))
async def change(store: NamedStore, body: ChangedStore, user_id: Writer, services: ServicesDep) -> StoreView:
    """Give a collection another name."""
    if body.name is not None:
        await services.collections.rename(user_id, store, body.name)
    return await read(store, user_id, services)


@router.delete("/{vector_store_id}")
async def delete(store: NamedStore, user_id: Writer, services: ServicesDep) -> StoreDeleted:
    """Dissolve a collection. Its documents stay."""
    await services.collections.delete(user_id, store)
    return StoreDeleted(id=store, object="vector_store.deleted", deleted=True)


@router.post("/{vector_store_id}/files")
async def put_into(store: NamedStore, body: StoredFile, user_id: Writer, services: ServicesDep) -> StoreFileView:
    """Put a document into a collection."""
    await services.collections.get(user_id, store)
    said = None if body.attributes is None else labels(metadata=body.attributes)
    return file_view(store, await services.library.put_into(user_id, document_id(body.file_id), store, said))


@router.get("/{vector_store_id}/files", responses=may(400))
async def files(
    store: NamedStore, user_id: Reader, services: ServicesDep, query: Annotated[StoreFileQuery, Query()]
) -> StoreFileList:
    """List the documents in a collection."""
    await services.collections.get(user_id, store)
    if query.filter == "cancelled":  # nothing ever is
        return StoreFileList(object="list", data=[], first_id=None, last_id=None, has_more=False)
    states: list[State] = [
        state for state in ("queued", "processing", "ready", "failed") if STATUS[state] == query.filter
    ]
    found = await paging.documents(services, user_id, query, Filter(collections=(store,)), tuple(states))
    views = [file_view(store, document) for document in found.items]
    ids: list[UUID | None] = [one.id for one in views] or [None]
    return StoreFileList(object="list", data=views, first_id=ids[0], last_id=ids[-1], has_more=found.has_more)


@router.get("/{vector_store_id}/files/{file_id}")
async def read_file(store: NamedStore, file_id: NamedFile, user_id: Reader, services: ServicesDep) -> StoreFileView:
    """A document in a collection."""
    document = await services.library.get(user_id, file_id)
    if store not in document.collections:
        raise no_document()
    return file_view(store, document)


@router.post("/{vector_store_id}/files/{file_id}")
async def change_file(
    store: NamedStore, file_id: NamedFile, body: ChangedFile, user_id: Writer, services: ServicesDep
) -> StoreFileView:
    """Say something else of a document: in the place of its metadata."""
    await read_file(store, file_id, user_id, services)
    document = await services.library.change(user_id, file_id, labels=labels(metadata=body.attributes or {}))
    return file_view(store, document)


@router.delete("/{vector_store_id}/files/{file_id}")
async def take_out(store: NamedStore, file_id: NamedFile, user_id: Writer, services: ServicesDep) -> StoreFileDeleted:
    """Take a document out of a collection. It is still there."""
    await services.library.take_out(user_id, file_id, store)
    return StoreFileDeleted(id=file_id, object="vector_store.file.deleted", deleted=True)

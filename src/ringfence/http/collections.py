"""Routes of collections: named sets of documents."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from ringfence.http.contract import may
from ringfence.http.deps import Reader, ServicesDep, Writer
from ringfence.ids import CollectionId

router = APIRouter(prefix="/api/v1/collections", tags=["documents"])


async def _named(collection_id: UUID) -> CollectionId:
    return CollectionId(collection_id)


_Named = Annotated[CollectionId, Depends(_named)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)


class CollectionName(_Model):
    """What a collection is to be called."""

    name: str = Field(min_length=1, max_length=1000, description="At most 100 characters.", examples=["Contracts"])


class CollectionView(_Model):
    """A named set of documents."""

    collection_id: UUID
    name: str = Field(examples=["Contracts"])
    documents: int = Field(description="How many are in it; those in the bin are left out.", examples=[12])
    created_at: datetime


class CollectionList(_Model):
    """All collections, by name."""

    collections: list[CollectionView]


@router.get("")
async def listed(user_id: Reader, services: ServicesDep) -> CollectionList:
    """List the collections, by name."""
    found = await services.collections.all(user_id)
    return CollectionList(collections=[CollectionView.model_validate(one) for one in found])


@router.post("", status_code=201, responses=may(409))
async def add(body: CollectionName, user_id: Writer, services: ServicesDep) -> CollectionView:
    """Make a collection. Documents are put into it one by one: `PATCH /api/v1/documents/{document_id}`."""
    return CollectionView.model_validate(await services.collections.add(user_id, body.name))


@router.get("/{collection_id}")
async def read(collection_id: _Named, user_id: Reader, services: ServicesDep) -> CollectionView:
    """A collection, and how many documents are in it."""
    return CollectionView.model_validate(await services.collections.get(user_id, collection_id))


@router.patch("/{collection_id}", responses=may(409))
async def rename(collection_id: _Named, body: CollectionName, user_id: Writer, services: ServicesDep) -> CollectionView:
    """Give a collection another name."""
    return CollectionView.model_validate(await services.collections.rename(user_id, collection_id, body.name))


@router.delete("/{collection_id}", status_code=204)
async def delete(collection_id: _Named, user_id: Writer, services: ServicesDep) -> None:
    """Dissolve a collection. Its documents stay."""
    await services.collections.delete(user_id, collection_id)

"""Calls of a library's order: lists, names, labels, collections, the bin."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ringfence.client.models import CollectionInfo, Collections, DeletedDocuments, DocumentInfo, Documents
from ringfence.client.transport import Connection
from ringfence.documents.listing import Order, Sort
from ringfence.filters import FilterForm

_PAGE = "1000"


class LibraryCalls(Connection):
    """Which documents there are, and what their owner says of them."""

    async def documents(
        self,
        *,
        name: str | None = None,
        states: Sequence[str] = (),
        within: FilterForm | None = None,
        deleted: bool = False,
        sort: Sort = "created",
        order: Order | None = None,
    ) -> list[DocumentInfo]:
        """All documents that satisfy what is given, newest first unless asked otherwise.

        Args:
            name: a part of the name; case does not matter.
            states: in one of these.
            within: collections, tags, metadata, times and languages.
            deleted: those in the bin, and no others.
            sort: by what.
            order: unset: names upwards, the newest or the largest first.
        """
        params: dict[str, Any] = {"limit": _PAGE, "sort": sort, "state": list(states), "deleted": json.dumps(deleted)}
        params |= {"order": order} if order else {}
        params |= {"name": name} if name is not None else {}
        params |= _parameters(within) if within else {}
        found: list[DocumentInfo] = []
        while True:
            response = await self._call("GET", "/api/v1/documents", params=params)
            page = Documents.model_validate_json(response.content)
            found += page.documents
            if page.next_cursor is None:
                return found
            params["cursor"] = page.next_cursor

    async def change(
        self,
        document_id: UUID,
        *,
        name: str | None = None,
        collections: Sequence[UUID] | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> DocumentInfo:
        """Rename a document, or give it other labels in the place of those that it has; what is None stays."""
        ids = None if collections is None else [str(one) for one in collections]
        body = {"name": name, "collections": ids, "tags": tags, "metadata": metadata}
        response = await self._call("PATCH", f"/api/v1/documents/{document_id}", json=body)
        return DocumentInfo.model_validate_json(response.content)

    async def delete(self, ids: Sequence[UUID], *, purge: bool = False) -> dict[UUID, str]:
        """Delete up to 1000 documents, for good if `purge`; what became of each: deleted, purged, or not_found."""
        body = {"document_ids": [str(one) for one in ids], "purge": purge}
        response = await self._call("POST", "/api/v1/documents/delete", json=body)
        found = DeletedDocuments.model_validate_json(response.content).documents
        return {one.document_id: one.outcome for one in found}

    async def restore(self, document_id: UUID) -> DocumentInfo:
        """Take a document out of the bin."""
        response = await self._call("POST", f"/api/v1/documents/{document_id}/restore")
        return DocumentInfo.model_validate_json(response.content)

    async def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        response = await self._call("GET", "/api/v1/collections")
        return Collections.model_validate_json(response.content).collections

    async def add_collection(self, name: str) -> CollectionInfo:
        """Make a collection."""
        response = await self._call("POST", "/api/v1/collections", json={"name": name})
        return CollectionInfo.model_validate_json(response.content)

    async def rename_collection(self, collection_id: UUID, name: str) -> CollectionInfo:
        """Give a collection another name."""
        response = await self._call("PATCH", f"/api/v1/collections/{collection_id}", json={"name": name})
        return CollectionInfo.model_validate_json(response.content)

    async def delete_collection(self, collection_id: UUID) -> None:
        """Dissolve a collection; its documents stay."""
        await self._call("DELETE", f"/api/v1/collections/{collection_id}")


def _parameters(within: FilterForm) -> dict[str, Any]:
    """A filter as the list's parameters."""
    form = within.model_dump(mode="json", by_alias=True, exclude_unset=True)
    names = {"collections": "collection", "tags": "tag", "languages": "language"}
    params = {names.get(name, name): value for name, value in form.items() if value is not None}
    if "metadata" in params:
        params["metadata"] = json.dumps(params["metadata"])
    return params

"""Calls of documents."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO
from urllib.parse import quote
from uuid import UUID

import httpx2

from ringfence.client.models import DocumentInfo, PageRects, Place
from ringfence.client.transport import Connection


class DocumentCalls(Connection):
    """Uploads, and what became of them."""

    async def upload(
        self,
        name: str,
        file: BinaryIO,
        *,
        password: str | None = None,
        collections: Sequence[UUID] = (),
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> tuple[DocumentInfo, bool]:
        """Send a file's bytes from where it stands, and what opens it; the document, and whether it is new.

        A document that is there already keeps its own collections, tags and metadata.
        """
        data: dict[str, Any] = {"collections": [str(one) for one in collections], "tags": list(tags)}
        data |= {"password": password} if password else {}
        data |= {"metadata": json.dumps(metadata)} if metadata else {}
        response = await self._call("POST", "/api/v1/documents", files={"file": (name, file)}, data=data)
        return DocumentInfo.model_validate_json(response.content), response.status_code == httpx2.codes.ACCEPTED

    async def replace(
        self, document_id: UUID, name: str, file: BinaryIO, *, password: str | None = None
    ) -> tuple[DocumentInfo, bool]:
        """Let a file take the place of a document's content; the document, and whether it had other content before."""
        data = {"password": password} if password else None
        path = f"/api/v1/documents/{document_id}/content"
        response = await self._call("PUT", path, files={"file": (name, file)}, data=data)
        return DocumentInfo.model_validate_json(response.content), response.status_code == httpx2.codes.ACCEPTED

    async def document(self, document_id: UUID) -> DocumentInfo:
        """A document's state."""
        response = await self._call("GET", f"/api/v1/documents/{document_id}")
        return DocumentInfo.model_validate_json(response.content)

    async def retry(self, document_id: UUID) -> DocumentInfo:
        """Have a document that has failed queued again."""
        response = await self._call("POST", f"/api/v1/documents/{document_id}/retry")
        return DocumentInfo.model_validate_json(response.content)

    async def page_picture(
        self, document_id: UUID, page: int, *, scale: float = 1.5, password: str | None = None
    ) -> bytes:
        """A page as a PNG, of so many pixels a point."""
        path = f"/api/v1/documents/{document_id}/pages/{page}.png"
        response = await self._call("GET", path, params={"scale": scale}, headers=_opened_by(password))
        return response.content

    async def page_rects(self, document_id: UUID, place: Place, *, password: str | None = None) -> PageRects:
        """Where on its page a part of the page's text stands, such as one of a citation's places."""
        path = f"/api/v1/documents/{document_id}/pages/{place.page}/rects"
        asked = {"start": place.start, "end": place.end}
        response = await self._call("GET", path, params=asked, headers=_opened_by(password))
        return PageRects.model_validate_json(response.content)


def _opened_by(password: str | None) -> dict[str, str]:
    return {"Document-Password": quote(password)} if password else {}

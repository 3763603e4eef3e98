"""Versions: other content in a document's place.

The live version answers until the new one is whole; then they change places in one transaction. The new one's chunks
are written behind the live ones, where no search looks, and `replacements` says how far they are. What is left of the
old version is removed afterwards, a little at a time. Of several replacements the last one wins, the earlier ones stop.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import ingestion_queries, queries, version_queries
from ringfence.documents.intake import Received, Withdraw, erase_later
from ringfence.documents.queries import Document
from ringfence.documents.service import INGEST, REPLACE, IngestPayload, Library, ReplacePayload
from ringfence.errors import Conflict, NotFound
from ringfence.ids import DocumentId, UserId
from ringfence.storage.base import Incoming
from ringfence.telemetry.traces import tracing


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of a replacement. `coming` is False where the document has that content already."""

    document: Document
    coming: bool


class Versions:
    """Replaces the content of tenants' documents. Another tenant's document does not exist for it.

    Args:
        db: rows.
        library: the documents.
    """

    def __init__(self, db: Database, library: Library) -> None:
        self._db = db
        self._library = library

    @asynccontextmanager
    async def receive(self, user_id: UserId, document_id: DocumentId, announced: int = 0) -> AsyncGenerator[Incoming]:
        """Take in the bytes that `replace` lets take a document's place.

        Raises:
            NotFound: there is no such document.
            QuotaExceeded: before any byte, there is no room for them.
        """
        document = await self._library.get(user_id, document_id)
        async with self._library.intake.receive(user_id, announced, instead=document.size) as incoming:
            yield incoming

    async def replace(
        self, user_id: UserId, document_id: DocumentId, filename: str, incoming: Incoming, password: str | None = None
    ) -> Replaced:
        """Let received bytes be a document's content, as soon as they are ingested. It keeps its name and labels.

        A document that is not ready has nothing that answers: its content is replaced at once. The same content again
        changes nothing, but lets nothing else take its place any more.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
            Conflict: `content_exists`, another document of the tenant has this content.
            Invalid, Unsupported, QuotaExceeded: as of `Library.add`.
        """
        new = await self._library.intake.finish(filename, incoming, password)

        async def settled(tx: TenantTx) -> Replaced | None:
            return await _settled(tx, document_id, new)

        async def commit(tx: TenantTx, withdraw: Withdraw) -> Replaced:
            if before := await _settled(tx, document_id, new):
                await withdraw()
                return before
            return await self._put(tx, withdraw, document_id, new)

        with tracing.span("upload.store", bytes=new.size, document_id=document_id):
            return await self._library.intake.store(user_id, incoming, new.sha256, settled, commit)

    async def _put(self, tx: TenantTx, withdraw: Withdraw, document_id: DocumentId, new: Received) -> Replaced:
        document, replacement_id = await _locked(tx, document_id), uuid4()
        media_type, size, sha256 = new.media_type, new.size, new.sha256
        await withdraw()
        if live := document.state == "ready":
            before = document.replacement
            given_up = {bytes.fromhex(before.sha256)} if before else set()
            await version_queries.put(tx, document_id, replacement_id, media_type=media_type, size=size, sha256=sha256)
        else:
            given_up = {document.sha256}
            await version_queries.overwrite(tx, document_id, media_type=media_type, size=size, sha256=sha256)
        await ingestion_queries.forget(tx, [document_id])
        await self._library.intake.require_room(tx, documents=0, size=size - document.size)
        await erase_later(tx, given_up - {sha256})
        payload = IngestPayload(
            document_id=document_id, sealed_password=self._library.sealed(document_id, new.password)
        )
        if live:
            await jobs.enqueue(tx, tx.user_id, REPLACE, ReplacePayload(**dict(payload), replacement_id=replacement_id))
        else:
            await jobs.enqueue(tx, tx.user_id, INGEST, payload)
        return Replaced(await _locked(tx, document_id), coming=True)


async def _settled(tx: TenantTx, document_id: DocumentId, new: Received) -> Replaced | None:
    """What becomes of a replacement for which nothing has to be stored."""
    document = await _locked(tx, document_id)
    if await queries.is_taken(tx, document_id, new.sha256):
        raise content_exists()
    coming = document.replacement if document.replacement and document.replacement.state != "failed" else None
    if document.sha256 == new.sha256 and document.state != "failed":
        if coming:  # its job finds nothing to do any more, and clears up
            await version_queries.drop(tx, document_id)
            await ingestion_queries.forget(tx, [document_id])
            await erase_later(tx, {bytes.fromhex(coming.sha256)})
        return Replaced(await _locked(tx, document_id), coming=False)
    if coming and coming.sha256 == new.sha256.hex():
        return Replaced(document, coming=True)
    return None


async def _locked(tx: TenantTx, document_id: DocumentId) -> Document:
    document = await queries.lock(tx, document_id)
    if document is None:
        raise NotFound("document_not_found", "There is no such document.")
    return document


def content_exists() -> Conflict:
    """Two documents of a tenant can't have the same content."""
    return Conflict("content_exists", "Another document of yours has this content, perhaps one in the bin.")

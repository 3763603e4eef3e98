"""A tenant's library: upload, list, read, delete."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import queries, sniff
from ringfence.documents.queries import Document
from ringfence.errors import Invalid, NotFound, RingfenceError
from ringfence.ids import DocumentId, UserId, new_document_id
from ringfence.storage import Incoming, LocalStorage

INGEST = "ingest"
ERASE = "erase"


class IngestPayload(BaseModel):
    """Which document a job ingests."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    document_id: UUID


class ErasePayload(BaseModel):
    """Which file (SHA-256 in hex) a job erases, unless a document has the same content again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What became of an upload. `created` is False where the tenant has the same content already."""

    document: Document
    created: bool


class Library:
    """The documents of tenants. Every method acts for one tenant; another's document does not exist for it."""

    def __init__(self, db: Database, storage: LocalStorage, max_bytes: int) -> None:
        self._db = db
        self._storage = storage
        self._max_bytes = max_bytes

    @property
    def max_bytes(self) -> int:
        """The size limit of a document."""
        return self._max_bytes

    @asynccontextmanager
    async def receive(self) -> AsyncGenerator[Incoming]:
        """Take in a file's bytes, within the size limit; `add` makes a document of them."""
        async with self._storage.receive(self._max_bytes) as incoming:
            yield incoming

    async def add(self, user_id: UserId, filename: str, incoming: Incoming) -> Upload:
        """Make a document of received bytes and a job that ingests it, in one transaction.

        The same content again is the same document; if it had failed, it is tried again.

        Raises:
            Invalid: the file is empty or its name is no name.
            Unsupported: it is of a kind that the engine does not read.
        """
        name = sniff.clean_name(filename)
        if not incoming.size:
            raise Invalid("empty_file", "The file is empty.")
        media_type = sniff.media_type(incoming.head, name)
        sha256 = await incoming.finish()
        try:
            async with self._db.tenant(user_id) as tx:
                return await self._store(tx, name, media_type, incoming, sha256)
        except BaseException:
            with suppress(RingfenceError):  # a file without a row would belong to nobody
                await self._erase_unused(user_id, sha256)
            raise

    async def _store(self, tx: TenantTx, name: str, media_type: str, incoming: Incoming, sha256: bytes) -> Upload:
        await queries.lock_content(tx, sha256)
        existing = await queries.by_content(tx, sha256)
        if existing is None:
            document = await queries.add(
                tx, new_document_id(), name=name, media_type=media_type, size=incoming.size, sha256=sha256
            )
            await self._accept(tx, document, incoming)
            return Upload(document, created=True)
        retried = await queries.requeue(tx, existing.document_id)
        if retried:
            await self._accept(tx, retried, incoming)
        return Upload(retried or existing, created=False)

    async def _accept(self, tx: TenantTx, document: Document, incoming: Incoming) -> None:
        await asyncio.to_thread(self._storage.keep, incoming, tx.user_id, document.sha256)
        await jobs.enqueue(tx, tx.user_id, INGEST, IngestPayload(document_id=document.document_id))

    async def newest(self, user_id: UserId, limit: int) -> list[Document]:
        """The tenant's documents, newest first."""
        async with self._db.tenant(user_id) as tx:
            return await queries.newest(tx, limit)

    async def get(self, user_id: UserId, document_id: DocumentId) -> Document:
        """One document.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            document = await queries.get(tx, document_id)
        if document is None:
            raise _not_found()
        return document

    async def file(self, user_id: UserId, document_id: DocumentId) -> tuple[Document, Path]:
        """A document and where its original is.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
        """
        document = await self.get(user_id, document_id)
        return document, await asyncio.to_thread(self._storage.existing_path, user_id, document.sha256)

    async def delete(self, user_id: UserId, document_id: DocumentId) -> None:
        """Delete a document with its chunks and vectors; a job erases its file.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            sha256 = await queries.delete(tx, document_id)
            if sha256 is None:
                raise _not_found()
            await jobs.enqueue(tx, user_id, ERASE, ErasePayload(sha256=sha256.hex()))

    async def erase(self, user_id: UserId, payload: str) -> None:
        """Run an `erase` job: remove a file whose document was deleted, unless the content was uploaded again."""
        await self._erase_unused(user_id, bytes.fromhex(ErasePayload.model_validate_json(payload).sha256))

    async def _erase_unused(self, user_id: UserId, sha256: bytes) -> None:
        async with self._db.tenant(user_id) as tx:
            await queries.lock_content(tx, sha256)
            if await queries.by_content(tx, sha256) is None:
                await asyncio.to_thread(self._storage.delete, user_id, sha256)


def _not_found() -> NotFound:
    return NotFound("document_not_found", "There is no such document.")

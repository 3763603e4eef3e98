"""A tenant's library: upload, list, read, label, delete and restore. `intake.py` says how files and rows keep together.

What is deleted lies in the bin for some time, out of sight of all but the list of the bin; then a job purges it. It
counts against the quotas until then: so a tenant never keeps more than their quota, and what is restored has room.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import batched
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import (
    indexing,
    ingestion_queries,
    library_queries,
    listing,
    passwords,
    queries,
    sniff,
    version_queries,
)
from ringfence.documents.intake import Intake, Received, Withdraw, erase_later
from ringfence.documents.labels import Labels, labels, require_collections
from ringfence.documents.listing import Listing, Page
from ringfence.documents.queries import Document, Usage
from ringfence.documents.renaming import retitle_soon
from ringfence.errors import Conflict, NotFound
from ringfence.ids import CollectionId, DocumentId, UserId, new_document_id
from ringfence.lexical import queries as lexical
from ringfence.limits import Quota, Quotas
from ringfence.storage.base import Incoming, Storage
from ringfence.telemetry.traces import tracing

INGEST = "ingest"
REPLACE = "replace"
PURGE = "purge"
"""The job of a bin: one waits for each tenant who has something in there."""

_PAGE = 500
_BATCH = 50  # documents that are deleted in one transaction

type Fate = Literal["deleted", "purged", "not_found"]
"""What becomes of a document that is to be deleted: it is in the bin, or gone, or there was none."""


class IngestPayload(BaseModel):
    """Which document a job ingests, and its password, sealed (`passwords.seal`), where the upload brought one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    document_id: UUID
    sealed_password: str | None = None


class ReplacePayload(IngestPayload):
    """The same of what is to take a document's place. The job of an earlier replacement does nothing."""

    replacement_id: UUID


class PurgePayload(BaseModel):
    """Nothing: a job knows whose bin it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Upload:
    """What became of an upload. `created` is False where the tenant has the same content already."""

    document: Document
    created: bool


class Library:
    """The documents of tenants. Every method acts for one tenant; another's document does not exist for it."""

    def __init__(
        self,
        db: Database,
        storage: Storage,
        max_bytes: int,
        quotas: Quotas | None = None,
        *,
        password_key: bytes | None = None,
        trash: timedelta = timedelta(0),
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """Take where things are kept.

        Args:
            db: rows.
            storage: files.
            max_bytes: of one document.
            quotas: how much each tenant may keep; None: as much as they like.
            password_key: 32 bytes that seal documents' passwords; without it they are not passed on to the worker.
            trash: how long deleted documents can be restored; 0: not at all.
            now: the clock of the bin.
        """
        self._db = db
        self._storage = storage
        self._quotas = quotas or Quotas(Quota())
        self._password_key = password_key
        self._trash = trash
        self._now = now or partial(datetime.now, UTC)
        self.intake = Intake(db, storage, max_bytes, self._quotas)

    @property
    def max_bytes(self) -> int:
        """The size limit of a document."""
        return self.intake.max_bytes

    def receive(self, user_id: UserId, announced: int = 0) -> AbstractAsyncContextManager[Incoming]:
        """Take in a file's bytes, within the size limit; `add` makes a document of them. Else as `Intake.receive`."""
        return self.intake.receive(user_id, announced)

    async def add(
        self,
        user_id: UserId,
        filename: str,
        incoming: Incoming,
        password: str | None = None,
        labels: Labels | None = None,
    ) -> Upload:
        """Make a document of received bytes and a job that ingests it, in one transaction.

        The same content again is the same document, which keeps its name and labels; one in the bin is restored, and
        one that had failed is tried again. A password opens an encrypted PDF; it is kept, sealed, until the document
        is ingested.

        Raises:
            Invalid: the file is empty or its name is no name; `unknown_collection`.
            Unsupported: it is of a kind that the engine does not read.
            QuotaExceeded: the tenant keeps too much already.
        """
        new, said = await self.intake.finish(filename, incoming, password), labels or Labels()

        async def settled(tx: TenantTx) -> Upload | None:
            await require_collections(tx, said)
            existing = await queries.by_content(tx, new.sha256)
            if existing is None or existing.state == "failed":
                return None
            return Upload(await self._unbinned(tx, existing, new.password), created=False)

        async def commit(tx: TenantTx, withdraw: Withdraw) -> Upload:
            return await self._insert(tx, withdraw, new, said)

        with tracing.span("upload.store", bytes=new.size) as span:
            upload = await self.intake.store(user_id, incoming, new.sha256, settled, commit)
            span.set_attribute("document_id", str(upload.document.document_id))
        return upload

    async def _insert(self, tx: TenantTx, withdraw: Withdraw, new: Received, said: Labels) -> Upload:
        # Locks in the order in which an account's closing takes them: the account, rows of jobs, the tenant's lane.
        existing = await queries.by_content(tx, new.sha256)
        if existing is None:
            document = await self._added(tx, new, said)
            await withdraw()
            await self.intake.require_room(tx, documents=1, size=new.size)
            await self._enqueue(tx, document, new.password)
            return Upload(document, created=True)
        await withdraw()
        existing = await self._unbinned(tx, existing, new.password)
        retried = await queries.requeue(tx, existing.document_id)
        if retried:
            await self._enqueue(tx, retried, new.password)
        return Upload(retried or existing, created=False)

    async def _added(self, tx: TenantTx, new: Received, said: Labels) -> Document:
        document_id = new_document_id()
        await queries.add(tx, document_id, name=new.name, media_type=new.media_type, size=new.size, sha256=new.sha256)
        if said.given:
            await require_collections(tx, said)
            return _found(await _label(tx, document_id, said))
        return _found(await queries.get(tx, document_id))

    async def _enqueue(self, tx: TenantTx, document: Document, password: str | None) -> None:
        sealed = self.sealed(document.document_id, password)
        payload = IngestPayload(document_id=document.document_id, sealed_password=sealed)
        await jobs.enqueue(tx, tx.user_id, INGEST, payload)

    def sealed(self, document_id: DocumentId, password: str | None) -> str | None:
        """A document's password as a job may have it."""
        return passwords.seal(self._password_key, document_id, password) if password and self._password_key else None

    async def retry(self, user_id: UserId, document_id: DocumentId) -> Document:
        """Queue a failed document again.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
            Conflict: it has not failed.
        """
        async with self._db.tenant(user_id) as tx:
            document = await queries.requeue(tx, document_id)
            if document is None:
                _found(await queries.get(tx, document_id))
                raise Conflict("document_not_failed", "Only a document that has failed can be tried again.")
            await jobs.enqueue(tx, user_id, INGEST, IngestPayload(document_id=document_id))
        return document

    async def listed(self, user_id: UserId, wanted: Listing, limit: int, cursor: str | None = None) -> Page:
        """A page of the tenant's documents, from the beginning or from where another one ended.

        Raises:
            Invalid: `bad_cursor`.
        """
        after = listing.read(wanted, cursor) if cursor else None
        async with self._db.tenant(user_id) as tx:
            found = await library_queries.listed(tx, wanted, after, limit + 1)
        more = listing.written(wanted, found[limit - 1]) if len(found) > limit else None
        return Page(found[:limit], more)

    async def newest(self, user_id: UserId, limit: int) -> list[Document]:
        """The tenant's documents, newest first."""
        return (await self.listed(user_id, Listing(), limit)).documents

    async def all(self, user_id: UserId) -> AsyncGenerator[list[Document]]:
        """All of the tenant's documents, the bin's too, newest first, with no connection held between two pages."""
        after = None
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await queries.page(tx, after, _PAGE)
            if not page:
                return
            yield page
            after = page[-1]

    def original(
        self, user_id: UserId, document: Document, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes of a document's file from `start` to `end` (exclusive), piece by piece.

        Raises:
            NotFound: it is no longer stored; before the first piece.
            Unavailable: it can't be read.
        """
        return self._storage.read(user_id, document.sha256, start, end)

    async def get(self, user_id: UserId, document_id: DocumentId) -> Document:
        """One document.

        Raises:
            NotFound: there is no such document, it is in the bin, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            return _found(await queries.get(tx, document_id))

    async def change(
        self, user_id: UserId, document_id: DocumentId, *, name: str | None = None, labels: Labels | None = None
    ) -> Document:
        """Give a document another name, or other labels in the place of those that it has.

        Raises:
            NotFound: as of `get`.
            Invalid: `bad_name`, `unknown_collection`.
        """
        clean, said = None if name is None else sniff.clean_name(name), labels or Labels()
        async with self._db.tenant(user_id) as tx:
            before = _found(await queries.lock(tx, document_id)).name
            document = _found(await _label(tx, document_id, said, clean))
            await require_collections(tx, said)
            await retitle_soon(tx, document_id, before, document.name)
        return document

    async def put_into(
        self, user_id: UserId, document_id: DocumentId, collection_id: CollectionId, said: Labels | None = None
    ) -> Document:
        """Put a document into one more collection, and set what else is said of it.

        Raises:
            NotFound: as of `get`.
            Invalid: `unknown_collection`, `too_many_collections`.
        """
        async with self._db.tenant(user_id) as tx:
            inside = _found(await queries.lock(tx, document_id)).collections
            wanted = replace(said or Labels(), collections=labels([*inside, collection_id]).collections)
            document = _found(await _label(tx, document_id, wanted))
            await require_collections(tx, wanted)
        return document

    async def take_out(self, user_id: UserId, document_id: DocumentId, collection_id: CollectionId) -> None:
        """Take a document out of a collection.

        Raises:
            NotFound: as of `get`, or it is not in there.
        """
        async with self._db.tenant(user_id) as tx:
            inside = _found(await queries.lock(tx, document_id)).collections
            if collection_id not in inside:
                raise _not_found()
            others = [one for one in inside if one != collection_id]
            await _label(tx, document_id, labels(others))

    async def usage(self, user_id: UserId) -> Usage:
        """How much the tenant keeps."""
        async with self._db.tenant(user_id) as tx:
            return await queries.usage(tx)

    async def quota(self, user_id: UserId) -> Quota:
        """How much the tenant may keep and ask."""
        async with self._db.tenant(user_id) as tx:
            return await self._quotas.of(tx)

    async def delete(self, user_id: UserId, document_id: DocumentId, *, purge: bool = False) -> None:
        """Delete a document: into the bin, or for good, in the bin or not, with its chunks, vectors and file.

        Raises:
            NotFound: there is no such document, or it is somebody else's; or it is in the bin already.
        """
        if await self.delete_many(user_id, [document_id], purge=purge) == ["not_found"]:
            raise _not_found()

    async def delete_many(self, user_id: UserId, ids: Sequence[DocumentId], *, purge: bool = False) -> list[Fate]:
        """The same of several; what became of each, in their order. Those that are not there are left out."""
        if purge or not self._trash:
            gone = set[UUID]()
            for several in batched(dict.fromkeys(ids), _BATCH):
                gone |= await self._purge(user_id, several)
            return ["purged" if one in gone else "not_found" for one in ids]
        async with self._db.tenant(user_id) as tx:
            await library_queries.lock_bin(tx)
            binned = await library_queries.put_into_bin(tx, ids, self._now())
            if binned:
                await ingestion_queries.forget(tx, binned)
                await self._promise_purge(tx, self._trash)
        return ["deleted" if one in binned else "not_found" for one in ids]

    async def restore(self, user_id: UserId, document_id: DocumentId) -> Document:
        """Take a document out of the bin. One that is not in there is left as it is.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            return await _restored(tx, document_id) or _found(await queries.get(tx, document_id))

    async def _unbinned(self, tx: TenantTx, document: Document, password: str | None) -> Document:
        if document.deleted_at is None:
            return document
        sealed = self.sealed(document.document_id, password)
        return _found(await _restored(tx, document.document_id, sealed))

    async def purge(self, user_id: UserId) -> None:
        """Run a `purge` job: remove what has been in the bin for long enough; what has not, the next one will."""
        until = self._now() - self._trash
        while True:
            async with self._db.tenant(user_id) as tx:
                ids = await library_queries.due(tx, until, _BATCH)
            if not ids:
                break
            await self._purge(user_id, ids, until)
        async with self._db.tenant(user_id) as tx:
            await library_queries.lock_bin(tx)
            if oldest := await library_queries.oldest_in_bin(tx):
                await self._promise_purge(tx, oldest - until)

    async def _promise_purge(self, tx: TenantTx, delay: timedelta) -> None:
        await jobs.promise_once(tx, PURGE, PurgePayload(), delay)

    async def _purge(
        self, user_id: UserId, ids: Sequence[DocumentId], binned_until: datetime | None = None
    ) -> set[UUID]:
        async with self._db.tenant(user_id) as tx:
            gone, files = await library_queries.delete(tx, ids, binned_until=binned_until)
            await erase_later(tx, files)
            if gone:
                await indexing.clean_later(tx)
        return gone

    async def delete_rows(self, user_id: UserId) -> None:
        """Delete all documents of a tenant who leaves, whose files go all at once, in steps that may be broken off."""
        async for page in self.all(user_id):
            for document in page:
                async with self._db.tenant(user_id) as tx:
                    await library_queries.delete(tx, [document.document_id])
        more = True
        while more:
            async with self._db.tenant(user_id) as tx:
                more = await lexical.empty(tx)

    async def erase(self, user_id: UserId, payload: str) -> None:
        """Run an `erase` job, as `Intake.erase` does."""
        await self.intake.erase(user_id, payload)


async def _label(tx: TenantTx, document_id: DocumentId, said: Labels, name: str | None = None) -> Document | None:
    return await library_queries.change(
        tx, document_id, name=name, collections=said.collections, tags=said.tags, metadata=said.metadata
    )


async def _restored(tx: TenantTx, document_id: DocumentId, sealed: str | None = None) -> Document | None:
    """Take a document out of the bin, and go on with what its deletion broke off; None if it is not in there."""
    document = await library_queries.restore(tx, document_id)
    if document is None:
        return None
    if document.state == "queued":
        await jobs.enqueue(tx, tx.user_id, INGEST, IngestPayload(document_id=document_id, sealed_password=sealed))
    if coming := await version_queries.revive(tx, document_id):
        payload = ReplacePayload(document_id=document_id, replacement_id=coming)
        await jobs.enqueue(tx, tx.user_id, REPLACE, payload)
    return await queries.get(tx, document_id)


def _found(document: Document | None) -> Document:
    if document is None:
        raise _not_found()
    return document


def _not_found() -> NotFound:
    return NotFound("document_not_found", "There is no such document.")

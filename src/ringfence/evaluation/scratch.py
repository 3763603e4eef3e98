"""Scratch tenants: a collection's entries as documents of an account that nobody can enter."""

import hashlib
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from ringfence.accounts import queries as accounts
from ringfence.accounts.emails import Email
from ringfence.db import Database
from ringfence.documents import library_queries
from ringfence.documents import queries as documents
from ringfence.documents.texts import Texts
from ringfence.evaluation import queries
from ringfence.evaluation.collection import Collection
from ringfence.ids import UserId, new_user_id
from ringfence.lexical.service import LexicalIndex

log = structlog.get_logger()

_FORM = 2  # of what is stored: with another one, kept tenants are filled anew
_PAGE = 200
_STALE = timedelta(days=1)
_NO_PASSWORD = "!"  # noqa: S105  # what no password has as its hash

type Say = Callable[[str], object]
"""Is told how far it has come."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A filled scratch tenant."""

    user_id: UserId
    documents: int
    chunks: int


class ScratchTenants:
    """Makes scratch tenants and removes them.

    Args:
        db: in which database.
        texts: fills them, as documents are cut and embedded at present.
        settings: what else a kept tenant's content depends on: chunk sizes, the embedding model.
        now: the clock.
    """

    def __init__(self, db: Database, texts: Texts, *, settings: str, now: Callable[[], datetime]) -> None:
        self._db = db
        self._texts = texts
        self._index = LexicalIndex(db)
        self._settings = settings
        self._now = now

    @asynccontextmanager
    async def filled(self, collection: Collection, *, keep: bool, say: Say) -> AsyncGenerator[Scratch]:
        """A tenant that holds a collection, while the context lasts.

        One that is kept is found again by the collection's digest and the settings, and only what is missing is added;
        so it must not be filled by two processes at once.

        Raises:
            Unavailable: the embedding model or the database does not answer.
        """
        await self._sweep()
        name = "kept-" + self._key(collection) if keep else f"run-{secrets.token_hex(16)}"
        user_id = await self._account(name)
        try:
            await self._fill(user_id, collection, say)
            yield await self._found(user_id)
        finally:
            if not keep:
                await self.remove(user_id)

    async def remove(self, user_id: UserId) -> None:
        """Delete a scratch tenant with all that it has, in steps that may be broken off."""
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await documents.page(tx, None, _PAGE)
                await library_queries.delete(tx, [document.document_id for document in page])
            if not page:
                break
        async with self._db.system() as tx:
            await accounts.remove_account(tx, user_id)

    def _key(self, collection: Collection) -> str:
        return hashlib.sha256(f"{_FORM} {self._settings} {collection.digest}".encode()).hexdigest()[:40]

    async def _account(self, name: str) -> UserId:
        address = f"{name}@{queries.SCRATCH_DOMAIN}"
        async with self._db.system() as tx:
            await accounts.lock_email(tx, address)
            if known := await accounts.credentials(tx, address):
                return known.user_id
            user_id = new_user_id()
            await accounts.add_user(tx, user_id, Email(address, address, address), _NO_PASSWORD)
            await accounts.mark_verified(tx, user_id, address, self._now())
        return user_id

    async def _fill(self, user_id: UserId, collection: Collection, say: Say) -> None:
        stored = set[object]()
        after: documents.Document | None = None
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await documents.page(tx, after, _PAGE)
            if not page:
                break
            stored |= {document.document_id for document in page}
            after = page[-1]
        missing = [entry.document for entry in collection.corpus.values() if entry.document.document_id not in stored]
        for start in range(0, len(missing), _PAGE):
            await self._texts.add(user_id, missing[start : start + _PAGE])
            say(f"{collection.name}: {min(start + _PAGE, len(missing))} of {len(missing)} documents")
        await self._index.merge(user_id)  # as a worker does soon after: else its searches would be of a rare, slow kind

    async def _found(self, user_id: UserId) -> Scratch:
        async with self._db.tenant(user_id) as tx:
            usage = await documents.usage(tx)
            chunks = await queries.chunk_count(tx)
        return Scratch(user_id, usage.documents, chunks)

    async def _sweep(self) -> None:
        async with self._db.system() as tx:
            stale = await queries.stale_scratch(tx, self._now() - _STALE)
        for user_id in stale:
            log.warning("scratch_tenant_left", user_id=str(user_id))
            await self.remove(user_id)

"""A page of a document as it looks, and where on it cited words stand: read anew from the file, in the sandbox.

Nothing of it is stored: whoever looks at a page waits for a child of their own, in their turn.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ringfence.documents import sniff
from ringfence.documents.parsing.sandbox import Sandbox, Seen, View
from ringfence.documents.queries import Document
from ringfence.documents.service import Library
from ringfence.errors import Conflict, RateLimited, Unavailable, Unsupported
from ringfence.ids import DocumentId, UserId
from ringfence.storage.base import Storage

MAX_WORDS = 20_000
"""Characters whose boxes are told at once."""

_WAITING_EACH = 16
_WAITING = 256


@dataclass(slots=True)
class _Line:
    """Where one tenant's requests wait for each other."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Turns:
    """Who may look: of each tenant one at a time, so that a tenant's many wait for each other and not others for them.

    Args:
        slots: at once, of all tenants.
        each: that may wait of one tenant.
        most: that may wait of all.
    """

    def __init__(self, slots: int, *, each: int = _WAITING_EACH, most: int = _WAITING) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._each = each
        self._most = most
        self._lines: dict[UserId, _Line] = {}
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, user_id: UserId) -> AsyncGenerator[None]:
        """Wait for one's turn, which is over when the context is left.

        Raises:
            RateLimited: `too_many_pages_at_once`.
            Unavailable: `pages_busy`.
        """
        line = self._lines.setdefault(user_id, _Line())
        if line.waiting >= self._each:
            message = f"You look at {self._each} pages at once already; wait for some of them."
            raise RateLimited("too_many_pages_at_once", message, retry_after=1, policy=f'"pages";q={self._each}')
        if self._waiting >= self._most:
            raise Unavailable("pages_busy", "Too many pages are being drawn at present. Please try again in a moment.")
        line.waiting += 1
        self._waiting += 1
        try:
            async with line.turn, self._slots:
                yield
        finally:
            self._waiting -= 1
            line.waiting -= 1
            if not line.waiting:
                del self._lines[user_id]


class Looking:
    """Looks at pages. Every method acts for one tenant; another's document does not exist for it.

    Args:
        library: knows the documents.
        storage: has their files.
        sandbox: opens them; with limits of its own, for somebody waits.
        turns: who may.
    """

    def __init__(self, library: Library, storage: Storage, sandbox: Sandbox, turns: Turns) -> None:
        self._library = library
        self._storage = storage
        self._sandbox = sandbox
        self._turns = turns

    async def document(self, user_id: UserId, document_id: DocumentId, version: int | None = None) -> Document:
        """A document that has pages to look at.

        Raises:
            NotFound: there is no such document, it is in the bin, or it is somebody else's.
            Conflict: `document_changed`; another content has taken the place of the version that is meant.
            Unsupported: `no_pages`.
        """
        document = await self._library.get(user_id, document_id)
        if version is not None and document.version != version:
            raise Conflict("document_changed", f"The document is at version {document.version} now.")
        if document.media_type not in sniff.PAGED:
            raise Unsupported(
                "no_pages", "Only PDF, XPS and images have pages that look the same everywhere; this is none of them."
            )
        return document

    async def look(self, user_id: UserId, document: Document, wanted: View, password: str | None = None) -> Seen:
        """What is wanted of one page of a document that `document` gave.

        Raises:
            NotFound: `page_not_found`; `file_not_found`, where it was replaced or deleted meanwhile.
            RingfenceError: one of `wire.REASONS`.
            RateLimited, Unavailable: as of `Turns.turn`; the storage or the sandbox are not there.
        """
        async with self._turns.turn(user_id), self._storage.open(user_id, document.sha256) as file:
            return await self._sandbox.view(file.fileno(), document.media_type, wanted, password)

"""How a file and its row come and go together, though no transaction holds both, whatever dies in between.

1. A transaction promises a job, due in an hour, that erases the file unless a document needs it.
2. The file gets its name in the storage, outside any transaction: that may take its time.
3. A transaction writes the row and withdraws the promise. If it is not there any more, there is no row.

Whoever erases a file looks for rows and promises first, under the lock that both transactions take.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database, TenantTx
from ringfence.documents import queries, sniff
from ringfence.documents.queries import Usage
from ringfence.errors import Invalid, QuotaExceeded, RingfenceError, Unavailable
from ringfence.ids import UserId
from ringfence.limits import Quota, Quotas, require_room
from ringfence.storage.base import Incoming, Storage

ERASE = "erase"
STORE = "store"
"""The promised job of an upload: an `erase` of its file, which runs only where the upload's process has died."""

_STORED_WITHIN = timedelta(hours=1)


class ErasePayload(BaseModel):
    """Which file (SHA-256 in hex) a job erases, unless a document needs the same content again."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str


@dataclass(frozen=True, slots=True)
class Received:
    """What is known of a file when all of it is here."""

    name: str
    media_type: str
    size: int
    sha256: bytes
    password: str | None


type Settled[T] = Callable[[TenantTx], Awaitable[T | None]]
"""What has become of an upload already, so that its file need not be stored; runs under the lock on its content."""

type Withdraw = Callable[[], Awaitable[None]]
type Commit[T] = Callable[[TenantTx, Withdraw], Awaitable[T]]
"""Writes the row of a file that is stored, and calls `Withdraw` as soon as it has; under the same lock."""


class Intake:
    """Takes in files, and erases those that nobody needs.

    Args:
        db: rows.
        storage: files.
        max_bytes: of one file.
        quotas: how much each tenant may keep.
    """

    def __init__(self, db: Database, storage: Storage, max_bytes: int, quotas: Quotas) -> None:
        self._db = db
        self._storage = storage
        self._quotas = quotas
        self.max_bytes = max_bytes

    @asynccontextmanager
    async def receive(self, user_id: UserId, announced: int, *, instead: int | None = None) -> AsyncGenerator[Incoming]:
        """Take in a file's bytes, within the size limit.

        Args:
            user_id: whose.
            announced: how many bytes it has at least, where that is known.
            instead: bytes of the document whose content they are to be; None: they will be another document.

        Raises:
            QuotaExceeded: before any byte, there is no room for them, and no document that may have the same content.
        """
        documents, more = (1, announced) if instead is None else (0, announced - instead)
        async with self._db.tenant(user_id) as tx:
            try:
                await self.require_room(tx, documents=documents, size=more, added=False)
            except QuotaExceeded:
                if not await queries.keeps_one_as_large(tx, announced):
                    raise
        async with self._storage.receive(user_id, self.max_bytes) as incoming:
            yield incoming

    async def finish(self, filename: str, incoming: Incoming, password: str | None) -> Received:
        """What a file is, once all of it is here.

        Raises:
            Invalid: it is empty or its name is no name.
            Unsupported: it is of a kind that the engine does not read.
        """
        name = sniff.clean_name(filename)
        if not incoming.size:
            raise Invalid("empty_file", "The file is empty.")
        media_type = sniff.media_type(incoming.head, name, incoming.tail)
        return Received(name, media_type, incoming.size, await incoming.finish(), password)

    async def store[T](
        self, user_id: UserId, incoming: Incoming, sha256: bytes, settled: Settled[T], commit: Commit[T]
    ) -> T:
        """Store a file with its row, unless that is settled without it; what `settled` or `commit` says."""
        async with self._db.tenant(user_id) as tx:
            await queries.lock_content(tx, sha256)  # after an erasure that has begun
            if (before := await settled(tx)) is not None:
                return before
            promise = await queries.promise_erasure(tx, STORE, _of(sha256), _STORED_WITHIN)
        try:
            await self._keep(user_id, incoming, sha256)
            async with self._db.tenant(user_id) as tx:
                await queries.lock_content(tx, sha256)
                return await commit(tx, lambda: _withdraw(tx, promise))
        except BaseException:  # cancelled, too: what was stored and nobody needs shall not stay
            with suppress(RingfenceError):  # else the promised job will do it
                await self._erase_unneeded(user_id, sha256, promise)
            raise

    async def _keep(self, user_id: UserId, incoming: Incoming, sha256: bytes) -> None:
        try:
            await self._storage.keep(incoming, user_id, sha256)
        except Unavailable:
            async with self._db.tenant(user_id) as tx:
                await queries.require_account(tx)  # whose deletion takes what is coming in as well
            raise

    async def require_room(self, tx: TenantTx, *, documents: int, size: int, added: bool = True) -> None:
        """Refuse so many documents and bytes more, where they pass the tenant's quota; fewer never do.

        Once they were added, nobody else can take their room until the commit. The last lock of an upload: its file has
        its name, little is left to do.

        Raises:
            QuotaExceeded: `quota_exceeded`.
        """
        quota = await self._quotas.of(tx)
        limit = Quota(quota.documents if documents else 0, quota.bytes if documents or size > 0 else 0)
        if not (limit.documents or limit.bytes):
            return
        if added:
            await queries.lock_quota(tx)
        used = await queries.usage(tx)
        before = Usage(used.documents - documents, used.bytes - size) if added else used
        require_room(limit, documents=before.documents, size=before.bytes, more=size)

    async def erase(self, user_id: UserId, payload: str) -> None:
        """Run an `erase` job: remove a file whose document is gone, unless the content was uploaded again.

        Or is being uploaded: then its upload's promise is due later, and that job will look again.
        """
        await self._erase_unneeded(user_id, bytes.fromhex(ErasePayload.model_validate_json(payload).sha256))

    async def _erase_unneeded(self, user_id: UserId, sha256: bytes, promise: int | None = None) -> None:
        async with self._db.tenant(user_id) as tx:
            await queries.lock_content(tx, sha256)
            if promise is not None:
                await jobs.withdraw(tx, promise)
            if not await queries.is_needed(tx, sha256) and not await jobs.promised(tx, STORE, _of(sha256)):
                await self._storage.delete(user_id, sha256)


async def erase_later(tx: TenantTx, files: Iterable[bytes]) -> None:
    """Have files erased by jobs, unless somebody needs them by then."""
    for sha256 in sorted(files):
        await jobs.enqueue(tx, tx.user_id, ERASE, _of(sha256))


def _of(sha256: bytes) -> ErasePayload:
    return ErasePayload(sha256=sha256.hex())


async def _withdraw(tx: TenantTx, promise: int) -> None:
    if not await jobs.withdraw(tx, promise):
        await queries.require_account(tx)
        raise Unavailable("storage_unavailable", "Storing the file took too long. Please try again.")

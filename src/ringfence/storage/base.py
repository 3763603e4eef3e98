"""What every storage of files does: content-addressed inside each user's own part, nothing half there."""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import IO, Protocol

from ringfence.errors import NotFound, TooLarge, Unavailable
from ringfence.ids import UserId

PIECE = 1 << 20
"""Bytes that are written or read at a time, at most."""

LEFT_OVER = 86_400.0
"""Seconds; no upload takes longer, so what an upload has left behind that is older may go."""

_HEAD = 4096  # with the tail, enough to tell what a file is
_TAIL = 65_536


class Incoming(ABC):
    """A file on its way in: write to it, then `Storage.keep` it; otherwise it is gone when its context ends.

    Args:
        max_bytes: more are refused.

    Attributes:
        size: bytes that were written.
        head: the first 4 KiB of them.
        tail: the last 64 KiB.
    """

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self.head = b""
        self.tail = b""
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._pending = bytearray()

    async def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            TooLarge: these would pass the limit; nothing of them was kept.
            Unavailable: the storage is full or gone.
        """
        self.size += len(data)
        if self.size > self._max_bytes:
            raise TooLarge("file_too_large", f"The file is larger than {self._max_bytes // 2**20} MiB.")
        self.head += data[: max(_HEAD - len(self.head), 0)]
        self.tail = (self.tail + data)[-_TAIL:]
        self._pending += data
        if len(self._pending) >= PIECE:
            await self._flush()

    async def finish(self) -> bytes:
        """Have all of it where it outlives this process; the SHA-256 of the content."""
        await self._flush()
        await self._close()
        return self._digest.digest()

    async def _flush(self) -> None:
        data, self._pending = self._pending, bytearray()
        await asyncio.to_thread(self._digest.update, data)
        await self._put(data)

    @abstractmethod
    async def _put(self, data: bytearray) -> None:
        """Add a piece to what is stored under a temporary name."""

    @abstractmethod
    async def _close(self) -> None:
        """Have all pieces stored for good."""


class Storage(Protocol):
    """Files of users, each named by the SHA-256 of its content. Another user's file can't be named.

    Whoever stores a file sees to it that nobody deletes it meanwhile (`documents/service.py`).
    """

    async def check(self) -> None:
        """Find out whether files can be stored and deleted.

        Raises:
            SetupError: a person has to act first.
            Unavailable: it can't be reached.
        """

    def receive(self, user_id: UserId, max_bytes: int) -> AbstractAsyncContextManager[Incoming]:
        """Take in a user's file of at most `max_bytes` bytes under a temporary name."""

    async def keep(self, incoming: Incoming, user_id: UserId, sha256: bytes) -> None:
        """Give a finished file its name. One that is there already is replaced by the same content.

        Raises:
            Unavailable: the storage is full or gone, or the file was deleted meanwhile.
        """

    def read(self, user_id: UserId, sha256: bytes, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Bytes `start` to `end` (exclusive) of a user's file, in pieces.

        Raises:
            NotFound: there is none; before the first piece.
            Unavailable: the storage is gone.
        """

    def open(self, user_id: UserId, sha256: bytes) -> AbstractAsyncContextManager[IO[bytes]]:
        """A user's file as an open local one, at its beginning.

        Raises:
            NotFound: there is none.
            Unavailable: the storage is gone.
        """

    async def delete(self, user_id: UserId, sha256: bytes) -> None:
        """Remove a user's file; none there is fine.

        Raises:
            Unavailable: the storage is gone; it may be left.
        """

    async def delete_all(self, user_id: UserId) -> None:
        """Remove all files of a user who leaves, also what is being received; again is fine.

        Raises:
            Unavailable: the storage is gone; some may be left.
        """

    async def sweep(self) -> None:
        """Remove what was left of uploads that were cut off by the death of their process.

        And what an upload may have stored while its user's files were deleted. No database is asked who has left: a
        wrong one would make every file look like somebody's who is gone.

        Raises:
            Unavailable: the storage is gone.
        """


async def in_thread[**P, T](call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short call in a thread. Cancelled or not, it has ended afterwards: what it uses may then be closed."""
    task = asyncio.create_task(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def made_in_thread[T](make: Callable[[], T], release: Callable[[T], object]) -> T:
    """What `make` makes, a file that is opened say, in a thread. It is released if the caller is cancelled meanwhile.

    Args:
        make: it opens or creates something that someone must release.
        release: undoes it; run in a thread.
    """
    task = asyncio.create_task(asyncio.to_thread(make))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.exception():
            await asyncio.to_thread(release, task.result())
        raise


def mark_of(user_id: str) -> str:
    """The name of the mark that remembers who has left: a digest, which does not tell who it was."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def not_found() -> NotFound:
    """What is raised for a file that is not there."""
    return NotFound("file_not_found", "The file is no longer stored.")


def unavailable() -> Unavailable:
    """What is raised when the storage does not do as it is told."""
    return Unavailable("storage_unavailable", "Files can't be stored or read at present. Please try again later.")

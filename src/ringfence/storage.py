"""The bytes of documents: one folder, content-addressed inside each user's own part of it."""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ringfence.errors import NotFound, TooLarge, Unavailable
from ringfence.ids import UserId

_BUFFER = 1 << 20
_LEFT_OVER = 86_400.0  # seconds; no upload takes longer
_HEAD = 4096  # enough to tell what a file is


@dataclass(slots=True)
class Incoming:
    """A file on its way in: write to it, then `keep` it; otherwise it is gone when its context ends."""

    file: IO[bytes]
    temporary: Path
    max_bytes: int
    size: int = 0
    head: bytes = b""
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _pending: bytearray = field(default_factory=bytearray)

    async def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            TooLarge: these would pass the limit; nothing of them was kept.
            Unavailable: the disk is full or gone.
        """
        self.size += len(data)
        if self.size > self.max_bytes:
            raise TooLarge("file_too_large", f"The file is larger than {self.max_bytes // 2**20} MiB.")
        self.head += data[: max(_HEAD - len(self.head), 0)]
        self._pending += data
        if len(self._pending) >= _BUFFER:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> bytes:
        """Write all of it through to the disk; the SHA-256 of the content."""
        await asyncio.to_thread(self._flush, sync=True)
        return self._digest.digest()

    def _flush(self, *, sync: bool = False) -> None:
        try:
            self.file.write(self._pending)
            self._digest.update(self._pending)
            self._pending.clear()
            if sync:
                self.file.flush()
                os.fsync(self.file.fileno())
        except OSError as error:
            raise _unavailable() from error


class LocalStorage:
    """Files in a local folder: `<root>/<user_id>/<sha256>`, readable by the engine's own user alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def receive(self, max_bytes: int) -> AsyncGenerator[Incoming]:
        """Take in a file of at most `max_bytes` bytes under a temporary name."""
        temporary = self._root / "incoming" / secrets.token_hex(16)
        file = await asyncio.to_thread(_create, temporary)
        try:
            yield Incoming(file, temporary, max_bytes)
        finally:
            await asyncio.to_thread(_discard, file, temporary)

    def sweep(self) -> None:
        """Remove what was left of uploads that were cut off by the death of their process."""
        for path in (self._root / "incoming").glob("*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _LEFT_OVER:
                    path.unlink()

    def keep(self, incoming: Incoming, user_id: UserId, sha256: bytes) -> None:
        """Give a finished file its name: an atomic rename, fast enough to stand inside a transaction.

        Raises:
            Unavailable: the disk is full or gone.
        """
        path = self.path(user_id, sha256)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            incoming.temporary.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise _unavailable() from error

    def path(self, user_id: UserId, sha256: bytes) -> Path:
        """Where a user's file with this content is, or would be."""
        return self._root / str(user_id) / sha256.hex()

    def existing_path(self, user_id: UserId, sha256: bytes) -> Path:
        """Where a user's file is.

        Raises:
            NotFound: there is none.
        """
        path = self.path(user_id, sha256)
        if not path.is_file():
            raise NotFound("file_not_found", "The file is no longer stored.")
        return path

    def delete(self, user_id: UserId, sha256: bytes) -> None:
        """Remove a user's file; none there is fine."""
        self.path(user_id, sha256).unlink(missing_ok=True)


def _unavailable() -> Unavailable:
    return Unavailable("storage_unavailable", "Files can't be stored at present. Please try again later.")


def _create(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=0)
    except OSError as error:
        raise _unavailable() from error


def _discard(file: IO[bytes], path: Path) -> None:
    file.close()
    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

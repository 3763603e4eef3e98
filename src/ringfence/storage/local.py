"""Files in a local folder."""

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import IO, cast

from ringfence.errors import SetupError
from ringfence.ids import UserId
from ringfence.storage.base import (
    LEFT_OVER,
    PIECE,
    Incoming,
    in_thread,
    made_in_thread,
    mark_of,
    not_found,
    unavailable,
)

_TRIES = 3  # of a rename into a folder that somebody else may remove just then, because it is empty


class LocalIncoming(Incoming):
    """A file on its way in, under a temporary name.

    Args:
        file: open for writing.
        temporary: its path.
        max_bytes: as for every `Incoming`.
    """

    def __init__(self, file: IO[bytes], temporary: Path, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.file = file
        self.temporary = temporary

    async def _put(self, data: bytearray) -> None:
        try:
            await in_thread(_write, self.file, data)
        except OSError as error:
            raise unavailable() from error

    async def _close(self) -> None:
        try:
            await in_thread(os.fsync, self.file.fileno())
        except OSError as error:
            raise unavailable() from error


class LocalStorage:
    """Files in a local folder: `<root>/<user_id>/<sha256>`, readable by the engine's own user alone.

    Beside them lie `incoming/`, what is being received, and `left/`, an empty file for each user who left within the
    last day, named by a digest of the id: by it `sweep` knows what may not be there any more.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def check(self) -> None:
        """Raises: SetupError: `storage_unusable`; the folder can't be made or written."""
        path = self._root / "incoming" / f"check.{secrets.token_hex(16)}"
        try:
            file = await asyncio.to_thread(_create, path)
        except OSError as error:
            words = f"The folder for files, {self._root}, can't be written: {error.strerror}."
            raise SetupError("storage_unusable", words) from None
        await asyncio.to_thread(_discard, file, path)

    @asynccontextmanager
    async def receive(self, user_id: UserId, max_bytes: int) -> AsyncGenerator[LocalIncoming]:
        """As the protocol says."""
        temporary = self._root / "incoming" / f"{user_id}.{secrets.token_hex(16)}"
        try:
            file = await made_in_thread(partial(_create, temporary), partial(_discard, path=temporary))
        except OSError as error:
            raise unavailable() from error
        try:
            yield LocalIncoming(file, temporary, max_bytes)
        finally:
            await asyncio.to_thread(_discard, file, temporary)

    async def sweep(self) -> None:
        """As the protocol says."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        left = {path.name for path in (self._root / "left").glob("*")}
        for folder in self._root.glob("*-*"):
            if mark_of(folder.name) in left:
                shutil.rmtree(folder, ignore_errors=True)
        for path in (*self._root.glob("incoming/*"), *self._root.glob("left/*")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - LEFT_OVER:
                    path.unlink()

    async def keep(self, incoming: Incoming, user_id: UserId, sha256: bytes) -> None:
        """As the protocol says, by an atomic rename."""
        temporary = cast("LocalIncoming", incoming).temporary  # ours: `receive` made it
        try:
            await in_thread(_rename, temporary, self.path(user_id, sha256))
        except OSError as error:
            raise unavailable() from error

    def path(self, user_id: UserId, sha256: bytes) -> Path:
        """Where a user's file with this content is, or would be."""
        return self._root / str(user_id) / sha256.hex()

    async def read(
        self, user_id: UserId, sha256: bytes, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """As the protocol says; a file that is deleted meanwhile is read to its end."""
        async with self.open(user_id, sha256) as file:
            try:
                await in_thread(file.seek, start)
                left = float("inf") if end is None else end - start
                while left > 0 and (piece := await in_thread(file.read, int(min(left, PIECE)))):
                    left -= len(piece)
                    yield piece
            except OSError as error:
                raise unavailable() from error

    @asynccontextmanager
    async def open(self, user_id: UserId, sha256: bytes) -> AsyncGenerator[IO[bytes]]:
        """As the protocol says."""
        try:
            file = await made_in_thread(partial(self.path(user_id, sha256).open, "rb"), methodcaller("close"))
        except FileNotFoundError:
            raise not_found() from None
        except OSError as error:
            raise unavailable() from error
        with file:
            yield file

    async def delete_all(self, user_id: UserId) -> None:
        """As the protocol says."""
        try:
            await asyncio.to_thread(self._delete_all, user_id)
        except OSError as error:
            raise unavailable() from error

    def _delete_all(self, user_id: UserId) -> None:
        (self._root / "left").mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / "left" / mark_of(str(user_id))).touch(mode=0o600)
        for path in self._root.glob(f"incoming/{user_id}.*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._root / str(user_id), onexc=_unless_gone)
        _sync_folder(self._root)

    async def delete(self, user_id: UserId, sha256: bytes) -> None:
        """As the protocol says."""
        try:
            await asyncio.to_thread(_remove, self.path(user_id, sha256))
        except OSError as error:
            raise unavailable() from error


def _create(path: Path) -> IO[bytes]:
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=0)


def _write(file: IO[bytes], data: bytearray) -> None:
    left = memoryview(data)
    while left:  # a disk that fills up takes a part first
        left = left[file.write(left) :]


def _discard(file: IO[bytes], path: Path) -> None:
    file.close()
    path.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path, tries: int = _TRIES) -> None:
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.rename(path)
    except (FileNotFoundError, FileExistsError):  # the latter from mkdir, where the folder goes as it looks at it
        if tries == 1:
            raise
        _rename(temporary, path, tries - 1)
    _sync_folder(path.parent)
    _sync_folder(path.parent.parent)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # others are in it, or it is gone
        path.parent.rmdir()


def _unless_gone(_call: object, _path: str, error: BaseException) -> None:
    if not isinstance(error, FileNotFoundError):  # or another worker was faster
        raise error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A rotating file of lines that any number of processes on one machine append to at once."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

_LOCK_SECONDS = 2.0  # a process that is stopped while it holds the lock must not stop the others' logs for good
_POLL_SECONDS = 0.002


class RotatingFile:
    """Appends whole lines to a file; before it grows too large or a new period begins, it becomes `name.1`.

    `name.1` becomes `name.2` and so on, as logrotate does it. The lock is on the file itself and every renaming happens
    under it, so nothing else is left to coordinate, and a process that dies leaves nothing behind.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, max_seconds: int, keep: int, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the rules; nothing is opened yet.

        Args:
            path: of the current file.
            max_bytes: above which no file grows, unless one append alone is larger.
            max_seconds: length of a period, counted from 1970 in UTC (86400: days); no file has lines of two.
            keep: how many older files stay, 1 or more.
            clock: seconds since 1970.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._keep = keep
        self._clock = clock
        self._descriptor: int | None = None

    @property
    def path(self) -> Path:
        """The current file."""
        return self._path

    def open(self) -> None:
        """Make the folder (0700, as its missing parents) and the file (0600) where they are missing.

        Raises:
            OSError: it can't be written.
        """
        self._opened()

    def append(self, lines: bytes) -> None:
        """Append whole lines: all of them or, where the disk is full, none.

        Raises:
            OSError: they could not be written.
        """
        with self._current(len(lines)) as descriptor:
            before = os.fstat(descriptor)
            try:
                written = 0
                while written < len(lines):
                    written += os.write(descriptor, lines[written:])
            except OSError:
                os.ftruncate(descriptor, before.st_size)  # no torn line
                raise
            # By this machine's clock, and never back: a file server or another machine may have another, and two clocks
            # on either side of midnight would otherwise rotate the file at every line.
            latest = before.st_mtime if before.st_size else 0.0
            os.utime(descriptor, (before.st_atime, max(latest, self._clock())))

    def close(self) -> None:
        """Close the file; appending opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            folder = self._path.parent
            for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
                missing.mkdir(mode=0o700, exist_ok=True)
            # Not blocking, because opening a pipe that nobody reads would; on files it has no effect.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "it is no regular file")
            self._descriptor = descriptor
        return self._descriptor

    @contextmanager
    def _current(self, size: int) -> Generator[int]:
        """The descriptor of the file that `path` names, locked, with room for so many bytes."""
        while True:
            descriptor = self._opened()
            _lock(descriptor)
            if not self._is_current(descriptor):  # another process has rotated it
                self.close()
            elif self._is_due(os.fstat(descriptor), size):
                self._rotate()
                self.close()
            else:
                break
        try:
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _is_due(self, found: os.stat_result, size: int) -> bool:
        if not found.st_size:
            return False
        is_old = found.st_mtime // self._max_seconds < self._clock() // self._max_seconds
        return is_old or found.st_size + size > self._max_bytes

    def _rotate(self) -> None:
        older = sorted(self._older(), reverse=True)
        for number, path in older:
            if number >= self._keep:
                path.unlink()
            else:
                path.rename(self._numbered(number + 1))
        self._path.rename(self._numbered(1))  # last: until then the lock holds off everybody else

    def _older(self) -> list[tuple[int, Path]]:
        start = f"{self._path.name}."
        found = ((path.name.removeprefix(start), path) for path in self._path.parent.iterdir())
        return [(int(rest), path) for rest, path in found if path.name.startswith(start) and rest.isdecimal()]

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock") from None
            time.sleep(_POLL_SECONDS)
        else:
            return

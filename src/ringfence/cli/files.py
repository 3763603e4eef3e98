"""Which files a folder has that are to be uploaded."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of a folder are wanted. A pattern is of a name, or of a path within the folder; `*` spans folders.

    Attributes:
        include: patterns of files; none: all.
        exclude: patterns of files and folders that are left out.
        hidden: whether those are wanted whose names begin with a dot, and what is in such folders.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False

    def file(self, place: Path) -> bool:
        """Whether a file at this place within the folder is wanted."""
        return self.folder(place) and (not self.include or _matches(place, self.include))

    def folder(self, place: Path) -> bool:
        """Whether something of a folder at this place may be wanted."""
        return (self.hidden or not place.name.startswith(".")) and not _matches(place, self.exclude)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What can't be read, and why."""

    path: Path
    reason: str


def _matches(place: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(place.name, one) or fnmatchcase(place.as_posix(), one) for one in patterns)


def find(paths: Iterable[Path], wanted: Wanted) -> Iterator[Path | Unreadable]:
    """The files that were named, and those wanted of the folders that were, in order.

    Links are followed, and no folder is entered twice. What is neither file nor folder is left out.
    """
    for path in paths:
        if path.is_dir():
            yield from _within(path, wanted)
        else:
            yield from _one(path)


def _within(top: Path, wanted: Wanted) -> Iterator[Path | Unreadable]:
    closed: list[OSError] = []
    entered: set[Path] = set()
    for here, folders, files in os.walk(top, onerror=closed.append, followlinks=True):
        folder = Path(here)
        real = folder.resolve()
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        place = folder.relative_to(top)
        folders[:] = [name for name in sorted(folders) if wanted.folder(place / name)]
        for name in sorted(files):
            if wanted.file(place / name):
                yield from _one(folder / name)
    yield from (Unreadable(Path(error.filename), reason(error)) for error in closed)


def _one(path: Path) -> Iterator[Path | Unreadable]:
    try:
        if stat.S_ISREG(path.stat().st_mode):
            yield path
    except OSError as error:  # a link that leads nowhere, or in a circle
        yield Unreadable(path, reason(error))


def reason(error: OSError) -> str:
    """Why something can't be read, for people."""
    return error.strerror or type(error).__name__

"""What a backup is on disk, how it is written, and how it is proven whole.

    manifest.json        what it is of: engine, migrations, tables, counts
    tables/NAME.copy     a table's rows, in the binary form of PostgreSQL's COPY
    files/USER/SHA256    the originals
    SHA256SUMS           the digest of every other part; `sha256sum -c SHA256SUMS` checks it too

It appears under its name when all of it is on the disk. It holds people's documents, addresses and password hashes (so
folders are 0700 and files 0600), and no key of the installation.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ringfence.errors import SetupError

_FORMAT = 1
_BUFFER = 1 << 20
_SUMS = "SHA256SUMS"
_MANIFEST = "manifest.json"
_LINE = re.compile(
    r"(?P<sha256>[0-9a-f]{64})  (?P<path>manifest\.json|tables/\w+\.copy|files/[0-9a-f-]{36}/[0-9a-f]{64})\n"
)
# PostgreSQL's COPY, binary format: signature, flags, length of the header's extension; then rows; then a row of -1
# fields (documentation of COPY, "File Formats").
_HEADER = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"
_TRAILER = b"\xff\xff"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TablePart(_Strict):
    """A table of a backup."""

    name: str
    columns: tuple[str, ...]
    rows: int


class Manifest(_Strict):
    """What a backup is of. `migrations`: name to SHA-256; `tables`: those first that others refer to."""

    format: Literal[1] = 1
    engine: str
    created_at: datetime
    migrations: dict[str, str]
    tables: tuple[TablePart, ...]
    files: int


class _Format(BaseModel):
    format: int


def table_path(folder: Path, name: str) -> Path:
    """Where a table's rows are."""
    return folder / "tables" / f"{name}.copy"


class TableWriter:
    """Writes what several COPYs of a table say into one file, as if one had said it."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._digest = hashlib.sha256(_HEADER)
        self._file = create(path)
        self._file.write(_HEADER)
        self._skip, self._tail = len(_HEADER), b""

    async def write(self, data: bytes) -> None:
        """Add a piece of a COPY; its header and its trailer are left out."""
        rest = data[self._skip :]
        self._skip -= len(data) - len(rest)
        rest = self._tail + rest
        cut = max(len(rest) - len(_TRAILER), 0)
        self._put(rest[:cut])
        self._tail = rest[cut:]

    def end_copy(self, rows: int) -> None:
        """The COPY has ended; another may follow."""
        self.rows += rows
        self._skip, self._tail = len(_HEADER), b""

    def finish(self) -> str:
        """Close the file, written through to the disk; its SHA-256 in hex."""
        self._put(_TRAILER)
        sync(self._file)
        return self._digest.hexdigest()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()


def create(path: Path) -> IO[bytes]:
    """Open a new file, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def sync(file: IO[bytes]) -> None:
    """Write a file through to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folders(folder: Path) -> None:
    """Write the names in a folder, and below it, through to the disk."""
    for path, _, _ in os.walk(folder):
        sync_folder(Path(path))


def sync_folder(folder: Path) -> None:
    """Write the names in a folder through to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def chunks(path: Path) -> Iterator[bytes]:
    """A file's content, piece by piece."""
    with path.open("rb") as file:
        while data := file.read(_BUFFER):
            yield data


def digest(path: Path) -> str:
    """A file's SHA-256 in hex."""
    found = hashlib.sha256()
    for data in chunks(path):
        found.update(data)
    return found.hexdigest()


def write_index(folder: Path, manifest: Manifest, tables: Mapping[str, str], files: Sequence[tuple[str, str]]) -> None:
    """Write the manifest and the sums.

    Args:
        folder: of the backup.
        manifest: goes into it.
        tables: name to SHA-256.
        files: user's id and SHA-256 of each.
    """
    data = manifest.model_dump_json(indent=2).encode()
    sums = [f"{hashlib.sha256(data).hexdigest()}  {_MANIFEST}\n"]
    sums += [f"{sha256}  tables/{name}.copy\n" for name, sha256 in tables.items()]
    sums += [f"{sha256}  files/{user_id}/{sha256}\n" for user_id, sha256 in files]
    for name, content in ((_MANIFEST, data), (_SUMS, "".join(sums).encode())):
        with create(folder / name) as file:
            file.write(content)
            sync(file)


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A backup of which every byte is as it was written. `files`: user's id and SHA-256 in hex of each."""

    folder: Path
    manifest: Manifest
    files: tuple[tuple[str, str], ...]


def read(folder: Path) -> BackupSet:
    """Check a backup.

    Raises:
        SetupError: `backup_missing`, `backup_damaged` or `backup_newer`.
    """
    try:
        lines = (folder / _SUMS).read_text(encoding="ascii").splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError("backup_missing", f"{folder} is no backup: it has no {_SUMS}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise _damaged(str(error)) from None
    parts = dict(_part(line) for line in lines)
    try:
        changed = [path for path, sha256 in parts.items() if digest(folder / path) != sha256]
    except OSError as error:
        raise _damaged(str(error)) from None
    if changed:
        raise _damaged(f"{len(changed)} of its parts have changed, {changed[0]} among them")
    files = tuple((path.split("/")[1], sha256) for path, sha256 in parts.items() if path.startswith("files/"))
    return BackupSet(folder, _manifest(folder, parts, files), files)


def _manifest(folder: Path, parts: dict[str, str], files: tuple[tuple[str, str], ...]) -> Manifest:
    """The manifest, if the sums list what it says: none of their lines was lost."""
    if _MANIFEST not in parts:
        raise _damaged(f"{_SUMS} does not list {_MANIFEST}")
    manifest = _parsed((folder / _MANIFEST).read_bytes())
    wanted = {_MANIFEST, *(f"tables/{table.name}.copy" for table in manifest.tables)}
    wanted |= {f"files/{user_id}/{sha256}" for user_id, sha256 in files}
    if parts.keys() != wanted or len(files) != manifest.files:
        raise _damaged(f"{_SUMS} does not list what {_MANIFEST} says")
    return manifest


def _part(line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise _damaged(f"{_SUMS} has a line that is none of its own")
    return found["path"], found["sha256"]


def _parsed(data: bytes) -> Manifest:
    try:
        if _Format.model_validate_json(data).format > _FORMAT:
            raise SetupError("backup_newer", "A newer engine made this backup: restore it with that one.")
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise _damaged(f"{_MANIFEST} can't be read ({error.error_count()} faults)") from None


def _damaged(what: str) -> SetupError:
    return SetupError("backup_damaged", f"The backup is damaged: {what}. Nothing was restored.")

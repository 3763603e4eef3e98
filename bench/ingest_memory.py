"""`ingest-memory`: what a worker's memory comes to while it ingests a PDF of 500 pages, and one of 5,000."""

import asyncio
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf as _pymupdf

from bench import corpus
from bench.harness import Goal, Series, find, ratio
from bench.insert import DIMENSIONS, Store, store
from ringfence import jobs
from ringfence.documents.ingest import Ingestion
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.service import INGEST, Library
from ringfence.embedded import postgres
from ringfence.models.base import Vectors
from ringfence.models.tokens import Estimate, Ruler
from ringfence.storage.local import LocalStorage

pymupdf: Any = _pymupdf  # partly typed upstream
GROUP = "most memory at a time"
PAGES = (500, 5000)
_WARM_UP = 50


class Random:
    """An embedder that makes nothing of texts, at no cost."""

    name = "random"
    ruler: Ruler = Estimate()
    max_tokens = None
    languages = None
    batch_texts = 32

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors that have nothing to do with the texts."""
        return np.random.default_rng(len(texts)).standard_normal((len(texts), DIMENSIONS)).astype(np.float32)

    async def close(self) -> None:
        """Nothing is held."""


def _pdf(pages: int) -> bytes:
    """A PDF whose every page says something else, as much as a page of a book."""
    random, target = np.random.default_rng(7), io.BytesIO()
    words = sorted({word for page in corpus.plain_pages()[20:120] for word in page.split() if word.isalpha()})
    with pymupdf.open() as document:
        for _ in range(pages):
            lines = [" ".join(random.choice(words, 11)) + "." for _ in range(34)]
            document.new_page().insert_text((60, 70), lines, fontsize=10)
        document.save(target, deflate=True)
    return target.getvalue()


def _peak(of: str = "self") -> float:
    """The most that a process, this one since `_forget_peak`, has held, in MB."""
    [line] = [line for line in Path(f"/proc/{of}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1000


def _parsers(of: str = "self") -> Iterator[float]:
    """What the sandbox's processes have held at most, those that run, in MB."""
    for task in Path(f"/proc/{of}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"parsing.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield _peak(child)
            yield from _parsers(child)


async def _watched(found: list[float]) -> None:
    while True:
        with suppress(OSError, ValueError):  # one of them has ended meanwhile
            found += _parsers()
        await asyncio.sleep(0.05)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def _ingested(to: Store, folder: Path, pages: int) -> tuple[float, float]:
    """Ingest such a PDF; the worker's peak and its parser's, in MB."""
    storage = LocalStorage(folder)
    library = Library(to.db, storage, 2**31)
    async with library.receive(to.user_id) as incoming:
        await incoming.write(_pdf(pages))
        await library.add(to.user_id, f"{pages}.pdf", incoming)
    async with Sandbox(processes=1) as sandbox:
        work = Ingestion(to.db, storage, sandbox, Random(), chunk_tokens=256, chunk_overlap_tokens=32)
        async with to.db.system() as tx:
            [job] = [job for job in await jobs.claim(tx, 9, timedelta(hours=1)) if job.kind == INGEST]
        _forget_peak()
        parsers = [0.0]
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watched(parsers))
            await work.run(job)
            watching.cancel()
        peak = _peak()
    assert await to.admin.fetchval("select state from documents where name = $1", f"{pages}.pdf") == "ready"
    return peak, max(parsers)


async def _run(rounds: int) -> list[Series]:
    values: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await postgres.start(Path(name) / "server"))
            for number in range(rounds):
                to = await stack.enter_async_context(store(server.url, f"bench_{number}", fenced=True))
                await _ingested(to, Path(name) / f"files_{number}", _WARM_UP)  # what is loaded late is loaded
                for pages in PAGES:
                    worker, parser = await _ingested(to, Path(name) / f"files_{number}", pages)
                    values.setdefault(_worker(pages), []).append(worker)
                    values.setdefault(_parser(pages), []).append(parser)
    return [Series(GROUP, name, "MB", tuple(found)) for name, found in values.items()]


def _worker(pages: int) -> str:
    return f"worker, {pages} pages"


def _parser(pages: int) -> str:
    return f"its parser, {pages} pages"


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: one round."""
    series = asyncio.run(_run(1 if quick else 3))
    few, many = PAGES
    goals = [
        Goal(f"{name(many)} over {few}", 1.2, least=False, got=ratio(find(series, GROUP, name(many)),
                                                                    find(series, GROUP, name(few))))
        for name in (_worker, _parser)
    ]  # fmt: skip
    return series, goals, ["Parsing, embedding (which costs nothing here) and storing overlap, with bounded queues."]

"""`embed`: the embedded model's chunks a second through the whole of ingestion, beside the bare model's."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import platformdirs

from bench import corpus
from bench.harness import Goal, Series, find, measure, ratio
from bench.insert import Store, store
from ringfence import jobs
from ringfence.documents.chunker import chunker_for
from ringfence.documents.ingest import Ingestion
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.service import INGEST, Library
from ringfence.embedded import postgres
from ringfence.embedded.weights import Weights
from ringfence.models.minilm import MiniLM
from ringfence.settings import Settings
from ringfence.storage.local import LocalStorage

WHOLE = "from the upload to what a search sees"
BARE = "the model alone, the same passages"
_PAGES = slice(20, 140)


def _text() -> str:
    return "\f".join(page for page in corpus.plain_pages()[_PAGES] if page.strip())


def _passages(model: MiniLM, text: str, settings: Settings) -> list[str]:
    chunker = chunker_for(model, settings.chunk_tokens, settings.chunk_overlap_tokens)
    chunks = [chunk for number, page in enumerate(text.split("\f"), 1) for chunk in chunker.add(number, page)]
    return [chunk.passage for chunk in chunks + chunker.finish()]


async def _ingested(to: Store, folder: Path, work: Ingestion, text: str) -> int:
    """How many chunks; all that was there before is gone first, or no vector would have to be made."""
    await to.admin.execute("truncate documents cascade; truncate jobs cascade")
    library = Library(to.db, LocalStorage(folder), 2**31)
    async with library.receive(to.user_id) as incoming:
        await incoming.write(text.encode())
        await library.add(to.user_id, "book.txt", incoming)
    async with to.db.system() as tx:
        [job] = [job for job in await jobs.claim(tx, 9, timedelta(hours=1)) if job.kind == INGEST]
    await work.run(job)
    return int(await to.admin.fetchval("select count(*) from embeddings"))


def _speed(run: Callable[[], int]) -> Callable[[], float]:
    def score() -> float:
        began = time.perf_counter()
        chunks = run()
        return chunks / (time.perf_counter() - began)

    return score


def _measure(runner: asyncio.Runner, stack: AsyncExitStack, folder: Path, *, quick: bool) -> list[Series]:
    files = Weights(platformdirs.user_cache_path("ringfence") / "models").paths("all-minilm-l6-v2")
    model, settings = MiniLM(files["model.safetensors"], files["tokenizer.json"]), Settings(_env_file=None)
    stack.push_async_callback(model.close)
    server = runner.run(stack.enter_async_context(runner.run(postgres.start(folder / "server"))))
    to = runner.run(stack.enter_async_context(store(server.url, "bench_embed", fenced=True)))
    sandbox = runner.run(stack.enter_async_context(Sandbox(processes=1)))
    work = Ingestion(
        to.db, LocalStorage(folder), sandbox, model,
        chunk_tokens=settings.chunk_tokens, chunk_overlap_tokens=settings.chunk_overlap_tokens,
    )  # fmt: skip
    text = _text()
    passages = _passages(model, text, settings)
    contestants = {
        WHOLE: _speed(lambda: runner.run(_ingested(to, folder, work, text))),
        BARE: _speed(lambda: len(runner.run(model.embed(passages)))),
    }
    return measure(f"{len(passages)} chunks of a book", "chunks/s", contestants, rounds=3 if quick else 7)


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer rounds."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            series = _measure(runner, stack, Path(name), quick=quick)
        finally:
            runner.run(stack.aclose())
    whole, bare = (find(series, series[0].group, name) for name in (WHOLE, BARE))
    goal = Goal(
        "chunks/s through the whole of ingestion over the bare model's", 0.9, least=True, got=ratio(whole, bare)
    )
    return series, [goal], _NOTES


_NOTES = [
    (
        "all-MiniLM-L6-v2 in the process of the worker. Whole: upload, parsing in its sandbox, chunks, vectors, the "
        "lexical index and PostgreSQL, all on the same two cores. Nothing of an earlier round is there."
    )
]

"""How far a tenant's documents and batches have come: asked for, or followed."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta

from ringfence.db import Database, TenantTx
from ringfence.documents import progress_queries as queries
from ringfence.documents.events import (
    BatchEvent,
    BatchProgress,
    CountsEvent,
    DocumentProgress,
    EndEvent,
    Event,
    GoneEvent,
    ProgressEvent,
    Stage,
)
from ringfence.documents.progress_queries import Batch, Counts, Step
from ringfence.documents.watching import Change, Watch
from ringfence.errors import NotFound
from ringfence.ids import BatchId, DocumentId, UserId, new_batch_id

BATCH_LIFE = timedelta(days=30)
"""For which a batch is known; its documents stay."""

_SAID = ("document_id", "name", "size", "pages", "pages_done", "chunks", "chunks_done", "reason_code", "reason")


@dataclass(frozen=True, slots=True)
class Overview:
    """Documents that are not ready, those in hand first; of those that wait the first in the queue."""

    counts: Counts
    documents: list[DocumentProgress]


class Progress:
    """How far documents have come. Every method acts for one tenant; another's document does not exist for it."""

    def __init__(self, db: Database, watch: Watch, *, window: int = 200) -> None:
        """Take where documents are.

        Args:
            db: where they are.
            watch: follows them.
            window: of all documents that wait, so many are shown.
        """
        self._db = db
        self._watch = watch
        self._window = window

    async def document(self, user_id: UserId, document_id: DocumentId) -> DocumentProgress:
        """How far a document has come.

        Raises:
            NotFound: there is no such document, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            found = await queries.these(tx, [document_id])
        if not found:
            raise NotFound("document_not_found", "There is no such document.")
        return progress_of(found[0])

    async def overview(self, user_id: UserId) -> Overview:
        """All documents that are not ready yet."""
        async with self._db.tenant(user_id) as tx:
            counts, steps = await queries.counts(tx), await queries.steps(tx, [], self._window)
        return Overview(counts, [progress_of(step) for step in steps if not step.final])

    async def known(self, user_id: UserId, digests: Collection[bytes]) -> dict[bytes, DocumentProgress]:
        """Which of these contents (SHA-256) the tenant has, and how far their documents have come."""
        async with self._db.tenant(user_id) as tx:
            return {step.sha256: progress_of(step) for step in await queries.with_content(tx, digests)}

    async def add_batch(self, user_id: UserId, documents: Iterable[DocumentId], took: timedelta) -> BatchId:
        """Remember which documents came in one request, which took that long."""
        batch_id = new_batch_id()
        async with self._db.tenant(user_id) as tx:
            await queries.add_batch(tx, batch_id, dict.fromkeys(documents), took, BATCH_LIFE)
        return batch_id

    async def batch(self, user_id: UserId, batch_id: BatchId) -> tuple[BatchProgress, list[DocumentProgress]]:
        """How far a batch and each of its documents has come.

        Raises:
            NotFound: there is no such batch, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            batch = await _batch(tx, batch_id)
            steps = await queries.these(tx, batch.documents)
        return totals(batch, steps), [progress_of(step) for step in steps]

    async def follow(
        self, user_id: UserId, asked: Collection[DocumentId] | None = None
    ) -> AsyncGenerator[Event | None]:
        """Each document as it is, and again whenever it comes further, until all that were asked for are at their end.

        None stands for nothing, where nothing happened for a while. Of an id that is no document's of the tenant it
        says that it is gone. Without `asked`: of all that are not ready, and those that come, with their counts.

        Raises:
            RateLimited, Unavailable: before the first event.
        """
        counts, done = None, False
        async with aclosing(self._watch.follow(user_id, asked)) as changes:
            async for change in changes:
                if change is None:
                    yield None
                    continue
                done = change.done
                if asked is None and change.counts != counts:
                    counts = change.counts
                    yield CountsEvent(queued=counts.queued, working=counts.working)
                for event in _events(change):
                    yield event
        yield _end(done=done)

    async def follow_batch(self, user_id: UserId, batch_id: BatchId) -> AsyncGenerator[Event | None]:
        """The same of a batch's documents, and after what happened to them how far the batch has come.

        Raises:
            NotFound: there is no such batch, or it is somebody else's; before the first event, as the others.
            RateLimited, Unavailable: as above.
        """
        async with self._db.tenant(user_id) as tx:
            batch = await _batch(tx, batch_id)
        loop = asyncio.get_running_loop()
        began = loop.time() - batch.age
        steps: dict[DocumentId, Step] = {}
        done = False
        async with aclosing(self._watch.follow(user_id, batch.documents)) as changes:
            async for change in changes:
                if change is None:
                    yield None
                    continue
                done = change.done
                for event in _events(change):
                    yield event
                steps.update((step.document_id, step) for step in change.steps)
                for document_id in change.gone:
                    steps.pop(document_id, None)
                age = loop.time() - began
                yield BatchEvent(batch=totals(replace(batch, age=age), steps.values()))
        yield _end(done=done)


def _events(change: Change) -> Iterator[Event]:
    for step in change.steps:
        yield ProgressEvent(document=progress_of(step))
    for document_id in change.gone:
        yield GoneEvent(document_id=document_id)


def _end(*, done: bool) -> EndEvent:
    return EndEvent(reason="finished" if done else "again")


async def _batch(tx: TenantTx, batch_id: BatchId) -> Batch:
    batch = await queries.batch(tx, batch_id)
    if batch is None:
        raise NotFound("batch_not_found", "There is no such batch.")
    return batch


def progress_of(step: Step) -> DocumentProgress:
    """A step as the API says it."""
    eta = 0.0 if step.final else _eta(step.elapsed or 0.0, _fraction(step))
    values = {name: getattr(step, name) for name in _SAID}
    return DocumentProgress(stage=_stage(step), eta_seconds=eta, **values)


def _stage(step: Step) -> Stage:
    """Without a worker, a document that is not at its end waits for one: again, if it was in hand before."""
    return step.stage or (step.state if step.state in {"ready", "failed"} else "queued")


def _fraction(step: Step) -> float:
    """How much of a document is done: by pages while they are parsed, then by chunks."""
    if step.final:
        return 1.0
    done, of = (step.pages_done, step.pages) if step.stage == "parsing" else (step.chunks_done, step.chunks)
    return min(1.0, done / of) if step.stage and of else 0.0


def _eta(elapsed: float, fraction: float) -> float | None:
    """What is left takes as long in proportion as what is done; None where nothing is done yet."""
    return round(max(0.0, elapsed) * (1 - fraction) / fraction, 1) if fraction > 0 else None


def totals(batch: Batch, steps: Collection[Step]) -> BatchProgress:
    """How far a batch has come, by these steps of its documents; what is left is estimated by bytes.

    What had come to its end before the batch began says nothing of how fast it goes.
    """
    moving = [step for step in steps if not (step.final and step.updated_at < batch.created_at)]
    size = sum(step.size for step in moving)
    fraction = sum(step.size * _fraction(step) for step in moving) / size if size else 1.0
    return BatchProgress(
        batch_id=batch.batch_id,
        stages=dict(Counter(_stage(step) for step in steps)),
        gone=len(batch.documents) - len(steps),
        pages=sum(step.pages or 0 for step in steps),
        pages_done=sum(step.pages_done for step in steps),
        chunks=sum(step.chunks for step in steps),
        chunks_done=sum(step.chunks_done for step in steps),
        eta_seconds=_eta(batch.age, fraction),
    )

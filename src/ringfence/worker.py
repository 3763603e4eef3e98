"""The worker: claim a job → run it → finish, retry or park it. Any number may run on one database."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from uuid import UUID

import structlog

from ringfence import jobs
from ringfence.db import Database, SystemTx
from ringfence.errors import Conflict, RingfenceError, Unavailable
from ringfence.jobs import MAX_CRASHES, MAX_DEFECTS, Handler, Job
from ringfence.telemetry.metrics import JOB_SECONDS, JOBS
from ringfence.telemetry.traces import tracing

log = structlog.get_logger()

_DOUBLINGS = 10
_RELEASE_SECONDS = 5.0


class Worker:
    """Runs jobs until it is cancelled; then it hands back what it was running."""

    def __init__(
        self, db: Database, handlers: Mapping[str, Handler], *, slots: int, lease: float, poll: float = 1.0
    ) -> None:
        """Take what it works with.

        Args:
            db: where the queue is.
            handlers: by kind of job.
            slots: jobs run at once.
            lease: seconds after which a silent worker's job goes to another.
            poll: seconds between two looks at the queue where no notification comes.
        """
        self._db = db
        self._handlers = handlers
        self._slots = slots
        self._lease = timedelta(seconds=lease)
        self._poll = poll
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._alone = False
        self._unsaved: list[Job] = []
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        async with AsyncExitStack() as stack:
            wake = await self._listen(stack)
            beat = asyncio.create_task(self._beat())
            try:
                while True:
                    wake.clear()
                    if not await self._claim():
                        await self._rest(wake)
            finally:
                beat.cancel()
                await self._hand_back()

    async def _listen(self, stack: AsyncExitStack) -> asyncio.Event:
        try:
            return await stack.enter_async_context(self._db.listen(jobs.CHANNEL))
        except Unavailable:
            return asyncio.Event()  # polling alone

    async def _rest(self, wake: asyncio.Event) -> None:
        """Until a job may have come or a slot is free, at most `poll` seconds."""
        self._freed.clear()
        waits = [asyncio.create_task(event.wait()) for event in (wake, self._freed)]
        await asyncio.wait(waits, timeout=self._poll, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _claim(self) -> bool:
        """Take as many jobs as there are free slots; False where there is nothing to take or nowhere to put it.

        A suspect takes all slots: what it may do to the worker, it does to no other job.
        """
        busy = len(self._running)
        free = 0 if self._alone and busy else self._slots - busy
        if not free:
            return False
        try:
            async with asyncio.timeout(self._lease.total_seconds()), self._db.system() as tx:
                claimed = await jobs.claim(tx, free, self._lease, idle=not busy)
        except Exception as error:  # noqa: BLE001  # whatever the database says: a worker outlives it
            _note("claim_failed", error)
            return False
        self._alone = any(job.suspect for job in claimed)
        for job in claimed:
            self._running[job.token] = asyncio.create_task(self._one(job))
        return bool(claimed)

    async def _beat(self) -> None:
        """Keep the leases; drop a job that another worker has taken over."""
        pause = self._lease.total_seconds() / 3
        while True:
            await asyncio.sleep(pause)
            before = dict(self._running)  # what is claimed meanwhile was not asked about
            try:
                async with asyncio.timeout(pause), self._db.system() as tx:
                    held = await jobs.extend(tx, list(before), self._lease)
                    await self._give_back(tx)
            except Exception as error:  # noqa: BLE001  # whatever the database says: the next beat may be heard
                _note("beat_failed", error)
                continue
            for token in before.keys() - held:
                before[token].cancel()

    async def _give_back(self, tx: SystemTx) -> None:
        """Let go of what ended while nothing could be saved: the database was silent over it, not the worker."""
        unsaved, self._unsaved = self._unsaved, []
        for job in unsaved:
            await jobs.release(tx, job)

    async def _one(self, job: Job) -> None:
        structlog.contextvars.bind_contextvars(job_id=job.job_id, kind=job.kind, user_id=str(job.user_id))
        kind = job.kind if job.kind in self._handlers else "unknown"
        outcome, began = "lost", time.perf_counter()
        try:
            with tracing.span(f"job {kind}", job_id=job.job_id) as span, JOB_SECONDS.labels(kind).time():
                structlog.contextvars.bind_contextvars(**tracing.ids())
                outcome = await self._attempt(job)
                span.set_attribute("outcome", outcome)
        except Unavailable:
            log.warning("job_result_unsaved")
            self._unsaved.append(job)  # to run again, after the next beat that is heard, or when the lease has ended
        except asyncio.CancelledError:
            # Without effect if another worker has taken over; and if it fails, one will, when the lease has ended.
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(min(_RELEASE_SECONDS, self._lease.total_seconds())), self._db.system() as tx:
                    released = await jobs.release(tx, job)
                outcome = "handed_back" if released else "lost"
            raise
        finally:
            JOBS.labels(kind, outcome).inc()
            log.info("job", outcome=outcome, ms=round((time.perf_counter() - began) * 1000, 1))
            self._running.pop(job.token, None)
            self._freed.set()

    async def _attempt(self, job: Job) -> str:
        """Run a job and save what became of it; the outcome, as metrics name it."""
        handler = self._handlers.get(job.kind)
        if handler is None:
            log.error("job_unknown")
            async with self._db.system() as tx:
                return _saved("parked", held=await jobs.park(tx, job, "unknown_kind"))
        try:
            if job.crashes >= MAX_CRASHES:
                raise Conflict("worker_died", f"Processing it was broken off {job.crashes} times; it was given up.")
            await handler.run(job)
        except RingfenceError as error:
            again = isinstance(error, Unavailable) and job.age < handler.patience
            return await self._failed(job, handler, error, again=again)
        except Exception:  # a defect: the queue must go on, and the log tells
            log.exception("job_defect")
            defect = Unavailable("internal", "Something went wrong inside the engine.")
            return await self._failed(job, handler, defect, again=job.attempts < MAX_DEFECTS)
        async with self._db.system() as tx:
            return _saved("done", held=await jobs.finish(tx, job))

    async def _failed(self, job: Job, handler: Handler, error: RingfenceError, *, again: bool) -> str:
        log.warning("job_failed", code=error.code, attempt=job.attempts, again=again)
        if again:
            # Jitter over an exponential back-off, so that many jobs do not come back at once.
            longest = handler.longest_delay.total_seconds()
            delay = min(longest, 2.0 ** min(job.attempts, _DOUBLINGS)) * random.uniform(0.5, 1)  # noqa: S311 (no secret)
            async with self._db.system() as tx:
                return _saved("retried", held=await jobs.retry(tx, job, error.code, timedelta(seconds=delay)))
        await handler.give_up(job, error.code, error.message)
        async with self._db.system() as tx:
            return _saved("parked", held=await jobs.park(tx, job, error.code))

    async def _hand_back(self) -> None:
        """Stop what runs, and let other workers have it."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _saved(outcome: str, *, held: bool) -> str:
    return outcome if held else "lost"


def _note(event: str, error: Exception) -> None:
    """Log a failure of the queue; an outage without its trace, because it comes again at each look."""
    outage = isinstance(error, Unavailable | TimeoutError)
    log.warning(event, exc_info=None if outage else error)

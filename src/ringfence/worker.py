"""The worker: claim a job → run it → finish, retry or park it. Any number may run on one database."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from uuid import UUID

import structlog

from ringfence import jobs
from ringfence.db import Database
from ringfence.errors import Conflict, RingfenceError, Unavailable
from ringfence.jobs import MAX_CRASHES, MAX_DEFECTS, Handler, Job

log = structlog.get_logger()

_LONGEST_DELAY = 300.0
_DOUBLINGS = 10


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
        """Take as many jobs as there are free slots; False where there is nothing to take or nowhere to put it."""
        free = self._slots - len(self._running)
        if not free:
            return False
        try:
            async with asyncio.timeout(self._lease.total_seconds()), self._db.system() as tx:
                claimed = await jobs.claim(tx, free, self._lease)
        except Exception as error:  # noqa: BLE001  # whatever the database says: a worker outlives it
            _note("claim_failed", error)
            return False
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
            except Exception as error:  # noqa: BLE001  # whatever the database says: the next beat may be heard
                _note("beat_failed", error)
                continue
            for token in before.keys() - held:
                before[token].cancel()

    async def _one(self, job: Job) -> None:
        structlog.contextvars.bind_contextvars(job_id=job.job_id, kind=job.kind, user_id=str(job.user_id))
        try:
            await self._attempt(job)
        except Unavailable:
            log.warning("job_result_unsaved")  # the lease will end, and the job run again
        except asyncio.CancelledError:
            with suppress(Unavailable):
                async with self._db.system() as tx:
                    await jobs.release(tx, job)  # without effect if another worker has taken over
            raise
        finally:
            self._running.pop(job.token, None)
            self._freed.set()

    async def _attempt(self, job: Job) -> None:
        handler = self._handlers.get(job.kind)
        if handler is None:
            log.error("job_unknown")
            async with self._db.system() as tx:
                await jobs.park(tx, job, "unknown_kind")
            return
        try:
            if job.crashes >= MAX_CRASHES:
                raise Conflict("worker_died", "Processing was broken off too often.")
            await handler.run(job)
        except RingfenceError as error:
            again = isinstance(error, Unavailable) and job.age < handler.patience
            await self._failed(job, handler, error, again=again)
        except Exception:  # a defect: the queue must go on, and the log tells
            log.exception("job_defect")
            defect = Unavailable("internal", "Something went wrong inside the engine.")
            await self._failed(job, handler, defect, again=job.attempts < MAX_DEFECTS)
        else:
            async with self._db.system() as tx:
                await jobs.finish(tx, job)

    async def _failed(self, job: Job, handler: Handler, error: RingfenceError, *, again: bool) -> None:
        log.warning("job_failed", code=error.code, attempt=job.attempts, again=again)
        if again:
            # Jitter over an exponential back-off, so that many jobs do not come back at once.
            delay = min(_LONGEST_DELAY, 2.0 ** min(job.attempts, _DOUBLINGS)) * random.uniform(0.5, 1)  # noqa: S311 (no secret)
            async with self._db.system() as tx:
                await jobs.retry(tx, job, error.code, timedelta(seconds=delay))
            return
        await handler.give_up(job, error.code, error.message)
        async with self._db.system() as tx:
            await jobs.park(tx, job, error.code)

    async def _hand_back(self) -> None:
        """Stop what runs, and let other workers have it."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _note(event: str, error: Exception) -> None:
    """Log a failure of the queue; an outage without its trace, because it comes again at each look."""
    outage = isinstance(error, Unavailable | TimeoutError)
    log.warning(event, exc_info=None if outage else error)

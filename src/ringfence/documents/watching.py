"""Telling any number of streams what happens to documents, by one look at the queue a second.

Nothing is sent from worker to API. The queue is asked, for all users at once whose streams are open, whether any of
their jobs came, runs or ended (`jobs.marks`), and of those users alone the documents are read. So what it costs grows
with the jobs that run, which workers' slots bound, and not with streams or users; no connection is held meanwhile; and
a transaction pooler is no obstacle, as it is to LISTEN.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import structlog

from ringfence import jobs
from ringfence.db import Database
from ringfence.documents import progress_queries as queries
from ringfence.documents.progress_queries import Counts, Step
from ringfence.errors import RateLimited, Unavailable
from ringfence.ids import DocumentId, UserId

log = structlog.get_logger()

_READERS = 4
_LONGEST_PAUSE = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often who looks. In seconds.

    Attributes:
        poll: between two looks at the queue.
        slow: after which a user's documents are read though nothing seems to have happened.
        beat: after which a stream on which nothing happened says so, lest somebody between takes it for dead.
        life: of a stream: after that its client has to show its token again.
    """

    poll: float = 1.0
    slow: float = 15.0
    beat: float = 15.0
    life: float = 300.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a user's documents showed: those that are not ready yet, and those that somebody follows."""

    steps: dict[DocumentId, Step]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Change:
    """What has happened since the last one.

    Attributes:
        steps: documents that came further.
        gone: ids of such as are there no more.
        counts: of all the tenant's documents that are not ready.
        done: whether nothing more will come of those that were asked for.
    """

    steps: list[Step]
    gone: list[DocumentId]
    counts: Counts
    done: bool


@dataclass(eq=False, slots=True)
class Follower:
    """Who follows documents, and what they know already.

    Attributes:
        asked: which; None: all that are not ready.
        open: those of which more may come.
        told: what the follower knows.
        new: nothing was told yet.
    """

    asked: frozenset[DocumentId] | None
    open: set[DocumentId] = field(default_factory=set)
    told: dict[DocumentId, Step] = field(default_factory=dict)
    new: bool = True

    def take(self, seen: Seen) -> Change:
        """What of this is new. It counts as told from here on, so that whoever looks next knows who follows what."""
        wanted = [step for step in seen.steps.values() if self.asked is None or step.document_id in self.asked]
        steps = [step for step in wanted if self._is_news(step)]
        gone = [document_id for document_id in self.open if document_id not in seen.steps]
        self.told = {step.document_id: step for step in wanted}
        self.open = {step.document_id for step in wanted if not step.final}
        self.new = False
        return Change(steps, gone, seen.counts, self.asked is not None and not self.open)

    def _is_news(self, step: Step) -> bool:
        """What was over before they came, who follows everything did not ask for."""
        over = self.new and self.asked is None and step.final
        return not over and self.told.get(step.document_id) != step


@dataclass(eq=False, slots=True)
class _Watched:
    """A user whose documents are followed."""

    followers: set[Follower] = field(default_factory=set)
    seen: Seen | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    mark: jobs.Mark | None = None
    read_at: float = 0.0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def followed(self) -> set[DocumentId]:
        """The documents that must not be missed: what somebody was told of, or is about to be, until it is over."""
        open_ones = {document_id for follower in self.followers for document_id in follower.open}
        steps = self.seen.steps if self.seen else {}
        return open_ones | {document_id for document_id, step in steps.items() if not step.final}

    def show(self, seen: Seen) -> None:
        """Wake who waits for news, if this is any."""
        before, self.seen = self.seen, seen
        if seen != before:
            self.news.set()
            self.news = asyncio.Event()


class Watch:
    """Follows documents for streams. Every method acts for one tenant."""

    def __init__(self, db: Database, *, pace: Pace | None = None, window: int = 200, streams: int = 20) -> None:
        """Take where documents are.

        Args:
            db: where they are.
            pace: how often it looks.
            window: of all documents that wait, so many are shown, the first in the queue.
            streams: that a user may have open at once, here.
        """
        self._db = db
        self._pace = pace or Pace()
        self._window = window
        self._streams = streams
        self._watched: dict[UserId, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None
        self._readers = asyncio.Semaphore(_READERS)

    async def follow(self, user_id: UserId, asked: Iterable[DocumentId] | None = None) -> AsyncGenerator[Change | None]:
        """What happens to documents, beginning with how they are; None where nothing has happened for a while.

        Ends when nothing more can come of those that were asked for (`Change.done`), or when a stream's life is over.

        Args:
            user_id: whose.
            asked: which; None: all that are not ready, and those that come.

        Raises:
            RateLimited: `too_many_streams`.
            Unavailable: the database can't be reached; before the first change alone.
        """
        wanted = None if asked is None else frozenset(asked)
        follower = Follower(wanted, set(wanted or ()))
        loop = asyncio.get_running_loop()
        end = loop.time() + self._pace.life
        with self._watching(user_id, follower) as watched:
            seen: Seen | None = await self._read(user_id, watched)
            while seen:
                news = watched.news
                change = follower.take(seen)
                yield change
                if change.done:
                    return
                async with aclosing(self._beats(news, end)) as beats:
                    async for _ in beats:
                        yield None
                seen = watched.seen if loop.time() < end else None

    async def _beats(self, news: asyncio.Event, end: float) -> AsyncGenerator[None]:
        """Wait for news or the end; yields at each beat meanwhile."""
        loop = asyncio.get_running_loop()
        while not news.is_set() and (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(self._pace.beat, left)):
                    await news.wait()
            except TimeoutError:
                yield None

    @contextmanager
    def _watching(self, user_id: UserId, follower: Follower) -> Generator[_Watched]:
        watched = self._watched.setdefault(user_id, _Watched())
        if len(watched.followers) >= self._streams:
            policy = f'"streams";q={self._streams};w={round(self._pace.life)}'
            message = f"There are {self._streams} streams of progress open already. Please close one."
            raise RateLimited("too_many_streams", message, retry_after=self._pace.beat, policy=policy)
        watched.followers.add(follower)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield watched
        finally:
            watched.followers.discard(follower)
            if not watched.followers:
                self._watched.pop(user_id, None)

    async def _look(self) -> None:
        """Look at the queue as long as anybody follows anything."""
        pause = self._pace.poll
        while True:
            await asyncio.sleep(pause)
            if not self._watched:
                self._looking = None
                return
            try:
                await self._round()
                pause = self._pace.poll
            except Unavailable:
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:  # a defect: streams must not fall silent over it, and the log tells
                log.exception("watch_failed")

    async def _round(self) -> None:
        """Read the documents of those of whom something may be new."""
        watched, now = dict(self._watched), asyncio.get_running_loop().time()
        async with self._db.system() as tx:
            marks = await jobs.marks(tx, watched)
        due = []
        for user_id, one in watched.items():
            mark = marks.get(user_id)
            if mark != one.mark or (mark and mark.running) or now - one.read_at >= self._pace.slow:
                due.append(self._again(user_id, one, mark))
        for result in await asyncio.gather(*due, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _again(self, user_id: UserId, watched: _Watched, mark: jobs.Mark | None) -> None:
        async with self._readers:
            await self._read(user_id, watched)
        watched.mark = mark

    async def _read(self, user_id: UserId, watched: _Watched) -> Seen:
        async with watched.reading:
            everything = any(follower.asked is None for follower in watched.followers)
            followed = watched.followed()
            async with self._db.tenant(user_id) as tx:
                steps = await queries.steps(tx, followed, self._window if everything else 0)
                counts = await queries.counts(tx)
            seen = Seen({step.document_id: step for step in steps}, counts)
            watched.read_at = asyncio.get_running_loop().time()
            watched.show(seen)
            return seen

    async def close(self) -> None:
        """Stop looking."""
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

"""How many questions a user asks in a day (UTC), so that nobody has a model for themselves."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import structlog

from ringfence.answers import queries
from ringfence.answers.events import DoneEvent, ErrorEvent, Event
from ringfence.db import Database
from ringfence.errors import RateLimited, Unavailable
from ringfence.ids import UserId
from ringfence.limits import Note, Quotas, Rate, Standing, unsaid

log = structlog.get_logger()

_DAY = 86_400

type Stopped = Callable[[], bool]
"""Whether the server's stop, and not the reader, ends what it ends."""


def never() -> bool:
    """No server stops."""
    return False


@dataclass(frozen=True, slots=True)
class Asked:
    """How many questions one has asked today, and when the count begins anew."""

    questions: int
    resets_at: datetime


class Questions:
    """Counts questions.

    Args:
        db: where the counts are.
        quotas: how many each user may ask.
        now: the clock, in UTC.
    """

    def __init__(self, db: Database, quotas: Quotas, *, now: Callable[[], datetime]) -> None:
        self._db = db
        self._quotas = quotas
        self._now = now

    async def today(self, user_id: UserId) -> Asked:
        """How many there were today."""
        now = self._now()
        async with self._db.tenant(user_id) as tx:
            return Asked(await queries.questions_asked(tx, now.date()), _midnight(now))

    async def spend(self, user_id: UserId, note: Note = unsaid) -> None:
        """Count what costs a model as much as a question, whatever comes of it.

        Raises:
            RateLimited: `too_many_questions`.
        """
        await self._count(user_id, note)

    async def counted(
        self, user_id: UserId, events: AsyncGenerator[Event], note: Note = unsaid, stopped: Stopped = never
    ) -> AsyncGenerator[Event]:
        """The same events, of an answer that counts, unless it fails by the engine's own fault or stop.

        One that its reader leaves counts.

        Raises:
            RateLimited: `too_many_questions`, before anything was done.
        """
        async with aclosing(events):
            day, settled = await self._count(user_id, note), False
            try:
                async for event in events:
                    settled = isinstance(event, DoneEvent | ErrorEvent)
                    if isinstance(event, ErrorEvent):
                        await self._give_back(user_id, day)
                    yield event
            except (GeneratorExit, asyncio.CancelledError):
                if stopped() and not settled:
                    await self._give_back(user_id, day)
                raise
            except Exception:  # whatever went wrong was not the user's question; it goes on
                await self._give_back(user_id, day)
                raise

    async def _count(self, user_id: UserId, note: Note) -> date:
        now = self._now()
        wait = (_midnight(now) - now).total_seconds()
        async with self._db.tenant(user_id) as tx:
            limit = (await self._quotas.of(tx)).questions
            asked = await queries.count_question(tx, now.date(), limit)
        if limit:
            rate = Rate("questions", limit, _DAY)
            if asked is None:
                message = f"You may ask {limit} questions a day, and have. The next day begins at midnight, UTC."
                raise RateLimited("too_many_questions", message, retry_after=wait, policy=rate.policy)
            note(Standing(rate, limit - asked, wait))
        return now.date()

    async def _give_back(self, user_id: UserId, day: date) -> None:
        try:
            async with self._db.tenant(user_id) as tx:
                await queries.uncount_question(tx, day)
        except Unavailable as error:  # the answer's own failure says more
            log.warning("question_not_given_back", code=error.code)


def _midnight(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), time(), UTC)

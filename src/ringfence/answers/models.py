"""Chat models as users see them: which they may choose, which they have chosen, and what those took for them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import date, datetime, timedelta

import structlog

from ringfence.answers import model_queries
from ringfence.answers.model_queries import DaySpent
from ringfence.db import Database
from ringfence.errors import RingfenceError
from ringfence.ids import UserId
from ringfence.models.desk import Desk, Offer, Spending, Turn

log = structlog.get_logger()

_SAVES = 2  # connections that are used at once, however many answers end


class Models:
    """Which chat model answers whom.

    Args:
        db: where choices are.
        desk: the models.
    """

    def __init__(self, db: Database, desk: Desk) -> None:
        self._db = db
        self._desk = desk

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What users may choose; the first answers those who have not."""
        return self._desk.offers

    def answers(self, offer: Offer) -> bool:
        """Whether a model is asked at present: it has not failed again and again just now."""
        return self._desk.answers(offer.name)

    async def of(self, user_id: UserId, name: str | None = None) -> Turn | None:
        """The model that answers a user's question; None where there is none.

        Args:
            user_id: whose.
            name: which it shall be; None: the one that the user has chosen, as long as it is offered.

        Raises:
            NotFound: `model_not_found`.
        """
        # Nobody who has no choice is looked up.
        return self._desk.of(user_id, name or (await self.chosen(user_id) if len(self.offers) > 1 else None))

    async def aside(self, user_id: UserId) -> Turn | None:
        """The same for what is no question, but helps to find something."""
        model = await self.of(user_id)
        return model.aside() if model else None

    async def chosen(self, user_id: UserId) -> str | None:
        """The name of what a user has chosen; None: nothing, or what is no longer offered."""
        async with self._db.tenant(user_id) as tx:
            name = await model_queries.chosen(tx)
        return name if name in {offer.name for offer in self.offers} else None

    async def choose(self, user_id: UserId, name: str | None) -> None:
        """Let a model answer a user from now on, where a question does not say; None: the installation's.

        Raises:
            NotFound: `model_not_found`.
        """
        if name is not None:
            self._desk.of(user_id, name)
        async with self._db.tenant(user_id) as tx:
            await model_queries.choose(tx, name)


class Ledger:
    """What models took for users.

    Args:
        db: where it is kept.
        now: the clock, in UTC.
    """

    def __init__(self, db: Database, *, now: Callable[[], datetime]) -> None:
        self._db = db
        self._now = now
        self._saving: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(_SAVES)

    def enter(self, spending: Spending) -> None:
        """Begin to keep what a request took; whoever waits for its answer does not wait for this."""
        task = asyncio.create_task(self._enter(self._now().date(), spending))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _enter(self, day: date, spending: Spending) -> None:
        try:
            async with self._gate, self._db.tenant(spending.user_id) as tx:
                await model_queries.spend(tx, day, spending)
        except RingfenceError as error:
            log.warning("spending_unsaved", code=error.code)
        except Exception:  # a defect: nobody else would say so
            log.exception("spending_unsaved")

    async def newest(self, user_id: UserId, days: int) -> list[DaySpent]:
        """What a user's requests took in the last days, today included; the oldest first."""
        since = self._now().date() - timedelta(days=days - 1)
        async with self._db.tenant(user_id) as tx:
            return await model_queries.spent(tx, since)

    async def all(self, user_id: UserId) -> AsyncGenerator[list[DaySpent]]:
        """All that is kept."""
        async with self._db.tenant(user_id) as tx:
            found = await model_queries.spent(tx, date.min)
        yield found

    async def close(self) -> None:
        """Wait for what is being kept."""
        await asyncio.gather(*self._saving)

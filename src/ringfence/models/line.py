"""A line before something that serves a few at a time: who waits is let in by tenant, not by who has asked most."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ringfence.errors import Unavailable
from ringfence.ids import UserId
from ringfence.telemetry.metrics import MODEL_IN_USE, MODEL_WAITING

type _Waiter = asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Room:
    """How much there is.

    Attributes:
        places: how many are served at once.
        waiting: how many may wait.
        seconds: how long each of them does, at most.
    """

    places: int
    waiting: int = 200
    seconds: float = 30.0


class Line:
    """Lets in as many as there are places; the others wait, and a free place goes to the tenant that has fewest.

    So a tenant's single question waits for one place to become free, however many another tenant has asked. Among
    tenants that have as many, the one goes first that has had none for longest. Where nobody more may wait, the tenant
    with most who wait loses its newest, which may be the one that comes.

    Args:
        name: under which its figures are counted.
        room: how much there is.
    """

    def __init__(self, name: str, room: Room) -> None:
        self._room = room
        self._inside = Counter[UserId]()
        self._waiting: dict[UserId, deque[_Waiter]] = {}
        self._in_use, self._in_line = MODEL_IN_USE.labels(name), MODEL_WAITING.labels(name)

    @asynccontextmanager
    async def place(self, tenant: UserId) -> AsyncGenerator[None]:
        """Have a place, as soon as it is one's turn. Whoever leaves or is cancelled gives it up at once.

        Raises:
            Unavailable: `model_busy`: too many wait, or the wait was too long.
        """
        if self._is_free():
            self._let_in(tenant)
        else:
            await self._turn(tenant)
        try:
            yield
        finally:
            self._leave(tenant)

    def admits(self, tenant: UserId) -> bool:
        """Whether a tenant would be let in at present, or could wait."""
        return self._is_free() or self._may_wait() or self._loser(tenant) != tenant

    def _is_free(self) -> bool:
        return self._inside.total() < self._room.places

    def _may_wait(self) -> bool:
        return sum(map(len, self._waiting.values())) < self._room.waiting

    def _loser(self, comer: UserId) -> UserId:
        """The tenant with most who wait, were one more of `comer`'s among them; of equals, `comer`."""
        lengths = Counter({tenant: len(line) for tenant, line in self._waiting.items()})
        lengths[comer] += 1
        return max(lengths, key=lambda tenant: (lengths[tenant], tenant == comer))

    async def _turn(self, tenant: UserId) -> None:
        if not self._may_wait():
            if (loser := self._loser(tenant)) == tenant:
                raise _busy()
            self._give_up(loser, newest := self._waiting[loser][-1])
            if not newest.done():  # else it has left, and is not awake yet
                newest.set_exception(_busy())
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(waiter)
        self._in_line.inc()
        try:
            async with asyncio.timeout(self._room.seconds):
                await waiter
        except TimeoutError:
            self._withdraw(tenant, waiter)
            raise _busy() from None
        except asyncio.CancelledError:
            self._withdraw(tenant, waiter)
            raise
        finally:
            self._in_line.dec()

    def _withdraw(self, tenant: UserId, waiter: _Waiter) -> None:
        if waiter.cancelled():
            self._give_up(tenant, waiter)
        elif waiter.exception() is None:  # its turn came at this very moment
            self._leave(tenant)

    def _give_up(self, tenant: UserId, waiter: _Waiter) -> None:
        line = self._waiting.get(tenant, deque[_Waiter]())
        if waiter in line:
            line.remove(waiter)
        if not line:
            self._waiting.pop(tenant, None)

    def _let_in(self, tenant: UserId) -> None:
        self._inside[tenant] += 1
        self._in_use.inc()

    def _leave(self, tenant: UserId) -> None:
        self._inside[tenant] -= 1
        if not self._inside[tenant]:
            del self._inside[tenant]
        self._in_use.dec()
        if line := self._waiting.pop(tenant, None):
            self._waiting[tenant] = line  # behind all others
        for comer in sorted(self._waiting, key=lambda tenant: self._inside[tenant]):
            if waiter := self._next(comer):
                self._let_in(comer)
                waiter.set_result(None)
                return

    def _next(self, tenant: UserId) -> _Waiter | None:
        """The tenant's first who still waits, who does so no longer."""
        line = self._waiting[tenant]
        waiter = next((waiter for waiter in line if not waiter.done()), None)
        if waiter:
            self._give_up(tenant, waiter)
        return waiter


def _busy() -> Unavailable:
    return Unavailable("model_busy", "The language model has too much to do at present. Please ask again in a moment.")

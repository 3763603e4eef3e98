import asyncio

import pytest

from ringfence.documents.looking import Turns
from ringfence.errors import RateLimited, Unavailable
from ringfence.ids import new_user_id

ADA, BOB = new_user_id(), new_user_id()


class Queue:
    """Requests that hold their turn until they are let go, in the order in which they came to it."""

    def __init__(self, turns):
        self._turns = turns
        self.order = []
        self._tasks = []
        self._gate = asyncio.Event()

    def ask(self, user_id, name):
        self._tasks.append(asyncio.create_task(self._look(user_id, name)))

    async def _look(self, user_id, name):
        async with self._turns.turn(user_id):
            self.order.append(name)
            await self._gate.wait()

    async def settle(self):
        for _ in range(50):
            await asyncio.sleep(0)  # those who wait are tasks of this loop

    async def release(self):
        self._gate.set()
        return await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_tenant_with_many_does_not_hold_up_another():
    queue = Queue(Turns(1))
    for number in range(5):
        queue.ask(ADA, f"ada {number}")
    await queue.settle()
    queue.ask(BOB, "bob")
    await queue.release()
    assert queue.order == ["ada 0", "bob", "ada 1", "ada 2", "ada 3", "ada 4"]


async def test_of_one_tenant_one_at_a_time():
    queue = Queue(Turns(4))
    queue.ask(ADA, "first")
    queue.ask(ADA, "second")
    queue.ask(BOB, "other")
    await queue.settle()
    assert queue.order == ["first", "other"]
    await queue.release()


async def test_more_than_may_wait_are_refused():
    queue = Queue(Turns(1, each=2, most=3))
    for _ in range(3):
        queue.ask(ADA, "ada")
    for _ in range(2):
        queue.ask(BOB, "bob")
    await queue.settle()
    kinds = [type(one) for one in await queue.release()]
    assert kinds == [type(None), type(None), RateLimited, type(None), Unavailable]


async def test_who_leaves_makes_room_and_nothing_is_left():
    turns = Turns(1, each=1)
    waiting = asyncio.create_task(Queue(turns)._look(ADA, "ada"))
    await asyncio.sleep(0)  # it has begun to wait
    with pytest.raises(RateLimited, match="too_many_pages_at_once"):
        async with turns.turn(ADA):
            pass
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with turns.turn(ADA):
        pass
    assert turns._lines == {}

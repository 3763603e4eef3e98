"""Who is let in when, and who gives way."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ringfence.errors import Unavailable
from ringfence.ids import new_user_id
from ringfence.models.line import Line, Room

ANN, BOB, CY = new_user_id(), new_user_id(), new_user_id()


class Crowd:
    """Requests to a line, in tasks of their own, and in which order they were let in."""

    def __init__(self, line):
        self.line = line
        self.inside = []
        self.tasks = {}
        self.ends = {}

    def sets_out(self, name, tenant):
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, tenant))

    async def comes(self, *names, tenant):
        for name in names:
            self.sets_out(name, tenant)
            await self.settles()

    async def _stay(self, name, tenant):
        async with self.line.place(tenant):
            self.inside.append(name)
            await self.ends[name].wait()

    async def leaves(self, *names):
        for name in names:
            self.ends[name].set()
            await self.tasks[name]
            await self.settles()

    async def settles(self):
        for _ in range(10):  # each step of the tasks is ready at once: nothing here waits for anything outside
            await asyncio.sleep(0)

    async def busy(self, name):
        with pytest.raises(Unavailable, match="model_busy"):
            await self.tasks[name]


@asynccontextmanager
async def crowd(places, waiting=100, seconds=60.0):
    found = Crowd(Line("test", Room(places, waiting, seconds)))
    try:
        yield found
    finally:
        for task in found.tasks.values():
            task.cancel()
        await asyncio.gather(*found.tasks.values(), return_exceptions=True)
        assert found.line.admits(ANN)
        async with found.line.place(ANN):  # all places are free again
            pass


async def test_a_single_question_waits_for_one_place_and_not_for_anothers_hundred():
    async with crowd(places=2) as them:
        await them.comes(*range(100), tenant=ANN)
        await them.comes("bob", tenant=BOB)
        assert them.inside == [0, 1]
        await them.leaves(1)
        assert them.inside == [0, 1, "bob"]
        await them.leaves(0)
        assert them.inside == [0, 1, "bob", 2]


async def test_of_equals_goes_who_was_served_longest_ago():
    async with crowd(places=1) as them:
        await them.comes("first", tenant=CY)
        await them.comes("a1", "a2", "a3", tenant=ANN)
        await them.comes("b1", "b2", tenant=BOB)
        for name in ("first", "a1", "b1", "a2", "b2", "a3"):
            await them.leaves(name)
        assert them.inside == ["first", "a1", "b1", "a2", "b2", "a3"]


async def test_who_has_most_in_the_line_gives_way():
    async with crowd(places=1, waiting=3) as them:
        await them.comes("a0", "a1", "a2", "a3", tenant=ANN)
        assert not them.line.admits(ANN)
        await them.comes("a4", tenant=ANN)
        await them.busy("a4")
        assert them.line.admits(BOB)
        await them.comes("b1", tenant=BOB)
        await them.busy("a3")
        await them.comes("b2", tenant=BOB)  # as many as hers: the newcomer's own
        await them.busy("b2")
        await them.leaves("a0", "b1", "a1", "a2")
        assert them.inside == ["a0", "b1", "a1", "a2"]


async def test_where_nobody_may_wait_all_are_refused():
    async with crowd(places=1, waiting=0) as them:
        await them.comes("a0", tenant=ANN)
        assert not them.line.admits(BOB)
        await them.comes("b1", tenant=BOB)
        await them.busy("b1")


async def test_the_last_of_a_line_may_give_way_too():
    async with crowd(places=1, waiting=2) as them:
        await them.comes("c", "c1", "c2", tenant=CY)
        await them.comes("a1", tenant=ANN)
        await them.busy("c2")
        await them.leaves("c", "a1", "c1")
        assert them.inside == ["c", "a1", "c1"]


async def test_who_leaves_the_line_is_passed_over():
    async with crowd(places=1) as them:
        await them.comes("a0", "a1", "a2", tenant=ANN)
        await them.comes("b1", tenant=BOB)
        them.tasks["b1"].cancel()
        them.tasks["a1"].cancel()
        await them.leaves("a0")
        assert them.inside == ["a0", "a2"]


async def test_who_leaves_at_the_moment_of_its_turn_passes_it_on():
    async with crowd(places=1) as them:
        async with them.line.place(ANN):
            await them.comes("a1", "a2", tenant=ANN)
        them.tasks["a1"].cancel()  # its turn has come, and it is not awake yet
        await them.settles()
        assert them.tasks["a1"].cancelled()
        assert them.inside == ["a2"]


async def test_who_has_just_left_a_full_line_makes_room():
    async with crowd(places=1, waiting=2) as them:
        await them.comes("a0", "a1", "a2", tenant=ANN)
        them.ends["a0"].set()
        them.tasks["a2"].cancel()  # not awake yet
        async with them.line.place(BOB):
            assert them.tasks["a2"].cancelled()
        await them.settles()
        assert them.inside == ["a0", "a1"]


async def test_who_gives_way_and_leaves_at_one_moment_is_gone():
    async with crowd(places=1, waiting=2) as them:
        await them.comes("a0", "a1", "a2", tenant=ANN)
        them.sets_out("b1", BOB)
        asyncio.get_running_loop().call_soon(them.tasks["a2"].cancel)  # it has given way then, and is not awake yet
        await them.settles()
        assert them.tasks["a2"].cancelled()
        await them.leaves("a0", "b1", "a1")
        assert them.inside == ["a0", "b1", "a1"]


async def test_who_is_gone_when_its_turn_comes_gets_nothing():
    async with crowd(places=1) as them:
        await them.comes("a0", "a1", tenant=ANN)
        them.tasks["a0"].cancel()
        them.tasks["a1"].cancel()
        await them.settles()
        await them.comes("b", tenant=BOB)
        assert them.inside == ["a0", "b"]


async def test_the_wait_has_an_end():
    async with crowd(places=1, seconds=0.05) as them:
        await them.comes("a0", "a1", tenant=ANN)
        await them.busy("a1")
        await them.leaves("a0")
        assert them.inside == ["a0"]

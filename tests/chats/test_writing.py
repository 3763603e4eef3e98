"""An answer in the making, by what comes of its events: defects, other kinds of events, what can't be stored."""

import asyncio
from typing import Literal
from uuid import uuid4

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from ringfence.answers.events import DoneEvent, SourcesEvent, TokenEvent
from ringfence.chats.events import StartedEvent
from ringfence.chats.queries import Beat
from ringfence.chats.said import Said, Seen
from ringfence.chats.writing import Pace, Writing
from ringfence.errors import Invalid, Unavailable

DONE = DoneEvent(refused=False, model="m", citations=[])


class Verdict(BaseModel):
    """An event of a kind that chats know nothing of."""

    type: Literal["verdict"] = "verdict"
    sentence: int


class Kept:
    """Keeps an answer in memory."""

    def __init__(self):
        self.ended = None

    async def beat(self, text):
        return Beat(stop=False, followed=False)

    async def end(self, ended):
        self.ended = ended


def said():
    started = StartedEvent(chat_id=uuid4(), question_id=uuid4(), message_id=uuid4(), title="?")
    return Said(started, SourcesEvent(answer_id=started.message_id, sources=[]))


def writing(kept, grace=0.0):
    one = Writing(said(), kept, Pace(), grace=grace)
    one.settle(there=True)
    return one


async def stream(*events):
    for event in events:
        if isinstance(event, Exception):
            raise event
        yield event


async def followed(one, last_event_id=None):
    return [found async for found in one.follow(Seen.read(last_event_id))]


@pytest.mark.parametrize(
    ("error", "code"), [(Unavailable("model_busy", "Busy."), "model_busy"), (ZeroDivisionError(), "internal")]
)
async def test_an_error_is_an_end(error, code):
    kept = Kept()
    one = writing(kept)
    task = one.begin(stream(TokenEvent(text="Six"), error))
    with capture_logs() as logs:
        assert (await followed(one))[-1].event.code == code
    await task
    assert (kept.ended.text, kept.ended.state, kept.ended.error_code) == ("Six", "failed", code)
    assert bool(logs) == (code == "internal")


async def test_what_no_database_stores_is_replaced():
    kept = Kept()
    one = writing(kept)
    await one.begin(stream(TokenEvent(text="a\0b\ud800c"), DONE))
    assert (await followed(one))[2].event.text == kept.ended.text == "ab?c"


async def test_other_events_come_once_where_they_belong():
    """Also to who comes back, whatever was seen last."""
    one = writing(Kept())
    one.begin(stream(TokenEvent(text="Six weeks."), Verdict(sentence=1), TokenEvent(text=" Yes."), DONE))
    found = await followed(one)
    types = ["started", "sources", "token", "verdict", "token", "done"]
    assert [event.event.type for event in found] == types
    assert len({event.id for event in found}) == len(types)
    for number, event in enumerate(found, 1):
        assert await followed(one, event.id) == found[number:]


async def test_what_ends_before_it_is_there_is_kept_when_it_is():
    kept = Kept()
    one = Writing(said(), kept, Pace(), grace=0)
    task = one.begin(stream(TokenEvent(text="Six"), DONE))
    reading = asyncio.create_task(followed(one))
    await asyncio.sleep(0.05)  # nothing must happen meanwhile
    assert kept.ended is None
    assert not reading.done()
    one.settle(there=True)
    assert (await reading)[-1].event == DONE
    await task
    assert kept.ended.state == "done"


async def test_what_ends_and_never_is_there_is_not_kept():
    kept = Kept()
    one = Writing(said(), kept, Pace(), grace=0)
    task = one.begin(stream(TokenEvent(text="Six"), DONE))
    await asyncio.sleep(0.05)  # it has ended by then, or not: both are well
    one.settle(there=False)
    await task
    assert kept.ended is None


async def test_two_stops_are_one_and_one_after_the_end_is_none():
    kept, started = Kept(), asyncio.Event()

    async def endless():
        yield TokenEvent(text="Six")
        started.set()
        await asyncio.Event().wait()

    one = writing(kept)
    await one.ended()  # it has not begun
    one.stop("left")
    task = one.begin(endless())
    await started.wait()
    one.stop("stopped")
    one.stop("closing")
    await one.ended()
    assert (one.why, kept.ended.state) == ("stopped", "stopped")
    one.stop("left")
    assert one.why == "stopped"
    assert task.done()


async def test_a_loop_that_ends_keeps_what_there_is():
    kept, started = Kept(), asyncio.Event()

    async def endless():
        yield TokenEvent(text="Six")
        started.set()
        await asyncio.Event().wait()

    one = writing(kept)
    task = one.begin(endless())
    await started.wait()
    task.cancel()
    await one.ended()
    assert (kept.ended.text, kept.ended.state) == ("Six", "interrupted")


@pytest.mark.parametrize("bad", ["x", "4.1", "1", "1.-1", "1.1.x", "1.1.1.1", "١.1", "2.9999999999"])
def test_ids_of_no_event(bad):
    with pytest.raises(Invalid, match="bad_event_id"):
        Seen.read(bad)


def test_an_id_beyond_what_there_is_misses_nothing_but_the_end():
    one = said()
    one.text, one.last = "Six", DONE
    assert [found.event.type for found in one.after(Seen.read("2.100"))] == ["done"]

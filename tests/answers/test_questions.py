"""How many questions a day: by UTC's days, whichever process counts, and given back where the engine failed."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from ringfence.answers.events import DoneEvent, ErrorEvent, TokenEvent
from ringfence.answers.questions import Questions
from ringfence.errors import RateLimited, Unauthenticated, Unavailable
from ringfence.ids import new_user_id
from ringfence.limits import Quota, Quotas


class Clock:
    def __init__(self):
        self.time = datetime(2030, 1, 2, 23, 0, tzinfo=UTC)

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def questions(db, clock):
    return Questions(db, Quotas(Quota(questions=2)), now=clock)


@pytest.fixture
async def ann(admin):
    user_id = new_user_id()
    await admin.execute("insert into users (user_id, email, email_key, password_hash) values ($1, '', '', '')", user_id)
    return user_id


async def answer(*events, error=None):
    for event in events:
        yield event
    if error:
        raise error


async def ask(questions, user_id, *events, error=None, note=lambda _: None):
    async with aclosing(questions.counted(user_id, answer(*events, error=error), note)) as counted:
        return [event async for event in counted]


async def asked(questions, user_id):
    return (await questions.today(user_id)).questions


TOKEN = TokenEvent(text="x")
DONE = DoneEvent(refused=False, model=None, citations=[])
FAILED = ErrorEvent(code="model_silent", message="It is silent.")


async def test_a_day_has_so_many_and_the_next_begins_at_midnight(questions, ann, clock):
    standings = []
    for _ in range(2):
        assert await ask(questions, ann, TOKEN, note=standings.append) == [TOKEN]
    assert [(one.remaining, one.reset, one.rate.policy) for one in standings] == [
        (1, 3600, '"questions";q=2;w=86400'),
        (0, 3600, '"questions";q=2;w=86400'),
    ]
    with pytest.raises(RateLimited, match="too_many_questions") as caught:
        await ask(questions, ann, TOKEN)
    assert (caught.value.retry_after, caught.value.policy) == (3600, '"questions";q=2;w=86400')
    today = await questions.today(ann)
    assert (today.questions, today.resets_at) == (2, datetime(2030, 1, 3, tzinfo=UTC))
    clock.time = today.resets_at
    assert await asked(questions, ann) == 0
    assert await ask(questions, ann, TOKEN) == [TOKEN]
    assert await asked(questions, ann) == 1


async def test_a_process_whose_clock_is_behind_begins_no_day_anew(questions, ann, clock):
    before, clock.time = clock.time, datetime(2030, 1, 3, tzinfo=UTC)
    for _ in range(2):
        await ask(questions, ann, TOKEN)
    clock.time = before
    with pytest.raises(RateLimited):
        await ask(questions, ann, TOKEN)
    assert await asked(questions, ann) == 2


async def test_without_a_limit_they_are_counted_all_the_same(db, ann, clock):
    questions, standings = Questions(db, Quotas(Quota()), now=clock), []
    for _ in range(5):
        await ask(questions, ann, TOKEN, note=standings.append)
    assert await asked(questions, ann) == 5
    assert standings == []


async def test_of_many_at_once_no_more_are_counted(questions, ann):
    found = await asyncio.gather(*(ask(questions, ann, TOKEN) for _ in range(30)), return_exceptions=True)
    assert sum(isinstance(one, RateLimited) for one in found) == 28
    assert await asked(questions, ann) == 2


async def test_what_failed_by_the_engines_fault_is_given_back(questions, ann):
    assert await ask(questions, ann, TOKEN, FAILED) == [TOKEN, FAILED]
    for error in (Unavailable("model_busy", "Busy."), ZeroDivisionError()):
        with pytest.raises(type(error)):
            await ask(questions, ann, TOKEN, error=error)
    assert await asked(questions, ann) == 0
    await ask(questions, ann, TOKEN)
    assert await asked(questions, ann) == 1


async def test_what_its_reader_leaves_counts(questions, ann):
    async with aclosing(questions.counted(ann, answer(TOKEN, TOKEN))) as events:
        await anext(events)
    assert await asked(questions, ann) == 1


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("waiting", [True, False])
async def test_what_the_servers_stop_ends_does_not_count(questions, ann, stopped, waiting):
    """Whether it comes while an event is awaited, or while one is being sent."""
    reached = asyncio.Event()

    async def events():
        yield TOKEN
        reached.set()
        await asyncio.Event().wait()

    async def read():
        async with aclosing(questions.counted(ann, events(), stopped=lambda: stopped)) as counted:
            async for _ in counted:
                if not waiting:
                    reached.set()
                    await asyncio.Event().wait()

    reading = asyncio.create_task(read())
    await reached.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await asked(questions, ann) == (0 if stopped else 1)


async def test_an_answer_that_had_ended_when_the_server_stopped_counts_or_not_as_it_ended(questions, ann):
    for last, count in ((FAILED, 0), (DONE, 1)):
        async with aclosing(questions.counted(ann, answer(TOKEN, last), stopped=lambda: True)) as events:
            assert [await anext(events), await anext(events)] == [TOKEN, last]
        assert await asked(questions, ann) == count


async def test_a_refused_question_asks_nobody(questions, ann):
    begun = []

    async def events():
        begun.append(True)
        yield TOKEN

    for _ in range(3):
        try:
            async with aclosing(questions.counted(ann, events())) as counted:
                assert [event async for event in counted]
        except RateLimited:
            assert len(begun) == 2
    assert len(begun) == 2


async def test_given_back_on_another_day_nothing_is_uncounted(questions, ann, clock):
    async def over_midnight():
        yield TOKEN
        clock.time = datetime(2030, 1, 3, 0, 0, 5, tzinfo=UTC)
        await ask(questions, ann, TOKEN)
        yield FAILED

    async with aclosing(questions.counted(ann, over_midnight())) as events:
        assert [event async for event in events] == [TOKEN, FAILED]
    assert await asked(questions, ann) == 1


async def test_an_account_that_is_gone_asks_nothing(questions):
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await ask(questions, new_user_id(), TOKEN)


async def test_a_database_that_is_lost_meanwhile_hides_no_error(questions, ann, db):
    async def events():
        yield TOKEN
        await db.close()
        yield FAILED

    with capture_logs() as logs:
        async with aclosing(questions.counted(ann, events())) as counted:
            assert [event async for event in counted] == [TOKEN, FAILED]
    assert [line["event"] for line in logs if line["event"] == "question_not_given_back"]

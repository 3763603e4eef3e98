"""Chat models behind the desk, on servers that fail, are busy, hang, or answer."""

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from decimal import Decimal

import pytest

from ringfence.errors import Invalid, NotFound, SetupError, Unavailable
from ringfence.ids import new_user_id
from ringfence.models.base import Message, Usage
from ringfence.models.desk import Desk, Patience, Price
from ringfence.models.http import Timeouts
from ringfence.models.line import Room
from ringfence.models.ollama import OllamaChat
from ringfence.models.openai import OpenAIChat
from ringfence.telemetry.metrics import MODEL_BREAKER, MODEL_FAILURES, MODEL_FALL_BACKS, MODEL_IN_USE, MODEL_WAITING
from tests.fakes.desk import offer
from tests.fakes.model_server import model_server
from tests.models.test_breaker import Clock

ANN, BOB = new_user_id(), new_user_id()
ASK = [Message("user", "How long is the notice period, and who repairs the oven?")]
QUICK = Patience(tries=3, pause=0.001, longest=2, failures=2, rest=30)


@pytest.fixture
async def other():
    """The server of the model that is fallen back to."""
    async with model_server() as server:
        yield server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spent():
    return []


@pytest.fixture
async def desk(models, other, clock, spent):
    """Makes a desk of `big`, which falls back to `small`."""
    async with AsyncExitStack() as stack:

        def desk(*, patience=QUICK, fall_back=("small",), **of_big):
            timeouts = Timeouts(connect=2, first_token=of_big.pop("first_token", 10), between_tokens=10, total=30)
            big = OpenAIChat(models.openai_url, "big-at-home", timeouts=timeouts)
            small = OllamaChat(other.url, "small", context_tokens=2048, timeouts=timeouts)
            for model in (big, small):
                stack.push_async_callback(model.close)
            offers = [offer(big, name="big", fall_back=fall_back, **of_big), offer(small)]
            return Desk(offers, tell=spent.append, patience=patience, clock=clock)

        yield desk


async def said(turn, **more):
    return "".join([piece async for piece in turn.stream(ASK, max_tokens=50, **more)])


async def failure(turn):
    with pytest.raises((Unavailable, Invalid)) as caught:
        await said(turn)
    return caught.value.code


def counted(metric, *labels):
    return metric.labels(*labels)._value.get()


async def test_who_has_not_chosen_gets_the_first(desk, models):
    models.script(answer="Six weeks.")
    found = desk()
    first, small = found.of(ANN), found.of(ANN, "small")
    assert (first.name, first.offer.name, first.context_tokens) == ("big", "big", 2048)
    assert (small.name, small.context_tokens) == ("small", 2048)
    assert await said(first) == "Six weeks."
    await first.close()
    with pytest.raises(NotFound, match="There is: big, small"):
        found.of(ANN, "huge")


def test_without_models_there_is_none():
    assert Desk([]).of(ANN) is None
    with pytest.raises(NotFound, match="There is: none"):
        Desk([]).of(ANN, "big")


async def test_a_chain_leads_to_other_models_and_names_are_used_once(desk, models):
    for name in ("big", "huge"):
        with pytest.raises(SetupError, match="bad_chat_models"):
            desk(fall_back=(name,))
    model = OpenAIChat(models.openai_url, "m")
    with pytest.raises(SetupError, match="Two chat models"):
        Desk([offer(model), offer(model)])
    await model.close()


# Tries


@pytest.mark.parametrize("failing", [{"status": 503}, {"status": 500}, {"status": 429}, {"break_after": 0}])
async def test_what_passes_is_tried_again_before_the_first_word(desk, models, other, failing):
    models.script(times=2, **failing)
    models.script(answer="Six weeks.")
    assert await said(desk().of(ANN)) == "Six weeks."
    assert (len(models.chats), len(other.chats)) == (3, 0)


async def test_after_some_tries_another_model_answers(desk, models, other):
    models.script(status=503)
    other.script(answer="Six weeks, says the small one.")
    before = counted(MODEL_FALL_BACKS, "big")
    turn = desk().of(ANN)
    assert await said(turn) == "Six weeks, says the small one."
    assert (turn.name, turn.offer.name) == ("small", "big")
    assert (len(models.chats), len(other.chats)) == (3, 1)
    assert counted(MODEL_FALL_BACKS, "big") == before + 1


@pytest.mark.parametrize("failing", [{"status": 404}, {"status": 401}, {"raw": [b"data: nonsense\n\n"]}])
async def test_what_does_not_pass_is_not_tried_again(desk, models, other, failing):
    models.script(**failing)
    other.script(answer="Yes.")
    assert await said(desk().of(ANN)) == "Yes."
    assert len(models.chats) == 1


async def test_a_silent_model_is_given_up_for_another(desk, models, other):
    models.script(stall_after=0)
    other.script(answer="Yes.")
    assert await said(desk(first_token=0.1).of(ANN)) == "Yes."
    assert (len(models.chats), len(other.chats)) == (1, 1)


async def test_none_answers_when_words_were_said(desk, models, other):
    models.script(answer="It is six weeks.", break_after=2)
    pieces = []
    with pytest.raises(Unavailable, match="model_broke_off"):
        async for piece in desk().of(ANN).stream(ASK, max_tokens=50):
            pieces.append(piece)  # noqa: PERF401  # what came before the error counts
    assert pieces
    assert (len(models.chats), len(other.chats)) == (1, 0)


async def test_a_rejected_request_is_no_failure_and_nobody_elses(desk, models, other):
    models.script(status=400)
    found = desk()
    assert [await failure(found.of(ANN)) for _ in range(3)] == ["model_rejected"] * 3
    assert found.answers("big")
    assert other.chats == []


async def test_the_last_one_says_why_nobody_answers(desk, models, other):
    models.script(status=503)
    other.script(status=404)
    assert await failure(desk().of(ANN)) == "model_missing"


async def test_a_server_that_wants_rest_is_left_alone_so_long(desk, models, clock):
    models.script(status=503, retry_after=1, times=1)
    models.script(status=503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", times=1)
    models.script(answer="Six weeks.")
    begun = time.monotonic()
    assert await said(desk(fall_back=()).of(ANN)) == "Six weeks."
    assert time.monotonic() - begun >= 1
    models.script(status=429, retry_after=60, times=1)
    with pytest.raises(Unavailable, match="model_busy") as caught:
        await said(desk(fall_back=()).of(ANN))
    assert (caught.value.retry_after, len(models.chats)) == (60, 4)


# The breaker


async def test_one_that_keeps_failing_is_left_alone_and_then_tried_by_one(desk, models, other, clock):
    models.script(status=404)
    other.script(answer="Yes.")
    found, failures = desk(), counted(MODEL_FAILURES, "big", "model_missing")
    assert [await said(found.of(ANN)) for _ in range(4)] == ["Yes."] * 4
    assert (len(models.chats), found.answers("big")) == (2, False)
    assert counted(MODEL_FAILURES, "big", "model_missing") == failures + 2
    assert counted(MODEL_BREAKER, "big") == 2
    clock.now = 30
    models.script(answer="I am back.", stall_after=0)
    probe = asyncio.create_task(said(found.of(ANN)))
    await models.wait_for(lambda: models.streaming == 1, within=30)
    assert await said(found.of(BOB)) == "Yes."  # one at a time
    models.release()
    assert await probe == "I am back."
    assert await said(found.of(BOB)) == "I am back."
    assert counted(MODEL_BREAKER, "big") == 0


async def test_the_first_word_of_the_probe_lets_others_in(desk, models, other, clock):
    models.script(status=404)
    found = desk()
    for _ in range(2):
        await said(found.of(ANN))
    clock.now = 30
    models.script(answer="I am back.", stall_after=1, times=1)
    models.script(answer="Six weeks.")
    async with aclosing(found.of(ANN).stream(ASK, max_tokens=50)) as probe:
        assert await anext(probe) == "I"
        assert await said(found.of(BOB)) == "Six weeks."


async def test_without_another_model_the_pause_is_said(desk, models, clock):
    models.script(status=404)
    found = desk(fall_back=())
    assert [await failure(found.of(ANN)) for _ in range(3)] == ["model_missing", "model_missing", "model_paused"]
    with pytest.raises(Unavailable) as caught:
        await said(found.of(ANN))
    assert caught.value.retry_after == 30
    clock.now = 30
    models.script(stall_after=0)
    probe = asyncio.create_task(said(found.of(ANN)))
    await models.wait_for(lambda: models.streaming == 1, within=30)
    with pytest.raises(Unavailable, match="model_paused") as caught:
        await said(found.of(BOB))
    assert caught.value.retry_after is None
    probe.cancel()
    await asyncio.wait([probe])


async def test_a_reader_that_leaves_is_no_failure(desk, models):
    models.script(answer="one two three", stall_after=1)
    found = desk()
    for _ in range(3):
        async with aclosing(found.of(ANN).stream(ASK, max_tokens=50)) as pieces:
            await anext(pieces)
    await models.wait_for(lambda: models.disconnects == 3, within=30)
    assert found.answers("big")


# The line


async def test_anothers_hundred_questions_delay_nobody_beyond_the_work_in_progress(desk, models):
    models.script(answer="Yes.", stall_after=0, times=1)
    models.script(answer="Yes.")
    found = desk(room=Room(1))
    hundred = [asyncio.create_task(said(found.of(ANN))) for _ in range(100)]
    await models.wait_for(lambda: counted(MODEL_WAITING, "big") == 99 and len(models.chats) == 1, within=60)
    bob = asyncio.create_task(said(found.of(BOB)))
    await models.wait_for(lambda: counted(MODEL_WAITING, "big") == 100, within=60)
    assert (counted(MODEL_IN_USE, "big"), len(models.chats)) == (1, 1)
    models.release()
    await bob
    assert len(models.chats) <= 4  # hers in progress, his, and what has begun until this task woke
    await asyncio.gather(*hundred)
    assert (counted(MODEL_IN_USE, "big"), counted(MODEL_WAITING, "big")) == (0, 0)


async def test_a_full_line_is_said_at_once_unless_another_model_has_room(desk, models, other):
    models.script(answer="Yes.", stall_after=0)
    other.script(answer="Small.")
    alone, together = desk(room=Room(1, 0), fall_back=()), desk(room=Room(1, 0))
    for found in (alone, together):
        found.of(ANN).require_room()
    tasks = [asyncio.create_task(said(found.of(ANN))) for found in (alone, together)]
    await models.wait_for(lambda: models.streaming == 2, within=30)
    with pytest.raises(Unavailable, match="model_busy"):
        alone.of(BOB).require_room()
    assert await failure(alone.of(BOB)) == "model_busy"
    together.of(BOB).require_room()
    assert await said(together.of(BOB)) == "Small."
    assert alone.answers("big")  # that many ask is no fault of the model's
    models.release()
    assert await asyncio.gather(*tasks) == ["Yes.", "Yes."]


async def test_models_of_one_server_share_its_places(models):
    ones = [OpenAIChat(models.openai_url, name) for name in ("one", "two")]
    found = Desk([offer(one, server="here", room=Room(1, 0)) for one in ones])
    models.script(answer="Yes.", stall_after=0)
    task = asyncio.create_task(said(found.of(ANN, "one")))
    await models.wait_for(lambda: models.streaming == 1, within=30)
    with pytest.raises(Unavailable, match="model_busy"):
        found.of(BOB, "two").require_room()
    task.cancel()
    await asyncio.wait([task])
    found.of(BOB, "two").require_room()
    for one in ones:
        await one.close()


# What it took


async def test_what_is_spent_is_told_with_the_price(desk, models, spent):
    models.script(answer="It is six weeks.")
    price, told = Price(Decimal(2), Decimal("0.5"), "EUR"), []
    turn = desk(price=price).of(ANN)
    await said(turn, spent=told.append)
    await said(turn.aside())
    one, two = spent
    assert told == [one.usage]
    assert (one.user_id, one.offer.name, one.offer.price, one.question, two.question) == (
        ANN,
        "big",
        price,
        True,
        False,
    )
    assert (one.usage.reported, one.usage.completion) == (True, 4)
    assert price.of(Usage(1_000_000, 2)) == Decimal("2.000001")


async def test_what_breaks_off_or_is_left_is_estimated_and_what_never_began_is_free(desk, models, spent):
    found = desk(fall_back=())
    models.script(answer="It is six weeks.", break_after=2, times=1)
    await failure(found.of(ANN))
    models.script(answer="It is six weeks.", stall_after=1, times=1)
    async with aclosing(found.of(ANN).stream(ASK, max_tokens=50)) as pieces:
        await anext(pieces)
    await models.wait_for(lambda: models.streaming == 0, within=30)
    models.script(stall_after=0, times=1)
    waiting = asyncio.create_task(said(found.of(ANN)))
    await models.wait_for(lambda: models.streaming == 1, within=30)
    waiting.cancel()
    await asyncio.wait([waiting])
    models.script(status=503)
    await failure(found.of(ANN))
    assert [(one.usage.prompt, one.usage.completion, one.usage.reported) for one in spent] == [
        (17, 2, False),
        (17, 1, False),
        (17, 1, False),
    ]


async def test_a_server_that_rejects_the_field_for_counts_is_asked_without(desk, models, spent):
    models.script(status=400, times=1)
    models.script(answer="It is six weeks.")
    turn = desk(fall_back=()).of(ANN)
    assert [await said(turn), await said(turn)] == ["It is six weeks."] * 2
    assert ["stream_options" in request.body for request in models.chats] == [True, False, False]
    assert [one.usage.reported for one in spent] == [False, False]

"""Answers in chats, in one process and across several: readers that leave and come back, stops, ends, faults."""

import asyncio
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from ringfence.answers.events import DoneEvent, TokenEvent
from ringfence.answers.talk import recent
from ringfence.chats.asking import MAX_MESSAGES, Ask, How
from ringfence.chats.said import Seen
from ringfence.chats.writing import Pace
from ringfence.db import Database, DatabaseOptions
from ringfence.errors import Conflict, Invalid, NotFound, RateLimited, Unavailable
from ringfence.ids import new_chat_id, new_message_id
from ringfence.search.rewrite import Turn
from tests.chats.conftest import QUESTION
from tests.search.stored import tenant

RESUMABLE = How(resumable=True)


@pytest.fixture
async def chat(chats, user):
    return (await chats.add(user)).chat_id


async def read(events, until=None):
    """What comes of a stream: its events, up to the first that `until` is true of."""
    found = []
    async with aclosing(events):
        async for one in events:
            if one is not None:
                found.append(one)
                if until and until(one.event):
                    break
    return found


def words(found):
    return "".join(one.event.text for one in found if isinstance(one.event, TokenEvent))


def is_token(event):
    return isinstance(event, TokenEvent)


async def whole(asking, user, chat, question=QUESTION, **where):
    """An answer, to its end; the ids of question and answer."""
    writing = await asking.ask(user, chat, Ask(question, **where))
    found = await read(writing.follow(Seen()))
    assert isinstance(found[-1].event, DoneEvent)
    return writing.said.started.question_id, writing.said.started.message_id


def place(writing):
    return writing.said.started.chat_id, writing.said.started.message_id


async def until(condition):
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)  # what is kept by now sets no event


async def state(chats, user, where):
    return (await chats.message(user, *where))[0].state


# Readers that leave


async def test_a_reader_that_leaves_stops_the_model_and_what_there_is_is_kept(process, chats, user, chat, models):
    models.script(answer="six weeks and more", stall_after=2)
    writing = await process().ask(user, chat, Ask(QUESTION))
    found = await read(writing.follow(Seen()), until=is_token)
    await models.wait_for(lambda: models.disconnects == 1, within=2)
    await writing.ended()
    kept, _ = await chats.message(user, *place(writing))
    assert kept.state == "interrupted"
    assert kept.text.startswith(words(found))


async def test_a_reader_that_never_comes_is_not_waited_for(process, chats, user, chat, models):
    models.script(answer="six weeks and more", stall_after=2)
    writing = await process(grace=0.1, pace=Pace(arrival=0.05)).ask(user, chat, Ask(QUESTION))
    await writing.ended()
    assert await state(chats, user, place(writing)) == "interrupted"
    await models.wait_for(lambda: not models.streaming, within=2)


@pytest.mark.parametrize("here", [True, False])
async def test_what_a_lost_reader_missed_comes_when_it_is_back(process, user, chat, models, here):
    models.script(answer="one two three four", stall_after=2)
    first = process()
    other = first if here else process()
    writing = await first.ask(user, chat, Ask(QUESTION), RESUMABLE)
    before = await read(writing.follow(Seen()), until=is_token)
    assert [one.event.type for one in before] == ["started", "sources", "token"]
    resumed = asyncio.create_task(read(other.follow(user, *place(writing), before[-1].id)))
    await until(lambda: asyncio.sleep(0, writing.said.text == "one two"))
    models.release()
    after = await resumed
    assert [one.event.type for one in after][-1] == "done"
    assert words(before) + words(after) == "one two three four"
    assert models.disconnects == 0


async def test_from_the_beginning_another_process_tells_the_same(process, user, chat):
    first, other = process(), process()
    writing = await first.ask(user, chat, Ask(QUESTION))
    here = await read(writing.follow(Seen()))
    there = await read(other.follow(user, *place(writing)))
    assert words(here) == words(there)
    kept = ("started", "sources", "done")  # verdicts are told where the answer is written
    assert [one.event.type for one in there if not is_token(one.event)] == list(kept)
    assert [one.event for one in here if one.event.type in kept] == [
        one.event for one in there if not is_token(one.event)
    ]
    assert await read(other.follow(user, *place(writing), here[-1].id)) == []


async def test_nobody_comes_back_and_the_model_is_left(process, chats, user, chat, models):
    models.script(answer="six weeks and more", stall_after=2)
    writing = await process(grace=0.2).ask(user, chat, Ask(QUESTION), RESUMABLE)
    await read(writing.follow(Seen()), until=is_token)
    assert models.disconnects == 0
    await models.wait_for(lambda: models.disconnects == 1, within=2)
    await writing.ended()
    assert await state(chats, user, place(writing)) == "interrupted"


async def test_who_follows_elsewhere_keeps_an_answer_alive(process, user, chat, models, admin):
    models.script(answer="one two three", stall_after=2)
    first, other = process(grace=0.3), process()
    writing = await first.ask(user, chat, Ask(QUESTION), RESUMABLE)
    await read(writing.follow(Seen()), until=is_token)
    following = asyncio.create_task(read(other.follow(user, *place(writing))))
    await until(lambda: admin.fetchval("select followed_at is not null from messages where state = 'writing'"))
    await asyncio.sleep(0.6)  # twice the grace: what must not happen by then sets no event
    models.release()
    found = await following
    assert words(found) == "one two three"
    assert isinstance(found[-1].event, DoneEvent)


async def test_silence_is_said_to_be_no_death(process, user, chat, models):
    models.script(answer="one two three", stall_after=2)
    first, other = process(), process()
    writing = await first.ask(user, chat, Ask(QUESTION), RESUMABLE)
    for events in (writing.follow(Seen()), other.follow(user, *place(writing))):
        async with aclosing(events):
            async for one in events:
                if one is None:
                    break
    models.release()
    await writing.ended()


# Stops


@pytest.mark.parametrize("here", [True, False])
async def test_an_answer_is_stopped_wherever_it_is_written(process, chats, user, chat, models, here):
    models.script(answer="six weeks and more", stall_after=2)
    first = process()
    other = first if here else process()
    writing = await first.ask(user, chat, Ask(QUESTION))
    following = asyncio.create_task(read(writing.follow(Seen())))
    await until(lambda: asyncio.sleep(0, bool(writing.said.text)))
    await other.stop(user, *place(writing))
    found = await following
    assert found[-1].event.code == "answer_stopped"
    await models.wait_for(lambda: models.disconnects == 1, within=2)
    assert await state(chats, user, place(writing)) == "stopped"
    there = await read(other.follow(user, *place(writing)))
    assert there[-1].event == found[-1].event
    await other.stop(user, *place(writing))  # once more changes nothing
    assert await state(chats, user, place(writing)) == "stopped"


async def test_deleting_a_chat_stops_what_is_written_there(process, chats, user, chat, models):
    models.script(answer="six weeks and more", stall_after=2)
    writing = await process().ask(user, chat, Ask(QUESTION))
    following = asyncio.create_task(read(writing.follow(Seen())))
    await until(lambda: asyncio.sleep(0, bool(writing.said.text)))
    await chats.delete(user, chat)
    assert (await following)[-1].event.code == "chat_not_found"
    await models.wait_for(lambda: models.disconnects == 1, within=2)


async def test_a_process_that_ends_keeps_what_there_is_and_gives_the_question_back(
    process, chats, user, chat, admin, models
):
    models.script(answer="six weeks and more", stall_after=2)
    asking = process(questions=5)
    writing = await asking.ask(user, chat, Ask(QUESTION), RESUMABLE)
    await read(writing.follow(Seen()), until=is_token)
    await asking.close()
    assert await state(chats, user, place(writing)) == "interrupted"
    assert await admin.fetchval("select questions from questions_asked") == 0
    found = await read(process().follow(user, *place(writing)))
    assert found[-1].event.code == "answer_interrupted"


async def test_an_answer_whose_process_was_killed_is_over(process, chats, user, chat, admin, models):
    asking = process()
    _, answer = await whole(asking, user, chat)
    await admin.execute(
        "update messages set state = 'writing', ended_at = null, beat_at = now() - interval '1 minute' "
        "where role = 'assistant'"
    )
    assert await state(chats, user, (chat, answer)) == "interrupted"
    found = await read(asking.follow(user, chat, answer))
    assert found[-1].event.code == "answer_interrupted"
    await whole(asking, user, chat, "Who repairs the oven?")  # nobody waits for it


# How answers end


async def test_a_model_that_breaks_off(process, chats, user, chat, models):
    models.script(answer="six weeks and more", break_after=2)
    asking = process()
    writing = await asking.ask(user, chat, Ask(QUESTION))
    assert (await read(writing.follow(Seen())))[-1].event.code == "model_broke_off"
    kept, _ = await chats.message(user, *place(writing))
    assert (kept.state, kept.error_code, kept.text) == ("failed", "model_broke_off", "six weeks")
    there = await read(process().follow(user, *place(writing)))
    assert (there[-1].event.code, words(there)) == ("model_broke_off", "six weeks")


async def test_a_refusal_and_evidence_alone(process, chats, user, chat):
    writing = await process().ask(user, chat, Ask("Zebras?"))
    found = await read(writing.follow(Seen()))
    assert found[-1].event.refused
    assert await state(chats, user, place(writing)) == "refused"
    assert (await chats.record(user, *place(writing))).prompt == []
    writing = await process(model=False).ask(user, chat, Ask(QUESTION))
    await writing.ended()
    record = await chats.record(user, *place(writing))
    assert (record.trace.model, record.prompt) == (None, [])
    assert record.passages[0].words.text.startswith("The notice period")


async def test_what_fails_before_an_answer_begins_leaves_nothing(process, chats, user, chat, models):
    with pytest.raises(Invalid, match="bad_question"):
        await process().ask(user, chat, Ask("  "))
    models.script_embeddings(status=503)
    with pytest.raises(Unavailable, match="model_busy"):
        await process().ask(user, chat, Ask(QUESTION))
    models.script_embeddings()
    asking = process(questions=1)
    await whole(asking, user, chat)
    with pytest.raises(RateLimited, match="too_many_questions"):
        await asking.ask(user, chat, Ask(QUESTION))
    assert len((await chats.branch(user, chat, 10)).messages) == 2
    assert len(await anext(chats.all_messages(user))) == 2


async def test_a_chat_that_is_deleted_before_its_answer_begins(process, chats, user, chat, models):
    models.script_embeddings(first_delay=0.2)
    asking = asyncio.create_task(process().ask(user, chat, Ask(QUESTION)))
    await models.wait_for(lambda: len(models.embeddings) >= 2)  # the document's, then the question's
    await chats.delete(user, chat)
    with pytest.raises(NotFound, match="chat_not_found"):
        await asking
    await models.wait_for(lambda: not models.streaming)


async def test_defects_and_a_database_that_is_away_break_no_stream(process, user, chat, models, admin, document):
    await admin.execute("alter table messages add constraint never check (text not like '%weeks%')")
    models.script(answer="six weeks and more", stall_after=2)
    writing = await process().ask(user, chat, Ask(QUESTION))
    with capture_logs() as logs:
        following = asyncio.create_task(read(writing.follow(Seen())))
        await until(lambda: asyncio.sleep(0, any(log["event"] == "beat_failed" for log in logs)))
        models.release()
        found = await following
    assert words(found) == "six weeks and more"
    assert isinstance(found[-1].event, DoneEvent)
    assert {log["event"] for log in logs} >= {"beat_failed", "answer_unsaved"}


# Where a question goes


async def test_a_question_follows_what_it_says_it_follows(process, chats, user, chat, models):
    asking = process()
    question, answer = await whole(asking, user, chat)
    with pytest.raises(Invalid, match="bad_parent"):
        await asking.ask(user, chat, Ask(QUESTION, parent_id=question))
    with pytest.raises(Invalid, match="bad_parent"):
        await asking.ask(user, chat, Ask(QUESTION, edits=answer))
    for where in ({"parent_id": new_message_id()}, {"edits": new_message_id()}):
        with pytest.raises(NotFound, match="message_not_found"):
            await asking.ask(user, chat, Ask(QUESTION, **where))
    models.script(answer="six weeks and more", stall_after=2)
    writing = await asking.ask(user, chat, Ask(QUESTION), RESUMABLE)
    with pytest.raises(Conflict, match="answer_being_written"):
        await asking.ask(user, chat, Ask("And now?"))
    models.release()
    await writing.ended()
    again = await asking.regenerate(user, chat, question)
    await again.ended()
    assert (await chats.message(user, chat, answer))[0].siblings == (answer, again.said.started.message_id)


async def test_a_chat_has_an_end(process, chats, user, chat, admin):
    asking = process()
    await whole(asking, user, chat)
    await admin.execute(
        "insert into messages (user_id, chat_id, message_id, role, text, state) "
        "select $1, $2, gen_random_uuid(), 'user', 'x', 'done' from generate_series(1, $3)",
        user, chat, MAX_MESSAGES - 2,
    )  # fmt: skip
    with pytest.raises(Conflict, match="chat_full"):
        await asking.ask(user, chat, Ask(QUESTION))


async def test_another_tenants_chat_is_no_chat(process, chats, user, chat, admin):
    asking, stranger = process(), await tenant(admin)
    question, answer = await whole(asking, user, chat)
    for chat_id in (chat, new_chat_id()):
        for action in (
            lambda c: asking.ask(stranger, c, Ask(QUESTION)),
            lambda c: asking.regenerate(stranger, c, answer),
            lambda c: asking.stop(stranger, c, answer),
            lambda c: read(asking.follow(stranger, c, answer)),
            lambda c: chats.get(stranger, c),
            lambda c: chats.branch(stranger, c, 10),
            lambda c: chats.branch(stranger, c, 10, through=answer),
            lambda c: chats.message(stranger, c, answer),
            lambda c: chats.change(stranger, c, title="mine"),
            lambda c: chats.change(stranger, c, through=answer),
            lambda c: chats.rate(stranger, c, answer, rating="up", comment=None),
            lambda c: chats.record(stranger, c, answer),
            lambda c: chats.delete(stranger, c),
        ):
            with pytest.raises(NotFound, match="chat_not_found"):
                await action(chat_id)
    for action in (
        lambda m: asking.stop(user, chat, m),
        lambda m: chats.record(user, chat, m),
        lambda m: chats.branch(user, chat, 10, through=m),
        lambda m: chats.rate(user, chat, m, rating="up", comment=None),
    ):
        with pytest.raises(NotFound, match="message_not_found"):
            await action(new_message_id())
    for action in (
        lambda: read(asking.follow(user, chat, question)),
        lambda: chats.record(user, chat, question),
        lambda: chats.rate(user, chat, question, rating="up", comment=None),
    ):
        with pytest.raises(NotFound, match="message_not_found"):
            await action()
    assert [page async for page in chats.all(stranger)] == []
    assert (await chats.listed(stranger, 10)).chats == []


async def test_too_many_readers_that_are_back(process, user, chat, models):
    models.script(answer="one two three", stall_after=2)
    asking = process()
    writing = await asking.ask(user, chat, Ask(QUESTION), RESUMABLE)
    with pytest.raises(Invalid, match="bad_event_id"):
        await anext(asking.follow(user, *place(writing), "x"))
    streams = [asking.follow(user, *place(writing)) for _ in range(21)]
    for one in streams[:20]:
        await anext(one)
    with pytest.raises(RateLimited, match="too_many_streams"):
        await anext(streams[20])
    await streams[0].aclose()
    await anext(again := asking.follow(user, *place(writing)))
    for one in (*streams, again):
        await one.aclose()


@pytest.fixture
async def impatient(app_url, system_url):
    """A database that waits for nobody."""
    database = Database(app_url, system_url, DatabaseOptions(connect_timeout=10, command_timeout=0.2))
    await database.open()
    yield database
    await database.close()


@pytest.mark.parametrize("back", [True, False])
async def test_a_database_that_is_away(process, chats, impatient, user, chat, models, admin, back):
    """What can't be kept is kept a moment later, if that is in time; the reader hears all of it."""
    models.script(answer="one two three", stall_after=2)
    writing = await process(database=impatient).ask(user, chat, Ask(QUESTION), RESUMABLE)
    with capture_logs() as logs:

        def told(event):
            return asyncio.sleep(0, any(log["event"] == event for log in logs))

        async with admin.transaction():
            await admin.execute("lock table messages in access exclusive mode")
            await until(lambda: told("answer_not_kept"))
            if not back:
                models.release()
                await until(lambda: told("answer_unsaved"))
        models.release()
        found = await read(writing.follow(Seen()))
    assert words(found) == "one two three"
    assert isinstance(found[-1].event, DoneEvent)
    assert await state(chats, user, place(writing)) == ("done" if back else "writing")


async def test_an_answer_without_its_record_is_shown_all_the_same(process, user, chat, admin):
    asking = process()
    _, answer = await whole(asking, user, chat)
    await admin.execute("delete from traces")
    found = await read(asking.follow(user, chat, answer))
    assert [one.event.type for one in found] == ["started", "sources", "token", "done"]
    assert found[1].event.sources == []


async def test_the_record_is_what_the_model_was_sent_whatever_a_name_and_a_question_say(
    process, chats, user, chat, models
):
    """The document's name has two blanks in a row; the question looks like a place."""
    asking = process()
    _, answer = await whole(asking, user, chat, "The notice period of <0.1.text>, {text} and ⟦1⟧?")
    sent = models.chats[-1].body["messages"]
    record = await chats.record(user, chat, answer)
    assert [{"role": one.role, "content": one.content} for one in record.prompt] == sent
    assert "hand book.txt" in sent[-1]["content"]


async def test_who_follows_elsewhere_outlasts_an_outage_and_hears_of_the_chats_end(
    process, chats, impatient, user, chat, models, admin
):
    models.script(answer="one two three", stall_after=2)
    writing = await process().ask(user, chat, Ask(QUESTION), RESUMABLE)
    other = process(database=impatient)
    with capture_logs() as logs:
        following = asyncio.create_task(read(other.follow(user, *place(writing))))
        await until(lambda: admin.fetchval("select followed_at is not null from messages where state = 'writing'"))
        async with admin.transaction():
            await admin.execute("lock table messages in access exclusive mode")
            await until(lambda: asyncio.sleep(0, any(log["event"] == "answer_not_seen" for log in logs)))
        await chats.delete(user, chat)
        found = await following
    assert found[-1].event.code == "chat_not_found"


async def test_only_the_last_turns_go_to_the_model():
    turns = [Turn(role, f"{n}: {'word ' * 50}") for n in range(9) for role in ("user", "assistant")]
    kept = recent(turns)
    assert [turn.role for turn in kept] == ["user", "assistant"] * (len(kept) // 2)
    assert kept[-1].text.startswith("8: ")
    assert 2 < len(kept) < len(turns)
    long = [Turn("user", "\u4e00" * 2000), Turn("assistant", "\u4e00" * 2000)]
    assert [turn.text for turn in recent([*turns, *long])] == ["\u4e00" * 800] * 2
    assert recent([]) == []
    assert recent([Turn("user", "a"), Turn("assistant", "Six [1], seven [2; 3].")])[1].text == "Six, seven."

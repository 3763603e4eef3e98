"""What is kept of answers: however they end, and whatever becomes of the database or the account meanwhile."""

from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from ringfence.answers.events import Citation, DoneEvent, ErrorEvent, Quote, SourcesEvent, TokenEvent
from ringfence.answers.history import History
from ringfence.answers.queries import CitedPlace
from ringfence.db import Database, DatabaseOptions
from ringfence.errors import NotFound
from ringfence.ids import new_answer_id, new_document_id, new_user_id

DOCUMENT = new_document_id()
QUOTE = Quote(text="six weeks", page=3, start=10, end=19)
CITATION = Citation(n=1, document_id=DOCUMENT, document="handbook.pdf", quote=QUOTE)
DONE = DoneEvent(refused=False, model="extract", citations=[CITATION])


@pytest.fixture
async def history(db):
    history = History(db)
    yield history
    await history.close()


@pytest.fixture
async def user(admin):
    user_id = new_user_id()
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash) values ($1, 'a', 'a', '')", user_id
    )
    return user_id


async def stream(answer_id, *events):
    yield SourcesEvent(answer_id=answer_id, sources=[])
    for event in events:
        yield event


async def record(history, user_id, *events, question="How long?"):
    answer_id = new_answer_id()
    heard = [event async for event in history.recorded(user_id, answer_id, question, stream(answer_id, *events))]
    assert heard[1:] == list(events)
    return answer_id


async def test_an_answer_is_kept_with_its_citations_but_not_their_words(history, user, admin):
    answer_id = await record(history, user, TokenEvent(text="Six "), TokenEvent(text="weeks [1]."), DONE)
    kept = await history.get(user, answer_id)
    assert (kept.question, kept.state, kept.text, kept.model) == ("How long?", "done", "Six weeks [1].", "extract")
    assert kept.citations == (CitedPlace(1, DOCUMENT, 3, 10, 19, 9),)
    row = await admin.fetchval("select a::text from answers a")
    assert "handbook" not in row
    assert "six weeks" not in row


@pytest.mark.parametrize(
    ("last", "state", "code"),
    [
        (DoneEvent(refused=True, model=None, citations=[]), "refused", None),
        (ErrorEvent(code="model_silent", message="…"), "failed", "model_silent"),
    ],
)
async def test_how_it_ended_is_kept(history, user, last, state, code):
    kept = await history.get(user, await record(history, user, TokenEvent(text="Six"), last))
    assert (kept.state, kept.error_code, kept.text) == (state, code, "Six")


@pytest.mark.parametrize(("heard", "text"), [(1, ""), (2, "Six")])
async def test_what_is_closed_early_is_kept_as_far_as_it_came(history, user, heard, text):
    answer_id = new_answer_id()
    events = stream(answer_id, TokenEvent(text="Six"), TokenEvent(text=" weeks"), DONE)
    async with aclosing(history.recorded(user, answer_id, "How long?", events)) as recorded:
        for _ in range(heard):
            await anext(recorded)
    await history.close()
    kept = await history.get(user, answer_id)
    assert (kept.state, kept.text, kept.citations) == ("interrupted", text, ())
    with pytest.raises(StopAsyncIteration):  # the source was closed too
        await anext(events)


async def test_what_fails_before_it_begins_is_not_kept(history, user):
    async def fails():
        raise NotFound("nothing", "…")
        yield

    with pytest.raises(NotFound):
        await anext(history.recorded(user, new_answer_id(), "How long?", fails()))
    assert await history.newest(user, 10) == []


async def test_the_newest_come_first_and_can_be_forgotten(history, user):
    ids = [await record(history, user, DONE, question=question) for question in ("one", "two", "three")]
    assert [kept.question for kept in await history.newest(user, 2)] == ["three", "two"]
    await history.delete(user, ids[2])
    assert [kept.answer_id for kept in await history.newest(user, 10)] == [ids[1], ids[0]]
    for action in (history.get, history.delete):
        with pytest.raises(NotFound, match="answer_not_found"):
            await action(user, ids[2])


async def test_another_tenant_has_none_of_it(history, user, admin):
    answer_id = await record(history, user, DONE)
    other = new_user_id()
    for action in (history.get, history.delete):
        with pytest.raises(NotFound, match="answer_not_found"):
            await action(other, answer_id)
    assert await history.newest(other, 10) == []
    assert await history.get(user, answer_id)


async def test_what_a_model_writes_that_no_database_stores_is_replaced(history, user):
    answer_id = await record(history, user, TokenEvent(text="a\0b\ud800c"), DONE)
    assert (await history.get(user, answer_id)).text == "ab?c"


async def test_an_account_that_is_gone_or_a_database_that_is_down_break_no_stream(history, app_url, system_url, user):
    with capture_logs() as logs:
        await record(history, new_user_id(), DONE)
    assert [(log["event"], log["code"]) for log in logs] == [("answer_unsaved", "unknown_account")]
    closed = Database(app_url, system_url, DatabaseOptions())
    await closed.open()
    await closed.close()
    with capture_logs() as logs:
        await record(History(closed), user, DONE)
    assert logs[-1] == {"event": "answer_unsaved", "code": "database_unavailable", "log_level": "warning"}


async def test_a_defect_breaks_no_stream(history, user, admin):
    await admin.execute("alter table answers add constraint never check (text <> 'Six')")
    with capture_logs() as logs:
        await record(history, user, TokenEvent(text="Six"), DONE)
    assert [(log["event"], log["log_level"]) for log in logs] == [("answer_unsaved", "error")]

"""Answers, with passages given and a real model server."""

import pytest

from ringfence.answers.events import DoneEvent, ErrorEvent, SourcesEvent, TokenEvent
from ringfence.answers.prompt import REFUSAL
from ringfence.answers.service import MAX_QUESTION_CHARS, Answers
from ringfence.errors import Invalid
from ringfence.ids import new_document_id, new_user_id
from ringfence.models.http import Timeouts
from ringfence.models.openai import OpenAIChat
from ringfence.search.queries import Passage

USER = new_user_id()


def passage(text, score=0.8, page=4):
    return Passage(new_document_id(), "handbook.pdf", text, ((page, 10, 10 + len(text)),), score)


class GivenPassages:
    """Stands where search stands; search itself is tested with a database."""

    def __init__(self, *passages):
        self._passages = list(passages)

    async def passages(self, user_id, question, limit):
        assert user_id == USER
        return self._passages[:limit]


NOTICE = passage("Some words before. The notice period is six weeks. Some words after.")
OVEN = passage("Anders repairs the oven.", 0.5)


@pytest.fixture
async def chat(models):
    timeouts = Timeouts(connect=2, first_token=2, between_tokens=0.5, total=5)
    chat = OpenAIChat(models.openai_url, "extract", timeouts=timeouts)
    yield chat
    await chat.close()


def answers(chat, *passages, mark=False):
    return Answers(
        GivenPassages(*passages), chat, passage_tokens=600, answer_tokens=64, relevance_floor=0.25, mark=mark
    )


async def collect(engine, question="How long is the notice period?"):
    events = [event async for event in engine.ask(USER, question)]
    assert isinstance(events[0], SourcesEvent)
    text = "".join(event.text for event in events if isinstance(event, TokenEvent))
    return events[0].sources, text, events[-1]


async def test_an_answer_streams_and_cites(chat, models):
    models.script(answer="It is six weeks [1].")
    sources, text, done = await collect(answers(chat, NOTICE, OVEN))
    assert [source.n for source in sources] == [1, 2]
    assert sources[0].quote.text == "The notice period is six weeks."
    assert (sources[0].quote.page, sources[0].quote.start) == (4, 10 + 19)
    assert text == "It is six weeks [1]."
    assert isinstance(done, DoneEvent)
    assert not done.refused
    assert done.model == "extract"
    assert [(c.n, c.document, c.quote.page) for c in done.citations] == [(1, "handbook.pdf", 4)]


async def test_the_model_is_given_the_passages_and_nothing_else(chat, models):
    await collect(answers(chat, NOTICE, OVEN))
    [request] = models.chats
    prompt = request.body["messages"][-1]["content"]
    assert NOTICE.text in prompt
    assert OVEN.text in prompt
    assert "How long is the notice period?" in prompt
    assert str(USER) not in str(request.body)


async def test_the_engine_cites_for_a_model_that_can_not(chat, models):
    models.script(answer="The notice period is six weeks. Anders repairs the oven.")
    _, text, done = await collect(answers(chat, OVEN, NOTICE, mark=True))
    assert text == "The notice period is six weeks. [2] Anders repairs the oven. [1]"
    assert [citation.n for citation in done.citations] == [2, 1]
    assert "[1]" not in models.chats[0].body["messages"][-1]["content"]


@pytest.mark.parametrize("mark", [True, False])
async def test_an_answer_that_rests_on_nothing_gets_no_citation(chat, models, mark):
    models.script(answer="Bananas grow in warm countries.")
    _, text, done = await collect(answers(chat, NOTICE, mark=mark))
    assert text == "Bananas grow in warm countries."
    assert (done.refused, done.citations) == (False, [])


@pytest.mark.parametrize("said", [REFUSAL, f' "{REFUSAL}"', REFUSAL.removesuffix(".")])
async def test_a_models_refusal_is_known_as_such(chat, models, said):
    models.script(answer=said)
    _, _, done = await collect(answers(chat, NOTICE))
    assert (done.refused, done.citations) == (True, [])


async def test_below_the_floor_nobody_is_asked(chat, models):
    sources, text, done = await collect(answers(chat, passage("Far from it.", 0.2)))
    assert len(sources) == 1
    assert text == REFUSAL
    assert (done.refused, done.model) == (True, None)
    assert models.chats == []


async def test_without_documents_it_refuses(chat, models):
    sources, text, done = await collect(answers(chat))
    assert (sources, text, done.refused) == ([], REFUSAL, True)
    assert models.chats == []


async def test_without_a_model_the_evidence_is_the_answer():
    _, text, done = await collect(answers(None, NOTICE, OVEN))
    assert "“The notice period is six weeks.” [1]" in text
    assert [citation.n for citation in done.citations] == [1, 2]
    assert (done.refused, done.model) == (False, None)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ({"status": 503}, "model_busy"),
        ({"stall_after": 1}, "model_silent"),
        ({"break_after": 1}, "model_broke_off"),
        ({"answer": " \n"}, "model_empty"),
    ],
)
async def test_a_model_that_fails_ends_in_an_error_event(chat, models, behaviour, code):
    models.script(**{"answer": "It is six weeks [1].", **behaviour})
    _, _, last = await collect(answers(chat, NOTICE))
    assert isinstance(last, ErrorEvent)
    assert last.code == code
    assert "notice" not in last.message


async def test_closing_the_stream_closes_the_connection_to_the_model(chat, models):
    models.script(answer="word " * 1000, delay=0.02)
    events = answers(chat, NOTICE).ask(USER, "How long?")
    async for event in events:
        if isinstance(event, TokenEvent):
            break
    await events.aclose()
    await models.wait_for(lambda: models.disconnects == 1, within=1)


@pytest.mark.parametrize("question", ["", "  \n", "x" * (MAX_QUESTION_CHARS + 1)])
async def test_a_question_has_some_words_and_not_too_many(chat, question):
    with pytest.raises(Invalid, match="bad_question"):
        await anext(answers(chat).ask(USER, question))


class Defective:
    """A model whose code has a defect."""

    name = "defective"
    context_tokens = 1000

    async def stream(self, messages, *, max_tokens):
        yield "It is"
        raise ZeroDivisionError("secret")

    async def close(self):
        pass


async def test_a_defect_ends_in_an_error_event_too():
    _, text, last = await collect(answers(Defective(), NOTICE))
    assert (text, last.type, last.code) == ("It is", "error", "internal")
    assert "secret" not in last.message

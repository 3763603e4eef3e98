"""The client's calls of chats, with a real engine, and with servers that break off."""

import json
from contextlib import aclosing
from uuid import uuid4

import httpx2
import pytest

from ringfence.client import Client
from ringfence.errors import Invalid, NotFound, Unavailable
from tests.http.test_documents import finished, upload

QUESTION = "How long is the notice period?"


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        await finished(client._http, (await upload(client._http)).json()["document_id"])
        yield client


async def heard(events):
    return [event async for event in events]


async def test_a_conversation(ada):
    chat = await ada.add_chat()
    first = await heard(ada.say(chat.chat_id, QUESTION))
    assert [event.type for event in first][:2] == ["started", "sources"]
    answer = first[0].message_id
    again = await heard(ada.regenerate(chat.chat_id, answer, patience=0))
    edited = await heard(ada.say(chat.chat_id, "Who repairs the oven?", edits=first[0].question_id))
    followed = await heard(ada.say(chat.chat_id, "And the notice period?", parent=again[0].message_id))
    branch = await ada.chat(chat.chat_id)
    assert branch.chat.title == QUESTION
    assert [message.message_id for message in branch.messages] == [
        first[0].question_id, again[0].message_id, followed[0].question_id, followed[0].message_id
    ]  # fmt: skip
    other = await ada.chat(chat.chat_id, through=edited[0].message_id)
    assert other.messages[0].siblings == [first[0].question_id, edited[0].question_id]
    changed = await ada.change_chat(chat.chat_id, title="Notice", through=answer)
    assert (changed.title, changed.leaf_id) == ("Notice", answer)
    await ada.rate(chat.chat_id, answer, "up", "Right.")
    message = await ada.message(chat.chat_id, answer)
    assert (message.rating, message.comment) == ("up", "Right.")
    assert message.citations[0].document == "handbook.txt"
    trace = await ada.trace(chat.chat_id, answer)
    assert (trace.query, trace.passages[0].version) == (QUESTION, 1)
    assert trace.prompt[-1].content.endswith(QUESTION)
    assert (await ada.export_chat(chat.chat_id)).startswith("# Notice\n")
    assert [one.chat_id for one in await ada.chats("OVEN?")] == [chat.chat_id]
    await ada.delete_chat(chat.chat_id)
    assert await ada.chats() == []
    with pytest.raises(NotFound, match="chat_not_found"):
        await anext(ada.say(chat.chat_id, QUESTION))


async def test_who_leaves_stops_the_answer(ada, models):
    chat = await ada.add_chat()
    models.script(answer="six weeks and never an end", stall_after=2)
    async with aclosing(ada.say(chat.chat_id, QUESTION)) as events:
        async for event in events:
            if event.type == "started":
                started = event
            if event.type == "token":
                break
    assert (await ada.message(chat.chat_id, started.message_id)).state == "stopped"
    await models.wait_for(lambda: models.disconnects == 1)
    await ada.stop(chat.chat_id, started.message_id)


# Servers that break off


CHAT, MESSAGE = uuid4(), uuid4()
STARTED = {
    "type": "started",
    "chat_id": str(CHAT),
    "question_id": str(uuid4()),
    "message_id": str(MESSAGE),
    "title": "?",
}
DONE = {"type": "done", "refused": False, "model": "m", "citations": []}


def token(text):
    return {"type": "token", "text": text}


def stream(*events):
    blocks = [f"id: {n}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n" for n, event in enumerate(events)]
    return httpx2.Response(200, text=":\n\n".join(blocks))


def served(*responses):
    """A client of a server that answers in turn, and what it was asked."""
    asked, left = [], list(responses)

    def answer(request):
        asked.append(request)
        return left.pop(0)

    return Client("http://engine", token="t", transport=httpx2.MockTransport(answer)), asked


async def test_a_lost_stream_is_taken_up_again():
    client, asked = served(
        stream(STARTED, token("Six ")), httpx2.Response(503, json={"code": "x"}), stream(token("weeks."), DONE)
    )
    async with client:
        events = await heard(client.say(CHAT, QUESTION))
    assert [event.type for event in events] == ["started", "token", "token", "done"]
    assert json.loads(asked[0].content) == {"question": QUESTION, "resumable": True}
    assert asked[1].url.path == asked[2].url.path == f"/api/v1/chats/{CHAT}/messages/{MESSAGE}/stream"
    assert asked[2].headers["last-event-id"] == "1"


async def test_patience_ends():
    client, asked = served(stream(STARTED, token("Six ")))
    async with client:
        with pytest.raises(Unavailable, match="stream_broke_off"):
            await heard(client.say(CHAT, QUESTION, patience=0))
    assert len(asked) == 1


async def test_what_did_not_begin_is_not_tried_again():
    client, asked = served(httpx2.Response(503, json={"code": "model_busy"}))
    async with client:
        with pytest.raises(Unavailable, match="model_busy"):
            await heard(client.say(CHAT, QUESTION))
    client, _ = served(httpx2.Response(400, json={"code": "bad_parent"}))
    async with client:
        with pytest.raises(Invalid, match="bad_parent"):
            await heard(client.say(CHAT, QUESTION))
    assert len(asked) == 1


async def test_leaving_what_never_began_or_has_ended_stops_nothing():
    client, asked = served(stream(token("?"), DONE), stream(STARTED, DONE))
    async with client:
        for _ in range(2):
            async with aclosing(client.say(CHAT, QUESTION)) as events:
                async for event in events:
                    if event.type in {"token", "done"}:
                        break
    assert len(asked) == 2


async def test_a_stop_that_fails_is_no_error():
    client, asked = served(stream(STARTED, token("Six ")), httpx2.Response(503, json={"code": "x"}))
    async with client, aclosing(client.say(CHAT, QUESTION)) as events:
        assert (await anext(events)).type == "started"
    assert asked[1].url.path.endswith("/stop")


async def test_a_list_of_chats_is_read_to_its_end():
    def page(cursor):
        chat = {"chat_id": str(uuid4()), "title": "?", "leaf_id": None, "updated_at": "2026-01-01T00:00:00Z"}
        return httpx2.Response(200, json={"chats": [chat], "next_cursor": cursor})

    client, asked = served(page("next"), page(None))
    async with client:
        assert len(await client.chats()) == 2
    assert asked[1].url.params["cursor"] == "next"

"""Chats from outside: conversations, their branches, their streams, and what is kept of them."""

import asyncio
import io
import json
import zipfile
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import httpx2
import pytest

from tests.engine import running
from tests.http.test_documents import finished, upload

QUESTION = "How long is the notice period?"


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        yield http


@dataclass
class Event:
    id: str
    name: str
    data: dict


def events(text):
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append(Event(fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


async def begun(http, **body):
    response = await http.post("/api/v1/chats", json=body)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/api/v1/chats/{response.json()['chat_id']}"
    return response.headers["location"]


async def ask(http, chat, question=QUESTION, headers=None, **body):
    return await http.post(f"{chat}/messages", json={"question": question, **body}, headers=headers)


async def asked(http, chat, question=QUESTION, **body):
    """The answer's message, once it has ended."""
    response = await ask(http, chat, question, {"Accept": "application/json"}, **body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_answer_streams_with_ids_and_is_kept_as_it_was_said(ada):
    chat = await begun(ada)
    response = await ask(ada, chat)
    assert response.headers["content-type"].startswith("text/event-stream")
    got = events(response.text)
    assert [event.name for event in got[:2]] == ["started", "sources"]
    assert {event.name for event in got[2:-1]} == {"token", "citation"}
    assert got[-1].name == "done"
    assert got[0].data["title"] == QUESTION
    ids = [event.id for event in got]
    assert len(set(ids)) == len(ids)
    assert (ids[0], ids[1]) == ("1.0", "2.0")
    shown = (await ada.get(chat)).json()
    question, answer = shown["messages"]
    assert (shown["chat"]["title"], shown["chat"]["leaf_id"]) == (QUESTION, answer["message_id"])
    assert (question["role"], question["text"], question["parent_id"]) == ("user", QUESTION, None)
    assert (answer["role"], answer["parent_id"], answer["state"]) == ("assistant", question["message_id"], "done")
    assert answer["text"] == "".join(event.data["text"] for event in got if event.name == "token")
    assert got[0].data["question_id"] == question["message_id"]
    assert got[0].data["message_id"] == got[1].data["answer_id"] == answer["message_id"]
    [citation], [said] = answer["citations"], got[-1].data["citations"]
    assert (citation["document"], citation["quote"]) == (said["document"], said["quote"]["text"])
    assert (await ada.get("/api/v1/answers")).json() == {"answers": []}


async def test_what_documents_disagree_on_is_kept_with_the_answer_and_exported(ada, models):
    chat = await begun(ada)
    other = await upload(ada, "corrected.txt", b"The notice period is nine weeks to the end of a quarter.")
    await finished(ada, other.json()["document_id"])
    models.script(answer="The notice period is six weeks to the end of a quarter.")
    message = await asked(ada, chat)
    path = f"{chat}/messages/{message['message_id']}"
    passages = (await ada.get(f"{path}/trace")).json()["passages"]
    [corrected] = [one["n"] for one in passages if one["document"] == "corrected.txt"]
    [claim] = message["claims"]
    assert (claim["verdict"], claim["disputed"]) == ("partly", corrected)
    assert (await ada.get(path)).json()["claims"] == [claim]
    with zipfile.ZipFile(io.BytesIO((await ada.get("/api/v1/me/export")).content)) as archive:
        exported = json.loads(archive.read("messages.json"))
    assert [one["claims"] for one in exported if one["role"] == "assistant"] == [[claim]]


async def test_a_question_says_how_it_is_answered(ada, models):
    chat = await begun(ada)
    other = await upload(ada, "ovens.txt", b"The notice on the oven says six weeks of rest.")
    await finished(ada, other.json()["document_id"])
    chosen = {"documents": [other.json()["document_id"]]}
    models.script(answer="The oven rests six weeks [1]. Whales sing operas of Verdi beneath nine frozen moons [1].")
    message = await asked(ada, chat, strict=True, filter=chosen)
    path = f"{chat}/messages/{message['message_id']}"
    trace = (await ada.get(f"{path}/trace")).json()
    assert {one["document"] for one in trace["passages"]} == {"ovens.txt"}
    assert trace["parameters"]["strict"] is True
    # The verdicts on its sentences are kept with it.
    assert [message["text"][one["start"] : one["end"]] for one in message["claims"]][1].startswith("Whales sing")
    assert [(one["verdict"], one["disputed"]) for one in message["claims"]][1] == ("unsupported", None)
    assert (await ada.get(path)).json()["claims"] == message["claims"]
    await ada.post(f"{path}/regenerate", json={"filter": {"tags": ["none"]}}, headers={"Accept": "application/json"})
    assert (await ada.get(chat)).json()["messages"][-1]["state"] == "refused"


async def test_plain_text_and_json(ada):
    chat = await begun(ada)
    text = await ask(ada, chat, headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert "The notice period is six weeks" in text.text
    assert "[1] handbook.txt, page 1: “" in text.text
    message = await asked(ada, chat)
    assert (message["state"], message["role"]) == ("done", "assistant")
    assert "The notice period is six weeks" in message["text"]
    assert (await ada.get(f"{chat}/messages/{message['message_id']}")).json() == message


async def test_a_follow_up_is_understood_and_goes_to_the_model_with_what_was_said(ada, models):
    chat = await begun(ada)
    first = await asked(ada, chat)
    models.script(answer="How long is the notice period for Anders?", times=1)
    second = await asked(ada, chat, "And for Anders?")
    trace = (await ada.get(f"{chat}/messages/{second['message_id']}/trace")).json()
    assert (trace["rewritten"], trace["query"]) == (True, "How long is the notice period for Anders?")
    sent = models.chats[-1].body["messages"]
    assert first["text"].endswith(" [1].")
    said = first["text"].replace(" [1]", "")  # which was another prompt's passage
    assert [(one["role"], one["content"]) for one in sent[1:3]] == [("user", QUESTION), ("assistant", said)]
    assert sent[-1]["content"].endswith("Question: How long is the notice period for Anders?")
    assert [(one["role"], one["content"]) for one in trace["prompt"]] == [(m["role"], m["content"]) for m in sent]


async def test_an_edit_and_another_answer_are_branches(ada):
    chat = await begun(ada)
    first = await asked(ada, chat)
    question = first["parent_id"]
    again = (
        await ada.post(
            f"{chat}/messages/{first['message_id']}/regenerate", json={}, headers={"Accept": "application/json"}
        )
    ).json()
    assert again["siblings"] == [first["message_id"], again["message_id"]]
    assert again["parent_id"] == question
    edited = await asked(ada, chat, "Who repairs the oven?", edits=question)
    shown = (await ada.get(chat)).json()["messages"]
    assert [one["text"] for one in shown] == ["Who repairs the oven?", edited["text"]]
    assert shown[0]["siblings"] == [question, edited["parent_id"]]
    other = (await ada.get(chat, params={"through": question})).json()["messages"]
    assert [one["message_id"] for one in other] == [question, again["message_id"]]
    changed = await ada.patch(chat, json={"through": first["message_id"], "title": " Notice \n periods "})
    assert (changed.json()["leaf_id"], changed.json()["title"]) == (first["message_id"], "Notice periods")
    followed = await asked(ada, chat, "And the oven?", parent_id=again["message_id"])
    shown = (await ada.get(chat)).json()["messages"]
    assert [one["message_id"] for one in shown] == [
        question, again["message_id"], followed["parent_id"], followed["message_id"]
    ]  # fmt: skip


# Streams


async def opened(http, chat, models, **body):
    """A stream that stands still after some words, at its first token: what closes it, and what came."""
    models.script(answer="six weeks and never an end", stall_after=2, times=1)
    stream = http.stream("POST", f"{chat}/messages", json={"question": QUESTION, **body})
    response = await stream.__aenter__()
    came, texts = "", response.aiter_text()
    while "event: token" not in came:
        came += await anext(texts)
    stream.texts = texts  # whoever drops it closes the stream
    return stream, events(came)


async def test_a_lost_stream_is_taken_up_where_it_was_lost(ada, models):
    chat = await begun(ada)
    stream, before = await opened(ada, chat, models, resumable=True)
    await stream.__aexit__(None, None, None)
    path = f"{chat}/messages/{before[0].data['message_id']}"
    models.release()
    response = await ada.get(f"{path}/stream", headers={"Last-Event-ID": before[-1].id})
    assert response.headers["content-type"].startswith("text/event-stream")
    after = events(response.text)
    assert after[-1].name == "done"
    assert "started" not in {event.name for event in after}
    text = "".join(event.data["text"] for event in (*before, *after) if event.name == "token")
    assert text == "six weeks and never an end"
    nothing = await ada.get(f"{path}/stream", headers={"Last-Event-ID": after[-1].id})
    assert (nothing.status_code, nothing.content) == (204, b"")
    bad = await ada.get(f"{path}/stream", headers={"Last-Event-ID": "x"})
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_event_id")


async def test_a_stream_that_is_not_to_be_resumed_ends_with_its_connection(ada, models):
    chat = await begun(ada)
    stream, before = await opened(ada, chat, models)
    await stream.__aexit__(None, None, None)
    await models.wait_for(lambda: models.disconnects == 1, within=2)
    after = events((await ada.get(f"{chat}/messages/{before[0].data['message_id']}/stream")).text)
    assert after[-1].data["code"] == "answer_interrupted"


async def test_a_client_that_waits_for_json_and_leaves_stops_the_model(ada, models):
    chat = await begun(ada)
    models.script(answer="six weeks and never an end", stall_after=2)
    asking = asyncio.create_task(asked(ada, chat))
    await models.wait_for(lambda: models.streaming == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await models.wait_for(lambda: models.disconnects == 1, within=2)


async def test_an_answer_is_stopped_by_a_request(ada, models):
    chat = await begun(ada)
    stream, before = await opened(ada, chat, models)
    path = f"{chat}/messages/{before[0].data['message_id']}"
    assert (await ada.post(f"{path}/stop")).status_code == 204
    await stream.__aexit__(None, None, None)
    message = (await ada.get(path)).json()
    assert message["state"] == "stopped"
    assert message["text"].startswith("six")


def stand_open(models, count):
    return models.streaming == count


@pytest.mark.long
async def test_two_hundred_streams_hold_no_connection(settings, models):
    """Twenty times as many streams as the pool has connections stand open, and other requests are answered.

    It takes seconds to open that many.
    """
    patient = settings.model_copy(update={"model_token_timeout": 300, "db_pool_size": 10})
    limits = httpx2.Limits(max_connections=300)
    async with running(patient, models) as live, live.account("ada@example.com") as client:
        ada = client._http
        await finished(ada, (await upload(ada)).json()["document_id"])
        chat = await begun(ada)
        question = (await asked(ada, chat))["parent_id"]
        models.script(answer="six weeks and no more", stall_after=2)
        asking = []
        async with httpx2.AsyncClient(base_url=live.url, timeout=300, limits=limits, auth=ada.auth) as many:
            for _ in range(10):  # not all at once: it is not the asking that is tried here
                asking += [asyncio.create_task(ask(many, chat, edits=question)) for _ in range(20)]
                await models.wait_for(partial(stand_open, models, len(asking)), within=60)
            for _ in range(5):
                assert (await ada.get(chat)).status_code == 200
            models.release()
            answers = await asyncio.gather(*asking)
    assert all("event: done" in answer.text for answer in answers)


@pytest.mark.parametrize(
    "body",
    [{"question": ""}, {"question": "x" * 5000}, {}, {"question": "a", "resumable": "yes"}, {"question": "a", "k": 1}],
)
async def test_bad_questions_are_422(ada, body):
    response = await ada.post(f"{await begun(ada)}/messages", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "bad_request")


# What is kept


async def test_feedback_is_kept_and_taken_back(ada):
    chat = await begun(ada)
    message = await asked(ada, chat)
    path = f"{chat}/messages/{message['message_id']}"
    for said in ({"rating": "up", "comment": None}, {"rating": "down", "comment": "Too short."}, {}):
        assert (await ada.put(f"{path}/feedback", json=said)).status_code == 204
        kept = (await ada.get(path)).json()
        assert (kept["rating"], kept["comment"]) == (said.get("rating"), said.get("comment"))
    for bad in ({"rating": "no"}, {"comment": "x" * 2001}, {"comment": "\0"}, {"stars": 5}):
        assert (await ada.put(f"{path}/feedback", json=bad)).status_code == 422


@pytest.mark.parametrize("purge", [True, False])
async def test_a_deleted_documents_words_are_gone_from_the_record(ada, admin, purge):
    chat = await begun(ada)
    message = await asked(ada, chat)
    path = f"{chat}/messages/{message['message_id']}"
    [passage] = (await ada.get(f"{path}/trace")).json()["passages"][:1]
    assert (passage["version"], passage["document"]) == (1, "handbook.txt")
    assert passage["text"].startswith("The notice period is six weeks")
    document = passage["document_id"]
    await ada.delete(f"/api/v1/documents/{document}", params={"purge": purge})
    left = (await ada.get(f"{path}/trace")).json()
    assert [one["text"] for one in left["passages"]] == [None] * len(left["passages"])
    assert left["passages"][0] == passage | dict.fromkeys(("text", "document", "context", "quote"))
    assert "[deleted]" in left["prompt"][-1]["content"]
    assert "six weeks" not in json.dumps(left)
    assert (await ada.get(path)).json()["citations"][0]["quote"] is None
    assert "a deleted document, page 1" in (await ada.get(f"{chat}/export")).text
    replayed = events((await ada.get(f"{path}/stream")).text)
    assert [source["quote"]["text"] for source in replayed[1].data["sources"]] == [""] * len(left["passages"])
    kept = await admin.fetchval("select count(*) from pinned_passages")
    assert (kept == 0) == purge
    if not purge:
        await ada.post(f"/api/v1/documents/{document}/restore")
        assert (await ada.get(f"{path}/trace")).json()["passages"][0] == passage


async def test_a_record_knows_the_version_that_answered(ada):
    chat = await begun(ada)
    message = await asked(ada, chat)
    path = f"{chat}/messages/{message['message_id']}/trace"
    before = (await ada.get(path)).json()
    document = before["passages"][0]["document_id"]
    content = {"file": ("handbook.txt", b"The notice period is three months.")}
    await ada.put(f"/api/v1/documents/{document}/content", files=content)
    async with asyncio.timeout(30):
        while (await ada.get(f"/api/v1/documents/{document}")).json()["version"] != 2:
            await asyncio.sleep(0.05)  # the worker's end sets no event here
    again = await asked(ada, chat, "How long is the notice period now?")
    after = (await ada.get(f"{chat}/messages/{again['message_id']}/trace")).json()
    assert after["passages"][0]["version"] == 2
    assert "three months" in after["passages"][0]["text"]
    assert (await ada.get(path)).json() == before


async def test_chats_are_listed_in_pages_and_searched(ada):
    paths = [await begun(ada, title=title) for title in ("First", "Second", "Third")]
    await asked(ada, paths[0], "Who repairs the OVEN?")
    ids = [path.rpartition("/")[2] for path in paths]
    first = (await ada.get("/api/v1/chats", params={"limit": 2})).json()
    assert [chat["chat_id"] for chat in first["chats"]] == [ids[0], ids[2]]
    second = (await ada.get("/api/v1/chats", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [chat["chat_id"] for chat in second["chats"]] == [ids[1]]
    assert second["next_cursor"] is None
    [found] = (await ada.get("/api/v1/chats", params={"q": "the oven"})).json()["chats"]
    assert (found["chat_id"], found["title"]) == (ids[0], "First")
    assert "oven" in found["excerpt"].lower()
    [found] = (await ada.get("/api/v1/chats", params={"q": "SECOND"})).json()["chats"]
    assert (found["chat_id"], found["message_id"], found["excerpt"]) == (ids[1], None, None)
    assert (await ada.get("/api/v1/chats", params={"q": "%"})).json()["chats"] == []
    for bad, code in (({"cursor": "x"}, "bad_cursor"), ({"q": "\0"}, "bad_query")):
        response = await ada.get("/api/v1/chats", params=bad)
        assert (response.status_code, response.json()["code"]) == (400, code)


async def test_chats_are_renamed_and_deleted(ada, admin):
    chat = await begun(ada)
    assert (await ada.get(chat)).json()["chat"]["title"] is None
    assert "# Chat" in (await ada.get(f"{chat}/export")).text
    await asked(ada, chat)
    for bad in ("  ", "\0"):
        response = await ada.patch(chat, json={"title": bad})
        assert (response.status_code, response.json()["code"]) == (400, "bad_title")
    assert (await ada.delete(chat)).status_code == 204
    for method in ("GET", "DELETE"):
        response = await ada.request(method, chat)
        assert (response.status_code, response.json()["code"]) == (404, "chat_not_found")
    for table in ("chats", "messages", "traces", "pinned_passages"):
        assert await admin.fetchval(f"select count(*) from {table}") == 0


async def test_a_chat_as_markdown_holds_nothing_that_loads(ada, models):
    chat = await begun(ada, title="A *title*")
    models.script(answer="Six weeks <b>here</b> ![x](https://example.com/steal) [1].", times=1)
    await asked(ada, chat, "How long is <img src=x> the notice period?\n![y](z)")
    models.script(answer="no", break_after=0)  # whoever rewrites the question hears nothing either
    await asked(ada, chat)
    response = await ada.get(f"{chat}/export")
    assert response.headers["content-type"].startswith("text/markdown")
    assert response.headers["content-disposition"].startswith('attachment; filename="chat-')
    lines = response.text.splitlines()
    assert lines[0] == "# A \\*title\\*"
    assert lines[2].startswith("## Question, 20")
    assert lines[4:6] == ["> How long is \\<img src=x> the notice period?", "> \\![y](z)"]
    assert "Six weeks \\<b>here\\</b> [x]((link removed)) [1]." in lines, lines
    assert "- \\[1\\] handbook.txt, page 1: “The notice period is six weeks to the end of a quarter.”" in lines
    assert lines[-1] == "*(failed)*"
    one = await ada.get(f"{chat}/export", params={"through": (await ada.get(chat)).json()["messages"][0]["message_id"]})
    assert one.text == response.text


async def test_anothers_chat_looks_like_one_that_never_was(ada, live):
    chat = await begun(ada)
    message = await asked(ada, chat)
    rest = [
        ("GET", "", None), ("PATCH", "", {"title": "mine"}), ("DELETE", "", None), ("GET", "/export", None),
        ("POST", "/messages", {"question": QUESTION}),
        *(("GET", f"/messages/{message['message_id']}{more}", None) for more in ("", "/trace", "/stream")),
        ("PUT", f"/messages/{message['message_id']}/feedback", {"rating": "up"}),
        ("POST", f"/messages/{message['message_id']}/stop", None),
        ("POST", f"/messages/{message['message_id']}/regenerate", {}),
    ]  # fmt: skip
    async with live.account("bob@example.com") as bob:
        for method, path, body in rest:
            theirs = await bob._http.request(method, f"{chat}{path}", json=body)
            nobodys = await bob._http.request(method, f"/api/v1/chats/{uuid4()}{path}", json=body)
            assert (theirs.status_code, theirs.json()["code"]) == (404, "chat_not_found")
            assert theirs.content == nobodys.content
        assert (await bob._http.get("/api/v1/chats")).json()["chats"] == []
    assert (await ada.get(chat)).status_code == 200
    for method, path, body in rest:
        assert (await ada.request(method, f"{chat}{path}", json=body, auth=None)).status_code == 401

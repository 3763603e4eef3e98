import asyncio
import json
import re
from uuid import uuid4

import pytest

from tests.http.test_documents import finished, upload


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        http = client._http
        await finished(http, (await upload(http)).json()["document_id"])
        yield http


def events(text):
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def ask(http, question="How long is the notice period?", **headers):
    return await http.post("/api/v1/answers", json={"question": question}, headers=headers)


async def test_an_answer_is_a_stream_of_typed_events(ada):
    response = await ask(ada)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    got = events(response.text)
    assert got[0][0] == "sources"
    assert {name for name, _ in got[1:-1]} == {"token", "citation"}
    name, done = got[-1]
    assert (name, done["refused"]) == ("done", False)
    assert all(name == data["type"] for name, data in got)
    [citation] = done["citations"]
    assert citation["document"] == "handbook.txt"
    assert citation["quote"] == {
        "text": "The notice period is six weeks to the end of a quarter.",
        "page": 1,
        "start": 0,
        "end": 55,
        "places": [{"page": 1, "start": 0, "end": 55}],
    }
    [checked] = [data for name, data in got if name == "citation"]
    assert checked["verdict"] == "supported"
    assert checked["citations"] == done["citations"]


async def test_strict_mode_gives_the_verdict_first(ada):
    response = await ada.post("/api/v1/answers", json={"question": "How long is the notice period?", "strict": True})
    assert [name for name, _ in events(response.text)] == ["sources", "citation", "token", "done"]


async def test_plain_text_says_what_documents_disagree_on(ada, models):
    models.script(answer="The notice period is six weeks to the end of a quarter.")
    corrected = await upload(ada, "corrected.txt", b"The notice period is nine weeks to the end of a quarter.")
    await finished(ada, corrected.json()["document_id"])
    answer = (await ask(ada, Accept="text/plain")).text
    said = "“The notice period is six weeks to the end of a quarter.”\n"
    assert re.search(rf"With another figure in corrected\.txt \[\d\]: {said}", answer)


async def test_plain_text_says_what_is_not_supported(ada, models):
    models.script(answer="The notice period is 99 weeks [1].")
    answer = (await ask(ada, Accept="text/plain")).text
    assert answer.endswith("Not supported by your documents: “The notice period is 99 weeks.”\n")


async def test_plain_text_for_a_terminal(ada):
    response = await ask(ada, Accept="text/plain")
    assert response.headers["content-type"].startswith("text/plain")
    assert "six weeks" in response.text
    assert response.text.endswith(
        "\n\n[1] handbook.txt, page 1: “The notice period is six weeks to the end of a quarter.”\n"
    )


async def test_json_once_it_has_ended(ada):
    response = await ask(ada, Accept="application/json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == (await ada.get("/api/v1/answers")).json()["answers"][0]
    assert response.json()["state"] == "done"


async def test_a_refusal_in_plain_text(ada):
    response = await ask(ada, "Zebras?", Accept="text/plain")
    assert response.text.startswith("The documents do not answer this question.\n\nNearest to it: handbook.txt (")


async def test_a_broken_answer_in_both_forms(ada, models):
    models.script(answer="It is six weeks.", break_after=2)
    name, error = events((await ask(ada)).text)[-1]
    assert (name, error["code"]) == ("error", "model_broke_off")
    assert "The answer broke off: " in (await ask(ada, Accept="text/plain")).text


async def test_tokens_come_as_the_model_writes_them(ada, models):
    models.script(answer="one two three", stall_after=1)
    body = {"question": "How long is the notice period?"}
    async with ada.stream("POST", "/api/v1/answers", json=body) as response:
        seen = ""
        async for text in response.aiter_text():
            seen += text
            if "event: token" in seen:
                models.release()
        assert "event: done" in seen


async def test_a_client_that_leaves_stops_the_model(ada, models):
    models.script(answer="word " * 1000, stall_after=3)
    body = {"question": "How long is the notice period?"}
    async with ada.stream("POST", "/api/v1/answers", json=body) as response:
        async for text in response.aiter_text():
            if "event: token" in text:
                break
    await models.wait_for(lambda: models.disconnects == 1, within=2)


@pytest.mark.parametrize("body", [{"question": ""}, {"question": "x" * 5000}, {}, {"question": "a", "top_k": 3}])
async def test_bad_questions_are_422(ada, body):
    response = await ada.post("/api/v1/answers", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "bad_request")


async def test_a_question_of_blanks_is_400_not_a_stream(ada):
    response = await ask(ada, "   ")
    assert (response.status_code, response.json()["code"]) == (400, "bad_question")


async def test_an_embedding_server_that_is_down_is_503_before_the_stream(ada, models):
    models.script_embeddings(status=503)
    response = await ask(ada)
    assert (response.status_code, response.json()["code"]) == (503, "model_busy")
    assert response.headers["retry-after"] == "5"


async def test_one_tenants_question_is_never_answered_from_anothers_documents(ada, live):
    async with live.account("bob@example.com") as bob:
        got = events((await ask(bob._http)).text)
    assert (got[0][0], got[0][1]["sources"]) == ("sources", [])
    assert got[-1][1]["refused"] is True
    assert "six weeks" not in str(got)


async def test_many_answers_at_once_hold_no_connection(ada, models, settings):
    """More streams than the pool has connections stand open, and other requests go on."""
    models.script(answer="word " * 5, stall_after=1)
    asking = [asyncio.create_task(ask(ada)) for _ in range(settings.db_pool_size * 2)]
    await models.wait_for(lambda: len(models.chats) == len(asking), within=20)
    assert (await ada.get("/api/v1/documents")).status_code == 200
    models.release()
    assert all("event: done" in response.text for response in await asyncio.gather(*asking))


async def test_an_answer_can_be_read_again_and_forgotten(ada):
    got = events((await ask(ada)).text)
    answer_id = got[0][1]["answer_id"]
    kept = (await ada.get(f"/api/v1/answers/{answer_id}")).json()
    assert kept["text"] == "".join(data["text"] for name, data in got if name == "token")
    assert (kept["state"], kept["question"]) == ("done", "How long is the notice period?")
    [citation], [place] = got[-1][1]["citations"], kept["citations"]
    assert place == {
        "n": citation["n"],
        "document_id": citation["document_id"],
        **{name: citation["quote"][name] for name in ("page", "start", "end")},
    }
    assert (await ada.get("/api/v1/answers")).json() == {"answers": [kept]}
    assert (await ada.delete(f"/api/v1/answers/{answer_id}")).status_code == 204
    for method in ("GET", "DELETE"):
        response = await ada.request(method, f"/api/v1/answers/{answer_id}")
        assert (response.status_code, response.json()["code"]) == (404, "answer_not_found")
    assert (await ada.get("/api/v1/answers")).json() == {"answers": []}


async def test_anothers_answer_is_no_answer(ada, live):
    answer_id = events((await ask(ada)).text)[0][1]["answer_id"]
    async with live.account("bob@example.com") as bob:
        for method in ("GET", "DELETE"):
            theirs = await bob._http.request(method, f"/api/v1/answers/{answer_id}")
            nobodys = await bob._http.request(method, f"/api/v1/answers/{uuid4()}")
            assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content)
            assert theirs.status_code == 404
        assert (await bob._http.get("/api/v1/answers")).json() == {"answers": []}
    assert (await ada.get(f"/api/v1/answers/{answer_id}")).status_code == 200
    for path in ("/api/v1/answers", f"/api/v1/answers/{answer_id}"):
        assert (await ada.get(path, auth=None)).status_code == 401


async def test_what_a_client_left_in_the_middle_of_is_kept_as_interrupted(ada, models):
    models.script(answer="word " * 1000, stall_after=3)
    async with ada.stream("POST", "/api/v1/answers", json={"question": "How long is the notice period?"}) as response:
        async for text in response.aiter_text():
            if "event: token" in text:
                break
    async with asyncio.timeout(10):
        while not (kept := (await ada.get("/api/v1/answers")).json()["answers"]):
            await asyncio.sleep(0.02)
    assert kept[0]["state"] == "interrupted"
    assert kept[0]["text"].startswith("word")

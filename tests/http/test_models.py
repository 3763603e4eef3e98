"""Several chat models from outside: choosing, falling back, waiting in line, and what it all took."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from ringfence.setting_types import ChatModelEntry
from tests.engine import running
from tests.fakes.model_server import model_server
from tests.http.openai.conftest import client_of, key_of
from tests.http.test_answers import ask, events
from tests.http.test_documents import finished, upload

QUESTION = {"question": "How long is the notice period?"}


@pytest.fixture
async def other():
    """The server of another model."""
    async with model_server() as server:
        server.script(answer="Six weeks, says the small one [1].")
        yield server


@pytest.fixture
def engine(settings, models, other):
    """An engine with two models, and an account on it that has a document."""

    @asynccontextmanager
    async def engine(**changes):
        small = ChatModelEntry(name="small", url=other.openai_url, model="s-1", completion_price=2, prompt_price=1)
        usual = {"chat_models": (small,), "chat_fall_back": ("small",)}
        changed = settings.model_copy(update=usual | changes)
        async with running(changed, models) as live, live.account("ada@example.com") as ada:
            await finished(ada._http, (await upload(ada._http)).json()["document_id"])
            yield live, ada._http

    return engine


def text_of(response):
    return "".join(data["text"] for name, data in events(response.text) if name == "token")


async def test_one_chooses_among_what_is_offered(engine, models, other):
    async with engine() as (_, ada):
        listed = (await ada.get("/api/v1/models")).json()
        assert [model["name"] for model in listed["models"]] == ["extract", "small"]
        assert [model["fall_back"] for model in listed["models"]] == [["small"], []]
        assert listed["models"][1] == {
            "name": "small", "context_tokens": 8192, "answering": True, "fall_back": [],
            "price": {"prompt": "1", "completion": "2", "currency": "USD"},
        }  # fmt: skip
        assert (listed["models"][0]["price"], listed["chosen"]) == (None, None)
        by_small = await ada.post("/api/v1/answers", json={**QUESTION, "model": "small"})
        assert events(by_small.text)[-1][1]["model"] == "small"
        assert other.chats[0].body["model"] == "s-1"
        assert events((await ask(ada)).text)[-1][1]["model"] == "extract"
        assert (await ada.put("/api/v1/me/model", json={"model": "small"})).status_code == 204
        assert (await ada.get("/api/v1/models")).json()["chosen"] == "small"
        assert text_of(await ask(ada)) == "Six weeks, says the small one [1]."
        assert (await ada.put("/api/v1/me/model", json={"model": None})).status_code == 204
        await ask(ada)
        assert (len(models.chats), len(other.chats)) == (2, 2)


async def test_what_is_not_offered_is_refused_before_anything_else(engine, models, other):
    async with engine() as (_, ada):
        chat_id = (await ada.post("/api/v1/chats", json={})).json()["chat_id"]
        for path in ("/api/v1/answers", f"/api/v1/chats/{chat_id}/messages"):
            refused = await ada.post(path, json={**QUESTION, "model": "huge"})
            assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
        refused = await ada.put("/api/v1/me/model", json={"model": "huge"})
        assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
        assert "extract, small" in refused.json()["detail"]
        assert (await ada.get("/api/v1/me/usage")).json()["questions"]["used"] == 0
        assert models.chats == other.chats == []


async def test_chats_and_openais_clients_choose_too(engine):
    async with engine() as (live, ada):
        chat_id = (await ada.post("/api/v1/chats", json={})).json()["chat_id"]
        body, headers = {**QUESTION, "model": "small"}, {"Accept": "application/json"}
        said = (await ada.post(f"/api/v1/chats/{chat_id}/messages", json=body, headers=headers)).json()
        assert said["model"] == "small"
        again = f"/api/v1/chats/{chat_id}/messages/{said['message_id']}/regenerate"
        assert (await ada.post(again, json={"model": "extract"}, headers=headers)).json()["model"] == "extract"
        trace = f"/api/v1/chats/{chat_id}/messages/{said['message_id']}/trace"
        assert (await ada.get(trace)).json()["model"] == "small"
        async with client_of(live.url, await key_of(ada, "ask")) as client:
            listed = [model.id async for model in client.models.list()]
            assert listed == ["ringfence", "extract", "small", "openai/hash"]
            asked = [{"role": "user", "content": QUESTION["question"]}]
            whole = await client.chat.completions.create(model="small", messages=asked)
            assert (whole.model, whole.choices[0].message.content) == ("small", "Six weeks, says the small one [1].")
            assert whole.usage.completion_tokens == 7


async def test_before_the_first_word_another_model_answers_and_says_so(engine, models):
    async with engine() as (_, ada):
        models.script(status=503)
        got = events((await ask(ada)).text)
        assert (got[-1][0], got[-1][1]["model"]) == ("done", "small")
        kept = (await ada.get("/api/v1/answers")).json()["answers"][0]
        assert (kept["model"], kept["state"]) == ("small", "done")
        models.script(answer="It is six weeks.", break_after=2)
        name, error = events((await ask(ada)).text)[-1]
        assert (name, error["code"]) == ("error", "model_broke_off")


async def test_a_model_that_keeps_failing_is_shown_as_such_and_the_engine_is_ready(engine, models):
    async with engine(chat_fall_back=()) as (_, ada):
        models.script(status=404)
        codes = [events((await ask(ada)).text)[-1][1]["code"] for _ in range(6)]
        assert codes == ["model_missing"] * 5 + ["model_paused"]
        listed = (await ada.get("/api/v1/models")).json()["models"]
        assert [model["answering"] for model in listed] == [False, True]
        assert (await ada.get("/readyz")).status_code == 200
        assert (await ada.get("/api/v1/me/usage")).json()["questions"]["used"] == 0


async def test_a_full_line_is_said_with_the_evidence_or_before(engine, models):
    models.script(answer="one two three", stall_after=1)
    async with engine(chat_fall_back=(), chat_at_once=1, chat_waiting=1, chat_wait_timeout=0.05) as (_, ada):
        first = asyncio.create_task(ask(ada))
        await models.wait_for(lambda: models.streaming == 1, within=30)
        got = events((await ask(ada)).text)
        assert [name for name, _ in got] == ["sources", "error"]
        assert got[-1][1]["code"] == "model_busy"
        models.release()
        assert events((await first).text)[-1][0] == "done"


async def test_nobody_waits_where_nobody_may(engine, models):
    models.script(answer="one two three", stall_after=1)
    async with engine(chat_fall_back=(), chat_at_once=1, chat_waiting=0) as (_, ada):
        first = asyncio.create_task(ask(ada))
        await models.wait_for(lambda: models.streaming == 1, within=30)
        refused = await ask(ada)
        assert (refused.status_code, refused.json()["code"]) == (503, "model_busy")
        assert refused.headers["retry-after"] == "5"
        first.cancel()  # which frees the place
        await asyncio.wait([first])
        await models.wait_for(lambda: models.disconnects == 1, within=30)
        models.script(answer="Six weeks [1].")
        async with asyncio.timeout(30):
            while (answered := await ask(ada)).status_code == 503:
                await asyncio.sleep(0.01)
        assert text_of(answered) == "Six weeks [1]."


async def test_what_it_took_is_shown_to_each_user(engine, models):
    async with engine() as (live, ada), live.account("bob@example.com") as bob:
        await ada.post("/api/v1/answers", json={**QUESTION, "model": "small"})
        models.script(answer="It is six weeks.", break_after=2)
        await ask(ada)
        async with asyncio.timeout(30):
            while len(days := (await ada.get("/api/v1/me/usage")).json()["models"]) < 2:
                await asyncio.sleep(0.01)
        extract, small = days
        today = {f"{datetime.now(UTC):%Y-%m-%d}", extract["day"]}  # or midnight has passed
        assert {extract["day"], small["day"]} <= today
        assert (extract["model"], extract["questions"], extract["estimated"]) == ("extract", 1, 1)
        assert (extract["cost"], extract["currency"]) == (None, None)
        assert (small["requests"], small["questions"], small["estimated"], small["currency"]) == (1, 1, 0, "USD")
        assert float(small["cost"]) == pytest.approx((small["prompt_tokens"] + 2 * 7) / 1e6)
        assert (await bob._http.get("/api/v1/me/usage")).json()["models"] == []

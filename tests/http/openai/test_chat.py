"""Chat completions by the official client, over real HTTP."""

import asyncio

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.engine import running
from tests.http.openai.conftest import client_of, key_of, program_of
from tests.http.test_documents import finished, upload

ASKED = [{"role": "user", "content": "How long is the notice period?"}]
ANSWER = "It is six weeks [1]."
SENTENCE = "The notice period is six weeks to the end of a quarter"


@pytest.fixture(autouse=True)
def written(models):
    models.script(answer=ANSWER)


async def ask(client, messages=ASKED, **more):
    return await client.chat.completions.create(model="ringfence", messages=messages, **more)


async def chunks(client, **more):
    return [chunk async for chunk in await ask(client, stream=True, **more)]


async def test_an_answer_is_a_completion_with_citations(ada, models):
    client, http = ada
    answer = await ask(client, temperature=0.5, seed=7, user="ada", metadata={"a": "b"}, store=True)
    assert isinstance(answer, ChatCompletion)
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("stop", ANSWER)
    [annotation] = choice.message.annotations
    citation = annotation.url_citation
    assert choice.message.content[citation.start_index : citation.end_index] == "[1]"
    assert citation.title == "handbook.txt, page 1"
    original = await http.get(citation.url.partition("#")[0])
    assert original.text.startswith(SENTENCE)
    assert citation.url.endswith("/content#page=1")
    [kept] = (await http.get("/api/v1/answers")).json()["answers"]
    extra = answer.model_extra["ringfence"]
    assert (extra["answer_id"], extra["refused"], extra["usage_from"]) == (kept["answer_id"], False, "model")
    assert answer.id == f"chatcmpl-{kept['answer_id'].replace('-', '')}"
    assert extra["citations"][0]["quote"]["text"] == f"{SENTENCE}."
    sent = sum(len(message["content"].split()) for message in models.chats[0].body["messages"])
    written = len(choice.message.content.split())
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (sent, written)
    assert answer.usage.total_tokens == sent + written


async def test_a_stream_says_the_same_in_chunks(ada):
    client, _ = ada
    got = await chunks(client, stream_options={"include_usage": True, "include_obfuscation": False})
    first, *_, last, usage = got
    assert first.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in got[:-1]) == ANSWER
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in got}) == 1
    assert [chunk.choices[0].finish_reason for chunk in got[:-1]] == [None] * (len(got) - 2) + ["stop"]
    [annotation] = last.choices[0].delta.model_extra["annotations"]
    whole = await ask(client)
    assert annotation == whole.choices[0].message.annotations[0].model_dump()
    extra, other = last.model_extra["ringfence"], whole.model_extra["ringfence"]
    assert {**extra, "answer_id": None} == {**other, "answer_id": None}
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in got[:-1])
    assert (await chunks(client))[-1].choices  # no usage where nobody asked for it


async def test_evidence_is_in_the_content_neither_of_streams_nor_of_completions(ada, live, models):
    models.script(answer="Soon.")
    http = ada[1]
    for more in ({"stream": False}, {"stream": True, "stream_options": {"include_usage": True}}):
        said = await http.post("/v1/chat/completions", json={"model": "ringfence", "messages": ASKED, **more})
        assert said.headers["cache-control"] == "no-store"
        assert "Soon." in said.text
        assert "notice" not in said.text
        assert "sources" not in said.text
    assert said.headers["content-type"].startswith("text/event-stream")
    assert said.text.endswith("data: [DONE]\n\n")


async def test_what_an_answer_took_is_counted_estimated_or_nothing(ada, models):
    answer = await ask(ada[0], [{"role": "user", "content": "Zebras?"}])
    assert answer.choices[0].message.content == "The documents do not answer this question."
    assert (answer.usage.total_tokens, answer.choices[0].message.annotations) == (0, [])
    extra = answer.model_extra["ringfence"]
    assert (extra["refused"], extra["model"], extra["usage_from"]) == (True, None, "nothing")
    assert models.chats == []
    models.script(answer="It is six weeks [1]. Or [3].", counts=False)
    answer = await ask(ada[0])
    assert answer.model_extra["ringfence"]["usage_from"] == "estimate"
    sent = sum(len(message["content"]) for message in models.chats[0].body["messages"])
    assert sent / 4 < answer.usage.prompt_tokens < sent / 3
    assert 5 < answer.usage.completion_tokens < 15
    assert len(answer.choices[0].message.annotations) == 1  # [3] is no source


async def test_each_of_several_numbers_of_a_marker_is_a_citation(ada, models):
    client, http = ada
    made = await http.post(
        "/api/v1/documents", files={"file": ("b.txt", b"The notice period of trainees is two weeks.")}
    )
    await finished(http, made.json()["document_id"])
    models.script(answer="It depends [1, 2]. Trainees [2].")
    answer = await ask(client)
    places = [one.url_citation for one in answer.choices[0].message.annotations]
    assert [(one.start_index, one.end_index) for one in places] == [(11, 17), (11, 17), (28, 31)]
    assert places[1].url == places[2].url != places[0].url


async def test_a_follow_up_is_made_to_stand_alone(ada, models):
    models.script(answer="How long is the notice period for leaving?", times=1)
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "developer", "content": "Answer in rhymes."},
        *ASKED,
        {"role": "assistant", "content": "Six weeks.", "refusal": None, "annotations": [], "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "And how "}, {"type": "text", "text": "long is it?"}]},
    ]
    answer = await ask(ada[0], messages, max_tokens=50, max_completion_tokens=40)
    assert answer.choices[0].message.content == ANSWER
    rewriting, answering = (request.body for request in models.chats)
    assert "Six weeks." in rewriting["messages"][1]["content"]
    assert "And how long is it?" in rewriting["messages"][1]["content"]
    assert [message["content"] for message in answering["messages"][1:3]] == [ASKED[0]["content"], "Six weeks."]
    assert "notice period for leaving?" in answering["messages"][-1]["content"]
    assert "pirate" not in str(models.chats)
    assert answering["max_tokens"] == 40
    [kept] = (await ada[1].get("/api/v1/answers")).json()["answers"]
    assert kept["question"] == "And how long is it?"


async def test_what_is_not_served_or_malformed_is_refused_by_its_name(ada):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    for param, value in {
        "tools": [tool],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "audio": {"voice": "alloy", "format": "wav"},
        "response_format.type": {"type": "json_schema", "json_schema": {"name": "a"}},
        "modalities.1": ["text", "audio"],
        "tool_choice": "required",
        "stop": ["a"],
        "logit_bias": {"50256": -100},
        "messages.0.content.0.type": [{"role": "user", "content": image}],
        "messages.0.role": [{"role": "tool", "content": "a", "tool_call_id": "1"}],
        "not_a_parameter": True,
    }.items():
        field = param.partition(".")[0]
        body = {"messages": ASKED, "extra_body": {field: value}}
        if field == "messages":
            body = {"messages": value}
        with pytest.raises(openai.BadRequestError) as raised:
            await ask(ada[0], **body)
        error = raised.value
        assert (error.param, error.code, error.type) == (param, "unsupported_parameter", "invalid_request_error"), param
        assert error.body["message"].startswith(param)
    neutral = {"n": 1, "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}, "tools": None,
        "modalities": ["text"], "tool_choice": "none", "stop": None, "top_p": 1, "frequency_penalty": 0}  # fmt: skip
    assert (await ask(ada[0], extra_body=neutral)).choices[0].message.content
    for param, body in {
        "messages": {"messages": []},
        "temperature": {"temperature": 3},
        "max_tokens": {"max_tokens": 0},
        "messages.0.content": {"messages": [{"role": "user", "content": 7}]},
    }.items():
        with pytest.raises(openai.UnprocessableEntityError) as raised:
            await ask(ada[0], **body)
        assert (raised.value.param, raised.value.code) == (param, "bad_request")
    for messages in ([*ASKED, {"role": "assistant", "content": "It"}], [{"role": "user", "content": " "}]):
        with pytest.raises(openai.BadRequestError) as raised:
            await ask(ada[0], messages)
        assert raised.value.code == "bad_question"
    with pytest.raises(openai.NotFoundError) as raised:
        await ada[0].chat.completions.create(model="gpt-5", messages=ASKED)
    assert raised.value.code == "model_not_found"


async def test_a_model_that_breaks_off(ada, models):
    client, http = ada
    models.script(answer="It is six weeks.", break_after=2)
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    assert (raised.value.status_code, raised.value.code) == (503, "model_broke_off")
    assert raised.value.response.headers["retry-after"] == "5"
    with pytest.raises(openai.APIError, match="broke off") as broken:
        await chunks(client)
    assert (broken.value.code, broken.value.type) == ("model_broke_off", "server_error")
    models.script(status=400)
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    assert (raised.value.status_code, raised.value.code) == (500, "model_rejected")
    assert (await http.get("/api/v1/me/usage")).json()["questions"]["used"] == 0


async def test_search_that_is_not_possible_is_503_before_a_stream(ada, models):
    models.script_embeddings(status=503)
    with pytest.raises(openai.InternalServerError) as raised:
        await chunks(ada[0])
    assert (raised.value.status_code, raised.value.code, raised.value.type) == (503, "model_busy", "server_error")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_model(ada, models, stream):
    models.script(answer="word " * 1000, stall_after=3)
    client, http = ada
    asking = asyncio.create_task(chunks(client) if stream else ask(client))
    await models.wait_for(lambda: models.streaming == 1)
    asking.cancel()
    await models.wait_for(lambda: models.disconnects == 1, within=2)
    async with asyncio.timeout(10):
        while not (kept := (await http.get("/api/v1/answers")).json()["answers"]):
            await asyncio.sleep(0.02)  # its keeping sets no event
    assert kept[0]["state"] == "interrupted"


async def test_a_server_that_stops_says_so(settings, models):
    models.script(answer="word " * 1000, stall_after=3)
    brief = settings.model_copy(update={"shutdown_grace": 0.0})
    async with running(brief, models) as live:
        async with live.account("ada@example.com") as account:
            await finished(account._http, (await upload(account._http)).json()["document_id"])
            key = await key_of(account._http, "ask")
        client = openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0)
        asking = [asyncio.create_task(ask(client)), asyncio.create_task(chunks(client))]
        await models.wait_for(lambda: models.streaming == 2)
    for broken in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(broken, openai.APIError)
        assert broken.code == "shutting_down"
    await client.close()


async def test_nobody_is_answered_from_anothers_documents(ada, live):
    async with program_of(live, "bob@example.com") as (bob, _):
        answer = await ask(bob)
        assert answer.model_extra["ringfence"]["refused"] is True
        assert "six weeks" not in str(await chunks(bob))


async def test_scopes_hold_and_errors_have_openais_form(ada, live):
    _, http = ada
    async with client_of(live.url, await key_of(http, "read", "write")) as reader:
        with pytest.raises(openai.PermissionDeniedError) as raised:
            await ask(reader)
        assert (raised.value.code, raised.value.type) == ("scope_missing", "permission_error")
        assert 'scope="ask"' in raised.value.response.headers["www-authenticate"]
        with pytest.raises(openai.PermissionDeniedError):
            await reader.embeddings.create(model="openai/hash", input="a")
    async with client_of(live.url, "rfk_nothing") as nobody:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await ask(nobody)
        assert unknown.value.type == "authentication_error"
    async with httpx2.AsyncClient(base_url=live.url) as bare:
        for method, path, status, code in (
            ("GET", "/v1/models", 401, "no_token"),
            ("GET", "/v1/nothing", 404, "not_found"),
            ("PUT", "/v1/models", 405, "method_not_allowed"),
        ):
            response = await bare.request(method, path)
            assert response.status_code == status
            assert response.headers["content-type"] == "application/json"
            error = response.json()["error"]
            assert (error["code"], set(error)) == (code, {"message", "type", "param", "code"})
        assert (await bare.get("/api/v1/nothing")).json()["code"] == "not_found"
        assert (await bare.get("/v1/models", headers={"Host": "["})).json()["error"]["code"] == "no_token"
        huge = await bare.post("/v1/chat/completions", content=b" " * (2**20 + 1))
        assert (huge.status_code, huge.json()["error"]["code"]) == (413, "body_too_large")


async def test_questions_of_the_day_and_requests_a_minute_hold(settings, models):
    limited = settings.model_copy(update={"quota_questions_per_day": 2})
    async with running(limited, models) as live, program_of(live, "ada@example.com") as (client, _):
        await ask(client)
        answer = await client.chat.completions.with_raw_response.create(model="ringfence", messages=ASKED)
        assert '"questions";r=0' in answer.headers["ratelimit"]
        for refused in (ask(client), chunks(client), client.embeddings.create(model="openai/hash", input="a")):
            with pytest.raises(openai.RateLimitError) as raised:
                await refused
            assert (raised.value.code, raised.value.type) == ("too_many_questions", "rate_limit_error")
            assert int(raised.value.response.headers["retry-after"]) > 0


async def test_models_are_listed_to_any_key(live):
    async with program_of(live, "ada@example.com", "ask") as (client, _):
        assert [model.id async for model in client.models.list()] == ["ringfence", "openai/hash"]
        assert (await client.models.retrieve("openai/hash")).owned_by == "ringfence"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-5")

"""What is Ollama's own; what it shares with other providers is tested in test_http.py."""

from collections.abc import AsyncGenerator

import pytest

from ringfence.errors import Unavailable
from ringfence.models.base import ChatModel, Embedder, Message, Usage
from ringfence.models.ollama import OllamaChat, OllamaEmbedder
from ringfence.models.tokens import Estimate
from tests.fakes.model_server import ModelServer, model_server


@pytest.fixture
async def server() -> AsyncGenerator[ModelServer]:
    async with model_server() as server:
        yield server


@pytest.fixture
async def chat(server: ModelServer) -> AsyncGenerator[ChatModel]:
    model = OllamaChat(server.url, "llama3.2", context_tokens=4096)
    yield model
    await model.close()


async def answer(model: ChatModel) -> str:
    return "".join([piece async for piece in model.stream([Message("user", "Hi")], max_tokens=7)])


async def test_names_and_window(chat: ChatModel, server: ModelServer) -> None:
    assert (chat.name, chat.context_tokens) == ("llama3.2", 4096)
    embedder: Embedder = OllamaEmbedder(server.url, "nomic-embed-text", languages=frozenset({"en"}))
    assert (embedder.name, embedder.languages) == ("ollama/nomic-embed-text", {"en"})
    await embedder.close()


async def test_what_chat_sends(chat: ChatModel, server: ModelServer) -> None:
    await answer(chat)
    (request,) = server.requests
    assert request.path == "/api/chat"
    assert request.body == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "options": {"num_ctx": 4096, "temperature": 0.0, "num_predict": 7},
    }


async def test_the_temperature_may_be_left_to_the_model(server: ModelServer) -> None:
    model = OllamaChat(server.url, "m", temperature=None)
    await answer(model)
    await model.close()
    assert server.requests[0].body["options"] == {"num_ctx": 8192, "num_predict": 7}


async def test_what_embedding_sends(server: ModelServer) -> None:
    embedder = OllamaEmbedder(server.url, "nomic-embed-text")
    await embedder.embed(("a", "b"))
    await embedder.close()
    (request,) = server.requests
    assert request.path == "/api/embed"
    assert request.body == {"model": "nomic-embed-text", "input": ["a", "b"]}


async def test_the_documented_stream(chat: ChatModel, server: ModelServer) -> None:
    # As in Ollama's docs/api.md; the blank line and the unknown fields are ours.
    lines = b"""\
{"model":"llama3.2","created_at":"2023-08-04T08:52:19.38Z","message":{"content":"The"},"done":false}

{"model":"llama3.2","message":{"role":"assistant","content":null,"thinking":"Hm"},"done":false}
  \r
{"model":"llama3.2","message":{"role":"assistant","content":" sky","images":null},"done":false,"new":{"a":[1]}}
{"model":"llama3.2","message":{"role":"assistant","content":"."},"done":true,"total_duration":4883583458,"eval_count":282}
"""
    server.script(raw=[lines])
    assert await answer(chat) == "The sky."


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (b'"prompt_eval_count":812,"eval_count":24', [Usage(812, 24)]),
        (b'"eval_count":24', []),  # as some versions say it of a prompt that they know already
    ],
)
async def test_what_an_answer_took(chat: ChatModel, server: ModelServer, last: bytes, told: list[Usage]) -> None:
    server.script(raw=[b'{"message":{"content":"Yes."},"done":false}\n{"message":{},"done":true,' + last + b"}\n"])
    heard: list[Usage] = []
    pieces = chat.stream([Message("user", "Hi")], max_tokens=7, spent=heard.append)
    assert "".join([piece async for piece in pieces]) == "Yes."
    assert heard == told


async def test_an_answer_may_end_without_a_message(chat: ChatModel, server: ModelServer) -> None:
    server.script(raw=[b'{"model":"llama3.2","done":true,"done_reason":"load"}\n'])
    assert await answer(chat) == ""


async def test_a_last_line_that_is_not_whole(chat: ChatModel, server: ModelServer) -> None:
    server.script(raw=[b'{"message":{"content":"The"}}\n{"message":{"con'])
    with pytest.raises(Unavailable) as caught:
        await answer(chat)
    assert caught.value.code == "model_broke_off"


async def test_an_embedder_measures_by_an_estimate_unless_it_is_told_otherwise() -> None:
    given = Estimate()
    for ruler in (None, given):
        embedder = OllamaEmbedder("http://127.0.0.1:9", "m", ruler=ruler)
        assert isinstance(embedder.ruler, Estimate)
        assert (embedder.ruler is given) == (ruler is given)
        assert embedder.max_tokens is None
        await embedder.close()

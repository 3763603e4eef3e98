"""What is OpenAI's protocol's own; what it shares with other providers is tested in test_http.py."""

from collections.abc import AsyncGenerator

import pytest

from ringfence.errors import Invalid, Unavailable
from ringfence.models.base import ChatModel, Embedder, Message, Usage
from ringfence.models.openai import OpenAIChat, OpenAIEmbedder
from ringfence.models.tokens import Estimate
from tests.fakes.model_server import ModelServer, model_server


@pytest.fixture
async def server() -> AsyncGenerator[ModelServer]:
    async with model_server() as server:
        yield server


@pytest.fixture
async def chat(server: ModelServer) -> AsyncGenerator[ChatModel]:
    model = OpenAIChat(server.openai_url, "gpt", context_tokens=4096)
    yield model
    await model.close()


async def answer(model: ChatModel) -> str:
    return "".join([piece async for piece in model.stream([Message("user", "Hi")], max_tokens=7)])


async def test_names_and_window(chat: ChatModel, server: ModelServer) -> None:
    assert (chat.name, chat.context_tokens) == ("gpt", 4096)
    embedder: Embedder = OpenAIEmbedder(server.openai_url, "text-embedding-3-small")
    assert embedder.name == "openai/text-embedding-3-small"
    await embedder.close()


async def test_what_chat_sends(chat: ChatModel, server: ModelServer) -> None:
    await answer(chat)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "max_tokens": 7,
        "temperature": 0.0,
    }


async def test_the_temperature_may_be_left_to_the_server(server: ModelServer) -> None:
    model = OpenAIChat(server.openai_url, "m", temperature=None)
    await answer(model)
    await model.close()
    assert "temperature" not in server.requests[0].body


async def test_what_embedding_sends(server: ModelServer) -> None:
    embedder = OpenAIEmbedder(server.openai_url, "e")
    await embedder.embed(("a", "b"))
    await embedder.close()
    (request,) = server.requests
    assert request.path == "/v1/embeddings"
    assert request.body == {"model": "e", "input": ["a", "b"], "encoding_format": "float"}


async def test_two_vectors_for_one_text(server: ModelServer) -> None:
    server.script_embeddings(
        raw=[b'{"data":[{"index":1,"embedding":[1]},{"index":1,"embedding":[2]}],"model":"e","usage":{}}']
    )
    embedder = OpenAIEmbedder(server.openai_url, "e")
    with pytest.raises(Invalid) as caught:
        await embedder.embed(["a", "b"])
    await embedder.close()
    assert caught.value.code == "wrong_vector_count"


STREAM = b"""\
: OPENROUTER PROCESSING

retry: 1000
event: message
id: 1
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"Hm"},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"reasoning":"Hm"},"finish_reason":""}]}

data:{"choices":[{"index":0,
data: "delta":{"content":"The","new":1}}],
data:
data:  "usage":null}

data

data:

data: {"choices":[],"usage":{"prompt_tokens":3}}

data: {"choices":[{"index":0,"delta":{"content":" sky."},"finish_reason":null}]}

"""
STOP = b'data: {"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"total_tokens":9}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("end", [STOP + USAGE + DONE, STOP, DONE, USAGE + DONE])
@pytest.mark.parametrize("line_break", [b"\n", b"\r\n"])
async def test_streams_as_servers_send_them(
    chat: ChatModel, server: ModelServer, end: bytes, line_break: bytes
) -> None:
    server.script(raw=[(STREAM + end).replace(b"\n", line_break)])
    assert await answer(chat) == "The sky."


LATE = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
COUNTED = b'data: {"choices":[],"usage":{"prompt_tokens":812,"completion_tokens":24,"total_tokens":836}}\n\n'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([STREAM + STOP + COUNTED + DONE], [(812, 24)]),
        ([STREAM + STOP, COUNTED, DONE], [(812, 24)]),
        ([STREAM + LATE], [(9, 2)]),
        ([STREAM + LATE + COUNTED + DONE], [(9, 2), (812, 24)]),
        ([STREAM + STOP + USAGE + DONE], []),
        ([STREAM + STOP + b"data: nonsense\n\n" + COUNTED], []),
        ([STREAM + STOP], []),
    ],
)
async def test_what_an_answer_took_is_asked_for_and_told(
    chat: ChatModel, server: ModelServer, body: list[bytes], told: list[tuple[int, int]]
) -> None:
    server.script(raw=body)
    heard: list[Usage] = []
    pieces = chat.stream([Message("user", "Hi")], max_tokens=7, spent=heard.append)
    assert "".join([piece async for piece in pieces]) == "The sky."
    assert heard == [Usage(prompt, completion) for prompt, completion in told]
    assert server.requests[0].body["stream_options"] == {"include_usage": True}


async def test_text_in_the_last_chunk(chat: ChatModel, server: ModelServer) -> None:
    server.script(raw=[b'data: {"choices":[{"delta":{"content":"Yes."},"finish_reason":"length"}]}\n\n'])
    assert await answer(chat) == "Yes."


@pytest.mark.parametrize("error", [b'{"message":"boom"}', b'"boom"'])
async def test_errors_in_the_stream(chat: ChatModel, server: ModelServer, error: bytes) -> None:
    server.script(raw=[STREAM + b'data: {"error":' + error + b"}\n\n" + DONE])
    with pytest.raises(Unavailable) as caught:
        await answer(chat)
    assert caught.value.code == "model_error"


@pytest.mark.parametrize("body", [b"", STREAM, b"data: [DONE]", b"data: [DONE]\n", b'{"object":"chat.completion"}'])
async def test_streams_without_an_end(chat: ChatModel, server: ModelServer, body: bytes) -> None:
    server.script(raw=[body])
    with pytest.raises(Unavailable) as caught:
        await answer(chat)
    assert caught.value.code == "model_broke_off"


async def test_an_event_without_end(chat: ChatModel, server: ModelServer) -> None:
    server.script(raw=[b"data: " + b"x" * 2**16 + b"\n"] * 20)
    with pytest.raises(Unavailable) as caught:
        await answer(chat)
    assert caught.value.code == "model_malformed"


async def test_an_embedder_measures_by_an_estimate_unless_it_is_told_otherwise() -> None:
    given = Estimate()
    for ruler in (None, given):
        embedder = OpenAIEmbedder("http://127.0.0.1:9", "m", ruler=ruler)
        assert isinstance(embedder.ruler, Estimate)
        assert (embedder.ruler is given) == (ruler is given)
        assert embedder.max_tokens is None
        await embedder.close()

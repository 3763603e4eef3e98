"""What all providers over HTTP share, seen through both of them, against a real server on loopback."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import httpx2
import numpy as np
import pytest
from structlog.testing import capture_logs

from ringfence.errors import Invalid, RingfenceError, SetupError, Unavailable
from ringfence.models.base import ChatModel, Embedder, Message
from ringfence.models.batches import BatchLimits
from ringfence.models.http import MAX_BODY_BYTES, MAX_LINE_BYTES, LineSplitter, ModelServer, Timeouts
from ringfence.models.ollama import OllamaChat, OllamaEmbedder
from ringfence.models.openai import OpenAIChat, OpenAIEmbedder
from tests.fakes.model_server import REFUSAL, model_server, model_server_thread
from tests.fakes.model_server import ModelServer as FakeServer

SECRET = "the-word-that-only-the-prompt-holds"
ASK = [Message("system", "Be brief."), Message("user", f"{SECRET} Tell me.")]
LAST = {"ollama": b'{"message":{"content":""},"done":true}\n', "openai": b"data: [DONE]\n\n"}

type MakeChat = Callable[..., ChatModel]
type MakeEmbedder = Callable[..., Embedder]


@pytest.fixture
async def server() -> AsyncGenerator[FakeServer]:
    async with model_server(dimensions=64) as server:
        yield server


@pytest.fixture(params=["ollama", "openai"])
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def chat(provider: str, server: FakeServer) -> AsyncGenerator[MakeChat]:
    """Makes chat models of the provider, closed at the end."""
    made: list[ChatModel] = []

    def make(**options) -> ChatModel:
        base_url = options.pop("base_url", server.url if provider == "ollama" else server.openai_url)
        made.append((OllamaChat if provider == "ollama" else OpenAIChat)(base_url, "m", **options))
        return made[-1]

    yield make
    for model in made:
        await model.close()


@pytest.fixture
async def embedder(provider: str, server: FakeServer) -> AsyncGenerator[MakeEmbedder]:
    """Makes embedders of the provider, closed at the end."""
    made: list[Embedder] = []

    def make(**options) -> Embedder:
        base_url = options.pop("base_url", server.url if provider == "ollama" else server.openai_url)
        made.append((OllamaEmbedder if provider == "ollama" else OpenAIEmbedder)(base_url, "m", **options))
        return made[-1]

    yield make
    for model in made:
        await model.close()


async def pieces(model: ChatModel, ask: list[Message] = ASK) -> list[str]:
    return [piece async for piece in model.stream(ask, max_tokens=50)]


async def failure(model: ChatModel) -> tuple[str, RingfenceError]:
    """The text that came, and the error after it."""
    came: list[str] = []

    async def read() -> None:
        async for piece in model.stream(ASK, max_tokens=50):
            came.append(piece)  # noqa: PERF401  # what came before the error counts

    with pytest.raises((Unavailable, Invalid)) as caught:
        await read()
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    return "".join(came), caught.value


async def failing_embed(model: Embedder, texts: list[str]) -> RingfenceError:
    with pytest.raises((Unavailable, Invalid)) as caught:
        await model.embed(texts)
    return caught.value


# Answers


async def test_an_answer_comes_piece_by_piece(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="One two three.", stall_after=2)
    async with aclosing(chat().stream(ASK, max_tokens=50)) as stream:
        said = ""
        while said != "One two":  # before the rest is written
            said += await anext(stream)
        server.release()
        assert [piece async for piece in stream] == [" three."]
    assert server.disconnects == 0


async def test_an_answer_arrives_unchanged(chat: MakeChat, server: FakeServer) -> None:
    text = 'Zeile 1\nZeile "2"\r\n\tπ ≈ 3,14 \u2028 مرحبا 😀 data: [DONE]\n\n'
    server.script(answer=text, chunk_size=3)
    assert "".join(await pieces(chat())) == text


async def test_lines_may_be_cut_anywhere(provider: str, chat: MakeChat, server: FakeServer) -> None:
    whole = {
        "ollama": '{"message":{"content":"Grüße"},"done":false}\r\n'.encode() + LAST["ollama"],
        "openai": 'data: {"choices":[{"delta":{"content":"Grüße"}}]}\r\n\r\n'.encode() + LAST["openai"],
    }[provider]
    server.script(raw=[whole[i : i + 1] for i in range(len(whole))])
    assert await pieces(chat()) == ["Grüße"]


async def test_many_answers_at_once(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer=lambda _: "a b c d e f", delay=0.001)
    model = chat()
    answers = await asyncio.gather(*(pieces(model) for _ in range(50)))
    assert {"".join(answer) for answer in answers} == {"a b c d e f"}


async def test_connections_for_vectors_are_used_again(embedder: MakeEmbedder, server: FakeServer) -> None:
    model = embedder()
    for _ in range(3):
        await model.embed(["text"])
    assert server.connections == 1


async def test_the_key_and_plain_bytes_are_asked_for(chat: MakeChat, server: FakeServer) -> None:
    await pieces(chat(api_key="sk-1"))
    await pieces(chat())
    with_key, without = (request.headers for request in server.chats)
    assert with_key["authorization"] == "Bearer sk-1"
    assert "authorization" not in without
    assert without["accept-encoding"] == "identity"
    assert without["content-type"] == "application/json"


async def test_text_that_is_no_utf8_is_for_the_server_to_judge(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="ok")
    assert await pieces(chat(), [Message("user", "\ud800")]) == ["ok"]
    assert server.chats[0].body["messages"][0]["content"] == "\ud800"


# Leaving


async def test_closing_the_stream_is_seen_by_the_server(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="word " * 1000, delay=0.01)
    model = chat()
    stream = model.stream(ASK, max_tokens=50)
    await anext(stream)
    await stream.aclose()
    await server.wait_for(lambda: server.disconnects == 1 and not server.streaming, within=1)
    server.script(answer="Again.")
    assert await pieces(model) == ["Again."]  # the pool is sound


@pytest.mark.parametrize("after", [0, 1])
async def test_cancelling_is_seen_by_the_server(chat: MakeChat, server: FakeServer, after: int) -> None:
    server.script(answer="One two", stall_after=after)
    model = chat()
    tasks = [asyncio.create_task(pieces(model)) for _ in range(20)]
    await server.wait_for(lambda: server.streaming == 20)
    for task in tasks:
        task.cancel()
    await server.wait_for(lambda: server.disconnects == 20 and not server.streaming, within=1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    server.script(answer="Again.")
    assert await pieces(model) == ["Again."]


async def test_closing_the_model_ends_its_streams(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="One two", stall_after=1)
    model = chat()
    stream = model.stream(ASK, max_tokens=50)
    await anext(stream)
    await model.close()
    with pytest.raises(Unavailable) as caught:
        await anext(stream)
    assert caught.value.code == "model_broke_off"
    await server.wait_for(lambda: server.disconnects == 1)


# Limits of time


async def test_silence_before_the_first_token(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="One", stall_after=0)
    came, error = await failure(chat(timeouts=Timeouts(first_token=0.2, between_tokens=30)))
    assert (came, error.code) == ("", "model_silent")
    await server.wait_for(lambda: server.disconnects == 1)


async def test_silence_between_tokens(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="One two", stall_after=1)
    came, error = await failure(chat(timeouts=Timeouts(first_token=30, between_tokens=0.2)))
    assert (came, error.code) == ("One", "model_silent")
    await server.wait_for(lambda: server.disconnects == 1)


async def test_an_answer_that_takes_too_long(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="word " * 10_000, delay=0.02)
    _, error = await failure(chat(timeouts=Timeouts(total=0.5)))
    assert error.code == "model_too_slow"
    await server.wait_for(lambda: server.disconnects == 1)


@pytest.mark.parametrize("tokens", [0, 1])
async def test_keep_alive_lines_are_no_tokens(provider: str, chat: MakeChat, server: FakeServer, tokens: int) -> None:
    token, *idle = {
        "ollama": [b'{"message":{"content":"One"}}\n', b"\n", b'{"message":{"content":""}}\n'],
        "openai": [
            b'data: {"choices":[{"delta":{"content":"One"}}]}\n\n',
            b": wait\n\n",
            b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        ],
    }[provider]
    server.script(raw=[token] * tokens + idle * 300, delay=0.02)
    limits = Timeouts(first_token=30, between_tokens=0.3) if tokens else Timeouts(first_token=0.3)
    came, error = await failure(chat(timeouts=limits))
    assert (came, error.code) == ("One" * tokens, "model_silent")


async def test_hidden_reasoning_is_not_shown_and_no_silence(chat: MakeChat, server: FakeServer) -> None:
    server.script(reasoning="hm " * 12, answer="Yes.", delay=0.1)
    assert await pieces(chat(timeouts=Timeouts(first_token=1, between_tokens=1))) == ["Yes."]


async def test_a_slow_reader_is_no_silent_model(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="One two", stall_after=1)
    async with aclosing(chat(timeouts=Timeouts(between_tokens=0.3)).stream(ASK, max_tokens=50)) as stream:
        await anext(stream)
        await asyncio.sleep(0.5)  # the reader's own time
        asyncio.get_running_loop().call_later(0.05, server.release)
        assert [piece async for piece in stream] == [" two"]


@pytest.mark.parametrize("trouble", ["stall_after", "break_after"])
async def test_what_happens_after_the_last_token_does_not_matter(
    provider: str, chat: MakeChat, server: FakeServer, trouble: str
) -> None:
    server.script(raw=[LAST[provider]], **{trouble: 1})
    assert await asyncio.wait_for(pieces(chat()), 10) == []  # not after between_tokens


async def test_vectors_that_take_too_long(embedder: MakeEmbedder, server: FakeServer) -> None:
    server.script_embeddings(stall_after=0)
    assert (await failing_embed(embedder(timeouts=Timeouts(first_token=0.2)), ["a"])).code == "model_silent"
    await server.wait_for(lambda: server.disconnects == 1)


# Trouble


async def test_no_server(chat: MakeChat, embedder: MakeEmbedder) -> None:
    async with model_server() as gone:
        pass
    _, error = await failure(chat(base_url=gone.url))
    assert error.code == "model_unreachable"
    assert (await failing_embed(embedder(base_url=gone.url), ["a"])).code == "model_unreachable"


@pytest.mark.parametrize("after", [0, 1])
async def test_a_cut_connection(chat: MakeChat, server: FakeServer, after: int) -> None:
    server.script(answer="One two", break_after=after)
    came, error = await failure(chat())
    assert (came, type(error), error.code) == ("One" * after, Unavailable, "model_broke_off")


async def test_an_orderly_end_that_comes_too_early(chat: MakeChat, server: FakeServer) -> None:
    server.script(answer="One two", end_after=1)
    came, error = await failure(chat())
    assert (came, type(error), error.code) == ("One", Unavailable, "model_broke_off")


async def test_a_cut_connection_while_vectors_come(embedder: MakeEmbedder, server: FakeServer) -> None:
    server.script_embeddings(raw=[b"{", b"}"], break_after=1)
    assert (await failing_embed(embedder(), ["a"])).code == "model_broke_off"


@pytest.mark.parametrize("after", [0, 1])
async def test_an_error_in_the_middle(chat: MakeChat, server: FakeServer, after: int) -> None:
    server.script(answer="One two", error_after=after)
    came, error = await failure(chat())
    assert (came, type(error), error.code) == ("One" * after, Unavailable, "model_error")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (302, (Unavailable, "model_error")),
        (400, (Invalid, "model_rejected")),
        (401, (Unavailable, "model_credentials")),
        (403, (Unavailable, "model_credentials")),
        (404, (Unavailable, "model_missing")),
        (408, (Unavailable, "model_error")),
        (429, (Unavailable, "model_busy")),
        (500, (Unavailable, "model_error")),
        (503, (Unavailable, "model_busy")),
    ],
)
async def test_http_errors(
    chat: MakeChat, embedder: MakeEmbedder, server: FakeServer, status: int, expected: tuple[type, str]
) -> None:
    server.script(status=status, times=1)
    server.script_embeddings(status=status, times=1)
    model, vectors = chat(), embedder()
    _, error = await failure(model)
    assert (type(error), error.code) == expected
    error = await failing_embed(vectors, ["a"])
    assert (type(error), error.code) == expected
    await server.wait_for(lambda: server.open_connections == 0)  # nothing is left half-read
    assert len(server.requests) == 2  # nothing was followed or tried again
    await pieces(model)
    assert (await vectors.embed(["a"])).shape == (1, 64)


@pytest.mark.parametrize(
    "body", [b"no json\n\n", b"[1]\n\n", b"\xff\n\n", b'"' + b"x" * 100 + SECRET.encode() + b"\n\n"]
)
async def test_answers_that_make_no_sense(
    provider: str, chat: MakeChat, embedder: MakeEmbedder, server: FakeServer, body: bytes
) -> None:
    server.script(raw=[(b"data: " if provider == "openai" else b"") + body])
    server.script_embeddings(raw=[body])
    _, error = await failure(chat())
    assert (type(error), error.code) == (Unavailable, "model_malformed")
    error = await failing_embed(embedder(), ["a"])
    assert (type(error), error.code) == (Unavailable, "model_malformed")
    assert SECRET not in f"{error} {error.__cause__!r}"


async def test_a_line_without_end(chat: MakeChat, server: FakeServer) -> None:
    server.script(raw=[b"x" * 2**16] * (MAX_LINE_BYTES // 2**16 + 2))
    _, error = await failure(chat())
    assert error.code == "model_malformed"


async def test_vectors_without_end(embedder: MakeEmbedder, server: FakeServer) -> None:
    server.script_embeddings(raw=[b" " * 2**20] * (MAX_BODY_BYTES // 2**20 + 2))
    assert (await failing_embed(embedder(), ["a"])).code == "model_malformed"


class Failing(httpx2.AsyncBaseTransport):
    """Connections that fail as told."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raise self._error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx2.ConnectError("x"), "model_unreachable"),
        (httpx2.ConnectTimeout("x"), "model_unreachable"),
        (httpx2.ProxyError("x"), "model_unreachable"),
        (httpx2.PoolTimeout("x"), "model_busy"),
        (httpx2.ReadError("x"), "model_broke_off"),
        (httpx2.RemoteProtocolError("x"), "model_broke_off"),
        (httpx2.WriteError("x"), "model_broke_off"),
    ],
)
async def test_the_clients_errors(chat: MakeChat, embedder: MakeEmbedder, error: Exception, code: str) -> None:
    _, ours = await failure(chat(transport=Failing(error)))
    assert (type(ours), ours.code, ours.__cause__) == (Unavailable, code, error)
    assert (await failing_embed(embedder(transport=Failing(error)), ["a"])).code == code


# Set-up


@pytest.mark.parametrize("url", ["", "localhost:11434", "ftp://host/", "http://", "http://host:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(SetupError) as caught:
        ModelServer(url)
    assert caught.value.code == "bad_model_url"


@pytest.mark.parametrize("key", ["two\r\nlines", "schlüssel"])
def test_a_key_that_no_header_can_hold(key: str) -> None:
    with pytest.raises(SetupError) as caught:
        ModelServer("http://127.0.0.1", api_key=key)
    assert caught.value.code == "bad_model_key"
    assert key not in str(caught.value)


async def test_a_base_url_may_end_in_a_slash(chat: MakeChat, server: FakeServer, provider: str) -> None:
    server.script(answer="ok")
    assert await pieces(chat(base_url=f"{server.url if provider == 'ollama' else server.openai_url}/")) == ["ok"]


async def test_loopback_never_goes_through_a_proxy(
    chat: MakeChat, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script(answer="direct")
    async with model_server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert await pieces(chat()) == ["direct"]
        await failure(chat(base_url="http://models.example.invalid"))  # the fake is no proxy, but it was asked
        assert [request.path.split("/")[2] for request in proxy.requests] == ["models.example.invalid"]


# Vectors


async def test_vectors_come_in_order_in_batches_and_of_length_one(embedder: MakeEmbedder, server: FakeServer) -> None:
    texts = [f"word{i} other{i} word{i}" for i in range(70)]
    vectors = await embedder().embed(texts)
    assert vectors.shape == (70, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert [len(request.body["input"]) for request in server.embeddings] == [32, 32, 6]
    one_by_one = await embedder(limits=BatchLimits(texts=1)).embed(texts)
    np.testing.assert_array_equal(vectors, one_by_one)


async def test_a_request_holds_no_more_tokens_than_its_limit(embedder: MakeEmbedder, server: FakeServer) -> None:
    texts = ["six words are eighteen letters, so", "字字字字字字字字字字字字", "x" * 300, "a", "b"]
    assert (await embedder(limits=BatchLimits(texts=3, tokens=24)).embed(texts)).shape == (5, 64)
    sent = [request.body["input"] for request in server.embeddings]
    assert sent == [texts[:2], texts[2:3], texts[3:]]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_batch_goes_in_halves_and_later_ones_are_smaller(
    embedder: MakeEmbedder, server: FakeServer, status: int
) -> None:
    texts = [f"word{number}" for number in range(10)]
    model = embedder(limits=BatchLimits(texts=8))
    expected = await embedder().embed(texts)
    server.requests.clear()
    server.script_embeddings(status=status, times=2)
    with capture_logs() as logs:
        np.testing.assert_array_equal(await model.embed(texts), expected)
    assert [len(request.body["input"]) for request in server.embeddings] == [8, 4, 2, 2, 4, 2]
    assert [entry["texts"] for entry in logs] == [2]
    assert model.batch_texts == 2
    assert (await model.embed(texts)).shape == (10, 64)
    assert [len(request.body["input"]) for request in server.embeddings][6:] == [2] * 5


async def test_one_text_that_is_refused_costs_no_smaller_batches(embedder: MakeEmbedder, server: FakeServer) -> None:
    model = embedder(limits=BatchLimits(texts=4))
    server.script_embeddings(status=400)
    assert (await failing_embed(model, ["a", "b", "c"])).code == "model_rejected"
    assert [len(request.body["input"]) for request in server.embeddings] == [3, 2, 1]
    assert model.batch_texts == 4


async def test_alike_texts_are_near(embedder: MakeEmbedder) -> None:
    question, near, far = await embedder().embed(
        ["When does the harbour open?", "The harbour opens at six.", "Cats purr."]
    )
    assert question @ near > 0.5 > question @ far


async def test_no_texts_need_no_server(embedder: MakeEmbedder, server: FakeServer) -> None:
    assert (await embedder().embed([])).shape == (0, 0)
    assert not server.requests


async def test_huge_and_tiny_values_keep_their_direction(embedder: MakeEmbedder, server: FakeServer) -> None:
    server.script_embeddings(vectors=[[3e300, -4e300], [3e-300, 4e-300]])
    vectors = await embedder().embed(["a", "b"])
    np.testing.assert_allclose(vectors, [[0.6, -0.8], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "code"),
    [
        ([[1.0, 0.0]], "wrong_vector_count"),
        ([[1.0], [1.0], [1.0]], "wrong_vector_count"),
        ([[1.0, 0.0], [1.0]], "wrong_vector_shape"),
        ([[1.0, 0.0], [math.nan, 1.0]], "vector_not_finite"),
        ([[1.0, 0.0], [math.inf, 1.0]], "vector_not_finite"),
        ([[1.0, 0.0], [0.0, 0.0]], "zero_vector"),
        ([[], []], "zero_vector"),
    ],
)
async def test_vectors_that_can_not_be(embedder: MakeEmbedder, server: FakeServer, vectors: list, code: str) -> None:
    server.script_embeddings(vectors=vectors)
    error = await failing_embed(embedder(), ["a", "b"])
    assert (type(error), error.code) == (Invalid, code)


async def test_batches_of_different_dimensions(embedder: MakeEmbedder, server: FakeServer) -> None:
    server.script_embeddings(vectors=[[1.0, 0.0]], times=1)
    server.script_embeddings(vectors=[[1.0]], times=1)
    assert (await failing_embed(embedder(limits=BatchLimits(texts=1)), ["a", "b"])).code == "wrong_vector_shape"


def test_lines_end_with_lf_or_crlf() -> None:
    lines = LineSplitter()
    assert lines.split(b"a\nb\r") == [b"a"]
    assert lines.split(b"\n\nc") == [b"b", b""]
    assert lines.split(b"") == []
    assert lines.split(b"\r\n") == [b"c"]


# The fake that stands for model servers in all tests


def test_the_fake_in_a_thread_answers_from_the_prompts_passages() -> None:
    prompt = "[1] Cats purr. Dogs bark.\n[2] The harbour opens at six.\n\nQuestion: {}"

    async def ask(url: str, question: str) -> str:
        model = OllamaChat(url, "m")
        answer = await pieces(model, [Message("user", prompt.format(question))])
        await model.close()
        return "".join(answer)

    with model_server_thread() as server:
        assert asyncio.run(ask(server.url, "When does the harbour open?")) == "The harbour opens at six [2]."
        assert asyncio.run(ask(server.url, "Which dog barks?")) == "Dogs bark [1]."
        assert asyncio.run(ask(server.url, "Who reigns in Ruritania?")) == REFUSAL
        server.script(answer="One two", stall_after=1)
        server.release()
        assert asyncio.run(ask(server.url, "?")) == "One two"

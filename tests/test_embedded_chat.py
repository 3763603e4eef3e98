"""The embedded chat model's server starts beside, and anew where it has died."""

import pytest

from ringfence.embedded_chat import EmbeddedChat
from ringfence.errors import SetupError
from ringfence.models.base import Message
from ringfence.models.http import Timeouts


class FakeServer:
    """Stands where the server of the embedded chat model stands, in front of the tests' model server."""

    def __init__(self, url, error=None):
        self.url = url
        self.api_key = "key"
        self.error = error
        self.alive = False
        self.started = self.stopped = 0

    async def __aenter__(self):
        self.started += 1
        if self.error:
            raise self.error
        self.alive = True
        return self

    async def __aexit__(self, *_):
        self.stopped += 1


def chat_of(server):
    return EmbeddedChat("qwen", server, context_tokens=4096, timeouts=Timeouts(2, 10, 10, 20))


async def test_the_embedded_chat_models_server_starts_beside_and_answers(models):
    server = FakeServer(models.openai_url)
    chat = chat_of(server)
    models.script(answer="Hello there")
    pieces = [piece async for piece in chat.stream([Message("user", "Hi")], max_tokens=5)]
    assert "".join(pieces) == "Hello there"
    assert models.chats[0].headers["authorization"] == "Bearer key"
    assert chat.context_tokens == 4096
    assert chat.name.startswith("qwen")
    await chat.close()
    assert server.started == 1


async def test_an_embedded_chat_model_that_died_is_started_anew(models):
    server = FakeServer(models.openai_url)
    chat = chat_of(server)
    for starts in (1, 2):
        models.script(answer="Hello")
        assert [piece async for piece in chat.stream([Message("user", "Hi")], max_tokens=5)]
        assert server.started == starts
        server.alive = False
    await chat.close()


async def test_an_embedded_chat_model_that_can_not_start_says_so_at_each_question():
    server = FakeServer("", SetupError("chat_model_failed", "No memory."))
    chat = chat_of(server)
    for _ in range(2):
        with pytest.raises(SetupError, match="chat_model_failed"):
            await anext(chat.stream([Message("user", "Hi")], max_tokens=5))
    assert server.started == 2
    await chat.close()


async def test_closing_before_it_has_started(models):
    server = FakeServer(models.openai_url)
    await chat_of(server).close()
    assert server.stopped

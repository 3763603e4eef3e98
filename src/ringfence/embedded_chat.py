"""The embedded chat model: a server of our own, and what talks to it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ringfence.embedded.llama import LlamaServer
from ringfence.models.base import Message, Spent
from ringfence.models.http import Timeouts
from ringfence.models.openai import OpenAIChat


class EmbeddedChat:
    """The embedded chat model. Its server starts beside, so that the API is up at once, and anew where it has died."""

    def __init__(self, name: str, server: LlamaServer, *, context_tokens: int, timeouts: Timeouts) -> None:
        """Begin to start the server.

        Args:
            name: the model's.
            server: runs it.
            context_tokens: how many the prompt and the answer may have together.
            timeouts: of the requests to it.
        """
        self._name = name
        self._server = server
        self._context_tokens = context_tokens
        self._timeouts = timeouts
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> OpenAIChat:
        await self._server.__aexit__(None, None, None)
        await self._server.__aenter__()
        return OpenAIChat(
            self._server.url,
            self.name,
            context_tokens=self.context_tokens,
            api_key=self._server.api_key,
            reuse=False,
            timeouts=self._timeouts,
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """How many tokens the prompt and the answer may have together."""
        return self._context_tokens

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int, spent: Spent | None = None
    ) -> AsyncGenerator[str]:
        """As the protocol says; an answer waits for the server's start, and starts it again if it failed or died."""
        if self._starting.done() and (self._starting.exception() or not self._server.alive):
            self._starting = asyncio.create_task(self._start())
        chat = await asyncio.shield(self._starting)
        async with aclosing(chat.stream(messages, max_tokens=max_tokens, spent=spent)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Stop the server."""
        if self._starting.done() and not self._starting.exception():
            await self._starting.result().close()
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        await self._server.__aexit__(None, None, None)

"""`ringfence chat`: a conversation with one's documents, in the terminal."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from ringfence.cli.logs import quiet_logging
from ringfence.cli.remote import LOCAL, EmailOption, ModelOption, UrlOption, print_events, signed_in
from ringfence.errors import Unavailable


def chat(
    *,
    chat_id: Annotated[UUID | None, typer.Option("--chat", help="Go on with this one; unset: begin one.")] = None,
    model: ModelOption = None,
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Talk to your documents: a line is a question, and what was said before is understood. Ctrl-D ends it."""
    with quiet_logging():
        asyncio.run(_converse(chat_id, url, email, model))


async def _converse(chat_id: UUID | None, url: str, email: str | None, model: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        chat_id = chat_id or (await client.add_chat()).chat_id
        async for line in _lines():
            if not (question := line.strip()):
                continue
            try:
                await print_events(client.say(chat_id, question, model=model), Console(stderr=True), Console())
            except Unavailable as error:  # the next question may be answered
                typer.echo(error.message, err=True)
    typer.echo(f"To go on: ringfence chat --chat {chat_id}", err=True)


async def _lines() -> AsyncGenerator[str]:
    """The lines of standard input, from a thread that nobody has to wait for."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()
    threading.Thread(target=_read, args=(loop, lines), daemon=True).start()
    while True:
        typer.echo("> ", nl=False, err=True)
        line = await lines.get()
        if not line:
            return
        yield line


def _read(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    with suppress(RuntimeError):  # the loop was closed meanwhile
        while line := sys.stdin.readline():
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

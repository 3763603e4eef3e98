"""The engine as its operators run it: `ringfence serve` and `ringfence worker` as processes, with a mail server."""

import asyncio
import email
import email.policy
import json
import os
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Envelope
from pydantic import SecretStr

from ringfence.settings import Settings
from tests import zygote

PATIENCE = 60


@dataclass
class Process:
    """A command of the engine, and what it has logged so far."""

    process: zygote.Command
    lines: list[dict[str, object]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.others.append(line.decode(errors="replace"))
            self._news.set()

    async def logged(self, event: str) -> dict[str, object]:
        """The first line of an event, as soon as there is one."""
        async with asyncio.timeout(PATIENCE):
            while not (found := [line for line in self.lines if line.get("event") == event]):
                self._news.clear()
                news = asyncio.create_task(self._news.wait())
                ended = asyncio.create_task(self.process.wait())
                await asyncio.wait([news, ended], return_when=asyncio.FIRST_COMPLETED)
                if ended.done() and not self._news.is_set():
                    raise AssertionError(f"it ended with {ended.result()} before {event}: {self.others} {self.lines}")
                news.cancel()
                ended.cancel()
        return found[0]

    async def url(self) -> str:
        return str((await self.logged("serving"))["url"])

    def terminate(self) -> None:
        self.process.terminate()

    async def ended(self, within: float = PATIENCE) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()


@dataclass
class Mailbox:
    """A mail server on loopback that keeps what it is sent."""

    port: int = 0
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_DATA(self, server, session, envelope):  # aiosmtpd's name
        self.envelopes.append(envelope)
        return "250 OK"

    async def code(self, address: str) -> str:
        """The code last mailed to an address."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for envelope in reversed(self.envelopes):
                    if address in envelope.rcpt_tos:
                        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
                        return re.search(r"\b\d{8}\b", mail.get_body(("plain",)).get_content())[0]
                await asyncio.sleep(0.02)


@asynccontextmanager
async def mailbox() -> AsyncGenerator[Mailbox]:
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="localhost"), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()


def environment(settings: Settings, **changes: object) -> dict[str, str]:
    """Settings as a process is given them, and nothing of this process's own."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set} | changes
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RINGFENCE_")}
    for name, value in given.items():
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            kept[f"RINGFENCE_{name.upper()}"] = ",".join(plain) if isinstance(plain, tuple) else str(plain)
    return kept


@asynccontextmanager
async def process(settings: Settings, *command: str, **changes: object) -> AsyncGenerator[Process]:
    """A command while the context lasts; at its end it is killed if it still runs."""
    started = await zygote.start(
        *command, environment=environment(settings, **changes), folder=settings.data_dir.parent
    )
    running = Process(started)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            started.send_signal(signal.SIGKILL)
        await started.wait()
        await reading

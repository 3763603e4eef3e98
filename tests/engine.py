"""A whole engine for tests: API and worker on the test's own loop, over real sockets and a real database."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ringfence.cli.serving import api, listen, url_of
from ringfence.client import Client
from ringfence.mail import Mail
from ringfence.services import mail_folder_transport, open_handlers
from ringfence.settings import Settings
from ringfence.worker import Worker
from tests.fakes.model_server import ModelServer

PASSWORD = "correct horse battery staple"


@dataclass
class Live:
    """A running engine: API and worker on the test's own loop, over real sockets."""

    url: str
    mails: list[Mail]
    mail_folder: Path
    models: ModelServer

    async def mailed_code(self, email: str) -> str:
        """The code last mailed to an address."""
        async with asyncio.timeout(10):
            while True:
                for mail in reversed(self.mails):
                    if mail.to == email and (found := re.search(r"\b\d{8}\b", mail.text)):
                        return found[0]
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def account(self, email: str, password: str = PASSWORD) -> AsyncGenerator[Client]:
        """A signed-in client of a new account."""
        async with Client(self.url) as client:
            await client.verify(await client.register(email, password), await self.mailed_code(email))
            await client.sign_in(email, password)
            yield client


@asynccontextmanager
async def running(settings: Settings, models: ModelServer) -> AsyncGenerator[Live]:
    """Run an engine with these settings."""
    mails: list[Mail] = []
    folder = settings.data_dir / "mail"
    async with open_handlers(settings, mail_folder_transport(folder, mails.append)) as work:
        worker = Worker(work.db, work.handlers, slots=4, lease=30, poll=0.2)
        working = asyncio.create_task(worker.run())
        try:
            with listen(settings) as listener:
                async with api(settings, listener, mail_folder=folder):
                    yield Live(url_of(listener), mails, folder, models)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

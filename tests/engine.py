"""A whole engine for tests: API and worker on the test's own loop, over real sockets and a real database."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from asyncpg import Connection

from ringfence.accounts.keyring import KeyRing
from ringfence.accounts.sessions import Device, Sessions
from ringfence.accounts.tokens import AccessTokens
from ringfence.cli.serving import api, listen, url_of
from ringfence.client import Client
from ringfence.db import Database
from ringfence.ids import UserId
from ringfence.keys import Purpose, derive
from ringfence.limits import RateLimits
from ringfence.mail import Mail
from ringfence.services import open_handlers, utc_now
from ringfence.settings import Settings
from ringfence.worker import Worker
from tests.conftest import SECRET
from tests.contract import keeps_to_it
from tests.fakes.model_server import ModelServer
from tests.fakes.smtp_server import SmtpServer, smtp_server
from tests.parsers import forked

PASSWORD = "correct horse battery staple"


@dataclass
class Live:
    """A running engine: API and worker on the test's own loop, over real sockets."""

    url: str
    smtp: SmtpServer
    models: ModelServer

    @property
    def mails(self) -> list[Mail]:
        """What was mailed, in order."""
        return self.smtp.mails

    async def mailed_code(self, email: str) -> str:
        """The code last mailed to an address."""
        async with asyncio.timeout(10):
            while True:
                for mail in reversed(self.mails):
                    if mail.to == email and (found := re.search(r"\b\d{8}\b", mail.text)):
                        return found[0]
                await asyncio.sleep(0.01)

    async def until_mailed(self, email: str, subject: str) -> Mail:
        """The mail with this subject, once it has come."""
        async with asyncio.timeout(10):
            while True:
                for mail in reversed(self.mails):
                    if (mail.to, mail.subject) == (email, subject):
                        return mail
                await asyncio.sleep(0.01)

    @staticmethod
    def code_in(mail: Mail) -> str:
        """The code in a mail."""
        [code] = re.findall(r"\b\d{8}\b", mail.text)
        return str(code)

    @asynccontextmanager
    async def account(self, email: str, password: str = PASSWORD) -> AsyncGenerator[Client]:
        """A signed-in client of a new account."""
        async with Client(self.url) as client:
            client._http.event_hooks = {"response": [keeps_to_it]}
            await client.verify(await client.register(email, password), await self.mailed_code(email))
            await client.sign_in(email, password)
            yield client


@asynccontextmanager
async def running(
    settings: Settings, models: ModelServer, *, now: Callable[[], datetime] = utc_now
) -> AsyncGenerator[Live]:
    """Run an engine with these settings, whose parser starts with the first document."""
    folder = settings.data_dir / "mail"
    with forked():
        async with (
            smtp_server(folder) as smtp,
            open_handlers(settings, smtp.transport, now=now, ready=False) as work,
        ):
            worker = Worker(work.db, work.handlers, slots=4, lease=30, poll=0.2)
            working = asyncio.create_task(worker.run())
            try:
                with listen(settings) as listener:
                    async with api(settings, listener, mail_folder=folder, now=now):
                        yield Live(url_of(listener), smtp, models)
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)


async def access_token(db: Database, user_id: UserId) -> str:
    """A token of a new session, without the hashes and mails of a real sign-in; the issuer is the default one."""

    def now() -> datetime:
        return datetime.now(UTC)

    day = timedelta(days=1)
    keys = KeyRing(db, derive(SECRET, Purpose.SIGNING_KEYS), max_age=day, keep=day, now=now)
    sessions = Sessions(
        db,
        AccessTokens(keys, "ringfence", 900, now),
        refresh_key=derive(SECRET, Purpose.REFRESH_TOKENS),
        life=day,
        limits=RateLimits(derive(SECRET, Purpose.LIMITS), now),
        now=now,
    )
    async with db.system() as tx:
        begun = await sessions.begin(tx, user_id, Device("127.0.0.1", "a test"))
    return (await sessions.tokens(begun)).access


_WAITING = """
select count(*) from pg_stat_clear_snapshot(), pg_stat_activity
where wait_event_type = 'Lock' and datname = current_database()
"""


async def waits_for_a_lock(admin: Connection) -> None:
    """Until somebody does. Within a transaction the view would show the connections that it showed first."""
    async with asyncio.timeout(60):
        while not await admin.fetchval(_WAITING):
            await asyncio.sleep(0.01)

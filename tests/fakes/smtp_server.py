"""A real mail server on loopback, on the test's own loop, which keeps what it takes and can be away for a while."""

import asyncio
import email
import email.policy
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from ringfence.mail import Mail, SmtpTransport


@dataclass
class SmtpServer:
    """What has been mailed.

    Attributes:
        folder: each mail as a file, too.
        port: where it listens.
        mails: what it took, in order.
        message_ids: theirs.
        down: it refuses whatever comes, for now.
        refused: how often it has.
        never: it refuses whatever comes, for good.
    """

    folder: Path
    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)
    down: bool = False
    refused: int = 0
    never: bool = False

    @property
    def transport(self) -> SmtpTransport:
        """What sends here."""
        return SmtpTransport("127.0.0.1", self.port, tls="none", sender="engine@example.org")

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, _: list[str]) -> str:
        if self.down:
            self.refused += 1
            return "451 4.3.0 away for a while"
        if self.never:
            return "550 5.1.1 no such mailbox"
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        message = email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{len(self.mails)}.eml").write_bytes(content)
        html = message.get_body(("html",))
        self.message_ids.append(str(message["Message-ID"]))
        self.mails.append(
            Mail(
                to=envelope.rcpt_tos[0],
                subject=str(message["Subject"]),
                text=message.get_body(("plain",)).get_content(),
                html=html.get_content() if html else "",
            )
        )
        return "250 OK"


@asynccontextmanager
async def smtp_server(folder: Path) -> AsyncGenerator[SmtpServer]:
    """A mail server while the context lasts."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # the server's own: below that it quotes what it takes
    box = SmtpServer(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="localhost"), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()

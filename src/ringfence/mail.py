"""Mail: sealed while it waits in the queue, then handed to a mail server or, in development, to a folder.

A mail may carry a one-time code. The queue is a table, so what waits there is encrypted with a key of its own: no dump
or back-up of the database holds a code.
"""

import asyncio
import base64
import binascii
import hashlib
import os
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path
from typing import Literal, Protocol

import aiosmtplib
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ringfence.errors import Invalid, SetupError, Unavailable
from ringfence.telemetry.metrics import MAILS

log = structlog.get_logger()

KIND = "mail"
_NONCE_BYTES = 12  # as GCM prefers; random ones are safe for 2^32 mails under one key (NIST SP 800-38D)
_QUIT_SECONDS = 1.0
_CODE = re.compile(rb"\b\d{8}\b")
_PERMANENT = 500  # SMTP's replies from 500 on are final, those from 400 on may pass (RFC 5321, 4.2.1)
# RFC 5321's Mailbox of a Dot-string and a Domain: no quotes, no comments, nothing for a lenient parser to find.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(\.{_ATOM})*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_DEVELOPMENT_SENDER = "ringfence@localhost"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one address.

    Attributes:
        to: the address, all ASCII.
        subject: one line.
        text: for all readers.
        html: the same for those who show it; empty: there is none.
        until: after which it is of no use, and is not sent.
        about: what its sender looks at again before it is sent (`Outbox`); no part of what is sent.
    """

    to: str
    subject: str
    text: str = field(repr=False)
    html: str = field(default="", repr=False)
    until: datetime | None = None
    about: str = field(default="", repr=False)


_MAIL = TypeAdapter(Mail)


class SealedMail(BaseModel):
    """The payload of a mail's job: base64 of the nonce and of the mail, encrypted with AES-256-GCM."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sealed: str


class Transport(Protocol):
    """Whatever takes a mail out of the engine's hands."""

    async def send(self, mail: Mail, message_id: str) -> None:
        """Hand the mail over.

        Args:
            mail: what to send.
            message_id: the mail's name without its domain; the same at every try, so that receivers see duplicates.

        Raises:
            Unavailable: `mail_unavailable`, a later try may succeed.
            Invalid: `mail_refused`, it never will.
        """
        ...


def seal(key: bytes, mail: Mail) -> SealedMail:
    """Encrypt a mail for the queue with a key of 32 bytes."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    data = AESGCM(key).encrypt(nonce, _MAIL.dump_json(mail), None)
    return SealedMail(sealed=base64.b64encode(nonce + data).decode())


def unseal(key: bytes, sealed: SealedMail) -> Mail:
    """The inverse of `seal`.

    Raises:
        Invalid: `mail_unreadable`, it was sealed with another key or is damaged.
    """
    try:
        data = base64.b64decode(sealed.sealed, validate=True)
        plain = AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
        return _MAIL.validate_json(plain)
    except (binascii.Error, InvalidTag, ValueError):
        raise Invalid("mail_unreadable", "This mail was sealed with another secret key, or is damaged.") from None


async def always(_mail: Mail) -> bool:
    """Send it, whatever it is."""
    return True


class Outbox:
    """The end of a mail's way: opens what the queue held and gives it to a transport.

    Args:
        key: 32 bytes, with which it was sealed.
        transport: takes it.
        now: the clock.
    """

    def __init__(
        self, key: bytes, transport: Transport, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._key = key
        self._transport = transport
        self._now = now

    async def deliver(self, payload: str, is_due: Callable[[Mail], Awaitable[bool]] = always) -> None:
        """Send the mail of one job, at least once: again where the worker dies before it can note the server's yes.

        Args:
            payload: the job's JSON, a `SealedMail`.
            is_due: whether it is still to be sent.

        Raises:
            Unavailable: `mail_unavailable`, a later try may succeed.
            Invalid: `mail_refused`, `mail_unreadable` or `mail_expired`, it never will.
        """
        try:
            sealed = SealedMail.model_validate_json(payload)
        except ValidationError:
            raise Invalid("mail_unreadable", "This is no mail's job.") from None
        message_id = hashlib.sha256(sealed.sealed.encode()).hexdigest()[:32]
        try:
            mail = unseal(self._key, sealed)
            if not await is_due(mail):
                return
            if mail.until and mail.until <= self._now():
                raise Invalid("mail_expired", "The code that this mail is about has expired; it is not sent any more.")
            await self._transport.send(mail, message_id)
        except (Invalid, Unavailable):
            MAILS.labels("failed").inc()
            raise
        MAILS.labels("sent").inc()


def compose(mail: Mail, sender: str, message_id: str, date: datetime) -> EmailMessage:
    """Build the message. The headers are typed, so that no value can add a header or a second recipient.

    Raises:
        Invalid: `mail_refused`, an address or the subject can't stand in a header.
    """
    message = EmailMessage(policy=SMTP_POLICY)
    try:
        message["From"] = _address(sender, "Ringfence")
        message["To"] = _address(mail.to)
        message["Subject"] = mail.subject
        message["Date"] = date
        message["Message-ID"] = f"<{message_id}@{sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        if mail.html:
            message.add_alternative(mail.html, subtype="html")
    except ValueError:
        raise Invalid("mail_refused", "This mail's address, subject or text can't be sent.") from None
    return message


def _address(text: str, name: str = "") -> Address:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("not an address")
    return Address(name, addr_spec=text)


@dataclass(frozen=True, slots=True)
class SmtpTransport:
    """Sends by a mail server.

    Attributes:
        host: the server.
        port: its port.
        tls: `starttls` insists on the upgrade, `tls` speaks TLS from the first byte, `none` is for loopback.
        sender: the address that mail comes from.
        username: of the mail account, where the server wants one.
        password: its password.
        timeout: seconds for one mail, from connecting to the server's acceptance.
        tls_context: whom to trust; by default the system's authorities.
        now: the clock that dates mail.
    """

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    sender: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    tls_context: ssl.SSLContext | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        """Refuse a sender that no mail could come from.

        Raises:
            SetupError: `bad_sender`.
        """
        try:
            _address(self.sender)
        except ValueError:
            raise SetupError("bad_sender", f"RINGFENCE_MAIL_FROM is no mail address: {self.sender!r}.") from None

    async def send(self, mail: Mail, message_id: str) -> None:
        """See `Transport.send`."""
        message = compose(mail, self.sender, message_id, self.now())
        try:
            await self._send(message, mail.to)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _translated(error.recipients[0]) from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise _translated(error) from error

    async def _send(self, message: EmailMessage, recipient: str) -> None:
        client = aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            use_tls=self.tls == "tls",
            start_tls=self.tls == "starttls",
            tls_context=self.tls_context,
            username=self.username,
            password=self.password,
            timeout=self.timeout,
        )
        try:
            async with asyncio.timeout(self.timeout):
                await client.connect()
                await client.send_message(message, sender=self.sender, recipients=[recipient])
            with suppress(aiosmtplib.SMTPException):  # the mail is on its way, however the farewell goes
                await client.quit(timeout=_QUIT_SECONDS)
        finally:
            client.close()


def _translated(error: Exception) -> Invalid | Unavailable:
    """A refusal of this mail is final; a server that is down, busy or refuses our login may be mended meanwhile."""
    reply = getattr(error, "code", None)
    log.warning("mail_not_sent", error=type(error).__name__, reply=reply)
    about_mail = isinstance(
        error, aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError
    )
    if about_mail and reply is not None and reply >= _PERMANENT:
        return Invalid("mail_refused", f"The mail server refuses this mail for good (reply {reply}).")
    because = f"replied {reply}" if reply is not None else type(error).__name__
    return Unavailable("mail_unavailable", f"The mail server did not take the mail ({because}); it is tried again.")


@dataclass(frozen=True, slots=True)
class FolderTransport:
    """Keeps mail in a folder, for development: nothing leaves the machine.

    Attributes:
        folder: where `.eml` files go, readable by their owner alone.
        echo: told of each mail, to show it in the terminal, say.
        now: the clock that dates mail.
    """

    folder: Path
    echo: Callable[[Mail], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def send(self, mail: Mail, message_id: str) -> None:
        """See `Transport.send`; a mail that is sent twice overwrites its file."""
        message = compose(mail, _DEVELOPMENT_SENDER, message_id, self.now())
        try:
            await asyncio.to_thread(_write, self.folder, f"{message_id}.eml", message.as_bytes())
        except OSError as error:
            log.warning("mail_not_sent", error=type(error).__name__)
            raise Unavailable("mail_unavailable", f"{self.folder} can't be written ({error.strerror}).") from error
        self.echo(mail)


async def mailed_code(folder: Path, email: str, *, since: float = 0.0, seconds: int = 60) -> str:
    """The one-time code that was mailed to an address, once it has come.

    Args:
        folder: of a `FolderTransport`.
        email: the address.
        since: mails that were written earlier (seconds since 1970) don't count.
        seconds: how long to wait for it.

    Raises:
        Unavailable: `mail_missing`.
    """
    for _ in range(seconds * 10):
        if code := await asyncio.to_thread(_code_in, folder, f"To: {email}".encode(), since):
            return code
        await asyncio.sleep(0.1)  # nobody tells when a file is there
    raise Unavailable("mail_missing", f"No mail with a code came within {seconds} seconds.")


def _code_in(folder: Path, recipient: bytes, since: float) -> str | None:
    mails = (path.read_bytes() for path in folder.glob("*.eml") if path.stat().st_mtime >= since)
    codes = (_CODE.search(mail) for mail in mails if recipient in mail)
    return next((code[0].decode() for code in codes if code), None)


def _write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)

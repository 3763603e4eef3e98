"""Mail: sealed in the queue, delivered over real SMTP on loopback or into a folder."""

import asyncio
import base64
import email
import email.policy
import ssl
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from structlog.testing import capture_logs

from ringfence import mail
from ringfence.errors import Invalid, RingfenceError, SetupError, Unavailable
from ringfence.mail import FolderTransport, Mail, Outbox, SealedMail, SmtpTransport, compose, seal, unseal
from tests import certificates
from tests.scraping import Deltas, of_this_process

KEY = bytes(range(32))
MAIL = Mail(to="ann@example.com", subject="Your code", text="Your code is 01234567\n")
SENDER = "engine@example.org"
NOON = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


@dataclass
class Server:
    """aiosmtpd's handler: keeps what it takes, and says what a test wants to hear."""

    replies: dict[str, str] = field(default_factory=dict)
    envelopes: list[Envelope] = field(default_factory=list)
    logins: list[LoginPassword] = field(default_factory=list)
    port: int = 0

    async def handle_MAIL(self, server, session, envelope, address, options):  # aiosmtpd's name
        envelope.mail_from = address
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, options):  # aiosmtpd's name
        envelope.rcpt_tos.append(address)
        return self.replies.get("RCPT", "250 OK")

    async def handle_DATA(self, server, session, envelope):  # aiosmtpd's name
        self.envelopes.append(envelope)
        return self.replies.get("DATA", "250 OK")

    async def handle_QUIT(self, server, session, envelope):  # aiosmtpd's name
        return self.replies.get("QUIT", "221 Bye")

    def authenticate(self, server, session, envelope, mechanism, login):
        self.logins.append(login)
        return AuthResult(success=login.password == b"open sesame", handled=False)

    def received(self) -> email.message.EmailMessage:
        (envelope,) = self.envelopes
        return email.message_from_bytes(envelope.content, policy=email.policy.default)


@asynccontextmanager
async def listening(factory: Callable[[], asyncio.Protocol], **kwargs: object) -> AsyncGenerator[int]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **kwargs)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def smtp(*, over_tls: ssl.SSLContext | None = None, **options: object) -> AsyncGenerator[Server]:
    handler = Server()

    def factory() -> SMTP:
        return SMTP(handler, authenticator=handler.authenticate, hostname="localhost", **options)

    async with listening(factory, ssl=over_tls) as handler.port:
        yield handler


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server on 127.0.0.1, and a client's that trusts it."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    certificates.write(file)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=file)


def transport(port: int, **kwargs: object) -> SmtpTransport:
    options = {"tls": "none", "timeout": 20, "now": lambda: NOON, **kwargs}
    return SmtpTransport(host="127.0.0.1", port=port, sender=SENDER, **options)


async def refusal(transport: mail.Transport) -> RingfenceError:
    with pytest.raises(RingfenceError) as caught:
        await transport.send(MAIL, "id")
    return caught.value


# Sealing


def test_a_sealed_mail_opens_with_its_key_alone():
    sealed = seal(KEY, MAIL)
    assert unseal(KEY, sealed) == MAIL
    with pytest.raises(Invalid, match="mail_unreadable"):
        unseal(bytes(32), sealed)


def test_a_sealed_mail_shows_nothing():
    first, second = seal(KEY, MAIL), seal(KEY, MAIL)
    assert first != second
    inside = base64.b64decode(first.sealed)
    for secret in (b"01234567", b"ann@example.com", b"Your code"):
        assert secret not in inside
        assert secret not in first.model_dump_json().encode()


def test_a_damaged_mail_is_refused():
    data = bytearray(base64.b64decode(seal(KEY, MAIL).sealed))
    for place in (0, 12, len(data) - 1):
        damaged = data.copy()
        damaged[place] ^= 1
        with pytest.raises(Invalid, match="mail_unreadable"):
            unseal(KEY, SealedMail(sealed=base64.b64encode(damaged).decode()))


@pytest.mark.parametrize("sealed", ["", "AAAA", "not base64!", "ü", base64.b64encode(bytes(40)).decode()])
def test_what_never_was_a_mail_is_refused(sealed):
    with pytest.raises(Invalid, match="mail_unreadable"):
        unseal(KEY, SealedMail(sealed=sealed))


def test_a_mail_does_not_show_its_text():
    assert "01234567" not in repr(MAIL)
    assert "hush" not in repr(transport(1, password="hush"))


# Composing


def test_headers():
    message = compose(Mail("ann@example.com", "Grüße", "Hallo, Ännchen\n"), SENDER, "abc", NOON)
    assert str(message["From"]) == "Ringfence <engine@example.org>"
    assert str(message["To"]) == "ann@example.com"
    assert str(message["Subject"]) == "Grüße"
    assert str(message["Message-ID"]) == "<abc@example.org>"
    assert str(message["Date"]) == "Wed, 02 Jan 2030 12:00:00 +0000"
    assert str(message["Auto-Submitted"]) == "auto-generated"
    assert message.get_content() == "Hallo, Ännchen\n"


def test_a_letter_with_html_has_both_forms_the_plain_one_first():
    mail = Mail("ann@example.com", "Hello", "Hello & welcome\n", "<p>Hello &amp; welcome</p>")
    message = compose(mail, SENDER, "abc", NOON)
    assert message.get_content_type() == "multipart/alternative"
    parts = [(part.get_content_type(), part.get_content().strip()) for part in message.iter_parts()]
    assert parts == [("text/plain", "Hello & welcome"), ("text/html", "<p>Hello &amp; welcome</p>")]


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ann",
        "ann@",
        "@example.com",
        "ann@example.com\r\nBcc: eve@example.com",
        "ann@example.com\n",
        "ann@example.com, eve@example.com",
        "ann@example.com;eve@example.com",
        "Ann <ann@example.com>",
        "ann@example.com (eve)",
        "a nn@example.com",
        '"ann"@example.com',
        "ann@[127.0.0.1]",
        "ann@example.com\0",
        "änn@example.com",
        "ann@\ud800.com",
        "=?utf-8?q?ann?=@example.com",
    ],
)
def test_no_address_adds_a_header_or_a_recipient(to):
    with pytest.raises(Invalid, match="mail_refused"):
        compose(Mail(to, "Hello", "Hello\n"), SENDER, "abc", NOON)


@pytest.mark.parametrize("subject", ["Hi\r\nBcc: eve@example.com", "Hi\nX: y", "Hi\rX: y"])
def test_no_subject_adds_a_header(subject):
    with pytest.raises(Invalid, match="mail_refused"):
        compose(Mail("ann@example.com", subject, "Hello\n"), SENDER, "abc", NOON)


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(Invalid, match="mail_refused"):
        compose(Mail("ann@example.com", "Hi", "\ud800"), SENDER, "abc", NOON)


@pytest.mark.parametrize("sender", ["", "ringfence", "a@b, c@d", "a@b\r\nX: y"])
def test_a_wrong_sender_is_found_at_the_start(sender):
    with pytest.raises(SetupError, match="bad_sender"):
        SmtpTransport("127.0.0.1", 25, "none", sender)


# SMTP


async def test_a_mail_arrives():
    async with smtp() as server:
        await Outbox(KEY, transport(server.port)).deliver(seal(KEY, MAIL).model_dump_json())
    (envelope,) = server.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["ann@example.com"])
    message = server.received()
    assert message.get_content() == MAIL.text.replace("\n", "\r\n")
    assert message["To"] == "ann@example.com"
    assert message["Date"].datetime == NOON


async def test_a_second_try_bears_the_same_message_id():
    first, other = (seal(KEY, MAIL).model_dump_json() for _ in range(2))
    async with smtp() as server:
        outbox = Outbox(KEY, transport(server.port))
        for payload in (first, first, other):
            await outbox.deliver(payload)
    ids = [email.message_from_bytes(envelope.content)["Message-ID"] for envelope in server.envelopes]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("payload", ["", "[]", "{}", '{"sealed": 1}', '{"sealed": "", "more": 1}'])
async def test_a_payload_that_is_no_mail(payload):
    with pytest.raises(Invalid, match="mail_unreadable"):
        await Outbox(KEY, transport(1)).deliver(payload)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [("451 Later", Unavailable("mail_unavailable", "")), ("550 Never", Invalid("mail_refused", ""))],
)
async def test_refusals_for_now_and_for_good(step, reply, expected):
    async with smtp() as server:
        server.replies[step] = reply
        error = await refusal(transport(server.port))
    assert (type(error), error.code) == (type(expected), expected.code)
    assert reply[:3] in error.message
    assert "ann@" not in error.message


async def test_no_server():
    async with listening(asyncio.Protocol) as port:
        pass
    error = await refusal(transport(port))
    assert (error.kind, error.code) == ("unavailable", "mail_unavailable")


async def test_a_silent_server():
    async with listening(asyncio.Protocol) as port:
        error = await refusal(transport(port, timeout=0.3))
    assert (error.kind, error.code) == ("unavailable", "mail_unavailable")


async def test_the_time_limit_is_for_the_whole_mail():
    """Each answer comes well within it; all together don't."""

    class Slow(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.data_received(b"")

        def data_received(self, data: bytes) -> None:
            reply = b"354 Go\r\n" if data.startswith(b"DATA") else b"220 OK\r\n" if not data else b"250 OK\r\n"
            asyncio.get_running_loop().call_later(0.2, self.transport.write, reply)

    async with listening(Slow) as port:
        error = await refusal(transport(port, timeout=0.7))
    assert (error.kind, error.code) == ("unavailable", "mail_unavailable")
    assert "TimeoutError" in error.message


async def test_a_server_that_hangs_up():
    class HangUp(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    async with listening(HangUp) as port:
        error = await refusal(transport(port))
    assert (error.kind, error.code) == ("unavailable", "mail_unavailable")


async def test_a_bad_farewell_does_not_send_the_mail_again():
    async with smtp() as server:
        server.replies["QUIT"] = "451 Stay"
        await transport(server.port).send(MAIL, "id")
    assert len(server.envelopes) == 1


async def test_starttls_and_login(contexts):
    ours, theirs = contexts
    async with smtp(tls_context=ours, require_starttls=True, auth_required=True) as server:
        sender = transport(server.port, tls="starttls", tls_context=theirs, username="engine", password="open sesame")
        await sender.send(MAIL, "id")
    assert len(server.envelopes) == 1
    assert server.logins == [LoginPassword(b"engine", b"open sesame")]


async def test_tls_from_the_first_byte(contexts):
    ours, theirs = contexts
    async with smtp(over_tls=ours) as server:
        await transport(server.port, tls="tls", tls_context=theirs).send(MAIL, "id")
    assert len(server.envelopes) == 1


async def test_a_wrong_login_may_be_mended(contexts):
    ours, theirs = contexts
    async with smtp(tls_context=ours, auth_required=True) as server:
        sender = transport(server.port, tls="starttls", tls_context=theirs, username="engine", password="wrong pass")
        with capture_logs() as logs:
            error = await refusal(sender)
    assert (error.kind, error.code) == ("unavailable", "mail_unavailable")
    assert "535" in error.message
    assert logs
    assert "wrong pass" not in str(logs) + str(error)
    assert not server.envelopes


async def test_an_unknown_certificate_gets_no_mail(contexts):
    async with smtp(tls_context=contexts[0]) as server:
        error = await refusal(transport(server.port, tls="starttls"))
    assert error.code == "mail_unavailable"
    assert not server.envelopes


async def test_a_server_without_tls_gets_no_mail_and_no_password():
    async with smtp(auth_require_tls=False) as server:
        error = await refusal(transport(server.port, tls="starttls", username="engine", password="open sesame"))
    assert error.code == "mail_unavailable"
    assert not server.envelopes
    assert not server.logins


# Folder


async def test_a_folder_takes_mail_for_its_owner_alone(tmp_path: Path):
    shown: list[Mail] = []
    outbox = Outbox(KEY, FolderTransport(tmp_path / "a" / "mail", shown.append, lambda: NOON))
    payload = seal(KEY, MAIL).model_dump_json()
    await outbox.deliver(payload)
    await outbox.deliver(payload)
    (file,) = (tmp_path / "a" / "mail").iterdir()
    assert file.suffix == ".eml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert (message["To"], message.get_content().rstrip()) == (MAIL.to, MAIL.text.rstrip())
    assert shown == [MAIL, MAIL]


async def test_a_folder_that_is_none(tmp_path: Path):
    (tmp_path / "file").touch()
    shown: list[Mail] = []
    error = await refusal(FolderTransport(tmp_path / "file", shown.append))
    assert (error.kind, error.code) == ("unavailable", "mail_unavailable")
    assert not shown


async def test_the_default_clock_is_the_machines(tmp_path: Path):
    before = datetime.now(UTC).replace(microsecond=0)
    await FolderTransport(tmp_path, lambda _: None).send(MAIL, "id")
    message = email.message_from_bytes((tmp_path / "id.eml").read_bytes(), policy=email.policy.default)
    assert before <= message["Date"].datetime <= datetime.now(UTC)
    assert SmtpTransport("127.0.0.1", 25, "none", SENDER).now() >= before


async def test_sent_and_failed_mails_are_counted():
    deltas = Deltas(await of_this_process())
    payload = seal(KEY, MAIL).model_dump_json()
    async with smtp() as server:
        outbox = Outbox(KEY, transport(server.port))
        await outbox.deliver(payload)
        for reply in ("451 Later", "550 Never"):
            server.replies["DATA"] = reply
            with pytest.raises(RingfenceError):
                await outbox.deliver(payload)
    expected = {"ringfence_mails_total{outcome=sent}": 1, "ringfence_mails_total{outcome=failed}": 2}
    assert deltas.of(await of_this_process(), "ringfence_mails") == expected


async def test_a_mail_whose_code_is_dead_is_not_sent(tmp_path):
    folder = tmp_path / "mail"
    for until, sent in ((None, True), (NOON + timedelta(seconds=1), True), (NOON, False)):
        payload = seal(KEY, replace(MAIL, until=until)).model_dump_json()
        outbox = Outbox(KEY, FolderTransport(folder, lambda _mail: None), lambda: NOON)
        if sent:
            await outbox.deliver(payload)
        else:
            with pytest.raises(Invalid, match="mail_expired"):
                await outbox.deliver(payload)
    assert len(list(folder.iterdir())) == 2

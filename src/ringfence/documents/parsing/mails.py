"""Text of mails (EML, MSG): subject, who, when, the body, and the names of the attachments, which are not opened."""

import email
import itertools
import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage, MIMEPart
from email.policy import default
from typing import Any, BinaryIO

import olefile

from ringfence.documents.parsing.encodings import decode
from ringfence.documents.parsing.pages import Pages
from ringfence.documents.parsing.web import read_html

_HEADERS = ("From", "To", "Cc", "Date")
_SAMPLE = b"""Subject: =?utf-8?q?=C3=A4?=
Date: Mon, 2 Nov 2026 10:00:00 +0000
From: a <a@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PHA+w6Q=
--b
Content-Transfer-Encoding: quoted-printable
Content-Disposition: attachment; filename*=utf-8''%C3%A4.txt

=C3=A4
--b--
"""

# MS-OXPROPS: property id and type of what we read of a message: 001F is UTF-16, 001E the message's code page.
_SUBJECT, _BODY, _HTML, _SENDER, _TO, _CC = "0037", "1000", "1013", "0C1A", "0E04", "0E03"
_LONG_NAME, _SHORT_NAME = "3707", "3704"
_SENT, _TIME = 0x0039, 0x0040
_PROPERTIES = "__properties_version1.0"
_PROPERTIES_HEADER = 32  # bytes, at the top level


def warm_up() -> None:
    """Load what the library imports when it first meets a mail."""
    message = email.message_from_bytes(_SAMPLE, policy=default)
    body = message.get_body(("plain", "html"))
    _ = [str(value) for value in message.values()], body and body.get_content(), _attachments(message)


def read(file: BinaryIO, pages: Pages) -> None:
    """Read a mail of RFC 5322 into `pages`.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    data = file.read()
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        data = decode(data).encode()
    message = email.message_from_bytes(data, policy=default)
    fields = {name: _header(message, name) for name in _HEADERS}
    body = message.get_body(("plain", "html"))
    html = body is not None and body.get_content_subtype() == "html"
    text = "" if body is None else _content(body, html=html)
    _write(pages, _header(message, "Subject"), fields, text, _attachments(message), html=html)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # noqa: BLE001  # the parser of headers raises many kinds; one bad header shall not cost the mail
        return ""


def _content(part: MIMEPart, *, html: bool) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    try:
        return data.decode(part.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        return decode(data, html=html)


def _attachments(message: EmailMessage) -> list[str]:
    return [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]


def read_msg(file: BinaryIO, pages: Pages) -> None:
    """Read a mail as Outlook saves it ([MS-OXMSG]) into `pages`.

    Raises:
        RingfenceError: a limit of `pages`.
    """
    with olefile.OleFileIO(file) as message:
        body = _property(message, "", _BODY)
        html = "" if body.strip() else _property(message, "", _HTML)
        names = {path[0] for path in message.listdir() if path[0].startswith("__attach_")}
        attachments = [
            _property(message, name, _LONG_NAME) or _property(message, name, _SHORT_NAME) for name in sorted(names)
        ]
        fields = {name: _property(message, "", key) for name, key in (("From", _SENDER), ("To", _TO), ("Cc", _CC))}
        fields["Date"] = _sent(message)
        _write(
            pages, _property(message, "", _SUBJECT), fields, html or body, filter(None, attachments), html=bool(html)
        )


def _property(message: Any, folder: str, *keys: str) -> str:
    """The text of the first of some properties that there is, of the message or of an attachment."""
    for key, kind in itertools.product(keys, ("001F", "001E", "0102")):
        path = [*filter(None, [folder]), f"__substg1.0_{key}{kind}"]
        if message.exists(path):
            data = message.openstream(path).read()
            return data.decode("utf-16-le", errors="replace") if kind == "001F" else decode(data, html=key == _HTML)
    return ""


def _sent(message: Any) -> str:
    """When the message was handed in; times are 100 ns since 1601 (PtypTime)."""
    if not message.exists(_PROPERTIES):
        return ""
    data = message.openstream(_PROPERTIES).read()[_PROPERTIES_HEADER:]
    for kind, key, _, value in struct.iter_unpack("<HHIQ", data[: len(data) // 16 * 16]):
        if (key, kind) == (_SENT, _TIME):
            return (datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=value // 10)).strftime(
                "%Y-%m-%d %H:%M UTC"
            )
    return ""


def _write(
    pages: Pages, subject: str, fields: Mapping[str, str], body: str, attachments: Iterable[str], *, html: bool
) -> None:
    pages.heading(subject, 1)
    pages.block("\n".join(f"{name}: {value}" for name, value in fields.items() if value.strip()))
    if html:
        read_html(body, pages)
    else:
        pages.block(body)
    names = list(attachments)
    if names:
        pages.block("Attachments:")
    for name in names:
        pages.item(name)

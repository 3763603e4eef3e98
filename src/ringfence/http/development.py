"""Development alone: a page that shows the mail which would have been sent, one-time codes and all."""

import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from ringfence.errors import NotFound
from ringfence.http import web

_SHOWN = 50
_LOOPBACK = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A mail as the page shows it."""

    to: str
    subject: str
    date: str
    text: str


def router(mail_folder: Path) -> APIRouter:
    """The route of `/dev/mail`, which shows the newest mails of a folder, newest first.

    Args:
        mail_folder: where `.eml` files lie; it may not exist yet.
    """
    routes = APIRouter(prefix="/dev", include_in_schema=False, dependencies=[Depends(require_loopback)])

    @routes.get("/mail", name=web.MAIL_ROUTE)
    def mail(request: Request) -> HTMLResponse:  # no coroutine: it reads files, so it runs in a thread
        return web.render(request, "mail.html", mails=_newest(mail_folder))

    return routes


def require_loopback(request: Request) -> None:
    """Refuse a request that names another host: a hostile site may point its own name here (DNS rebinding)."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        raise NotFound("not_found", "There is no such page.")


def _newest(folder: Path) -> list[_Shown]:
    files = sorted(folder.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [_read(path) for path in files[:_SHOWN]]


def _read(path: Path) -> _Shown:
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    body = message.get_body(("plain",))
    return _Shown(
        to=str(message.get("To", "")),
        subject=str(message.get("Subject", "")),
        date=str(message.get("Date", "")),
        text=body.get_content() if body else "",
    )

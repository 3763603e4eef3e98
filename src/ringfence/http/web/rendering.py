"""Templates as pages."""

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.routing import NoMatchFound

from ringfence.accounts.queries import Account
from ringfence.http.web import assets

MAIL_ROUTE = "development_mail"
"""The route that shows mail. It exists in development alone, and so do the links to it."""

DEMO_ROUTE = "development_demo"
"""Likewise the route that signs in to an account with sample documents."""

_TEMPLATES = Path(__file__).parent / "templates"
_THEMES = ("light", "dark")
_THEME_COOKIE = "ringfence-theme"


def render(
    request: Request, template: str, account: Account | None = None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """A template as a page that no cache keeps; values are HTML-escaped.

    Args:
        request: of whoever looks.
        template: a file's name.
        account: whose page it is; None: anybody's.
        status: of the response.
        values: for the template, beside what `base.html` needs.
    """
    theme = request.cookies.get(_THEME_COOKIE)
    shell = {
        "email": account.email if account else None,
        "theme": theme if theme in _THEMES else None,
        "mail_page": _path_of(request, MAIL_ROUTE),
        "demo": _path_of(request, DEMO_ROUTE),
    }
    headers = {"Cache-Control": "no-store"}
    return _templates().TemplateResponse(request, template, shell | values, status_code=status, headers=headers)


def _path_of(request: Request, route: str) -> str | None:
    """Where a route is, if it exists."""
    try:
        return str(request.app.url_path_for(route))
    except NoMatchFound:
        return None


@cache
def _templates() -> Jinja2Templates:
    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.globals["static"] = assets.url
    return Jinja2Templates(env=environment)

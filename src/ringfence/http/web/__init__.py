"""The page that people use: one template, one style sheet, one script, all from here and nothing from elsewhere."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.routing import NoMatchFound
from starlette.types import Scope

router = APIRouter(include_in_schema=False)

MAIL_ROUTE = "development_mail"
"""The route that shows mail. It exists in development alone, and so do the links to it."""

_FOLDER = Path(__file__).parent


class _Static(StaticFiles):
    """Files that a browser asks for anew each time (and mostly hears 304): an upgrade is seen at once."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount(app: FastAPI) -> None:
    """Serve the page's static files under `/static`."""
    app.mount("/static", _Static(directory=_FOLDER / "static"), name="static")


def render(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A template as a page; values are HTML-escaped. No cache keeps it."""
    return _templates().TemplateResponse(request, template, values, headers={"Cache-Control": "no-store"})


@router.get("/")
async def page(request: Request) -> HTMLResponse:
    """The page: everything else that it shows comes from the API."""
    return render(request, "page.html", mail_page=_mail_page(request))


def _mail_page(request: Request) -> str | None:
    try:
        return str(request.app.url_path_for(MAIL_ROUTE))
    except NoMatchFound:
        return None


@cache
def _templates() -> Jinja2Templates:
    return Jinja2Templates(_FOLDER / "templates")

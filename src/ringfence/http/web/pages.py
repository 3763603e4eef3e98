"""The pages' routes: who may see which, and where the others are sent."""

import re
from collections.abc import Callable, Coroutine
from typing import Any, override
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from ringfence.accounts.queries import Account
from ringfence.errors import NotFound, RingfenceError
from ringfence.http.deps import VisitorDep
from ringfence.http.errors import http_error, problem_body
from ringfence.http.web.rendering import render

_NO_PAGES = ("/api/", "/v1/", "/mcp", "/static/")
# On this very host: one slash, no backslash (which browsers take for a slash) and nothing that they leave out.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


class PageRoute(APIRoute):
    """A route whose errors are pages too, and that can be asked for its head alone."""

    @override
    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        super().__init__(path, endpoint, **settings)
        self.methods = {*(self.methods or ()), "HEAD"}

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_error_page(request: Request) -> Response:
            try:
                return await handle(request)
            except RingfenceError as error:
                problem = problem_body(error)
                return render(request, "error.html", status=problem.status, problem=problem)

        return with_error_page


router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/")
async def home(request: Request, visitor: VisitorDep) -> Response:
    """The chat; for who is not signed in, what this is."""
    return render(request, "chat.html" if visitor else "landing.html", visitor, chat_id=None)


@router.get("/chats/{chat_id:uuid}")
async def chat(chat_id: UUID, request: Request, visitor: VisitorDep) -> Response:
    """One chat."""
    return _private(request, visitor, "chat.html", chat_id=chat_id)


@router.get("/library")
async def library(request: Request, visitor: VisitorDep) -> Response:
    """The documents that one has."""
    return _private(request, visitor, "library.html")


@router.get("/documents/{document_id:uuid}")
async def document(document_id: UUID, request: Request, visitor: VisitorDep) -> Response:
    """One document, page by page."""
    return _private(request, visitor, "document.html", document_id=document_id)


@router.get("/search")
async def search(request: Request, visitor: VisitorDep) -> Response:
    """Passages, without an answer."""
    return _private(request, visitor, "search.html")


@router.get("/account")
async def account(request: Request, visitor: VisitorDep) -> Response:
    """What is known of oneself, and what one may change of it."""
    return _private(request, visitor, "account.html")


@router.get("/sign-in")
async def sign_in(request: Request, visitor: VisitorDep) -> Response:
    """The door; the query's `next` is where to go after it."""
    return _door(request, visitor, "sign-in.html")


@router.get("/register")
async def register(request: Request, visitor: VisitorDep) -> Response:
    """The door for new people."""
    return _door(request, visitor, "register.html")


@router.get("/forgot")
async def forgot(request: Request, visitor: VisitorDep) -> Response:
    """The door for who has lost the key."""
    return _door(request, visitor, "forgot.html")


async def not_found(request: Request, error: HTTPException) -> Response:
    """An address that leads nowhere: a page for who looks for one, a problem for programs."""
    looks = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if not looks or request.url.path.startswith(_NO_PAGES):
        return await http_error(request, error)
    problem = problem_body(NotFound("not_found", "There is no such page."))
    return render(request, "error.html", status=problem.status, problem=problem)


def _private(request: Request, visitor: Account | None, template: str, **values: Any) -> Response:
    """A page for who is signed in; the others sign in first, and come back."""
    if visitor is None:
        query = f"?{request.url.query}" if request.url.query else ""
        return _sent_to(f"/sign-in?next={quote(request.url.path + query, safe='/')}")
    return render(request, template, visitor, **values)


def _door(request: Request, visitor: Account | None, template: str) -> Response:
    """A page for who is not signed in; the others are let through."""
    following = local_path(request.query_params.get("next", "/"))
    return _sent_to(following) if visitor else render(request, template, following=following)


def local_path(text: str) -> str:
    """Where to go next, if that is on this very host; else the front page."""
    return text if _LOCAL.fullmatch(text) else "/"


def _sent_to(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})

"""The ASGI application."""

import asyncio
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from ringfence import __version__
from ringfence.http import (
    accounts,
    answers,
    api_keys,
    asking,
    audit,
    chats,
    collections,
    credentials,
    demo,
    development,
    documents,
    errors,
    evaluations,
    health,
    leaving,
    library,
    models,
    pages,
    progress,
    search,
    usage,
    web,
)
from ringfence.http.contract import Described
from ringfence.http.middleware import BodyLimit, RequestContext
from ringfence.http.openai.files import router as openai_files
from ringfence.http.openai.routes import ROUTERS as OPENAI
from ringfence.services import Services

# What has a limit of its own.
_UPLOADS = f"POST {documents.router.prefix}|POST {documents.batches.prefix}|PUT {documents.router.prefix}/[^/]+/content"
_ROOMS = (
    health,
    accounts,
    credentials,
    leaving,
    api_keys,
    audit,
    usage,
    progress,
    library,
    documents,
    pages,
    collections,
    search,
    models,
    answers,
    chats,
    asking,
    evaluations,
    web,
)
_STREAMED = re.compile(f"{_UPLOADS}|POST {openai_files.prefix}|POST {accounts.TOKEN_PATH}")


@cache
def _routes() -> list[BaseRoute]:
    """What every application has in common: FastAPI works each route out at its first request, which takes long."""
    common = APIRouter()
    for router in (*(room.router for room in _ROOMS), documents.batches, progress.batches, web.answers_router, *OPENAI):
        common.include_router(router)
    return common.routes


def create_app(
    services: Services,
    *,
    body_max_bytes: int,
    upload_idle: float = 60.0,
    cors_origins: Sequence[str] = (),
    stopping: asyncio.Event | None = None,
    mail_folder: Path | None = None,
    demo_password: str | None = None,
) -> FastAPI:
    """Build the application over open services, which must outlive it.

    Args:
        services: what requests are handed to.
        body_max_bytes: limit of every request body but uploads.
        upload_idle: seconds that a client may pause in an upload.
        cors_origins: other sites whose scripts may use the API, with a bearer token (never with cookies).
        stopping: set when open streams have to end.
        mail_folder: development alone: mails lie here, and `/dev/mail` shows them.
        demo_password: likewise: of an account with sample documents, which the front page offers.
    """
    app = Described(
        title="Ringfence",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        routes=_routes(),
    )
    app.state.services = services
    app.state.upload_idle = upload_idle
    app.state.stopping = stopping or asyncio.Event()
    errors.install(app)
    app.exception_handler(404)(web.not_found)
    web.mount(app)
    if mail_folder is not None:
        app.include_router(development.router(mail_folder))
        if demo_password is not None:
            app.include_router(demo.router(mail_folder, demo_password))
    app.add_middleware(BodyLimit, max_bytes=body_max_bytes, streamed=_STREAMED)
    app.add_middleware(RequestContext)
    if cors_origins:  # outermost, so that a script can read errors too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"],
        )
    return app

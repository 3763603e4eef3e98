"""The ASGI application."""

from pathlib import Path

from fastapi import FastAPI

from ringfence import __version__
from ringfence.http import accounts, answers, development, documents, errors, health, web
from ringfence.http.middleware import BodyLimit, RequestContext
from ringfence.services import Services

_STREAMED = frozenset({("POST", documents.router.prefix)})


def create_app(services: Services, *, body_max_bytes: int, mail_folder: Path | None = None) -> FastAPI:
    """Build the application over open services, which must outlive it.

    Args:
        services: what requests are handed to.
        body_max_bytes: limit of every request body but uploads.
        mail_folder: development alone: mails lie here, and `/dev/mail` shows them.
    """
    app = FastAPI(
        title="Ringfence", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    app.state.services = services
    errors.install(app)
    for router in (health.router, accounts.router, documents.router, answers.router, web.router):
        app.include_router(router)
    web.mount(app)
    if mail_folder is not None:
        app.include_router(development.router(mail_folder))
    app.add_middleware(BodyLimit, max_bytes=body_max_bytes, streamed=_STREAMED)
    app.add_middleware(RequestContext)
    return app

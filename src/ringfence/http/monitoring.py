"""What an operator's tools ask a process for, API or worker, on a port of its own: `/metrics`, `/livez`, `/readyz`."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ringfence import jobs
from ringfence.db import Database
from ringfence.errors import RingfenceError, Unavailable
from ringfence.http.errors import problem_of
from ringfence.telemetry.metrics import CONTENT_TYPE, exposition, queue_figures

DATABASE_SECONDS = 2.0
"""How long the database may take to answer one question; a scrape comes without its figures then."""


def create_app(db: Database, *, database_seconds: float = DATABASE_SECONDS) -> Starlette:
    """Build the application over an open database, which must outlive it."""

    async def metrics(_request: Request) -> Response:
        try:
            async with asyncio.timeout(database_seconds), db.system() as tx:
                queue = await jobs.figures(tx)
        except (RingfenceError, TimeoutError):
            queue = None
        # Some 10 ms of work, which no stream has to wait for.
        text = await asyncio.to_thread(exposition, queue_figures(queue))
        return Response(text, media_type=CONTENT_TYPE)

    async def readyz(_request: Request) -> Response:
        try:
            async with asyncio.timeout(database_seconds):
                await db.check()
        except RingfenceError as error:
            return problem_of(error)
        except TimeoutError:
            return problem_of(Unavailable("database_unavailable", "The database does not answer in time."))
        return _ok()

    async def livez(_request: Request) -> Response:
        return _ok()

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])


def _ok() -> Response:
    return JSONResponse({"status": "ok"})

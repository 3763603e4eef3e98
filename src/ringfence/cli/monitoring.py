"""What a process tells its operator while it runs: metrics and health on a port of their own, and traces."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import unquote

import structlog
import uvicorn

from ringfence.cli.listening import SignalFreeServer, bind, url_of
from ringfence.db import Database
from ringfence.errors import SetupError
from ringfence.http.monitoring import create_app
from ringfence.settings import Settings
from ringfence.telemetry.traces import configure_tracing

log = structlog.get_logger()

_GRACE_SECONDS = 1
_HEADER = re.compile(r"([\w!#$%&'*+.^`|~-]+)\s*=\s*([!-~]+)", re.ASCII)  # a token (RFC 9110) and its value


@asynccontextmanager
async def observed(settings: Settings, db: Database) -> AsyncGenerator[None]:
    """While the context lasts, send traces and answer on the operators' port, as far as either is set.

    Raises:
        SetupError: `address_taken`, or `bad_setting` where the collector's headers are none.
    """
    async with _traced(settings), _monitored(settings, db):
        yield


@asynccontextmanager
async def _traced(settings: Settings) -> AsyncGenerator[None]:
    if settings.otlp_endpoint is None:
        yield
        return
    stop = await asyncio.to_thread(
        configure_tracing,
        settings.otlp_endpoint,
        headers=_headers(settings),
        sample_ratio=settings.trace_sample_ratio,
    )
    try:
        yield
    finally:
        await asyncio.to_thread(stop)


@asynccontextmanager
async def _monitored(settings: Settings, db: Database) -> AsyncGenerator[None]:
    if settings.metrics_port is None:
        yield
        return
    with bind(settings.metrics_host, settings.metrics_port) as listener:
        config = uvicorn.Config(
            create_app(db),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            reset_contextvars=True,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = SignalFreeServer(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        log.info("monitoring", url=url_of(listener))
        try:
            yield
        finally:
            server.should_exit = True
            await asyncio.wait([serving])


def _headers(settings: Settings) -> dict[str, str]:
    text = settings.otlp_headers.get_secret_value() if settings.otlp_headers else ""
    pairs = [_HEADER.fullmatch(item.strip()) for item in text.split(",") if item.strip()]
    if None in pairs:
        raise SetupError("bad_setting", "RINGFENCE_OTLP_HEADERS has to be name=value, pairs separated by commas.")
    return {pair[1]: unquote(pair[2]) for pair in pairs if pair}

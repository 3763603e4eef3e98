"""Running the API's server and the worker until a signal ends them."""

import asyncio
import contextlib
import math
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from ringfence.cli.listening import SignalFreeServer, bind, url_of
from ringfence.cli.monitoring import observed
from ringfence.http.app import create_app
from ringfence.keys import Purpose, derive_password
from ringfence.mail import Mail
from ringfence.services import (
    mail_folder_transport,
    open_handlers,
    open_maintenance,
    open_services,
    require_secret,
    require_smtp,
    utc_now,
)
from ringfence.settings import Settings
from ringfence.worker import Worker

__all__ = ["api", "listen", "run_api", "run_maintenance", "run_worker", "url_of"]

log = structlog.get_logger()

FAREWELL_SECONDS = 2
"""For streams that were told to end; who is still there after that is cut off."""


def listen(settings: Settings) -> socket.socket:
    """Bind the address to listen on.

    Raises:
        SetupError: it is taken, or not this machine's.
    """
    return bind(settings.host, settings.port)


class Server(SignalFreeServer):
    """The API's server, which lets streams end before it does.

    Args:
        config: of uvicorn.
        stopping: set when open streams have to end.
        grace: seconds that they get before that.
    """

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event, grace: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._grace = grace

    def stop(self) -> None:
        """Begin to end: no new connections, and streams that are open get their grace. Called again: end at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        asyncio.get_running_loop().call_later(0 if self.force_exit else self._grace, self._stopping.set)

    async def until_signalled(self, serving: asyncio.Task[None]) -> None:
        """Wait for the end of serving, which SIGTERM and SIGINT bring about."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await serving


@asynccontextmanager
async def api(
    settings: Settings,
    listener: socket.socket,
    *,
    mail_folder: Path | None = None,
    now: Callable[[], datetime] = utc_now,
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Serve on a listener while the context lasts; yields what waits until a signal ends it.

    Args:
        settings: of this process.
        listener: takes connections.
        mail_folder: development alone: mails lie here, and `/dev/mail` shows them.
        now: the clock of accounts and limits.

    Raises:
        RingfenceError: the services could not be opened.
    """
    # The SDK takes half a second to import, which no other command shall pay.
    from ringfence.http.mcp.door import tools_at  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, now=now))
        await stack.enter_async_context(observed(settings, services.db))
        stopping = asyncio.Event()
        app = create_app(
            services,
            body_max_bytes=settings.body_max_bytes,
            upload_idle=settings.upload_idle_timeout,
            cors_origins=settings.cors_origins,
            stopping=stopping,
            mail_folder=mail_folder,
            demo_password=_demo_password(settings),
        )
        await stack.enter_async_context(tools_at(app, [*settings.cors_origins, settings.public_url]))
        server = Server(_config(settings, app), stopping, settings.shutdown_grace)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield partial(server.until_signalled, serving)
        finally:
            server.stop()
            await asyncio.wait([serving])


def _demo_password(settings: Settings) -> str | None:
    """Of the demo's account; None: there is none, since others may come here by a public address."""
    return None if settings.public_url else derive_password(require_secret(settings), Purpose.DEMO_ACCOUNT)


def _config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        reset_contextvars=True,
        # Uvicorn would otherwise believe whatever comes from this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace + FAREWELL_SECONDS),
        timeout_keep_alive=30,
    )


async def run_api(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises:
        SetupError: a mail server, a secret key, a database or an address is missing or wrong.
    """
    require_smtp(settings)
    with listen(settings) as listener:
        async with api(settings, listener) as until_signalled:
            log.info("serving", url=url_of(listener))
            await until_signalled()


async def run_worker(settings: Settings, *, mail_folder: Path | None = None, with_parent: bool = False) -> None:
    """Run jobs until a signal comes (or, `with_parent`, until standard input ends); hand back what is unfinished.

    Args:
        settings: of this process.
        mail_folder: development alone: mails go there and onto the terminal.
        with_parent: end with the process that holds the other end of standard input.
    """
    transport = mail_folder_transport(mail_folder, _print_mail) if mail_folder else require_smtp(settings)
    async with open_handlers(settings, transport) as work, observed(settings, work.db):
        worker = Worker(work.db, work.handlers, slots=settings.worker_slots, lease=settings.job_lease)
        running = asyncio.create_task(worker.run())
        upkeep = asyncio.create_task(work.upkeep.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        if with_parent:
            loop.add_reader(sys.stdin.fileno(), _end, loop, running)
        log.info("working", slots=settings.worker_slots)
        with contextlib.suppress(asyncio.CancelledError):
            await running
        upkeep.cancel()


async def run_maintenance(settings: Settings, *, once: bool) -> None:
    """Do rounds of maintenance until a signal comes, or one.

    Raises:
        SetupError: there is no administrator's URL, or PostgreSQL refuses it.
        Unavailable: the database can't be reached.
    """
    async with open_maintenance(settings) as maintenance:
        await maintenance.round()  # so that a wrong URL is told at once
        if once:
            return
        running = asyncio.create_task(maintenance.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        log.info("maintaining")
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _end(loop: asyncio.AbstractEventLoop, running: asyncio.Task[None]) -> None:
    loop.remove_reader(sys.stdin.fileno())  # it stays readable, and one cancel is enough
    running.cancel()


def _print_mail(mail: Mail) -> None:
    typer.echo(f"\n--- mail to {mail.to}: {mail.subject}\n{mail.text}---\n")

"""Running the API's server and the worker until a signal ends them."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
import typer
import uvicorn

from ringfence.errors import SetupError
from ringfence.http.app import create_app
from ringfence.mail import Mail
from ringfence.services import mail_folder_transport, open_handlers, open_services, require_smtp
from ringfence.settings import Settings
from ringfence.worker import Worker

log = structlog.get_logger()

GRACE_SECONDS = 10


def listen(settings: Settings) -> socket.socket:
    """Bind the address to listen on.

    Raises:
        SetupError: it is taken, or not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SetupError("address_taken", f"Can't listen on {where}: {error.strerror}.") from None


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """Uvicorn's server, which leaves signals to us: its own handling ends the process before we clean up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    def stop(self) -> None:
        """Begin to end."""
        self.should_exit = True

    async def until_signalled(self, serving: asyncio.Task[None]) -> None:
        """Wait for the end of serving, which SIGTERM and SIGINT bring about: streams have ten seconds to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await serving


@asynccontextmanager
async def api(
    settings: Settings, listener: socket.socket, *, mail_folder: Path | None = None
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Serve on a listener while the context lasts; yields what waits until a signal ends it.

    Raises:
        RingfenceError: the services could not be opened.
    """
    async with open_services(settings) as services:
        app = create_app(services, body_max_bytes=settings.body_max_bytes, mail_folder=mail_folder)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            reset_contextvars=True,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=30,
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield partial(server.until_signalled, serving)
        finally:
            server.stop()
            await asyncio.wait([serving])


async def run_api(settings: Settings) -> None:
    """Serve until a signal comes; streams have ten seconds to end.

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
    async with open_handlers(settings, transport) as work:
        worker = Worker(work.db, work.handlers, slots=settings.worker_slots, lease=settings.job_lease)
        running = asyncio.create_task(worker.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        if with_parent:
            loop.add_reader(sys.stdin.fileno(), _end, loop, running)
        log.info("working", slots=settings.worker_slots)
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _end(loop: asyncio.AbstractEventLoop, running: asyncio.Task[None]) -> None:
    loop.remove_reader(sys.stdin.fileno())  # it stays readable, and one cancel is enough
    running.cancel()


def _print_mail(mail: Mail) -> None:
    typer.echo(f"\n--- mail to {mail.to}: {mail.subject}\n{mail.text}---\n")

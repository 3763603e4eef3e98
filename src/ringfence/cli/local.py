"""Everything on one machine: embedded PostgreSQL, models, API, worker. For development and the demo, on loopback."""

import asyncio
import contextlib
import ipaddress
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import typer
from pydantic import SecretStr

from ringfence import migrations
from ringfence.cli.model import pull_with_progress
from ringfence.cli.serving import api, listen, url_of
from ringfence.embedded import postgres
from ringfence.errors import SetupError
from ringfence.services import (
    EMBEDDING_WEIGHTS,
    admin_url,
    chat_weights,
    database_urls,
    local_secret,
    open_maintenance,
    role_passwords,
)
from ringfence.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that serves.

    Attributes:
        url: where it does.
        mail_folder: where its mails lie instead of being sent.
        until_signalled: waits until a signal has ended the API.
    """

    url: str
    mail_folder: Path
    until_signalled: Callable[[], Awaitable[None]]


async def run_everything(settings: Settings, *, chat: bool) -> None:
    """Serve until a signal comes.

    Raises:
        SetupError: the address is not loopback, or something is missing.
    """
    async with everything(settings, chat=chat) as running:
        typer.echo(f"\nRingfence serves at {running.url}\nMails are shown here and at {running.url}/dev/mail\n")
        await running.until_signalled()


@asynccontextmanager
async def everything(settings: Settings, *, chat: bool, worker_output: bool = True) -> AsyncGenerator[Running]:
    """An engine with all that it needs, while the context lasts.

    Args:
        settings: `database_url` may name another PostgreSQL than the embedded one.
        chat: whether the embedded chat model may be pulled and used.
        worker_output: whether the worker may write to the terminal.
    """
    _require_loopback(settings.host)
    settings = await _with_models(settings, chat=chat)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        maintained = await with_database(settings, stack)
        settings = maintained.model_copy(update={"database_url": None})
        mail_folder = settings.data_dir / "mail"
        worker = asyncio.create_task(_keep_worker(_worker_environment(settings), mail_folder, output=worker_output))
        stack.push_async_callback(_cancelled, worker)
        maintenance = await stack.enter_async_context(open_maintenance(maintained))
        stack.push_async_callback(_cancelled, asyncio.create_task(maintenance.run()))
        until_signalled = await stack.enter_async_context(api(settings, listener, mail_folder=mail_folder))
        yield Running(url_of(listener), mail_folder, until_signalled)


def _require_loopback(host: str) -> None:
    if not _is_loopback(host):
        raise SetupError(
            "not_loopback",
            "`ringfence run` shows one-time codes to whoever asks, so it listens on this machine's loopback alone. "
            "To serve others, use `ringfence serve`.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _with_models(settings: Settings, *, chat: bool) -> Settings:
    embedders = {settings.embedding_provider, settings.embedding_next_provider}
    needed = [EMBEDDING_WEIGHTS] if "embedded" in embedders else []
    if settings.chat_provider == "embedded":
        if chat:
            needed.append(chat_weights(settings))
        else:
            settings = settings.model_copy(update={"chat_provider": "none"})
    await pull_with_progress(settings.models_dir, needed)
    return settings


async def with_administrator(settings: Settings, stack: AsyncExitStack) -> Settings:
    """Settings that name an administrator and a secret: as set, or those of the embedded server, which is started."""
    if settings.database_url is None:
        secret = settings.secret_key or await asyncio.to_thread(local_secret, settings.data_dir)
        server = await stack.enter_async_context(await postgres.start(settings.data_dir))
        settings = settings.model_copy(update={"database_url": SecretStr(server.url), "secret_key": secret})
    return settings


async def with_database(settings: Settings, stack: AsyncExitStack) -> Settings:
    """Settings that name the roles' URLs of a migrated database: the one that is set, or the embedded one."""
    embedded = settings.database_url is None
    secret = settings.secret_key or await asyncio.to_thread(local_secret, settings.data_dir)
    given = settings.model_copy(update={"secret_key": secret, "app_database_url": None, "system_database_url": None})
    settings = await with_administrator(given, stack)
    # The embedded server has no other installation; its folder's secret may have been changed.
    await migrations.migrate(admin_url(settings), *role_passwords(settings), new_secret=embedded)
    app, system = (SecretStr(url) for url in database_urls(settings))
    return settings.model_copy(update={"app_database_url": app, "system_database_url": system})


def _worker_environment(settings: Settings) -> dict[str, str]:
    """The worker's environment: this process's, and what was decided here; it needs no administrator's URL.

    Where there is a port for metrics, the worker's is the next one (behind the last one: 0, a free one), because both
    processes have their own.
    """
    if settings.metrics_port:
        settings = settings.model_copy(update={"metrics_port": (settings.metrics_port + 1) % 2**16})
    environment = {name: value for name, value in os.environ.items() if name != "RINGFENCE_DATABASE_URL"}
    for name in settings.model_fields_set | {"secret_key", "app_database_url", "system_database_url"}:
        value = getattr(settings, name)
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain is not None:
            environment[f"RINGFENCE_{name.upper()}"] = str(plain)
    return environment


async def _keep_worker(environment: dict[str, str], mail_folder: Path, *, output: bool) -> None:
    """Run the worker, and a new one if it dies."""
    command = [sys.executable, "-m", "ringfence", "worker", "--with-parent", "--mail-folder", str(mail_folder)]
    while True:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=None if output else asyncio.subprocess.DEVNULL,
            stderr=None if output else asyncio.subprocess.DEVNULL,
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        log.error("worker_died", code=code)
        await asyncio.sleep(1)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

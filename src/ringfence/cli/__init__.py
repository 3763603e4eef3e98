"""The command line. Each kind of error has an exit code (those of sysexits.h)."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from ringfence import __version__, migrations
from ringfence.cli import admin, backups, library, model, remote
from ringfence.cli.asking import evaluate_own
from ringfence.cli.chatting import chat
from ringfence.cli.demo import demo as run_demo
from ringfence.cli.evaluation import evaluate
from ringfence.cli.local import run_everything
from ringfence.cli.logs import logging_as_set, quiet_logging
from ringfence.cli.serving import run_api, run_maintenance, run_worker
from ringfence.errors import Kind, RingfenceError
from ringfence.services import admin_url, role_passwords
from ringfence.settings import load_settings

EXIT_CODES = {
    Kind.INVALID: os.EX_DATAERR,
    Kind.UNAUTHENTICATED: os.EX_NOPERM,
    Kind.FORBIDDEN: os.EX_NOPERM,
    Kind.NOT_FOUND: os.EX_NOINPUT,
    Kind.CONFLICT: os.EX_DATAERR,
    Kind.TOO_LARGE: os.EX_DATAERR,
    Kind.UNSUPPORTED: os.EX_DATAERR,
    Kind.RATE_LIMITED: os.EX_TEMPFAIL,
    Kind.UNAVAILABLE: os.EX_UNAVAILABLE,
    Kind.SETUP: os.EX_CONFIG,
    Kind.INTERNAL: os.EX_SOFTWARE,
}

_Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
_Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")]
_NoModel = Annotated[bool, typer.Option("--no-model", help="No chat model: answers are quoted evidence alone.")]


def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def run(*, host: _Host = None, port: _Port = None, no_model: _NoModel = False) -> None:
    """Serve on this machine with nothing to set up: database, models, API, worker and pages. For development."""
    settings = load_settings(**_given(host=host, port=port))
    with logging_as_set(settings):
        _run(run_everything(settings, chat=not no_model), fast=True)


def demo(*, no_model: _NoModel = False) -> None:
    """The main job once, in this terminal: two tenants, their documents, their answers, and the fence between them."""
    _run(run_demo(load_settings(), chat=not no_model), fast=True)


def serve(*, host: _Host = None, port: _Port = None) -> None:
    """Serve the API and the pages. Needs a migrated PostgreSQL, a mail server and a secret key."""
    settings = load_settings(**_given(host=host, port=port))
    with logging_as_set(settings):
        _run(run_api(settings), fast=True)


def worker(
    *,
    mail_folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run jobs: ingest documents, send mail. Any number of workers may share one database."""
    settings = load_settings()
    with logging_as_set(settings):
        _run(run_worker(settings, mail_folder=mail_folder, with_parent=with_parent))


def maintain(*, once: Annotated[bool, typer.Option("--once", help="One round, then end.")] = False) -> None:
    """Give large users an index of their own, as RINGFENCE_DATABASE_URL's administrator. One such process is enough."""
    settings = load_settings()
    with logging_as_set(settings):
        _run(run_maintenance(settings, once=once))


def migrate(
    *,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Let the roles' passwords, made from another secret, be replaced.")
    ] = False,
) -> None:
    """Make the database's roles and tables, or bring them up to date, as RINGFENCE_DATABASE_URL's administrator."""
    settings = load_settings()
    url = admin_url(settings)
    with quiet_logging():
        applied = _run(migrations.migrate(url, *role_passwords(settings), new_secret=new_secret, say=backups.tell))
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


def backup(
    folder: Annotated[Path, typer.Argument(help="Made by this; must not be there yet.")],
    *,
    reuse: Annotated[
        Path | None, typer.Option(help="An earlier backup on the same disk: files that it has are linked, not copied.")
    ] = None,
) -> None:
    """Copy the database and the files, as of one moment, into a folder. The engine may go on serving."""
    manifest = _run(backups.take(load_settings(), folder, reuse))
    typer.echo(f"{folder}: {sum(table.rows for table in manifest.tables)} rows, {manifest.files} files")


def restore(folder: Annotated[Path, typer.Argument(help="What `ringfence backup` made.")]) -> None:
    """Fill an empty database and the data folder from a backup, and bring them up to date."""
    manifest = _run(backups.bring_back(load_settings(), folder))
    typer.echo(f"{folder}, taken {manifest.created_at:%Y-%m-%d %H:%M} UTC, is restored")


def build_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        help="A multi-tenant RAG engine: every user's documents are fenced off inside PostgreSQL.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback(invoke_without_command=True)(_root)
    remotes = (
        remote.ingest,
        remote.retry,
        remote.search,
        remote.ask,
        chat,
        remote.models,
        remote.usage,
        remote.export,
        remote.mcp,
    )
    for command in (run, demo, serve, worker, maintain, migrate, backup, restore, *remotes):
        app.command()(command)
    app.command(name="eval")(evaluate)
    app.command(name="eval-remote")(evaluate_own)
    app.add_typer(library.build_app(), name="documents")
    app.add_typer(library.build_collections_app(), name="collections")
    app.add_typer(model.build_app(), name="model")
    app.add_typer(admin.build_app(), name="admin")
    return app


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _run[T](main: Coroutine[None, None, T], *, fast: bool = False) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if fast else None) as runner:
        return runner.run(main)


def main() -> None:
    """Run the command line; the process's exit code tells the kind of error."""
    try:
        build_app()()
    except RingfenceError as error:
        typer.echo(f"ringfence: {error.message}", err=True)
        sys.exit(EXIT_CODES[error.kind])

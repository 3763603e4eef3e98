"""Commands for model weights: `ringfence model pull|list|verify`."""

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ringfence.cli.logs import quiet_logging
from ringfence.embedded.weights import Status, Weights
from ringfence.errors import SetupError
from ringfence.settings import load_settings


def pull(names: Annotated[list[str], typer.Argument(help="As `ringfence model list` names them.")]) -> None:
    """Fetch weights that are not there yet, and check them."""
    with quiet_logging():
        asyncio.run(pull_with_progress(load_settings().models_dir, names))


def show() -> None:
    """Show what there is, and what of it is here."""
    _print(Weights(load_settings().models_dir).list())


def verify() -> None:
    """Hash every file anew; exits with 78 if one is corrupt."""
    with quiet_logging():
        found = asyncio.run(Weights(load_settings().models_dir).verify())
    _print(found)
    if any(status.state == "corrupt" for status in found):
        raise SetupError("weights_corrupt", "Some weights are corrupt; `ringfence model pull` fetches them anew.")


def build_app() -> typer.Typer:
    """`ringfence model …`."""
    app = typer.Typer(
        help="Model weights: pinned by their SHA-256, kept in RINGFENCE_MODELS_DIR.", no_args_is_help=True
    )
    app.command()(pull)
    app.command(name="list")(show)
    app.command()(verify)
    return app


async def pull_with_progress(models_dir: Path, names: Iterable[str]) -> None:
    """Fetch weights, with a progress bar for what is not there yet; the rest costs nothing."""
    weights = Weights(models_dir)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        for name in names:
            task = progress.add_task(name, visible=False)
            await weights.pull(name, partial(_show, progress, task))


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total, visible=done < total or progress.tasks[task].visible)


def _print(statuses: Iterable[Status]) -> None:
    table = Table("model", "size", "licence", "state")
    for status in statuses:
        table.add_row(status.name, f"{status.size / 2**20:.0f} MiB", status.licence, status.state)
    Console().print(table)

"""`ringfence eval`: a collection's figures, on the database that the settings name or the embedded one."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from ringfence import __version__
from ringfence.cli.local import with_database
from ringfence.cli.logs import quiet_logging
from ringfence.cli.model import pull_with_progress
from ringfence.evaluation import measures, report, runner
from ringfence.evaluation.collection import Collection, load
from ringfence.evaluation.finding import Finder, require_modes
from ringfence.evaluation.runner import Result
from ringfence.services import EMBEDDING_WEIGHTS, Evaluating, open_evaluating
from ringfence.settings import Settings, load_settings


def evaluate(
    folder: Annotated[Path, typer.Argument(help="With corpus.jsonl, queries.jsonl and qrels.tsv, as BEIR has them.")],
    *,
    mode: Annotated[list[str] | None, typer.Option(help="A way of searching; several; unset: all there are.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch tenant, and use it the next time.")] = False,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write a report to read.")] = None,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the figures for programs.")] = None,
    cache: Annotated[Path | None, typer.Option(file_okay=False, help="Keep vectors here between evaluations.")] = None,
) -> None:
    """Measure how well the search finds what it should: nDCG, recall, MRR and time, in a tenant made for it."""
    with quiet_logging():
        result = asyncio.run(_evaluate(load_settings(), load(folder), mode or [], keep=keep, cache=cache))
    if html:
        report.write(result, html)
    if json:
        runner.write(result, json)
    _print(result)


async def _evaluate(
    settings: Settings, collection: Collection, modes: list[str], *, keep: bool, cache: Path | None
) -> Result:
    measures.library()  # before the work
    async with AsyncExitStack() as stack:
        await pull_with_progress(
            settings.models_dir, [EMBEDDING_WEIGHTS] if settings.embedding_provider == "embedded" else []
        )
        if settings.database_url is None and settings.app_database_url is None:
            settings = await with_database(
                settings, stack
            )  # the embedded one; what is served elsewhere is not migrated
        parts = await stack.enter_async_context(open_evaluating(settings, cache=cache))
        require_modes(parts.ways, modes)
        return await evaluated(parts, collection, modes or list(parts.ways.modes), keep=keep)


async def evaluated(parts: Evaluating, collection: Collection, modes: list[str], *, keep: bool) -> Result:
    """Evaluate a collection in a scratch tenant, and say on standard error how far it has come."""
    async with parts.tenants.filled(collection, keep=keep, say=_say) as scratch:
        finder = Finder(parts.ways, scratch.user_id, collection.ids)
        found = [await runner.run(collection, finder, mode, say=_say) for mode in modes]
    return runner.result_of(
        collection,
        found,
        engine=__version__,
        embedding_model=parts.embedding_model,
        settings=parts.settings,
        documents=scratch.documents,
        chunks=scratch.chunks,
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _print(result: Result) -> None:
    heads = [*measures.MEASURES, "p50 ms", "p99 ms"]
    typer.echo(f"{result.collection}: {result.queries} queries, {result.documents} documents, {result.chunks} chunks")
    typer.echo(f"{'':16}" + "".join(f"{head:>12}" for head in heads))
    for mode in result.modes:
        figures = "".join(f"{mode.all[name]:12.4f}" for name in measures.MEASURES)
        typer.echo(f"{mode.mode:16}{figures}{mode.p50_ms:12.1f}{mode.p99_ms:12.1f}")
    for one in result.comparisons:
        typer.echo(f"{one.second} against {one.first}: nDCG@10 {one.mean:+.4f} (p {one.p:.4f})")

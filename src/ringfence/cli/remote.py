"""Commands that talk to a server as any client does: `ingest` and `ask`."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ringfence.answers.events import Citation, DoneEvent, Source, SourcesEvent, TokenEvent
from ringfence.client import Client, DocumentInfo
from ringfence.errors import Invalid, SetupError, TooLarge, Unavailable, Unsupported

_Url = Annotated[str, typer.Option(envvar="RINGFENCE_URL", help="The server.")]
_Email = Annotated[str | None, typer.Option(envvar="RINGFENCE_EMAIL", help="Your address there.")]
_LOCAL = "http://127.0.0.1:8000"
_POLL_SECONDS = 0.3


def ingest(paths: Annotated[list[Path], typer.Argument(exists=True)], url: _Url = _LOCAL, email: _Email = None) -> None:
    """Upload files, or all files of folders, and wait until they are ready to be asked about."""
    asyncio.run(_ingest(paths, url, email))


def ask(question: str, url: _Url = _LOCAL, email: _Email = None) -> None:
    """Ask your documents. The answer streams to standard output, its evidence to standard error."""
    asyncio.run(_ask(question, url, email))


async def _signed_in(stack: AsyncExitStack, url: str, email: str | None) -> Client:
    token = os.environ.get("RINGFENCE_TOKEN")
    client = await stack.enter_async_context(Client(url, token=token))
    if token is None:
        if not email:
            raise SetupError("no_account", "Say who you are: --email (or RINGFENCE_EMAIL), or set RINGFENCE_TOKEN.")
        password = os.environ.get("RINGFENCE_PASSWORD") or typer.prompt("Password", hide_input=True, err=True)
        await client.sign_in(email, password)
    return client


async def _ingest(paths: Iterable[Path], url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await _signed_in(stack, url, email)
        failed = await ingest_files(client, _files(paths), Console(stderr=True))
    if failed:
        raise Invalid("not_all_ready", f"{failed} of the files can't be used; the reasons stand above.")


def _files(paths: Iterable[Path]) -> list[Path]:
    found = ((path,) if path.is_file() else sorted(path.rglob("*")) for path in paths)
    return [file for several in found for file in several if file.is_file()]


async def ingest_files(client: Client, files: Iterable[Path], console: Console) -> int:
    """Upload files, then follow each with a progress bar until it is ready or failed; how many can't be used."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        uploads = [await _upload(client, progress, file) for file in files]
        results = [await _follow(client, progress, task, document) for task, document in uploads if document]
    return len(uploads) - sum(results)


async def _upload(client: Client, progress: Progress, path: Path) -> tuple[TaskID, DocumentInfo | None]:
    task = progress.add_task(path.name, note="uploading")
    with progress.open(path, "rb", task_id=task) as file:
        try:
            document, new = await client.upload(path.name, file)
        except (Invalid, TooLarge, Unsupported) as error:  # of this file alone: the others go on
            progress.update(task, note=f"[red]{escape(error.message)}[/red]")
            return task, None
    progress.update(task, note="waiting" if new else "known already")
    return task, document


async def _follow(client: Client, progress: Progress, task: TaskID, document: DocumentInfo) -> bool:
    while not document.final:
        note = f"page {document.pages_done} of {document.pages or '?'}"
        progress.update(task, total=document.pages, completed=document.pages_done, note=note)
        await asyncio.sleep(_POLL_SECONDS)
        document = await client.document(document.document_id)
    ready = document.state == "ready"
    good, bad = f"{document.pages} pages, {document.chunks} passages", f"[red]{escape(str(document.reason))}[/red]"
    progress.update(task, total=1, completed=1, note=good if ready else bad)
    return ready


async def _ask(question: str, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await _signed_in(stack, url, email)
        done = await print_answer(client, question, Console(stderr=True), Console())
    if done.refused:
        raise typer.Exit(1)


async def print_answer(client: Client, question: str, evidence: Console, out: Console) -> DoneEvent:
    """Ask, and print the evidence at once, the answer as it streams, then what it cites.

    Raises:
        Unavailable: the answer broke off.
    """
    async with aclosing(client.ask(question)) as events:
        async for event in events:
            match event:
                case SourcesEvent():
                    _print_quotes(event.sources, evidence, style="dim")
                case TokenEvent():
                    out.print(event.text, end="", markup=False, highlight=False, soft_wrap=True)
                case DoneEvent():
                    out.print()
                    _print_quotes(event.citations, out)
                    return event
                case _:
                    raise Unavailable(event.code, event.message)
    raise Unavailable("answer_broke_off", "The answer broke off.")


def _print_quotes(quoted: Iterable[Source | Citation], console: Console, *, style: str | None = None) -> None:
    for one in quoted:
        # A quote's own line breaks are those of the page.
        line = f"  [{one.n}] {one.document}, page {one.quote.page}: “{' '.join(one.quote.text.split())}”"
        console.print(line, style=style, markup=False, highlight=False)

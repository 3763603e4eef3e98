"""Commands that talk to a server as any client does: `ingest`, `retry`, `search`, `ask`, `usage` and `export`.

Who one is: `--email` and a password, or RINGFENCE_TOKEN, which holds an API key or a session's access token.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.text import Text

from ringfence.answers.events import Citation, DoneEvent, ErrorEvent, Source, SourcesEvent, TokenEvent
from ringfence.chats.events import ChatEvent, StartedEvent
from ringfence.cli.files import Unreadable, Wanted, find
from ringfence.cli.ingest import Labels, follow_documents, ingest_files
from ringfence.cli.logs import quiet_logging
from ringfence.client import Client, Hit, SearchOptions
from ringfence.client.models import Fusion, SearchMode
from ringfence.errors import Invalid, SetupError, Unavailable

UrlOption = Annotated[str, typer.Option(envvar="RINGFENCE_URL", help="The server.")]
EmailOption = Annotated[
    str | None, typer.Option(envvar="RINGFENCE_EMAIL", help="Your address there; or set RINGFENCE_TOKEN to an API key.")
]
ModelOption = Annotated[
    str | None, typer.Option(help="Who answers, as `ringfence models` names them; unset: the one you have chosen.")
]
_Opens = Annotated[
    str | None,
    typer.Option(
        envvar="RINGFENCE_DOCUMENT_PASSWORD",
        help="Opens the encrypted PDFs among them. Others see a command line: the variable is the safer way.",
    ),
]
LOCAL = "http://127.0.0.1:8000"
_FILTER: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def ingest(  # noqa: PLR0917  # a command's options
    paths: Annotated[list[Path], typer.Argument(exists=True)],
    url: UrlOption = LOCAL,
    email: EmailOption = None,
    password: _Opens = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Of folders, such files alone: '*.pdf', 'minutes/*' (may be repeated).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out such files and folders (may be repeated).")
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="Put what is new into the collection of this name (may be repeated).")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Give what is new this tag (may be repeated).")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=32, help="Uploads at once.")] = 4,
    *,
    hidden: Annotated[bool, typer.Option("--hidden", help="Take files and folders that begin with a dot too.")] = False,
) -> None:
    """Upload files, or all files of folders, and wait until they are ready to be asked about.

    What is there already is not sent. If it was broken off, run it again: it goes on with what is missing.
    """
    wanted = Wanted(tuple(include or ()), tuple(exclude or ()), hidden)
    how = {"password": password, "concurrency": concurrency, "labels": Labels(collection or (), tag or ())}
    with quiet_logging():
        asyncio.run(_ingest(find(paths, wanted), url, email, **how))


def retry(
    documents: Annotated[list[UUID], typer.Argument(metavar="ID...")], url: UrlOption = LOCAL, email: EmailOption = None
) -> None:
    """Have documents that have failed tried again, and wait for how they end."""
    with quiet_logging():
        asyncio.run(_retry(documents, url, email))


def search(
    words: Annotated[list[str], typer.Argument(metavar="[explain] QUERY", show_default=False)],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Passages at most.")] = 5,
    *,
    mode: Annotated[SearchMode, typer.Option(help="By meaning (dense), by words (lexical), or both.")] = "hybrid",
    fusion: Annotated[Fusion, typer.Option(help="Of both: of scores (convex), or of ranks (rrf).")] = "convex",
    diversity: Annotated[float, typer.Option(min=0, max=1, help="Less of the same, the higher it is.")] = 0.0,
    expand: Annotated[int, typer.Option(min=0, max=5, help="Chunks before and after each passage.")] = 0,
    narrow: Annotated[
        str, typer.Option("--filter", metavar="JSON", help='As of the API: {"tags": ["contract"], "languages": ["en"]}')
    ] = "",
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Find passages of your documents, with page and score; the words that you looked for are emphasised.

    With `explain` before the query: which way it goes, why, the database's plan, and the time of each stage.
    """
    *explained, query = words
    if explained not in ([], ["explain"]):
        raise typer.BadParameter("A query of several words needs quotes around it.")
    options = SearchOptions(mode, fusion, _filter(narrow), diversity, expand)
    with quiet_logging():
        asyncio.run((_explain if explained else _search)(query, limit, options, url=url, email=email))


def ask(question: str, url: UrlOption = LOCAL, email: EmailOption = None, *, model: ModelOption = None) -> None:
    """Ask your documents. The answer streams to standard output, its evidence to standard error."""
    with quiet_logging():
        asyncio.run(_ask(question, url, email, model))


def export(
    file: Annotated[Path, typer.Argument(dir_okay=False)], url: UrlOption = LOCAL, email: EmailOption = None
) -> None:
    """Take along all that your account has: its documents, answers and sessions, as one zip."""
    with quiet_logging():
        asyncio.run(_export(file, url, email))


def mcp(url: UrlOption = LOCAL) -> None:
    """Be the tools of an agent (MCP over standard input and output) for your documents on a server.

    Set RINGFENCE_TOKEN to an API key. Where an agent takes an address, give it the server's /mcp instead.
    """
    # The SDK takes half a second to import, which no other command shall pay.
    from ringfence.client.agents import bridge  # noqa: PLC0415

    token = os.environ.get("RINGFENCE_TOKEN")
    if not token:
        raise SetupError("no_account", "Set RINGFENCE_TOKEN to an API key: an agent can't type a password.")
    with quiet_logging():
        asyncio.run(bridge(url.rstrip("/"), token))


def usage(url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """Show what your account uses, and how much it may."""
    with quiet_logging():
        asyncio.run(_usage(url, email))


def models(
    *,
    choose: Annotated[
        str | None, typer.Option(help="Let this one answer from now on; an empty name: the first, whichever it is.")
    ] = None,
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Show the chat models, their windows and prices (of a million tokens read and written), and the one you have."""
    with quiet_logging():
        asyncio.run(_models(choose, url, email))


async def signed_in(stack: AsyncExitStack, url: str, email: str | None) -> Client:
    """A client of whoever one is.

    Raises:
        SetupError: `no_account`.
    """
    token = os.environ.get("RINGFENCE_TOKEN")
    client = await stack.enter_async_context(Client(url, token=token))
    if token is None:
        if not email:
            raise SetupError("no_account", "Say who you are: --email (or RINGFENCE_EMAIL), or set RINGFENCE_TOKEN.")
        password = os.environ.get("RINGFENCE_PASSWORD") or typer.prompt("Password", hide_input=True, err=True)
        await client.sign_in(email, password)
    return client


async def _usage(url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        used = await (await signed_in(stack, url, email)).usage()
    for name, one in (("documents", used.documents), ("bytes", used.bytes), ("questions today", used.questions)):
        typer.echo(f"{name}: {one.used} of {'any number' if one.limit is None else one.limit}")
    for day in used.models:
        cost = "" if day.cost is None else f", {day.cost:.4f} {day.currency}"
        tokens = f"{day.prompt_tokens} tokens read, {day.completion_tokens} written"
        typer.echo(f"{day.day} {day.model}: {day.questions} questions, {tokens}{cost}")


async def _models(choose: str | None, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        if choose is not None:
            await client.choose_model(choose or None)
        offered = await client.models()
    chosen = offered.chosen or next((one.name for one in offered.models), None)
    for one in offered.models:
        cost = f", {one.price.prompt} and {one.price.completion} {one.price.currency}" if one.price else ""
        rests = "" if one.answering else ", does not answer at present"
        typer.echo(f"{'*' if one.name == chosen else ' '} {one.name}: {one.context_tokens} tokens{cost}{rests}")


async def _export(file: Path, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        try:
            await client.export(file)
        except OSError as error:
            raise Invalid("file_not_writable", f"{file} can't be written ({error.strerror}).") from error


async def _ingest(found: Iterable[Path | Unreadable], url: str, email: str | None, **how: Any) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        outcome = await ingest_files(client, found, Console(stderr=True), **how)
    if outcome.bad:
        raise Invalid("not_all_ready", f"{len(outcome.bad)} of the files can't be used; the reasons stand above.")


async def _retry(documents: Iterable[UUID], url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        found = [await client.retry(document_id) for document_id in documents]
        names = {document.document_id: document.name for document in found}
        outcome = await follow_documents(client, names, Console(stderr=True))
    if outcome.bad:
        raise Invalid("not_all_ready", f"{len(outcome.bad)} of them failed again; the reasons stand above.")


def _filter(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        return _FILTER.validate_json(text)
    except ValidationError:
        raise typer.BadParameter("it is no JSON object", param_hint="--filter") from None


async def _search(query: str, limit: int, options: SearchOptions, *, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        hits = await (await signed_in(stack, url, email)).search(query, limit=limit, options=options)
    console = Console()
    for hit in hits:
        above = f" ({hit.context})" if hit.context else ""
        console.print(f"{hit.document}, page {hit.places[0].page}{above}: {hit.score:.2f}", style="bold", markup=False)
        console.print(_emphasised(hit), soft_wrap=True)
    if not hits:
        raise typer.Exit(1)


async def _explain(query: str, limit: int, options: SearchOptions, *, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        found = await (await signed_in(stack, url, email)).explain_search(query, limit=limit, options=options)
    typer.echo(f"{found.way}: {found.reason}")
    for stage, milliseconds in found.milliseconds.items():
        typer.echo(f"{stage}: {milliseconds:.1f} ms")
    typer.echo(f"passages: {found.passages}")
    typer.echo("\n".join(found.plan))


def _emphasised(hit: Hit) -> Text:
    text = Text(hit.text)
    for one in hit.highlights:
        text.stylize("bold yellow", one.start, one.end)
    return text


async def _ask(question: str, url: str, email: str | None, model: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        done = await print_events(client.ask(question, model=model), Console(stderr=True), Console())
    if done.refused:
        raise typer.Exit(1)


async def print_answer(client: Client, question: str, evidence: Console, out: Console) -> DoneEvent:
    """Ask, and print the evidence at once, the answer as it streams, then what it cites.

    Raises:
        Unavailable: the answer broke off.
    """
    return await print_events(client.ask(question), evidence, out)


async def print_events(answer: AsyncGenerator[ChatEvent], evidence: Console, out: Console) -> DoneEvent:
    """The same of an answer that was asked for, in a chat perhaps."""
    async with aclosing(answer) as events:
        async for event in events:
            match event:
                case StartedEvent():
                    continue
                case SourcesEvent():
                    _print_quotes(event.sources, evidence, style="dim")
                case TokenEvent():
                    out.print(event.text, end="", markup=False, highlight=False, soft_wrap=True)
                case DoneEvent():
                    out.print()
                    _print_quotes(event.citations, out)
                    for one in event.nearest:
                        out.print(f"  Nearest to it: {one.document} ({one.score:.2f})", markup=False, highlight=False)
                    doubts = [f"  Not supported by the documents: “{sentence}”" for sentence in event.unsupported]
                    doubts += [
                        f"  With another figure in {one.document} [{one.n}]: “{one.text}”" for one in event.disputed
                    ]
                    for line in doubts:
                        out.print(line, style="yellow", markup=False, highlight=False)
                    return event
                case ErrorEvent():
                    raise Unavailable(event.code, event.message)
                case _:  # a sentence's citations: the last event has them all
                    pass
    raise Unavailable("answer_broke_off", "The answer broke off.")


def _print_quotes(quoted: Iterable[Source | Citation], console: Console, *, style: str | None = None) -> None:
    for one in quoted:
        # A quote's own line breaks are those of the page.
        line = f"  [{one.n}] {one.document}, page {one.quote.page}: “{' '.join(one.quote.text.split())}”"
        console.print(line, style=style, markup=False, highlight=False)

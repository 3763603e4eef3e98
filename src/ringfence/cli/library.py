"""`ringfence documents` and `ringfence collections`: a library's order, on a server."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError

from ringfence.cli.logs import quiet_logging
from ringfence.cli.remote import LOCAL, EmailOption, UrlOption, signed_in
from ringfence.client import Client, CollectionInfo, DocumentInfo
from ringfence.errors import Invalid, NotFound
from ringfence.filters import FilterForm, fold

_Ids = Annotated[list[UUID], typer.Argument(metavar="ID...")]
# No `type` statements: Typer reads these.
_State = Literal["queued", "processing", "ready", "failed"]
_Sort = Literal["created", "name", "size"]
_Order = Literal["asc", "desc"]
_MOST = 1000
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def build_app() -> typer.Typer:
    """The commands of documents."""
    app = typer.Typer(help="Your documents on a server.", no_args_is_help=True)
    app.command("list")(show)
    for command in (rename, label, replace, delete, restore):
        app.command()(command)
    return app


def build_collections_app() -> typer.Typer:
    """The commands of collections."""
    app = typer.Typer(help="Named sets of your documents on a server.", no_args_is_help=True)
    app.command("list")(show_collections)
    app.command("add")(add_collection)
    app.command("rename")(rename_collection)
    app.command("delete")(delete_collection)
    return app


def show(
    *,
    name: Annotated[str | None, typer.Option(help="A part of the name; case does not matter.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="With this tag; several: with all of them.")] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="In the collection of this name, or in one of several.")
    ] = None,
    state: Annotated[_State | None, typer.Option(help="In this state.")] = None,
    narrow: Annotated[
        str, typer.Option("--filter", metavar="JSON", help='As of a search: {"metadata": {"year": {"gte": 2020}}}')
    ] = "",
    sort: Annotated[_Sort, typer.Option(help="By the time of the upload, the name, or the size.")] = "created",
    order: Annotated[_Order | None, typer.Option(help="Unset: names upwards, the newest or the largest first.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="The bin: what can be restored.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Ids alone, for other commands.")] = False,
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """List documents, newest first: id, state, size in bytes, name, tags."""
    within = _filter(_object(narrow, "--filter") | ({"tags": [_folded(one) for one in tag]} if tag else {}))
    how = {"name": name, "states": [state] if state else (), "deleted": deleted, "sort": sort, "order": order}
    with quiet_logging():
        asyncio.run(_show(within, collection or [], how, (url, email), ids=ids))


def rename(document: UUID, name: str, url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """Give a document another name."""
    with quiet_logging():
        asyncio.run(_rename(document, name, url, email))


def label(
    documents: _Ids,
    *,
    tag: Annotated[list[str] | None, typer.Option(help="Add this tag (may be repeated).")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="Take this tag away (may be repeated).")] = None,
    into: Annotated[list[str] | None, typer.Option(help="Put into the collection of this name.")] = None,
    out_of: Annotated[list[str] | None, typer.Option(help="Take out of the collection of this name.")] = None,
    metadata: Annotated[
        str, typer.Option(metavar="JSON", help='Set these keys; null removes one: {"year": 2026, "draft": null}')
    ] = "",
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Change tags, collections and metadata of documents; what is not named stays."""
    tags = [_folded(one) for one in tag or []], [_folded(one) for one in untag or []]
    sets, said = (into or [], out_of or []), _object(metadata, "--metadata")
    with quiet_logging():
        asyncio.run(_label(documents, tags, sets, said, whose=(url, email)))


def delete(
    documents: _Ids,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="For good, at once, from the bin too.")] = False,
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Delete documents. For a day they can be restored, unless they are purged."""
    with quiet_logging():
        asyncio.run(_delete(documents, url, email, purge=purge))


def restore(documents: _Ids, url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """Undo: take documents out of the bin."""
    with quiet_logging():
        asyncio.run(_restore(documents, url, email))


def replace(
    document: UUID,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Let a file take the place of a document's content. Until it is read, the former one answers."""
    with quiet_logging():
        asyncio.run(_replace(document, file, url, email))


def show_collections(url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """List collections by name, and how many documents are in each."""
    with quiet_logging():
        asyncio.run(_show_collections(url, email))


def add_collection(name: str, url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """Make a collection."""
    with quiet_logging():
        asyncio.run(_add_collection(name, url, email))


def rename_collection(collection: str, name: str, url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """Give a collection another name."""
    with quiet_logging():
        asyncio.run(_rename_collection(collection, name, url, email))


def delete_collection(collection: str, url: UrlOption = LOCAL, email: EmailOption = None) -> None:
    """Dissolve a collection. Its documents stay."""
    with quiet_logging():
        asyncio.run(_delete_collection(collection, url, email))


async def _show(
    within: FilterForm, collections: Sequence[str], how: dict[str, Any], whose: tuple[str, str | None], *, ids: bool
) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, *whose)
        if collections:
            within = within.model_copy(update={"collections": await _ids_of(client, collections)})
        found = await client.documents(within=within, **how)
    for document in found:
        typer.echo(str(document.document_id) if ids else _line(document))


async def _rename(document_id: UUID, name: str, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        typer.echo(_line(await client.change(document_id, name=name)))


async def _label(
    ids: Sequence[UUID],
    tags: tuple[list[str], list[str]],
    names: tuple[list[str], list[str]],
    said: dict[str, Any],
    *,
    whose: tuple[str, str | None],
) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, *whose)
        into, out_of = [await _ids_of(client, several) if several else [] for several in names]
        for document_id in ids:
            before = await client.document(document_id)
            after = await client.change(
                document_id,
                tags=_changed(before.tags, *tags) if any(tags) else None,
                collections=_changed(before.collections, into, out_of) if into or out_of else None,
                metadata={key: value for key, value in (before.metadata | said).items() if value is not None}
                if said
                else None,
            )
            typer.echo(_line(after))


async def _delete(ids: list[UUID], url: str, email: str | None, *, purge: bool) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        fates: dict[UUID, str] = {}
        for start in range(0, len(ids), _MOST):
            fates |= await client.delete(ids[start : start + _MOST], purge=purge)
    for document_id, fate in fates.items():
        typer.echo(f"{document_id} {fate}")
    if "not_found" in fates.values():
        raise NotFound("document_not_found", "Not all of these documents are there.")


async def _restore(ids: list[UUID], url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        for document_id in ids:
            typer.echo(_line(await client.restore(document_id)))


async def _replace(document_id: UUID, path: Path, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        with path.open("rb") as file:
            document, coming = await client.replace(document_id, path.name, file)
    typer.echo(f"{document.name}: {'is being read' if coming else 'has this content already'}")


async def _show_collections(url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        for one in await (await signed_in(stack, url, email)).collections():
            typer.echo(_collection_line(one))


async def _add_collection(name: str, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        typer.echo(_collection_line(await (await signed_in(stack, url, email)).add_collection(name)))


async def _rename_collection(collection: str, name: str, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        [collection_id] = await _ids_of(client, [collection])
        typer.echo(_collection_line(await client.rename_collection(collection_id, name)))


async def _delete_collection(collection: str, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        [collection_id] = await _ids_of(client, [collection])
        await client.delete_collection(collection_id)


async def _ids_of(client: Client, names: Iterable[str]) -> list[UUID]:
    """Collections by their names.

    Raises:
        NotFound: there is none of one of these names.
    """
    known = {one.name: one.collection_id for one in await client.collections()}
    try:
        return [known[name] for name in names]
    except KeyError as missing:
        raise NotFound("collection_not_found", f"There is no collection {missing.args[0]}.") from None


def _changed[T](before: Iterable[T], more: Iterable[T], less: Iterable[T]) -> list[T]:
    taken = set(less)
    return [one for one in dict.fromkeys([*before, *more]) if one not in taken]


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        return _OBJECT.validate_json(text) if text else {}
    except ValidationError:
        raise typer.BadParameter("it is no JSON object", param_hint=option) from None


def _filter(wanted: dict[str, Any]) -> FilterForm:
    try:
        return FilterForm.model_validate(wanted)
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--filter") from None


def _folded(tag: str) -> str:
    try:
        return fold(tag)
    except ValueError as error:
        raise Invalid("bad_tags", f"{tag!r} is no tag: {error}.") from None


def _line(document: DocumentInfo) -> str:
    tags = "".join(f" #{tag}" for tag in document.tags)
    return f"{document.document_id} {document.state:10} {document.size:>12} {document.name}{tags}"


def _collection_line(one: CollectionInfo) -> str:
    return f"{one.collection_id} {one.documents:>6} {one.name}"

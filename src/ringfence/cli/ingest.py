"""Files to documents: what is there already is not sent, the rest several at a time, and all is followed to its end.

Nothing is kept on this side. Whoever broke it off, or was broken off, runs it again: what the server has by then is
known by its content, and followed where it is not at its end.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.markup import escape

from ringfence.cli.board import Board
from ringfence.cli.files import Unreadable, reason
from ringfence.client import Client
from ringfence.client.patience import Patience
from ringfence.documents.events import DocumentProgress, Event, GoneEvent, ProgressEvent
from ringfence.errors import (
    Conflict,
    Invalid,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RingfenceError,
    TooLarge,
    Unavailable,
    Unsupported,
)

PATIENCE = 300.0
"""Seconds for which a server may be away before one gives up."""

_ASKED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class File:
    """A file and its SHA-256, in hex."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What uploaded files are labelled with; a document that is there already keeps its own.

    Attributes:
        collections: names; one that is not there yet is made.
        tags: as they are.
    """

    collections: Sequence[str] = ()
    tags: Sequence[str] = ()

    async def ids(self, client: Client) -> list[UUID]:
        """The collections' ids."""
        there = {one.name: one.collection_id for one in await client.collections()} if self.collections else {}
        return [there.get(name) or (await client.add_collection(name)).collection_id for name in self.collections]


@dataclass(slots=True)
class Outcome:
    """What became of files.

    Attributes:
        ready: documents that became ready.
        known: files that were there already, or are there twice.
        bad: what can't be used, and why.
    """

    ready: int = 0
    known: int = 0
    bad: list[Unreadable] = field(default_factory=list)


class Follower:
    """Follows documents, and shows how far they are.

    Args:
        client: of the account.
        board: where it shows that.
        outcome: where it counts.
        patience: seconds for which the server may be away.
    """

    def __init__(self, client: Client, board: Board, outcome: Outcome, patience: float) -> None:
        self._client = client
        self._board = board
        self._outcome = outcome
        self._patience = patience
        self._left: dict[UUID, Path] = {}
        self._early: dict[UUID, Event] = {}

    def add(self, document_id: UUID, path: Path) -> None:
        """Follow a document, which may have come to its end before one heard of it."""
        self._left[document_id] = path
        if early := self._early.pop(document_id, None):
            self._told(early)

    async def watch(self) -> None:
        """Show what happens, until cancelled."""
        async with aclosing(self._client.progress(patience=self._patience)) as events:
            async for event in events:
                self._told(event)

    async def finish(self) -> None:
        """Follow what is left to its end."""
        async with aclosing(self._client.follow(list(self._left), patience=self._patience)) as events:
            async for event in events:
                self._told(event)

    def _told(self, event: Event) -> None:
        match event:
            case ProgressEvent(document=document):
                if document.document_id not in self._left:
                    self._early[document.document_id] = event
                elif not document.final:
                    self._board.moves(document)
                else:
                    self._end(document)
            case GoneEvent() if path := self._left.pop(event.document_id, None):
                self._outcome.bad.append(Unreadable(path, "It was deleted meanwhile."))
                self._board.over(event.document_id)

    def _end(self, document: DocumentProgress) -> None:
        path = self._left.pop(document.document_id)
        if document.stage == "ready":
            self._outcome.ready += 1
            self._board.ready(document)
        else:
            self._outcome.bad.append(Unreadable(path, str(document.reason)))
            self._board.over(document.document_id)


class Ingest:
    """Uploads files and follows them.

    Args:
        client: of the account.
        board: where it shows how far it is.
        outcome: where it counts.
        concurrency: uploads at once.
        password: opens the encrypted PDFs among them.
        labels: of what is sent.
        patience: seconds for which the server may be away.
    """

    def __init__(
        self,
        client: Client,
        board: Board,
        outcome: Outcome,
        *,
        concurrency: int,
        password: str | None,
        labels: Labels,
        patience: float = PATIENCE,
    ) -> None:
        self._client = client
        self._board = board
        self._outcome = outcome
        self._concurrency = concurrency
        self._password = password
        self._labels = labels
        self._collections: list[UUID] = []
        self._patience = patience
        self._follower = Follower(client, board, outcome, patience)
        self._hashed: set[str] = set()

    async def run(self, files: Iterable[Path]) -> None:
        """Upload what is not there, and follow all of it to its end.

        Raises:
            RingfenceError: what is no single file's fault: the server is away, the session has ended.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._follower.watch())
                self._collections = await self._lasting(lambda: self._labels.ids(self._client))
                await self._upload_all(files)
                await self._follower.finish()
                watching.cancel()
        except* RingfenceError as several:
            raise _first(several) from None

    async def _upload_all(self, files: Iterable[Path]) -> None:
        waiting: asyncio.Queue[File | None] = asyncio.Queue(2 * self._concurrency)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._upload_each(waiting))
            for some in batched(files, _ASKED_AT_ONCE):
                for file in await self._unknown(some):
                    await waiting.put(file)
            for _ in range(self._concurrency):
                await waiting.put(None)

    async def _unknown(self, paths: Sequence[Path]) -> list[File]:
        """Those of these files that have to be sent. The others are followed, where they are not at their end."""
        files = [file for path in paths if (file := await self._hash(path))]
        digests = [file.sha256 for file in files]
        known = await self._lasting(lambda: self._client.known(digests))
        return [file for file in files if not await self._there(file, known.get(file.sha256))]

    async def _hash(self, path: Path) -> File | None:
        try:
            sha256 = await asyncio.to_thread(_sha256, path)
        except OSError as error:
            self._bad(path, reason(error))
            return None
        if sha256 in self._hashed:
            self._known()
            return None
        self._hashed.add(sha256)
        return File(path, sha256)

    async def _there(self, file: File, document: DocumentProgress | None) -> bool:
        """Whether a file need not be sent: its document is ready, on its way, or tried again as it is."""
        if document is None or (document.stage == "failed" and self._password):  # which comes with the file
            return False
        if document.stage == "ready":
            self._known()
            return True
        if document.stage == "failed":
            with suppress(Conflict, NotFound):  # somebody else was faster
                await self._lasting(lambda: self._client.retry(document.document_id))
        self._follower.add(document.document_id, file.path)
        return True

    async def _upload_each(self, waiting: asyncio.Queue[File | None]) -> None:
        while file := await waiting.get():
            try:
                await self._upload(file)
            except (Invalid, QuotaExceeded, TooLarge, Unsupported) as error:  # of this file alone: the others go on
                self._bad(file.path, error.message)
            except OSError as error:
                self._bad(file.path, reason(error))

    async def _upload(self, file: File) -> None:
        waits = Patience(self._patience)
        while True:
            try:
                self._follower.add(await self._send(file), file.path)
            except (Unavailable, RateLimited) as error:
                await waits.wait(error)
            else:
                return
            known = await self._lasting(lambda: self._client.known([file.sha256]))
            if await self._there(file, known.get(file.sha256)):  # the answer was lost, not the file
                return

    async def _send(self, file: File) -> UUID:
        with self._board.sending(file.path) as content:
            document, _ = await self._client.upload(
                file.path.name,
                content,
                password=self._password,
                collections=self._collections,
                tags=self._labels.tags,
            )
        return document.document_id

    async def _lasting[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """A call, again and again while the server is away."""
        waits = Patience(self._patience)
        while True:
            try:
                return await call()
            except (Unavailable, RateLimited) as error:
                await waits.wait(error)

    def _known(self) -> None:
        self._outcome.known += 1
        self._board.over()

    def _bad(self, path: Path, why: str) -> None:
        self._outcome.bad.append(Unreadable(path, why))
        self._board.over()


def _first(several: BaseExceptionGroup[RingfenceError]) -> BaseException:
    """One of the errors of tasks, and of their tasks."""
    error: BaseException = several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def ingest_files(
    client: Client,
    found: Iterable[Path | Unreadable],
    console: Console,
    *,
    concurrency: int = 4,
    password: str | None = None,
    labels: Labels | None = None,
    patience: float = PATIENCE,
) -> Outcome:
    """Upload files and follow them, with bars; says at the end, or when broken off, which can't be used and why.

    Raises:
        RingfenceError: what is no single file's fault.
    """
    everything = list(found)
    files = [one for one in everything if isinstance(one, Path)]
    outcome = Outcome(bad=[one for one in everything if isinstance(one, Unreadable)])
    try:
        with Board(console, len(files)) as board:
            ingest = Ingest(
                client,
                board,
                outcome,
                concurrency=concurrency,
                password=password,
                labels=labels or Labels(),
                patience=patience,
            )
            await ingest.run(files)
    finally:
        tell(outcome.bad, console)
    if outcome.known:
        console.print(f"{outcome.known} known already", highlight=False)
    return outcome


async def follow_documents(client: Client, names: dict[UUID, str], console: Console) -> Outcome:
    """Follow documents to their end, with bars; says which can't be used and why."""
    outcome = Outcome()
    with Board(console, len(names)) as board:
        follower = Follower(client, board, outcome, PATIENCE)
        for document_id, name in names.items():
            follower.add(document_id, Path(name))
        await follower.finish()
    tell(outcome.bad, console)
    return outcome


def tell(bad: Iterable[Unreadable], console: Console) -> None:
    """Say what can't be used."""
    for one in bad:
        console.print(f"[red]{escape(str(one.path))}: {escape(one.reason)}[/red]", highlight=False, soft_wrap=True)

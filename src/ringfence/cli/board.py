"""What a terminal shows of documents on their way: a bar for all, one for each that moves, a line for each done."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Self
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ringfence.documents.events import DocumentProgress

_BARS = 12


class Board:
    """Bars and lines. Used as a context, it draws until its end.

    Args:
        console: where it draws.
        total: of how many files or documents.
    """

    def __init__(self, console: Console, total: int) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self._all = self._progress.add_task("all", total=total, note="")
        self._bars: dict[UUID, TaskID] = {}
        self._over = 0
        self._total = total

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def sending(self, path: Path) -> Iterator[BinaryIO]:
        """A file to read from, with a bar while it is open.

        Raises:
            OSError: it can't be opened.
        """
        task = self._progress.add_task(escape(path.name), note="uploading")
        try:
            with self._progress.open(path, "rb", task_id=task) as file:
                yield file
        finally:
            self._progress.remove_task(task)

    def moves(self, document: DocumentProgress) -> None:
        """A document has come further; one that waits has no bar."""
        if document.stage == "queued":
            return
        if document.document_id not in self._bars and len(self._bars) < _BARS:
            self._bars[document.document_id] = self._progress.add_task(escape(document.name), note="")
        bar = self._bars.get(document.document_id)
        if bar is not None:
            parsing = document.stage == "parsing"
            done, of = (document.pages_done, document.pages) if parsing else (document.chunks_done, document.chunks)
            note = f"{document.stage}, {'page' if parsing else 'passage'} {done} of {of or '?'}{_left(document)}"
            self._progress.update(bar, total=of, completed=done, note=note)

    def ready(self, document: DocumentProgress) -> None:
        """A document is ready."""
        self.say(f"{escape(document.name)}: {document.pages} pages, {document.chunks} passages")
        self.over(document.document_id)

    def over(self, document_id: UUID | None = None) -> None:
        """Nothing more comes of a file, whose document may have a bar."""
        bar = self._bars.pop(document_id, None) if document_id else None
        if bar is not None:
            self._progress.remove_task(bar)
        self._over += 1
        self._progress.update(self._all, completed=self._over, note=f"{self._over} of {self._total}")

    def say(self, line: str) -> None:
        """A line of text above the bars."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)


def _left(document: DocumentProgress) -> str:
    return "" if document.eta_seconds is None else f", {timedelta(seconds=round(document.eta_seconds))} left"

"""Log lines on their way out: callers put them on a bounded queue, one thread renders and writes them."""

import errno
import json
import os
import queue
import select
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog
from structlog.typing import EventDict

from ringfence.telemetry.files import RotatingFile
from ringfence.telemetry.metrics import LOG_LINES_DROPPED

THREADS = "ringfence-log"  # how the names of the log's own threads begin

_CAPACITY = 10_000
_BATCH = 200
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One log line.

    Attributes:
        event: what it says, by field.
        text: the same as one line of JSON, beginning with the timestamp.
        is_own: it is about the log itself and stays on this machine.
    """

    event: EventDict
    text: bytes
    is_own: bool


class Sink(Protocol):
    """Where lines go. It may block: it is called on the writer's thread alone."""

    @property
    def name(self) -> str:
        """What a line about its failure calls it."""
        ...

    def write(self, lines: Sequence[Line]) -> None:
        """Take lines.

        Raises:
            OSError: they are lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Put:
    event: EventDict
    is_own: bool


class Writer:
    """A queue and the thread that empties it. A full queue drops lines, and a later line says how many."""

    def __init__(self, sinks: Sequence[Sink], *, capacity: int = _CAPACITY) -> None:
        """Take where lines go; `start` begins.

        Args:
            sinks: each gets all lines; one that fails doesn't keep the others from theirs.
            capacity: lines that may wait.
        """
        self._sinks = sinks
        self._capacity = capacity
        # A SimpleQueue is safe in signal handlers and finalizers, where a lock may be held already. It has no bound, so
        # a few threads at once may put a few lines too many.
        self._queue: queue.SimpleQueue[_Put | threading.Event | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._dropped = 0
        self._lost: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name=f"{THREADS}-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, event: EventDict) -> None:
        """Hand over a line; never blocks."""
        if self._queue.qsize() >= self._capacity:
            with self._lock:
                self._dropped += 1
                LOG_LINES_DROPPED.labels("local").inc()
        else:
            self._queue.put(_Put(event, is_own=False))

    def note(self, event: str, **fields: object) -> None:
        """Say something about the log itself: rarely, so there is always room."""
        self._queue.put(_Put(_own(event, **fields), is_own=True))

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put is written; False where that took too long."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def close(self, timeout: float) -> None:
        """Write what is left, for so many seconds at most; a sink that blocks does not keep the process."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        items: list[_Put | threading.Event | None] = []
        while None not in items:
            items = [self._queue.get()]
            while len(items) < _BATCH and not self._queue.empty():
                items.append(self._queue.get_nowait())
            lines = [_line(item) for item in items if isinstance(item, _Put)]
            lines += self._drops()
            for sink in self._sinks if lines else ():
                self._write(sink, lines)
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()

    def _drops(self) -> list[Line]:
        if not self._dropped:
            return []
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return [_line(_Put(_own("log_dropped", n=dropped), is_own=False))]

    def _write(self, sink: Sink, lines: Sequence[Line]) -> None:
        """Write to a sink; the others hear once that it fails, and once that it works again."""
        try:
            sink.write(lines)
        except OSError as error:
            if sink.name not in self._lost:
                self.note("log_failed", sink=sink.name, reason=error.strerror or type(error).__name__)
            self._lost[sink.name] = self._lost.get(sink.name, 0) + len(lines)
        else:
            if lost := self._lost.pop(sink.name, 0):
                self.note("log_resumed", sink=sink.name, lost=lost)


class StreamSink:
    """Standard output or error. Written past Python's own buffer, whose lock a blocked thread would hold at the end."""

    name = "stream"

    def __init__(self, descriptor: int, *, readable: bool, patience: float = _PATIENCE) -> None:
        """Take a stream.

        Args:
            descriptor: of the file, pipe or terminal.
            readable: whether people read it.
            patience: seconds that a pipe may be full; then its lines are lost until there is room, so that the other
                sinks get theirs.
        """
        self._descriptor = descriptor
        self._readable = structlog.dev.ConsoleRenderer() if readable else None
        self._patience = patience
        self._is_stuck = False
        self._rest = b""

    def write(self, lines: Sequence[Line]) -> None:
        """Write lines, each whole even where several processes share a pipe: a write of `PIPE_BUF` is atomic.

        Raises:
            OSError: nobody reads, or not any more.
        """
        rest, self._rest = self._rest, b""  # of a long line that was broken off
        self._write(rest, begun=True)
        ready = b""
        for line in lines:
            text = self._rendered(line)
            if ready and len(ready) + len(text) > select.PIPE_BUF:
                self._write(ready)
                ready = b""
            ready += text
        self._write(ready)

    def _rendered(self, line: Line) -> bytes:
        if self._readable is None:
            return line.text
        fields = {**line.event, "timestamp": _time(line.event["timestamp"])}
        try:
            return f"{self._readable(None, '', fields)}\n".encode(errors="backslashreplace")
        except Exception:  # noqa: BLE001  # it gives a meaning to some fields' names, and their values may not fit
            return line.text

    def _write(self, data: bytes, *, begun: bool = False) -> None:
        """Write without ever blocking: where `PIPE_BUF` bytes find no room at once, the pipe is not writable."""
        while data:
            if not self._is_writable():
                self._rest = data if begun else b""
                raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")
            data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
            begun = True

    def _is_writable(self) -> bool:
        _, writable, _ = select.select((), (self._descriptor,), (), 0 if self._is_stuck else self._patience)
        self._is_stuck = not writable
        return bool(writable)


class FileSink:
    """A rotating file; always JSON."""

    name = "file"

    def __init__(self, file: RotatingFile) -> None:
        self._file = file

    def write(self, lines: Sequence[Line]) -> None:
        """Append lines.

        Raises:
            OSError: the disk is full, say.
        """
        self._file.append(b"".join(line.text for line in lines))


def _own(event: str, **fields: object) -> EventDict:
    return {"event": event, "level": "warning", "timestamp": time.time(), **fields}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _line(item: _Put) -> Line:
    try:
        return Line(item.event, _json(item.event), item.is_own)
    except Exception as error:  # noqa: BLE001  # a value's own __repr__ may raise anything, and the log must go on
        fields = {key: item.event[key] for key in ("timestamp", "level")}
        event = {**fields, "event": "log_unreadable", "error": type(error).__name__}
        return Line(event, _json(event), item.is_own)


def _json(event: EventDict) -> bytes:
    first = {"timestamp": _time(event["timestamp"]), "level": event["level"], "event": event["event"]}
    return json.dumps(first | {key: event[key] for key in event if key not in first}, default=repr).encode() + b"\n"

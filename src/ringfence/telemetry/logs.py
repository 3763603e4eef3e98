"""Logs: structlog's and the standard library's lines, handed to one thread that writes them.

The caller's share is to note what only it knows (time, context, where an exception came from); rendering and writing
happen on the writer's thread, so a slow disk or a blocked terminal never stops a request.
"""

import logging
import os
import sys
import time
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from ringfence.telemetry.files import RotatingFile
from ringfence.telemetry.shipping import Pace, Shipper
from ringfence.telemetry.writer import THREADS, FileSink, Sink, StreamSink, Writer

type Level = Literal["debug", "info", "warning", "error", "critical"]
type Form = Literal["auto", "json", "console"]

STDOUT, STDERR = 1, 2

_FLUSH_SECONDS = 1.0
_SHIP_SECONDS = 2.0


@contextmanager
def logging_to(
    stream: int = STDOUT,
    *,
    form: Form = "auto",
    level: Level = "info",
    file: RotatingFile | None = None,
    betterstack: tuple[str, str] | None = None,
    pace: Pace | None = None,
) -> Generator[Writer]:
    """Log while the context lasts; at its end, write out what is left, for three seconds at most.

    Args:
        stream: file descriptor that gets all lines.
        form: of the lines there; `auto` is readable where a person looks on, JSON elsewhere.
        level: below which nothing is logged.
        file: gets them too, always as JSON.
        betterstack: URL of an ingest and token of a source there, which get them too.
        pace: how they are sent there.
    """
    readable = os.isatty(stream) if form == "auto" else form == "console"
    sinks: list[Sink] = [FileSink(file)] if file else []
    writer = Writer(sinks)
    shipper = Shipper(*betterstack, writer.note, pace=pace) if betterstack else None
    if shipper:
        sinks.append(shipper)
        shipper.start()
    sinks.append(StreamSink(stream, readable=readable))  # last: it alone may block for long
    writer.start()
    configure(writer, level)
    try:
        yield writer
    finally:
        _end(writer, shipper)


def _end(writer: Writer, shipper: Shipper | None) -> None:
    flushed = writer.flush(_FLUSH_SECONDS)
    if shipper:
        shipper.close(_SHIP_SECONDS)
    writer.close(_FLUSH_SECONDS if flushed else 0.0)


def configure(writer: Writer, level: Level) -> None:
    """Route structlog and the standard library's loggers to a writer."""
    lowest = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, trace_without_values, _handed_over],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=lambda *_: _Logger(writer),
    )
    root = logging.getLogger()
    root.handlers = [_Handler(writer)]
    root.setLevel(lowest)
    logging.getLogger("httpx2").setLevel(max(lowest, logging.WARNING))  # it logs each request to a model server


def trace_without_values(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and where it came from.

    Its message is left out, and so are local variables: either may hold a document's text or a password.
    """
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["error"] = f"{type(error).__module__}.{type(error).__qualname__}"
        codes = ((frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__))
        event["trace"] = [f"{code.co_filename}:{line} {code.co_name}" for code, line in codes]
    return event


def _handed_over(_logger: WrappedLogger, name: str, event: EventDict) -> tuple[tuple[EventDict, str], dict[str, Any]]:
    return (event, name), {}


class _Logger:
    """What structlog calls at the end: with a line and its level."""

    def __init__(self, writer: Writer) -> None:
        self._put = writer.put

    def msg(self, event: EventDict, level: str) -> None:
        event["level"] = level
        event["timestamp"] = time.time()
        self._put(event)

    debug = info = warning = error = critical = msg


class _Handler(logging.Handler):
    """Takes the standard library's lines."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._put = writer.put

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line over, unless it is about the shipping of lines, which would never end.

        Only its first line: what follows shows values (asyncio's errors do).
        """
        if str(record.threadName).startswith(THREADS):
            return
        try:
            text = record.getMessage().partition("\n")[0]
        except Exception:  # noqa: BLE001  # arguments that don't fit their format: no reason to end the caller
            text = "log_unreadable"
        context: Mapping[str, Any] = structlog.contextvars.get_contextvars()
        own = {"event": text, "logger": record.name, "level": record.levelname.lower(), "timestamp": record.created}
        self._put(dict(trace_without_values(None, "", {**context, **own, "exc_info": record.exc_info})))

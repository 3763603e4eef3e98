"""The parent's side of the parser sandbox: start children, take their pages, tell their ends apart.

What a child says is never trusted: frames are bounded in length, checked in form and order, and an error is a code
that is looked up, not a message.
"""

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog
from pydantic import ValidationError

from ringfence.documents import sniff
from ringfence.documents.parsing import frames
from ringfence.documents.parsing.wire import (
    FRAME_BYTES,
    PART_CHARS,
    UNSTORABLE,
    Box,
    Heading,
    Limits,
    Request,
    View,
    reason,
)
from ringfence.errors import RingfenceError, SetupError, Unavailable
from ringfence.telemetry.metrics import PARSE_FAILURES

__all__ = ["Box", "Heading", "Limits", "Page", "Parsing", "Sandbox", "Seen", "View"]

START_SECONDS = 60.0
"""For the zygote to import PyMuPDF (0.8 s on an idle machine)."""

STOP_SECONDS = 5.0
"""For the zygote to end, or to report a child's end."""

MAX_PICTURE_BYTES = 48 * 2**20
"""Of a page's picture: a compressed one of `views.MAX_PIXELS` is smaller than that, whatever is on it."""

_MAX_BOXES = 10_000
_PNG = b"\x89PNG\r\n\x1a\n"

ENTRY = "from ringfence.documents.parsing.child import main; main()"
_START = b"S"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Page:
    """Text of one page.

    Attributes:
        number: the page, from 1.
        start: offset of `text` in the page's text, in characters; above 0 only where a long page comes in parts.
        text: may be empty.
        headings: those of this text, in order; each lies within it as a whole.
    """

    number: int
    start: int
    text: str
    headings: tuple[Heading, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was wanted of a page.

    Attributes:
        width: of the page as it is shown, in points (1/72 inch).
        height: likewise.
        text: the words whose boxes were wanted, as the page's text has them.
        boxes: theirs, one for each line, in points from the upper left corner.
        picture: the page's, a PNG; empty where boxes were wanted.
    """

    width: float
    height: float
    text: str
    boxes: tuple[Box, ...]
    picture: bytes


@dataclass(frozen=True, slots=True)
class _Helper:
    """A running zygote."""

    process: asyncio.subprocess.Process
    control: socket.socket

    def alive(self) -> bool:
        try:
            return self.control.recv(1) != b""  # after its first byte the zygote says nothing, so this is EOF
        except BlockingIOError:
            return True
        except OSError:
            return False


class _Child:
    """One child's channel and lifeline, and how long it was waited for."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lifeline: socket.socket, wall: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lifeline = lifeline
        self._wall = wall

    async def frame(self) -> frames.Frame:
        """The next frame.

        Raises:
            RingfenceError: the child ended without one, took too long, or sent something else.
        """
        clock = asyncio.get_running_loop().time
        asked = clock()
        try:
            async with asyncio.timeout(self._wall):
                line = await self._reader.readline()
        except TimeoutError:
            raise reason("parser_timeout") from None
        except ValueError:  # longer than a frame may be
            raise reason("parser_crashed") from None
        except OSError:
            line = b""
        self._wall -= clock() - asked
        if not line.endswith(b"\n"):
            raise await self._post_mortem()
        try:
            return frames.FRAMES.validate_json(line)
        except ValidationError:
            raise reason("parser_crashed") from None

    async def _post_mortem(self) -> RingfenceError:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                status = await loop.sock_recv(self._lifeline, 32)
        except TimeoutError:
            return reason("parser_crashed")
        if not status:
            return Unavailable("parser_restarted", "The parser stopped while it read the document; try again.")
        return cause_of_death(int(status))

    def let_go(self) -> None:
        """Kill the child if it still lives."""
        self._lifeline.close()
        self._writer.transport.abort()


def cause_of_death(status: int) -> RingfenceError:
    """What a child's wait status means when it ended without a last frame."""
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return reason("parser_timeout")
    if code == -signal.SIGKILL:  # nobody of ours did: the kernel's, out of memory
        return reason("parser_memory")
    return reason("parser_crashed")


class Parsing(AsyncIterator[Page]):
    """A document that is being read: its number of pages, and an iterator over its text in reading order."""

    def __init__(self, child: _Child, pages: int, max_chars: int) -> None:
        self.pages = pages
        self._child = child
        self._left = max_chars
        self._page = 0
        self._start = 0
        self._headings: list[Heading] = []  # of the next part
        self._ended = False

    async def __anext__(self) -> Page:
        """The next text.

        Raises:
            RingfenceError: one of `wire.REASONS`, or `parser_restarted`.
            StopAsyncIteration: all was read, and the document holds text.
        """
        if self._ended:
            raise StopAsyncIteration
        while isinstance(frame := await self._child.frame(), frames.Heading):
            self._keep(frame)
        if isinstance(frame, frames.Part):
            return self._checked(frame)
        if isinstance(frame, frames.End) and not self._headings:
            self._ended = True
            raise StopAsyncIteration
        raise reason(frame.error if isinstance(frame, frames.Failure) else "parser_crashed")

    def _keep(self, heading: frames.Heading) -> None:
        before = self._headings[-1].end if self._headings else 0
        if not before <= heading.start < heading.end or len(self._headings) == PART_CHARS:
            raise reason("parser_crashed")
        self._headings.append(Heading(heading.page, heading.start, heading.end, heading.level))

    def _checked(self, part: frames.Part) -> Page:
        if part.page != self._page:
            in_order = self._page < part.page <= self.pages
            self._page, self._start = part.page, 0
        else:
            in_order = True
        if not in_order or part.start != self._start or UNSTORABLE.search(part.text):
            raise reason("parser_crashed")
        self._start += len(part.text)
        self._left -= len(part.text)
        if self._left < 0:
            raise reason("too_much_text")
        return Page(part.page, part.start, part.text, self._headings_of(part))

    def _headings_of(self, part: frames.Part) -> tuple[Heading, ...]:
        headings, self._headings = tuple(self._headings), []
        if any(heading.page != part.page for heading in headings) or (
            headings and (headings[0].start < part.start or headings[-1].end > part.start + len(part.text))
        ):
            raise reason("parser_crashed")
        return headings


async def _seen(child: _Child, wanted: View) -> Seen:
    sheet = await child.frame()
    if not isinstance(sheet, frames.Sheet):
        raise reason(sheet.error if isinstance(sheet, frames.Failure) else "parser_crashed")
    text, boxes, picture = "", list[Box](), bytearray()
    while not isinstance(frame := await child.frame(), frames.End):
        match frame:
            case frames.Part() if len(frame.text) == wanted.end - wanted.start and not UNSTORABLE.search(frame.text):
                text = frame.text
            case frames.Box() if len(boxes) < _MAX_BOXES:
                boxes.append(Box(frame.x0, frame.y0, frame.x1, frame.y1, frame.start, frame.end))
            case frames.Pixels() if len(picture) < MAX_PICTURE_BYTES:
                picture += _decoded(frame.png)
            case frames.Failure():
                raise reason(frame.error)
            case _:
                raise reason("parser_crashed")
    if bool(picture) != (wanted.scale is not None) or (picture and not picture.startswith(_PNG)):
        raise reason("parser_crashed")
    return Seen(sheet.width, sheet.height, text, tuple(boxes), bytes(picture))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise reason("parser_crashed") from None


class Sandbox:
    """Parses documents in confined processes that neither see nor harm each other or this process.

    Args:
        processes: documents that are parsed at once; more wait.
        limits: what one document may cost.
        python: the interpreter of the children; it must be able to import this package.
        start_seconds: for the helper process to import PyMuPDF.
    """

    def __init__(
        self,
        *,
        processes: int = 2,
        limits: Limits | None = None,
        python: str = sys.executable,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._limits = limits or Limits()
        self._python = python
        self._start_seconds = start_seconds
        self._slots = asyncio.Semaphore(processes)
        self._starting = asyncio.Lock()
        self._helper: _Helper | None = None
        self._warned = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """The process whose children read documents; None while there is none."""
        return self._helper.process.pid if self._helper else None

    async def start(self) -> None:
        """Start the helper process, so that the first document need not wait for it.

        Raises:
            SetupError: `parser_broken`; it does not start on this installation.
        """
        await self._ensure()

    async def close(self) -> None:
        """End the helper process and its children; documents that are being read fail as `parser_restarted`."""
        helper, self._helper = self._helper, None
        if helper:
            await _end(helper)

    @contextlib.asynccontextmanager
    async def parse(self, source: Path | int, media_type: str, password: str | None = None) -> AsyncGenerator[Parsing]:
        """Read a document in a child of its own, which is dead when the context is left, for whatever reason.

        Args:
            source: the document's path, or its descriptor; only its open file reaches the child.
            media_type: one that `sniff.media_type` gives.
            password: opens an encrypted PDF.

        Raises:
            RingfenceError: one of `wire.REASONS`, here or while iterating; Unavailable `parser_restarted`,
                `parser_broken` or `document_unreadable` (the stored file can't be opened) may pass.
        """
        try:
            async with self._child(source, Request(media_type, password, self._limits)) as child:
                yield Parsing(child, await self._opened(child), self._limits.max_chars)
        except RingfenceError as error:
            PARSE_FAILURES.labels(error.code).inc()
            raise

    async def view(self, source: int, media_type: str, wanted: View, password: str | None = None) -> Seen:
        """What is wanted of one page, by a child of its own.

        Args:
            source: the document's descriptor.
            media_type: one of `sniff.PAGED`.
            wanted: the page, and what of it.
            password: opens an encrypted PDF.

        Raises:
            RingfenceError: as of `parse`; `page_not_found`, `outside_page`, `no_rectangles`.
        """
        async with self._child(source, Request(media_type, password, self._limits, wanted)) as child:
            await self._opened(child)
            return await _seen(child, wanted)

    @contextlib.asynccontextmanager
    async def _child(self, source: Path | int, request: Request) -> AsyncGenerator[_Child]:
        async with self._slots:
            child = await self._begin(source, request)
            try:
                yield child
            finally:
                child.let_go()

    async def _opened(self, child: _Child) -> int:
        frame = await child.frame()
        if isinstance(frame, frames.Walls):
            self._warn(frame.missing)
            frame = await child.frame()
        if isinstance(frame, frames.Count) and frame.pages <= self._limits.max_pages:
            return frame.pages
        raise reason(frame.error if isinstance(frame, frames.Failure) else "parser_crashed")

    def _warn(self, missing: list[str]) -> None:
        if missing and not self._warned:
            self._warned = True
            log.warning("parser_sandbox_incomplete", missing=missing)

    async def _begin(self, source: Path | int, request: Request) -> _Child:
        try:
            helper = await self._ensure()
        except SetupError as error:  # `start` tells a person; a document waits until the installation works again
            raise Unavailable(error.code, error.message) from None
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                document = os.dup(source) if isinstance(source, int) else os.open(source, os.O_RDONLY)
            except OSError:
                raise Unavailable("document_unreadable", "The stored document can't be opened.") from None
            theirs.callback(os.close, document)
            channel, their_channel = socket.socketpair()
            lifeline, their_lifeline = socket.socketpair()
            for stack, ends in ((ours, (channel, lifeline)), (theirs, (their_channel, their_lifeline))):
                for end in ends:
                    stack.enter_context(end)
            lifeline.settimeout(0)
            reader, writer = await asyncio.open_connection(sock=channel, limit=FRAME_BYTES)
            handles = [document, their_channel.fileno(), their_lifeline.fileno()]
            with contextlib.suppress(OSError):  # a helper that is gone shows as a lifeline without a status
                socket.send_fds(helper.control, [_START], handles)
            ours.pop_all()  # the child's object closes them from here on
        writer.write(request.encode())
        return _Child(reader, writer, lifeline, self._limits.wall_seconds + self._recognition(request.media_type))

    def _recognition(self, media_type: str) -> float:
        """Wall time on top, where pages may be pictures of text."""
        ocr = self._limits.ocr if media_type in {sniff.PDF, sniff.XPS, *sniff.IMAGES} else None
        return ocr.cpu_seconds if ocr else 0.0

    async def _ensure(self) -> _Helper:
        async with self._starting:
            if self._helper and self._helper.alive():
                return self._helper
            await self.close()
            self._helper = await self._launch()
            return self._helper

    async def _launch(self) -> _Helper:
        try:
            helper = await self._execute()
        except OSError as error:
            raise SetupError("parser_broken", f"The parser's process does not start: {error.strerror}.") from None
        try:
            async with asyncio.timeout(self._start_seconds):
                ready = await asyncio.get_running_loop().sock_recv(helper.control, 1)
        except TimeoutError:
            ready = b""
        except BaseException:  # cancelled, too: no process is left behind
            await _end(helper)
            raise
        if ready:
            return helper
        raise SetupError("parser_broken", f"The parser's process does not start: {await _last_words(helper)}")

    async def _execute(self) -> _Helper:
        with contextlib.ExitStack() as ours:
            control, theirs = socket.socketpair()
            ours.enter_context(control).settimeout(0)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(self._python, "-I", "-c", ENTRY),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},  # no setting, no credential
                    start_new_session=True,  # Ctrl-C in a terminal is for the worker, which then ends us in order
                    cwd="/",
                )
            ours.pop_all()
        return _Helper(process, control)


async def _last_words(helper: _Helper) -> str:
    await _end(helper)
    _, output = await helper.process.communicate()
    return (output.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


async def _end(helper: _Helper) -> None:
    helper.control.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await helper.process.wait()
    except TimeoutError:
        helper.process.kill()
        await helper.process.wait()

"""Multipart bodies as a stream: files' bytes go where they are written to, never whole into memory or a spool."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ringfence.documents.passwords import MAX_BYTES
from ringfence.errors import Invalid, TooLarge

type Write = Callable[[bytes], Awaitable[None]]
type Take[T] = Callable[[str, AsyncGenerator[bytes]], Awaitable[T]]
"""Is handed a file's name, as the client gave it, and its bytes; what it leaves of them is skipped."""

type _Event = str | bytes | None
"""A file's name, where it begins; its bytes; None, where it ends."""

_FIELD = "file"
_PASSWORD = "password"  # noqa: S105  # a field's name
_COLLECTIONS, _TAGS, _METADATA, _PURPOSE = "collections", "tags", "metadata", "purpose"
# Fields of text, and how many bytes those of one name may have together.
_TEXTS = {_PASSWORD: MAX_BYTES, _COLLECTIONS: 8192, _TAGS: 65_536, _METADATA: 65_536, _PURPOSE: 64}
_OTHERS, _MAX_NAME = 20, 100  # names of other fields that are remembered, and their characters


@dataclass(frozen=True, slots=True)
class Form:
    """What came beside the file's bytes.

    Attributes:
        filename: as the client gave it.
        password: of the document, if any.
        collections: ids, as they were given.
        tags: as they were given.
        metadata: JSON, if any.
        purpose: in OpenAI's words, if any.
        others: names of other fields, the first ones.
    """

    filename: str
    password: str | None
    collections: list[str]
    tags: list[str]
    metadata: str | None
    purpose: str | None
    others: list[str]


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may be.

    Attributes:
        max_bytes: of the whole body.
        idle_seconds: the longest pause between two pieces.
    """

    max_bytes: int
    idle_seconds: float


@dataclass(slots=True)
class _Parts:
    """Collects what the push parser calls back with."""

    name: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    texts: dict[str, list[bytearray]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    text: str = ""
    inside: bool = False
    ended: bool = False
    events: list[_Event] = field(default_factory=list)

    def on_part_begin(self) -> None:
        self.headers.clear()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        self.headers[bytes(self.name).lower()] = bytes(self.value)
        self.name.clear()
        self.value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        # `filename*` is not for forms (RFC 7578, 4.2): names come as UTF-8, as they are.
        self.inside = options.get(b"name") == _FIELD.encode() and b"filename" in options
        if self.inside:
            self.events.append(options[b"filename"].decode("utf-8", "replace"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self.text = name if name in _TEXTS and not self.inside else ""
        if self.text:
            self.texts.setdefault(self.text, []).append(bytearray())
        elif not self.inside and len(self.others) < _OTHERS:
            self.others.append(name[:_MAX_NAME])

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.inside:
            self.events.append(data[start:end])
        elif self.text:
            self.texts[self.text][-1] += data[start:end]
            if sum(map(len, self.texts[self.text])) > _TEXTS[self.text]:
                raise _bad_text(self.text, f"longer than {_TEXTS[self.text]} bytes")

    def on_part_end(self) -> None:
        if self.inside:
            self.events.append(None)

    def values(self, name: str) -> list[str]:
        """The texts of a field; those that are empty are left out.

        Raises:
            Invalid: one is not in UTF-8.
        """
        try:
            return [bytes(text).decode() for text in self.texts.get(name, []) if text]
        except UnicodeDecodeError:
            raise _bad_text(name, "not in UTF-8") from None

    def form(self, filename: str) -> Form:
        """What came with a file; of what can be there once, the last one counts."""
        password, metadata, purpose = self.values(_PASSWORD), self.values(_METADATA), self.values(_PURPOSE)
        return Form(
            filename,
            password[-1] if password else None,
            self.values(_COLLECTIONS),
            self.values(_TAGS),
            metadata[-1] if metadata else None,
            purpose[-1] if purpose else None,
            self.others,
        )

    def on_end(self) -> None:
        self.ended = True

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}


async def receive_file(request: Request, write: Write, limits: BodyLimits) -> Form:
    """Stream the form field `file` of a multipart request to `write`; the others may come before or after it.

    Raises:
        TooLarge: the whole body is larger than it may be; where its length is declared, before it is read.
        Invalid: the body is not multipart, is broken, cut off or stalled, has no or several files, or other fields that
            are too long or no text.
    """
    parts, filename = _Parts(), None
    async with aclosing(_events(request, limits, parts)) as events:
        async for event in events:
            if isinstance(event, bytes):
                await write(event)
            elif isinstance(event, str):
                if filename is not None:
                    raise Invalid("one_file", "Send one file a request, or several to /api/v1/batches.")
                filename = event
    if filename is None:
        raise _no_file()
    return parts.form(filename)


async def receive_files[T](request: Request, take: Take[T], limits: BodyLimits, max_files: int) -> list[T]:
    """Hand each file of the form field `file` to `take`, one after the other; what it returned, in their order.

    Other fields are of no effect: of which file should they be?

    What breaks the body, a file's bytes raise; where `take` keeps that to itself, this is the last file.

    Raises:
        TooLarge, Invalid: as of `receive_file`, where it is not within a file; `Invalid` of too many files, too.
    """
    taken: list[T] = []
    async with aclosing(_events(request, limits, _Parts())) as events:
        async for event in events:
            if len(taken) == max_files:
                raise Invalid("too_many_files", f"Send at most {max_files} files a request; the first ones are stored.")
            async with aclosing(_until_its_end(events)) as pieces:
                taken.append(await take(str(event), pieces))
                async for _ in pieces:
                    pass
    if not taken:
        raise _no_file()
    return taken


async def _until_its_end(events: AsyncGenerator[_Event]) -> AsyncGenerator[bytes]:
    async for event in events:
        if not isinstance(event, bytes):
            return
        yield event


async def _events(request: Request, limits: BodyLimits, parts: _Parts) -> AsyncGenerator[_Event]:
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if content_type != b"multipart/form-data" or not boundary:
        raise Invalid("not_multipart", "Send the file as multipart/form-data, in a field named `file`.")
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # its TypedDict names the same
        async with aclosing(_body(request, limits)) as body:
            async for data in body:
                parser.write(data)
                for event in parts.events:
                    yield event
                parts.events.clear()
    except (FormParserError, ClientDisconnect) as error:
        raise Invalid("bad_multipart", "The upload is broken or was cut off.") from error
    if not parts.ended:
        raise Invalid("bad_multipart", "The upload was cut off.")


async def _body(request: Request, limits: BodyLimits) -> AsyncGenerator[bytes]:
    declared = request.headers.get("content-length", "")
    received = int(declared) if declared.isdecimal() else 0
    if received > limits.max_bytes:
        raise _too_large(limits)
    received = 0
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout(limits.idle_seconds):
                    data = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                words = f"Nothing came of the upload for {limits.idle_seconds:g} seconds."
                raise Invalid("upload_stalled", words) from None
            received += len(data)
            if received > limits.max_bytes:
                raise _too_large(limits)
            yield data


def _too_large(limits: BodyLimits) -> TooLarge:
    return TooLarge("body_too_large", f"The body is larger than {limits.max_bytes} bytes.")


def _bad_text(name: str, what: str) -> Invalid:
    if name == _PASSWORD:
        return Invalid("bad_document_password", f"The document's password is {what}.")
    return Invalid("bad_field", f"The field `{name}` is {what}.")


def _no_file() -> Invalid:
    return Invalid("bad_multipart", "The upload holds no whole file in a field named `file`.")

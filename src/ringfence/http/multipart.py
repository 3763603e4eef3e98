"""Multipart bodies as a stream: the file's bytes go where they are written to, never whole into memory or a spool."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ringfence.errors import Invalid, TooLarge

type Write = Callable[[bytes], Awaitable[None]]

_FIELD = "file"


@dataclass(slots=True)
class _Parts:
    """Collects what the push parser calls back with."""

    name: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    filename: str | None = None
    inside: bool = False
    ended: bool = False
    data: list[bytes] = field(default_factory=list)

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
        self.inside = options.get(b"name") == _FIELD.encode() and b"filename" in options
        if not self.inside:
            return
        if self.filename is not None:
            raise Invalid("one_file", "Send one file a request.")
        self.filename = options[b"filename"].decode("utf-8", "replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.inside:
            self.data.append(data[start:end])

    def on_end(self) -> None:
        self.ended = True

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}


async def receive_file(request: Request, write: Write, max_bytes: int) -> str:
    """Stream the form field `file` of a multipart request to `write`; its name as the client gave it.

    Raises:
        TooLarge: the whole body is larger than `max_bytes`.
        Invalid: the body is not multipart, is broken or cut off, or has no or several files.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if content_type != b"multipart/form-data" or not boundary:
        raise Invalid("not_multipart", "Send the file as multipart/form-data, in a field named `file`.")
    parts, received = _Parts(), 0
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # its TypedDict names the same
        async for data in request.stream():
            received += len(data)
            if received > max_bytes:
                raise TooLarge("body_too_large", f"The body is larger than {max_bytes} bytes.")
            parser.write(data)
            for piece in parts.data:
                await write(piece)
            parts.data.clear()
    except (FormParserError, ClientDisconnect) as error:
        raise Invalid("bad_multipart", "The upload is broken or was cut off.") from error
    if not parts.ended or parts.filename is None:
        raise Invalid("bad_multipart", "The upload holds no whole file in a field named `file`.")
    return parts.filename

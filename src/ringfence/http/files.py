"""Answers that are a stored file, or a part of it (RFC 9110, sections 13 and 14)."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable

from starlette.datastructures import Headers
from starlette.responses import Response

from ringfence.documents.queries import Document
from ringfence.http.errors import problem
from ringfence.http.streams import Download, started

type Read = Callable[[int, int], AsyncGenerator[bytes]]
"""The bytes of the file from a first to before a last one."""

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


async def stored_file(asked: Headers, document: Document, read: Read, stopping: asyncio.Event) -> Response:
    """A document's original: whole, the range that was asked for, or that the client has it already.

    Its tag is the digest of its content, so it never has to be sent twice. Of several ranges the whole is sent.

    Raises:
        NotFound: the file is no longer stored.
        Unavailable: it can't be read.
    """
    tag = f'"{document.sha256.hex()}"'
    common = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if has_it(asked, tag):
        return Response(status_code=304, headers=common)
    part = _part(asked.get("range", ""), document.size) if asked.get("if-range", tag) == tag else None
    start, end = part or (0, document.size)
    if start >= end:
        outside = {"Content-Range": f"bytes */{document.size}"}
        return problem(416, "range_not_satisfiable", f"The file has {document.size} bytes.", outside)
    response = Download(await started(read(start, end)), document.media_type, document.name, stopping)
    response.headers.update({**common, "Content-Length": str(end - start)})
    if part:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{document.size}"
    return response


def has_it(asked: Headers, tag: str) -> bool:
    """Whether the client says that it has what bears this tag."""
    return tag in re.split(r"\s*,\s*", asked.get("if-none-match", "").replace("W/", ""))


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last; none, where nobody asked for one range that can be understood."""
    found = _RANGE.fullmatch(asked.strip())
    if not found:
        return None
    first, last, length = found.groups()
    if length is not None:
        return (max(size - int(length), 0), size) if int(length) else (size, size)
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1 if last else size, size)

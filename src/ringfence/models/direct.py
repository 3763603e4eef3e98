"""One request and its streamed answer over HTTP/1.1 on a connection of its own: what reads a model's tokens.

Takes the place of the HTTP client where neither TLS nor a proxy is in the way, because a token costs several times as
much through that as through all the rest of the engine (decision 50). Errors are the HTTP client's own. What has come
while nobody read is handed on as one piece; and the more answers there are at once, the longer a connection rests
between two pieces, but for the first: so a busy engine has fewer of them to handle, and no queue that grows.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools
import httpx2

MAX_HEAD_BYTES = 64 * 2**10
"""Longest head of an answer."""

MAX_UNREAD_BYTES = 256 * 2**10
"""From which on the server is made to wait until somebody reads."""

_FINAL = 200  # statuses below tell of another one to come


@dataclass(frozen=True, slots=True)
class Rest:
    """How long a connection rests between two pieces of an answer.

    Attributes:
        free: answers at once up to which a piece is handed on as soon as it comes.
        each: seconds for each further one: about as much as the engine needs for a piece of it.
        most: seconds: a text that grows five times a second is still read as it comes.
    """

    free: int = 25
    each: float = 0.0015
    most: float = 0.2

    def among(self, answers: int) -> float:
        """Seconds, with so many answers at once."""
        return min(max(answers - self.free, 0) * self.each, self.most)


class Exchange(asyncio.Protocol):
    """A connection, for one request.

    Args:
        rest: seconds between two pieces of an answer.

    Attributes:
        status: the answer's, once its head has come.
        headers: the answer's, their names in small letters; of one that comes twice, the last.
    """

    def __init__(self, rest: Callable[[], float]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._rest = rest
        self._read = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._news: asyncio.Future[None] | None = None
        self._body: list[bytes] = []
        self._unread = self._head_bytes = 0
        self._ended = self._paused = False
        self._error: httpx2.TransportError | None = None

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer.

        Raises:
            RemoteProtocolError, ReadError: what came is no HTTP, or ended.
        """
        self._transport.write(request)
        while not self.status:
            await self._more()

    async def read(self) -> bytes | None:
        """What has come of the body since it was last asked; waits if that is nothing. None at the end.

        Raises:
            RemoteProtocolError, ReadError: it is no HTTP, or broke off.
        """
        await self._rested()
        while not self._body:
            if self._ended:
                return None
            await self._more()
        self._read = asyncio.get_running_loop().time()
        body, self._unread = b"".join(self._body), 0
        self._body.clear()
        self._pause(paused=False)
        return body

    async def _rested(self) -> None:
        """Leave what comes to the system, until it is time for the next piece."""
        wait = self._read + self._rest() - asyncio.get_running_loop().time()
        if self._read and wait > 0 and not (self._ended or self._error):
            self._pause(paused=True)
            await asyncio.sleep(wait)
            self._pause(paused=False)

    def _pause(self, *, paused: bool) -> None:
        if paused != self._paused and not self._transport.is_closing():
            self._paused = paused
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    async def _more(self) -> None:
        if self._error:
            raise self._error
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _tell(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)

    def _fail(self, error: httpx2.TransportError) -> None:
        self._error = self._error or error
        self._tell()

    # --- what the loop calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(httpx2.RemoteProtocolError("the answer is no HTTP"))
        if not self.status and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(httpx2.RemoteProtocolError("the answer's head has no end"))
        if self._unread > MAX_UNREAD_BYTES:
            self._pause(paused=True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # its signature
        """It is over."""
        if not self._ended:
            self._fail(httpx2.ReadError("the connection was closed"))

    # --- what the parser calls ---

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there, or what follows the body."""
        if not self.status:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there."""
        status = self._parser.get_status_code()
        if status < _FINAL:
            self.headers.clear()
            return
        self.status = status
        self._tell()

    def on_body(self, body: bytes) -> None:
        """Some of the body is."""
        self._body.append(body)
        self._unread += len(body)
        self._tell()

    def on_message_complete(self) -> None:
        """All of it is."""
        self._ended = bool(self.status)
        self._tell()


class Direct:
    """Streams from servers on plain HTTP.

    Args:
        connect_timeout: seconds to reach one.
        rest: between two pieces of an answer.
    """

    def __init__(self, connect_timeout: float, rest: Rest | None = None) -> None:
        self._connect_timeout = connect_timeout
        self._rests = rest or Rest()
        self._exchanges: set[Exchange] = set()

    async def open(self, request: httpx2.Request) -> Exchange:
        """The answer to a request, whose head has come; whoever reads it lets it go.

        Raises:
            ConnectError, ConnectTimeout: the server can't be reached.
            RemoteProtocolError, ReadError: as of `Exchange.ask`.
        """
        exchange = await self._connected(request.url)
        self._exchanges.add(exchange)
        try:
            await exchange.ask(_wire(request))
        except BaseException:
            self.let_go(exchange)
            raise
        return exchange

    def let_go(self, exchange: Exchange) -> None:
        """Close a connection."""
        self._exchanges.discard(exchange)
        exchange.close()

    async def _connected(self, url: httpx2.URL) -> Exchange:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, exchange = await loop.create_connection(lambda: Exchange(self._rest), url.host, url.port or 80)
        except TimeoutError:
            raise httpx2.ConnectTimeout("the server does not answer") from None
        except OSError as error:
            raise httpx2.ConnectError("the server can't be reached") from error
        return exchange

    def _rest(self) -> float:
        return self._rests.among(len(self._exchanges))

    def close(self) -> None:
        """Close all connections."""
        for exchange in self._exchanges:
            exchange.close()


def _wire(request: httpx2.Request) -> bytes:
    """A request as it is sent; the client has made its headers, and one of them says that nothing follows it."""
    head = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    head += [b"%b: %b" % pair for pair in request.headers.raw if pair[0].lower() != b"connection"]
    return b"\r\n".join([*head, b"Connection: close", b"", request.content])

"""What all providers over HTTP share: the connection, its time limits, its errors, and the care for their vectors.

This is the one place where the HTTP client's exceptions turn into `ringfence.errors`. No message that leaves here holds
text of a prompt, of an answer or of the server: servers echo what they were sent.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.request import getproxies

import httpx2
import numpy as np
from pydantic import BaseModel, ValidationError

from ringfence.errors import Invalid, RingfenceError, SetupError, Unavailable
from ringfence.models.base import Spent, Usage, Vectors
from ringfence.models.direct import Direct

MAX_LINE_BYTES = 2**20
"""Longest line of a streamed answer; a token takes some hundred bytes."""

MAX_BODY_BYTES = 64 * 2**20
"""Largest answer that is read whole: a batch of vectors; 32 of 4,096 dimensions take about 3 MB of JSON."""

DRAIN_SECONDS = 0.25
"""How long a finished answer's connection may take to become reusable before it is closed instead."""

# Servers close idle connections (uvicorn's after 5 s); ours go first, so that no request meets a dying one.
_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=50, keepalive_expiry=4.0)
_NO_REUSE = httpx2.Limits(max_connections=1000, max_keepalive_connections=0)
_UNAUTHORIZED = (401, 403)
_BUSY = (429, 503)
_NOT_FOUND = 404
_REQUEST_TIMEOUT = 408


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds.

    Attributes:
        connect: to reach the server, or to get a free connection to it.
        first_token: until the first token of an answer, or until a whole batch of vectors.
        between_tokens: silence between two tokens. Keep-alive lines are no tokens; a model's hidden reasoning is.
        total: for a whole answer.
    """

    connect: float = 3.0
    first_token: float = 60.0
    between_tokens: float = 15.0
    total: float = 300.0


@dataclass(frozen=True, slots=True)
class Piece:
    """What a line of a streamed answer brings: a token's text (none: hidden reasoning), what it took, or the end."""

    text: str = ""
    last: bool = False
    usage: Usage | None = None


type Read = Callable[[], Awaitable[bytes | None]]
"""The next bytes of an answer, None at its end."""

type Parse = Callable[[bytes], Piece | None]
"""Reads one line, without its line break; None where it brings no token and no end (a blank or keep-alive line)."""


class ModelServer:
    """One model server: a base URL, a key, a pool of connections.

    Args:
        base_url: what the paths are appended to, e.g. `http://127.0.0.1:11434` or `https://api.openai.com/v1`.
        api_key: sent as a bearer token.
        timeouts: the limits for each request.
        transport: takes the place of real connections, for tests and for servers inside the process.
        reuse: keep connections for the next request. Not with llama.cpp's server, which closes idle ones at once.

    Raises:
        SetupError: `base_url` is no HTTP URL, or `api_key` can't be sent in a header.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        reuse: bool = True,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        url = _checked_url(base_url)
        loopback = _is_loopback(url.host)
        plain = url.scheme == "http" and transport is None and (loopback or not getproxies())
        self._direct = Direct(self._timeouts.connect) if plain else None
        self._client = httpx2.AsyncClient(
            base_url=url,
            # Answers are read as raw bytes, so they must come uncompressed.
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json", **_authorization(api_key)},
            # Reading and writing are limited by our own clocks, which know a token from a keep-alive line.
            timeout=httpx2.Timeout(None, connect=self._timeouts.connect, pool=self._timeouts.connect),
            limits=_LIMITS if reuse else _NO_REUSE,
            transport=transport,
            # A proxy from the environment makes sense for far hosts only; loopback must never leave the machine.
            trust_env=not loopback,
            # Loading the system's certificates takes 20 ms; where no TLS can happen, trusting nobody will do.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if loopback and url.scheme == "http" else True,
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Close all connections, those of running requests too."""
        if self._direct:
            self._direct.close()
        await self._client.aclose()

    async def post(self, path: str, body: Mapping[str, object]) -> bytes:
        """Send `body` as JSON; the whole answer, at most `MAX_BODY_BYTES` of it.

        Raises:
            Unavailable: the server is unreachable, too slow, broke off, answered with an error or too much.
            Invalid: the server rejects this request.
        """
        watch = _Watch(self._timeouts)
        received = bytearray()
        async with self._open(path, body, watch) as read:
            while (chunk := await watch.wait(read())) is not None:
                received += chunk
                if len(received) > MAX_BODY_BYTES:
                    raise malformed()
        return bytes(received)

    async def stream(
        self, path: str, body: Mapping[str, object], parse: Parse, spent: Spent | None = None
    ) -> AsyncGenerator[str]:
        """Send `body` as JSON; yield the text of each line of the answer as it comes, until one is the last.

        Closing the generator closes the connection at once, so that the server stops working. `spent` hears of the
        tokens, if they are told.

        Raises:
            Unavailable: as `post`, and where the answer ends before its last line.
            Invalid: the server rejects this request.
        """
        watch = _Watch(self._timeouts)
        reader = _Reader(parse, spent)
        opened = self._open_direct if self._direct else self._open
        async with opened(path, body, watch) as read:
            while (chunk := await watch.wait(read())) is not None:
                said = reader.read(chunk)
                if said.news:
                    watch.token()
                if said.text:
                    yield said.text
                if said.error:
                    raise said.error
                if said.last:
                    await _drain(read, reader)
                    return
        raise _broke_off()

    @asynccontextmanager
    async def _open(self, path: str, body: Mapping[str, object], watch: "_Watch") -> AsyncGenerator[Read]:
        """Reads a successful answer's raw chunks. Leaving closes it, and its connection unless it was read whole."""
        response = await watch.wait(self._client.send(self._request(path, body), stream=True))
        try:
            _check_status(response.status_code, response.headers)
            async with aclosing(response.aiter_raw()) as chunks:
                yield lambda: anext(chunks, None)
        finally:
            await response.aclose()

    @asynccontextmanager
    async def _open_direct(self, path: str, body: Mapping[str, object], watch: "_Watch") -> AsyncGenerator[Read]:
        """The same, with nothing between the socket and us."""
        assert self._direct  # noqa: S101  # as its caller has seen
        exchange = await watch.wait(self._direct.open(self._request(path, body)))
        try:
            _check_status(exchange.status, exchange.headers)
            yield exchange.read
        finally:
            self._direct.let_go(exchange)

    def _request(self, path: str, body: Mapping[str, object]) -> httpx2.Request:
        # Escaped to ASCII: lone surrogates have no UTF-8, and it is the server that should judge them.
        return self._client.build_request("POST", path, content=json.dumps(body).encode())


class LineSplitter:
    """Cuts a stream of bytes into lines that end with LF or CRLF."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their line breaks.

        Raises:
            Unavailable: a line grows beyond `MAX_LINE_BYTES`.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise malformed()
        return [line.removesuffix(b"\r") for line in lines]


@dataclass(slots=True)
class _Said:
    """What a chunk of an answer brings: text, or news without one; the end; what is wrong behind that text."""

    text: str = ""
    news: bool = False
    last: bool = False
    error: RingfenceError | None = None


class _Reader:
    """Reads the lines of one answer, and tells on what it took, which may come behind the last of the pieces."""

    def __init__(self, parse: Parse, spent: Spent | None) -> None:
        self._parse = parse
        self._spent = spent
        self._lines = LineSplitter()
        self._unread: list[bytes] = []

    def read(self, chunk: bytes) -> _Said:
        """What the lines say that `chunk` completes, as one, to the answer's end; what is behind comes next."""
        said = _Said()
        try:
            self._unread += self._lines.split(chunk)
            while self._unread and not said.last:
                self._take(self._parse(self._unread.pop(0)), said)
        except RingfenceError as error:
            said.error = error
        return said

    def _take(self, piece: Piece | None, said: _Said) -> None:
        if piece is None:
            return
        if piece.usage and self._spent:
            self._spent(piece.usage)
        said.text += piece.text
        said.news, said.last = True, piece.last


class _Watch:
    """The clocks of one request: until the next token, and for all of it."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._clock = asyncio.get_running_loop().time
        self._between = timeouts.between_tokens
        self._end = self._clock() + timeouts.total
        self._quiet_until = self._clock() + timeouts.first_token
        self._heard = False

    def token(self) -> None:
        """A token came: the next may take `between_tokens`, from when we wait for it (not while our caller is busy)."""
        self._heard = True

    async def wait[T](self, step: Awaitable[T]) -> T:
        """The result of `step`, unless a limit passes first or the connection fails.

        Raises:
            Unavailable: one of these.
        """
        if self._heard:
            self._heard = False
            self._quiet_until = self._clock() + self._between
        try:
            async with asyncio.timeout_at(min(self._quiet_until, self._end)):
                return await step
        except httpx2.HTTPError as error:
            raise _translated(error) from error
        except TimeoutError:
            if self._end <= self._quiet_until:
                raise Unavailable("model_too_slow", "The model took too long for its answer.") from None
            raise Unavailable("model_silent", "The model sent nothing for too long.") from None


def _translated(error: httpx2.HTTPError) -> Unavailable:
    """What one of the HTTP client's exceptions means."""
    match error:
        case httpx2.PoolTimeout():
            return _busy()
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return Unavailable("model_unreachable", "The model server can't be reached.")
        case _:
            return _broke_off()


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    """Raise what an HTTP status other than success means."""
    if status in _UNAUTHORIZED:
        raise Unavailable(
            "model_credentials", f"The model server refuses this installation's credentials (HTTP {status})."
        )
    if status in _BUSY:
        raise _busy(_seconds(headers.get("retry-after", "")))
    if status == _NOT_FOUND:  # not pulled yet, or its name is mistyped: an operator's to mend, so work waits
        raise Unavailable("model_missing", "The model server does not have the model that is set up.")
    if httpx2.codes.is_client_error(status) and status != _REQUEST_TIMEOUT:
        raise Invalid("model_rejected", f"The model server rejected the request (HTTP {status}).")
    if not httpx2.codes.is_success(status):
        raise model_error(f"HTTP {status}")


def _seconds(told: str) -> float | None:
    """What `Retry-After` says in seconds; where it names a date, which model servers don't, nobody knows."""
    return float(told) if told.isascii() and told.isdigit() else None


def _busy(retry_after: float | None = None) -> Unavailable:
    return Unavailable("model_busy", "The model server has too much to do.", retry_after=retry_after)


def _broke_off() -> Unavailable:
    return Unavailable("model_broke_off", "The model server broke off before its answer was complete.")


def model_error(what: str) -> Unavailable:
    """The server says that it failed; `what` is for people and holds nothing that the server wrote."""
    return Unavailable("model_error", f"The model server reported an error ({what}).")


def malformed() -> Unavailable:
    """The server's answer can't be read."""
    return Unavailable("model_malformed", "The model server's answer can't be understood.")


def parse_json[M: BaseModel](kind: type[M], data: bytes) -> M:
    """What a server sent, as `kind`.

    Raises:
        Unavailable: it is no JSON, or not of this kind.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        # Without the cause: it quotes the answer.
        raise malformed() from None


async def _drain(read: Read, reader: _Reader) -> None:
    """Read what ends a finished answer: its cost, and a few bytes more, behind which a connection can be used again."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_SECONDS):
            said = reader.read(b"")
            while not said.error and (chunk := await read()) is not None:
                said = reader.read(chunk)


def _checked_url(base_url: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL:
        raise SetupError("bad_model_url", "The model server's URL can't be read.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise SetupError("bad_model_url", "The model server's URL must start with http:// or https:// and name a host.")
    return url


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _authorization(api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable()):
        raise SetupError("bad_model_key", "The model server's key has characters that can't be sent in a header.")
    return {"Authorization": f"Bearer {api_key}"}


def unit_rows(rows: Sequence[Sequence[float]]) -> Vectors:
    """The rows, each scaled to length 1, after checking that they can be.

    Returns:
        Shape (rows, dimensions); (0, 0) without rows.

    Raises:
        Invalid: they are of unequal dimensions, of length zero, or have values that are no numbers.
    """
    if not rows:
        return np.empty((0, 0), dtype=np.float32)
    if len({len(row) for row in rows}) != 1:
        raise Invalid("wrong_vector_shape", "The model gave vectors of unequal dimensions.")
    matrix = np.array(rows, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise Invalid("vector_not_finite", "The model gave a vector with values that are no numbers.")
    peaks = np.abs(matrix).max(axis=1, keepdims=True, initial=0.0)
    if not peaks.all():
        raise Invalid("zero_vector", "The model gave a vector of length zero.")
    matrix /= peaks  # so that no square overflows
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix.astype(np.float32)

"""How a client's calls get to the server: tokens shown and renewed, and errors made the engine's own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from ringfence.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RingfenceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

TOKEN_PATH = "/api/v1/auth/token"  # noqa: S105 (where, not what)
_ERRORS: dict[int, type[RingfenceError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: Unsupported,
    422: Invalid,
    502: Unavailable,  # by whoever stands before a server that is away
    503: Unavailable,
    504: Unavailable,
}
_POLICY = "RateLimit-Policy"
# How often a request is made again that came too fast, and after how many seconds at most.
_TRIES, _PATIENCE = 10, 60.0
_TIMEOUT = httpx2.Timeout(30, read=120)


class _Tokens(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    access_token: str
    refresh_token: str


class _Bearer(httpx2.Auth):
    """Shows the access token, and exchanges the refresh token for new ones where it has expired.

    A request that came too fast is made again when the server wants it.
    """

    def __init__(self, token_url: str, access: str | None) -> None:
        self._token_url = token_url
        self.access = access
        self._refresh: str | None = None
        self._renewing = asyncio.Lock()

    def take(self, response: httpx2.Response) -> None:
        """Use the tokens of a response from now on."""
        tokens = _Tokens.model_validate_json(response.content)
        self.access, self._refresh = tokens.access_token, tokens.refresh_token

    def forget(self) -> None:
        """Show no token any more."""
        self.access = self._refresh = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """As httpx asks: the request, and once more after the tokens were renewed."""
        shown = self.access
        response = yield self._signed(request)
        for _ in range(_TRIES):
            if not _is_too_fast(response):
                break
            await asyncio.sleep(_seconds(response))
            response = yield self._signed(request)
        if response.status_code != httpx2.codes.UNAUTHORIZED or self._refresh is None:
            return
        async with self._renewing:
            if self.access == shown:  # otherwise another call has renewed them meanwhile
                form = {"grant_type": "refresh_token", "refresh_token": self._refresh}
                renewed = yield httpx2.Request("POST", self._token_url, data=form)
                await renewed.aread()
                if renewed.is_error:
                    return
                self.take(renewed)
        yield self._signed(request)

    def _signed(self, request: httpx2.Request) -> httpx2.Request:
        if self.access:
            request.headers["Authorization"] = f"Bearer {self.access}"
        return request


class Connection:
    """One account's way to a server, which the client's calls take.

    Args:
        url: of the server, e.g. `http://127.0.0.1:8000`.
        token: an API key, or a session's access token; or call `sign_in`.
        transport: takes the place of real connections.
    """

    def __init__(
        self, url: str, *, token: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._auth = _Bearer(f"{url.rstrip('/')}{TOKEN_PATH}", token)
        self._http = httpx2.AsyncClient(base_url=url, auth=self._auth, timeout=_TIMEOUT, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def _open(self, method: str, path: str, **request: Any) -> AsyncGenerator[httpx2.Response]:
        try:
            async with self._http.stream(method, path, **request) as response:
                if response.is_error:
                    await response.aread()
                _check(response, path)
                yield response
        except httpx2.TransportError as error:
            raise _unreachable(error) from error

    async def _call(self, method: str, path: str, **request: Any) -> httpx2.Response:
        try:
            response = await self._http.request(method, path, **request)
        except httpx2.TransportError as error:
            raise _unreachable(error) from error
        _check(response, path)
        return response


class _Problem(BaseModel):
    """Either form of an error's body: a problem document, or OAuth2's."""

    model_config = ConfigDict(extra="ignore")

    code: str = ""
    detail: str = ""
    error: str = ""
    error_description: str = ""
    quota: str = ""
    limit: int = 0
    used: int = 0


def _check(response: httpx2.Response, path: str) -> None:
    if not response.is_error:
        return
    if response.status_code == httpx2.codes.BAD_REQUEST and response.url.path == TOKEN_PATH != path:
        raise Unauthenticated("session_ended", "This session has ended: sign in again.")  # it could not be renewed
    try:
        problem = _Problem.model_validate_json(response.content)
    except ValidationError:
        problem = _Problem()
    code = problem.code or problem.error or "server_error"
    message = problem.detail or problem.error_description or f"The server answered with status {response.status_code}."
    if problem.quota:
        raise QuotaExceeded(code, message, quota=problem.quota, limit=problem.limit, used=problem.used)
    if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        raise RateLimited(code, message, retry_after=_seconds(response), policy=response.headers.get(_POLICY, ""))
    raise _ERRORS.get(response.status_code, RingfenceError)(code, message)


def _is_too_fast(response: httpx2.Response) -> bool:
    """Whether the caller makes too many requests; other limits, on passwords say, take longer than anybody waits."""
    too_many = response.status_code == httpx2.codes.TOO_MANY_REQUESTS
    return too_many and response.headers.get(_POLICY, "").startswith('"requests";') and _seconds(response) <= _PATIENCE


def _seconds(response: httpx2.Response) -> float:
    wait = response.headers.get("Retry-After", "")
    return float(wait) if wait.isdecimal() else 0.0


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable("server_unreachable", f"The server can't be reached or broke off ({type(error).__name__}).")

"""The Python client: what the HTTP API offers, as typed calls."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, BinaryIO, Self
from uuid import UUID

import httpx2
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ringfence.answers.events import Event
from ringfence.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    RingfenceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

_ERRORS: dict[int, type[RingfenceError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: Unsupported,
    422: Invalid,
    429: RateLimited,
    503: Unavailable,
}
_TIMEOUT = httpx2.Timeout(30, read=120)
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class DocumentInfo(BaseModel):
    """A document and how far it has come; `ready` and `failed` are final states."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    document_id: UUID
    name: str
    size: int
    state: str
    reason: str | None
    pages: int | None
    pages_done: int
    chunks: int

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in {"ready", "failed"}


class _Documents(BaseModel):
    documents: list[DocumentInfo]


class Client:
    """One account's access to a server. Errors are the engine's own (`ringfence.errors`).

    Args:
        url: of the server, e.g. `http://127.0.0.1:8000`.
        token: an access token; or call `sign_in`.
        transport: takes the place of real connections.
    """

    def __init__(
        self, url: str, *, token: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def register(self, email: str, password: str) -> UUID:
        """Ask for an account; the registration's id, for `verify`. The code comes by mail."""
        response = await self._call("POST", "/api/v1/auth/register", json={"email": email, "password": password})
        return UUID(response.json()["registration_id"])

    async def verify(self, registration_id: UUID, code: str) -> None:
        """Prove the address with the mailed code."""
        body = {"registration_id": str(registration_id), "code": code}
        await self._call("POST", "/api/v1/auth/verify", json=body)

    async def sign_in(self, email: str, password: str) -> None:
        """Get an access token, for this client's further calls."""
        form = {"grant_type": "password", "username": email, "password": password}
        response = await self._call("POST", "/api/v1/auth/token", data=form)
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    async def upload(self, name: str, file: BinaryIO) -> tuple[DocumentInfo, bool]:
        """Send a file's bytes from where it stands; the document, and whether it is new."""
        response = await self._call("POST", "/api/v1/documents", files={"file": (name, file)})
        return DocumentInfo.model_validate_json(response.content), response.status_code == httpx2.codes.ACCEPTED

    async def document(self, document_id: UUID) -> DocumentInfo:
        """A document's state."""
        response = await self._call("GET", f"/api/v1/documents/{document_id}")
        return DocumentInfo.model_validate_json(response.content)

    async def documents(self) -> list[DocumentInfo]:
        """All documents, newest first (at most 1000)."""
        response = await self._call("GET", "/api/v1/documents", params={"limit": "1000"})
        return _Documents.model_validate_json(response.content).documents

    async def ask(self, question: str) -> AsyncGenerator[Event]:
        """Ask a question; the answer's events as they come."""
        async with self._open("/api/v1/answers", {"question": question}) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield _EVENT.validate_json(line.removeprefix("data:"))

    @asynccontextmanager
    async def _open(self, path: str, body: dict[str, str]) -> AsyncGenerator[httpx2.Response]:
        try:
            async with self._http.stream("POST", path, json=body) as response:
                if response.is_error:
                    await response.aread()
                _check(response)
                yield response
        except httpx2.TransportError as error:
            raise _unreachable(error) from error

    async def _call(self, method: str, path: str, **request: Any) -> httpx2.Response:
        try:
            response = await self._http.request(method, path, **request)
        except httpx2.TransportError as error:
            raise _unreachable(error) from error
        _check(response)
        return response


class _Problem(BaseModel):
    """Either form of an error's body: a problem document, or OAuth2's."""

    model_config = ConfigDict(extra="ignore")

    code: str = ""
    detail: str = ""
    error: str = ""
    error_description: str = ""


def _check(response: httpx2.Response) -> None:
    if not response.is_error:
        return
    try:
        problem = _Problem.model_validate_json(response.content)
    except ValidationError:
        problem = _Problem()
    code = problem.code or problem.error or "server_error"
    message = problem.detail or problem.error_description or f"The server answered with status {response.status_code}."
    raise _ERRORS.get(response.status_code, RingfenceError)(code, message)


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable("server_unreachable", f"The server can't be reached or broke off ({type(error).__name__}).")

"""The one table from kinds of errors to statuses; every error leaves as `application/problem+json` (RFC 9457).

But for what is below `/v1`, whose clients look for OpenAI's form.
"""

import math
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from ringfence.errors import (
    Forbidden,
    Invalid,
    Kind,
    QuotaExceeded,
    RateLimited,
    RingfenceError,
    Unauthenticated,
    Unavailable,
)

log = structlog.get_logger()

STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.RATE_LIMITED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.SETUP: 500,
    Kind.INTERNAL: 500,
}

OPENAI = "/v1/"
"""What is below this path speaks OpenAI's protocol."""

_WAIT = 5.0  # seconds, where nobody knows better
_MEMBERS = ("quota", "limit", "used")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_SERVERS = 500  # from this status on it is the server's fault
# What is wrong with a field that is understood, but not served: OpenAI says 400 of that.
_A_TYPE = re.compile(r"^(str|constrained-str)$|\[")
_UNSERVED = {"extra_forbidden", "literal_error", "none_required", "union_tag_invalid", "unsupported"}


class Problem(BaseModel):
    """What went wrong, for programs (`code`) and for people (`detail`)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"required": ["type", "title", "status", "code", "detail"]}
    )

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(examples=[404])
    code: str = Field(description="Stable and machine-readable.", examples=["document_not_found"])
    detail: str = Field(description="A sentence for a person.", examples=["There is no such document."])
    quota: str | None = Field(default=None, description="Of `quota_exceeded`: which.", examples=["documents"])
    limit: int | None = Field(default=None, description="Of `quota_exceeded`: how much is allowed.", examples=[10_000])
    used: int | None = Field(default=None, description="Of `quota_exceeded`: how much there is.", examples=[10_000])


class OpenAIError(BaseModel):
    """What went wrong, in OpenAI's words."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(description="A sentence for a person.", examples=["There is no such document."])
    type: str = Field(description="What kind of error it is.", examples=["invalid_request_error"])
    param: str | None = Field(description="The field that it is about, where one is.", examples=["tools"])
    code: str = Field(description="Stable, as of every error of the engine.", examples=["document_not_found"])


class OpenAIProblem(BaseModel):
    """An error, as OpenAI's clients look for it."""

    model_config = ConfigDict(extra="forbid")

    error: OpenAIError


def problem(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, *, path: str = ""
) -> JSONResponse:
    """An error as a response, in the form of the path that was asked."""
    return _response(_body(status, code, detail), headers, path)


def openai_problem(status: int, code: str, message: str, param: str | None = None) -> OpenAIProblem:
    """An error in OpenAI's form."""
    kind = _TYPES.get(status, "invalid_request_error" if status < _SERVERS else "server_error")
    return OpenAIProblem(error=OpenAIError(message=message, type=kind, param=param, code=code))


def _body(status: int, code: str, detail: str, **more: object) -> Problem:
    known = {"title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    return Problem.model_validate(known | more)


def _response(body: Problem, headers: dict[str, str] | None, path: str = "", param: str | None = None) -> JSONResponse:
    if body.status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": 'Bearer realm="ringfence"', **(headers or {})}
    if path.startswith(OPENAI):
        said = openai_problem(body.status, body.code, body.detail, param)
        return JSONResponse(said.model_dump(), body.status, headers)
    content = body.model_dump(exclude_none=True)
    return JSONResponse(content, body.status, headers, media_type="application/problem+json")


def problem_body(error: RingfenceError) -> Problem:
    """The problem document of one of the engine's errors; what is wrong with the set-up stays inside."""
    status = STATUS[error.kind]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("setup_error", code=error.code, reason=error.message)
        return _body(status, error.code, "The engine is not set up rightly. Its operator finds the reason in the log.")
    members = {name: getattr(error, name) for name in _MEMBERS} if isinstance(error, QuotaExceeded) else {}
    return _body(status, error.code, error.message, **members)


def problem_of(error: RingfenceError, path: str = "") -> JSONResponse:
    """The same as a response, in the form of the path that was asked."""
    param = error.param if isinstance(error, Invalid) else None
    return _response(problem_body(error), headers_of(error), path, param)


def headers_of(error: RingfenceError) -> dict[str, str]:
    """What an answer says of an error beside its body."""
    match error:
        case Unavailable():
            return {"Retry-After": str(math.ceil(_WAIT if error.retry_after is None else error.retry_after))}
        case RateLimited():  # RFC 9110, 10.2.3, and draft-ietf-httpapi-ratelimit-headers-10
            wait = str(math.ceil(error.retry_after))
            name = error.policy.partition(";")[0]
            return {"Retry-After": wait, "RateLimit-Policy": error.policy, "RateLimit": f"{name};r=0;t={wait}"}
        case Unauthenticated() if error.code != "no_token":  # RFC 6750, section 3.1: only what was shown has an error
            return {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        case Forbidden(scope=str(scope)):
            return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
        case _:
            return {}


def install(app: FastAPI) -> None:
    """Let every error leave as a problem document."""
    app.exception_handler(RingfenceError)(_engine_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(http_error)


async def _engine_error(request: Request, error: RingfenceError) -> JSONResponse:
    return problem_of(error, request.scope["path"])


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    # Never what was sent: it may be a password.
    if request.scope["path"].startswith(OPENAI):
        return _unserved(error.errors())
    wrong = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
    return problem(422, "bad_request", wrong)


def _unserved(errors: Sequence[Any]) -> JSONResponse:
    """The first field that is wrong, and of those rather one that is understood, but not served."""
    wrong = min(errors, key=lambda item: item["type"] not in _UNSERVED)
    # Where a value may be of several types, Pydantic says which one it tried.
    param = ".".join(str(part) for part in wrong["loc"][1:] if not _A_TYPE.search(str(part)))
    unserved = wrong["type"] in _UNSERVED
    status, code = (400, "unsupported_parameter") if unserved else (422, "bad_request")
    words = "It is not served." if wrong["type"] in {"extra_forbidden", "none_required"} else wrong["msg"]
    said = openai_problem(status, code, f"{param or 'The body'}: {words}", param or None)
    return JSONResponse(said.model_dump(), status)


async def http_error(request: Request, error: HTTPException) -> JSONResponse:
    """What the framework refuses: an unknown path, another method."""
    if isinstance(error.__cause__, RingfenceError):  # FastAPI wraps what is raised while it reads a body
        return problem_of(error.__cause__, request.scope["path"])
    code, headers = HTTPStatus(error.status_code).name.lower(), dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return problem(error.status_code, code, str(error.detail), headers, path=request.scope["path"])


def _allowed(request: Request) -> list[str]:
    """All methods of a path (RFC 9110, 15.5.6); Starlette knows those of the first route there."""
    path = getattr(request.scope.get("route"), "path", None)
    found = [route.methods or () for route in iter_route_contexts(request.app.routes) if route.path == path]
    return sorted({method for methods in found for method in methods} or {"GET", "HEAD"})  # a file has the latter two


def defect(error: Exception, path: str = "") -> JSONResponse:
    """The answer to what nobody foresaw; the log has the trace."""
    log.error("defect", exc_info=error)
    return problem(500, "internal", "Something went wrong inside the engine.", path=path)

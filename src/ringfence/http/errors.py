"""The one table from kinds of errors to statuses; every error leaves as `application/problem+json` (RFC 9457)."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from ringfence.errors import Kind, RingfenceError

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


class Problem(BaseModel):
    """What went wrong, for programs (`code`) and for people (`detail`)."""

    model_config = ConfigDict(json_schema_extra={"title": "Problem"})

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(examples=[404])
    code: str = Field(description="Stable and machine-readable.", examples=["document_not_found"])
    detail: str = Field(description="A sentence for a person.", examples=["There is no such document."])


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem document as a response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=detail)
    if status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
    return JSONResponse(body.model_dump(), status, headers, media_type="application/problem+json")


def problem_of(error: RingfenceError) -> JSONResponse:
    """The problem document of one of the engine's errors; a defect's message stays inside."""
    status = STATUS[error.kind]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("setup_error", code=error.code, reason=error.message)
        return problem(
            status, error.code, "The engine is not set up rightly. Its operator finds the reason in the log."
        )
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem(status, error.code, error.message, headers)


def install(app: FastAPI) -> None:
    """Let every error leave as a problem document."""
    app.exception_handler(RingfenceError)(_engine_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_error)


async def _engine_error(_request: Request, error: RingfenceError) -> JSONResponse:
    return problem_of(error)


async def _validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
    # Never what was sent: it may be a password.
    wrong = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
    return problem(422, "bad_request", wrong)


async def _http_error(_request: Request, error: HTTPException) -> JSONResponse:
    if isinstance(error.__cause__, RingfenceError):  # FastAPI wraps what is raised while it reads a body
        return problem_of(error.__cause__)
    code = HTTPStatus(error.status_code).name.lower()
    return problem(error.status_code, code, str(error.detail), dict(error.headers or {}))


def defect(error: Exception) -> JSONResponse:
    """The answer to what nobody foresaw; the log has the trace."""
    log.error("defect", exc_info=error)
    return problem(500, "internal", "Something went wrong inside the engine.")

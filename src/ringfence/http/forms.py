"""The token endpoint's forms (RFC 6749): what it takes, each field once and no surprise in the encoding, and says."""

from urllib.parse import parse_qsl

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect, Request

from ringfence.errors import Invalid, RingfenceError, TooLarge
from ringfence.http.errors import STATUS, headers_of

_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 20
_MAX_BYTES = 65_536
_UNKEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, section 5.1


class TokenProblem(BaseModel):
    """An error of the token endpoint (RFC 6749, section 5.2)."""

    model_config = ConfigDict(extra="forbid")

    error: str = Field(examples=["invalid_grant"])
    error_description: str = Field(examples=["The address or the password is wrong, or the address is not verified."])


def token_answer(body: BaseModel) -> JSONResponse:
    """Tokens, which no cache keeps."""
    return JSONResponse(body.model_dump(), headers=_UNKEPT)


def token_problem(error: RingfenceError) -> JSONResponse:
    """An error in OAuth2's form; such too as OAuth2 does not know: its clients look for `error`, not for `code`."""
    body = TokenProblem(error=error.code, error_description=error.message)
    return JSONResponse(body.model_dump(), STATUS[error.kind], {**_UNKEPT, **headers_of(error)})


async def token_request(request: Request) -> dict[str, str]:
    """The fields of a token request; those without a value count as left out (RFC 6749, section 3.2).

    Raises:
        Invalid: `invalid_request`, the body is no such form, or a field is there twice.
        TooLarge: `body_too_large`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Invalid("invalid_request", f"The body has to be {_FORM}.")
    try:
        text = (await _body(request)).decode("ascii")
        fields = parse_qsl(text, strict_parsing=bool(text), max_num_fields=_MAX_FIELDS, errors="strict")
    except (ValueError, ClientDisconnect):  # UnicodeDecodeError is one
        raise Invalid("invalid_request", "The form can't be read.") from None
    if len({name for name, _ in fields}) != len(fields):
        raise Invalid("invalid_request", "A field is there twice.")
    return dict(fields)


async def _body(request: Request) -> bytes:
    """The body, which `BodyLimit` leaves to this, since the error is to have OAuth2's form."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BYTES:
            raise TooLarge("body_too_large", f"The body is larger than {_MAX_BYTES} bytes.")
    return bytes(body)

"""Routes of accounts: register, verify, sign in and out, sessions, me."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ringfence.accounts.queries import Scope
from ringfence.accounts.sessions import Device, Tokens
from ringfence.errors import Invalid, NotFound, RateLimited, TooLarge, Unauthenticated, Unavailable
from ringfence.http import cookies
from ringfence.http.contract import PROBLEM, Responses, may
from ringfence.http.deps import DeviceDep, IdentityDep, LimitedDevice, Reader, ServicesDep
from ringfence.http.forms import TokenProblem, token_answer, token_problem, token_request
from ringfence.ids import SessionId
from ringfence.services import Services

router = APIRouter(prefix="/api/v1", tags=["accounts"])

TOKEN_PATH = f"{router.prefix}/auth/token"
"""Takes forms and answers in OAuth2's words."""

_CODE_SENT = "A code has been sent by mail."
_FROM_HERE = [Depends(cookies.require_same_origin)]
_TOKEN_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
                        "username": {"type": "string", "examples": ["ada@example.com"]},
                        "password": {
                            "type": "string",
                            "format": "password",
                            "examples": ["a long and private sentence"],
                        },
                        "refresh_token": {"type": "string", "examples": ["rfr_q83vEjRW…"]},
                    },
                }
            }
        },
    }
}
# A stopping server says it as on every path.
_TOKEN_PROBLEMS: Responses = {
    **{status: {"model": TokenProblem} for status in (400, 413, 429)},
    503: {"model": TokenProblem, "content": PROBLEM},
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(_Model):
    """Who wants an account."""

    email: str = Field(max_length=254, examples=["ada@example.com"])
    password: SecretStr = Field(description="12 to 256 characters.", examples=["a long and private sentence"])


class Registered(_Model):
    """Where to send the code that was mailed; the same whether or not the address is known."""

    registration_id: UUID
    detail: str = Field(examples=[_CODE_SENT])


class Resend(_Model):
    """Which registration awaits its code."""

    registration_id: UUID


class Verification(_Model):
    """The code that was mailed for one registration."""

    registration_id: UUID
    code: str = Field(max_length=32, examples=["31415926"])


class Token(_Model):
    """Tokens of a session (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 (the scheme's name)
    expires_in: int = Field(description="Seconds.", examples=[900])
    refresh_token: str = Field(description="Works once: it is exchanged for the next.")
    scope: str = Field(default=" ".join(sorted(Scope)), description="All there is: a session may do everything.")


class SignIn(_Model):
    """Who signs in in a browser."""

    email: str = Field(max_length=254, examples=["ada@example.com"])
    password: SecretStr = Field(examples=["a long and private sentence"])


class SessionView(_Model):
    """One of one's own sign-ins."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    session_id: UUID
    current: bool = Field(default=False, description="Whether this very request belongs to it.")
    address: str = Field(examples=["203.0.113.9"])
    agent: str = Field(examples=["Mozilla/5.0 (X11; Linux x86_64)"])
    created_at: datetime
    used_at: datetime
    expires_at: datetime


class SessionList(_Model):
    """One's own sessions, the one used last first."""

    sessions: list[SessionView]


class Me(_Model):
    """The account that is signed in."""

    user_id: UUID
    email: str
    created_at: datetime


@router.post("/auth/register", status_code=202, responses=may(429))
async def register(body: Registration, services: ServicesDep, device: LimitedDevice) -> Registered:
    """Ask for an account. A one-time code goes to the address."""
    registration_id = await services.people.accounts.register(body.email, body.password.get_secret_value(), device)
    return Registered(registration_id=registration_id, detail=_CODE_SENT)


@router.post("/auth/resend", status_code=202, responses=may(429))
async def resend(body: Resend, services: ServicesDep, device: LimitedDevice) -> Registered:
    """Ask for another code; the older one no longer works. Within a minute of the last one, none is sent."""
    await services.people.accounts.resend(body.registration_id, device)
    return Registered(registration_id=body.registration_id, detail=_CODE_SENT)


@router.post("/auth/verify", status_code=204, responses=may(429))
async def verify(body: Verification, services: ServicesDep, device: LimitedDevice) -> None:
    """Prove the address with the code. Afterwards one can sign in."""
    await services.people.accounts.verify(body.registration_id, body.code, device)


@router.post("/auth/token", response_model=Token, responses=_TOKEN_PROBLEMS, openapi_extra=_TOKEN_FORM)
async def token(request: Request, services: ServicesDep, device: DeviceDep) -> JSONResponse:
    """Sign in with a password, or renew a session's tokens: OAuth2's forms (RFC 6749, sections 4.3 and 6)."""
    try:
        issued = await _granted(await token_request(request), services, device)
    except (Invalid, TooLarge, RateLimited, Unavailable) as error:
        return token_problem(error)
    return token_answer(Token(access_token=issued.access, expires_in=issued.expires_in, refresh_token=issued.refresh))


async def _granted(asked: dict[str, str], services: Services, device: Device) -> Tokens:
    match asked:
        case {"grant_type": "password", "username": username, "password": password}:
            return await services.people.accounts.sign_in(username, password, device)
        case {"grant_type": "refresh_token", "refresh_token": refresh_token}:
            return await services.people.sessions.refresh(refresh_token, device)
        case {"grant_type": "password" | "refresh_token"}:
            raise Invalid("invalid_request", "The form lacks a field of its grant type.")
        case {"grant_type": _}:
            raise Invalid("unsupported_grant_type", "The grant types are password and refresh_token.")
        case _:
            raise Invalid("invalid_request", "The form lacks grant_type.")


@router.post("/auth/cookie", status_code=204, dependencies=_FROM_HERE, responses=may(403, 429))
async def sign_in_browser(
    body: SignIn, request: Request, response: Response, services: ServicesDep, device: DeviceDep
) -> None:
    """Sign in a browser: its session is in a cookie that no script can read. From the engine's own pages alone."""
    password = body.password.get_secret_value()
    cookies.give(request, response, await services.people.accounts.sign_in_browser(body.email, password, device))


@router.delete("/auth/cookie", status_code=204, dependencies=_FROM_HERE, responses=may(403, 429))
async def sign_out_browser(request: Request, response: Response, services: ServicesDep, device: DeviceDep) -> None:
    """Sign out a browser: its session ends, if it has not ended yet, and its cookie goes."""
    cookies.take_back(response)
    if cookie := cookies.shown_by(request):
        with suppress(NotFound, Unauthenticated):  # it has ended
            await services.people.sessions.end(await services.people.sessions.check_cookie(cookie, device), device)


@router.post("/auth/sign-out", status_code=204)
async def sign_out(identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> None:
    """End this session, with all of its tokens."""
    await services.people.sessions.end(identity, device)


@router.get("/sessions")
async def sessions(identity: IdentityDep, services: ServicesDep) -> SessionList:
    """Where one is signed in."""
    found = await services.people.sessions.newest(identity.user_id)
    views = [SessionView.model_validate(session) for session in found]
    return SessionList(
        sessions=[view.model_copy(update={"current": view.session_id == identity.session_id}) for view in views]
    )


@router.delete("/sessions", status_code=204)
async def end_sessions(identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> None:
    """Sign out everywhere, here too: every token stops working at once."""
    await services.people.sessions.end_all(identity.user_id, device)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> None:
    """Sign out one of one's own sessions."""
    await services.people.sessions.end(replace(identity, session_id=SessionId(session_id)), device)


@router.get("/me")
async def me(user_id: Reader, services: ServicesDep) -> Me:
    """Who is signed in."""
    account = await services.people.accounts.me(user_id)
    return Me(user_id=account.user_id, email=account.email, created_at=account.created_at)

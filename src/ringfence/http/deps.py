"""From a request to what a handler needs: the services, and who a verified token says is calling.

Every route under `/api/v1` declares what its caller must be allowed: `Reader`, `Writer` or `Asker`, as an API key may
be, or `IdentityDep`, which takes a session (tests/rules/test_scopes.py).
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from ringfence.accounts.api_keys import PREFIX
from ringfence.accounts.queries import Account, Scope
from ringfence.accounts.sessions import Device
from ringfence.errors import Forbidden, Unauthenticated
from ringfence.http import cookies
from ringfence.ids import DocumentId, Identity, UserId
from ringfence.limits import Note
from ringfence.services import Services

_bearer = HTTPBearer(
    scheme_name="bearer",
    description=(
        "A session's access token (`/api/v1/auth/token`), or an API key. Under `/api/v1` the engine's own pages show a "
        "session's cookie (`/api/v1/auth/cookie`) instead."
    ),
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, and what they may do.

    Attributes:
        user_id: on whose behalf.
        scopes: what the token allows; a session's, everything.
        session: by which they are here; None: by an API key.
    """

    user_id: UserId
    scopes: frozenset[Scope]
    session: Identity | None


def get_services(request: Request) -> Services:
    """The services of this process."""
    return cast("Services", request.app.state.services)  # Starlette's state is untyped


def get_stopping(request: Request) -> asyncio.Event:
    """Set when the server can't wait for open streams any longer."""
    return cast("asyncio.Event", request.app.state.stopping)  # Starlette's state is untyped


def get_upload_idle(request: Request) -> float:
    """Seconds that a client may pause in an upload."""
    return cast("float", request.app.state.upload_idle)  # Starlette's state is untyped


def get_note(request: Request) -> Note:
    """Is told how a limit stands, which the response's header then says (`middleware.RequestContext`)."""
    return cast("Note", request.state.standings.append)  # Starlette's state is untyped


def get_device(request: Request) -> Device:
    """From where the request comes, for its owner's eyes."""
    address = request.client.host if request.client else ""
    return Device(address, request.headers.get("user-agent", ""))


async def get_cookie_holder(
    request: Request,
    services: Annotated[Services, Depends(get_services)],
    note: Annotated[Note, Depends(get_note)],
    device: Annotated[Device, Depends(get_device)],
) -> Identity | None:
    """Who shows a session's cookie, where cookies count and no token is shown.

    Raises:
        Forbidden: `cross_site_request`.
        Unauthenticated: `session_ended`.
        RateLimited: `too_many_requests`.
    """
    cookie = cookies.shown_by(request)
    if cookie is None or "authorization" in request.headers or not request.url.path.startswith(cookies.PATH):
        return None
    cookies.require_same_origin(request)
    return await services.people.sessions.check_cookie(cookie, device, note)


async def get_visitor(
    request: Request,
    services: Annotated[Services, Depends(get_services)],
    note: Annotated[Note, Depends(get_note)],
    device: Annotated[Device, Depends(get_device)],
) -> Account | None:
    """Whose browser asks for a page; None if it is signed in to no account."""
    cookie = cookies.shown_by(request)
    if cookie is None:
        return None
    try:
        identity = await services.people.sessions.check_cookie(cookie, device, note)
        return await services.people.accounts.me(identity.user_id)
    except Unauthenticated:
        return None


async def get_caller(
    services: Annotated[Services, Depends(get_services)],
    note: Annotated[Note, Depends(get_note)],
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    holder: Annotated[Identity | None, Depends(get_cookie_holder)] = None,
) -> Caller:
    """Who shows a token, of a session, or an API key; or a session's cookie.

    Raises:
        Unauthenticated: no token, one that does not verify, or one whose session has ended.
        RateLimited: `too_many_requests`.
    """
    if holder is not None:
        caller = _within(holder)
    elif shown is None:
        raise Unauthenticated("no_token", "Sign in first: this needs an access token.")
    elif shown.credentials.startswith(PREFIX):
        grant = await services.people.api_keys.authenticate(shown.credentials, note)
        caller = Caller(grant.user_id, grant.scopes, None)
    else:
        caller = _within(await services.people.sessions.check(shown.credentials, note))
    structlog.contextvars.bind_contextvars(user_id=str(caller.user_id))
    return caller


def _within(identity: Identity) -> Caller:
    return Caller(identity.user_id, frozenset(Scope), identity)


async def get_user(needed: SecurityScopes, caller: Annotated[Caller, Depends(get_caller)]) -> UserId:
    """The tenant on whose behalf the request comes, if its token has the scopes that the route declares.

    Raises:
        Forbidden: `scope_missing`.
    """
    for scope in needed.scopes:
        require(caller, Scope(scope))
    return caller.user_id


def require(caller: Caller, scope: Scope) -> None:
    """Refuse a caller whose token lacks a scope: for what only some requests to a route need.

    Raises:
        Forbidden: `scope_missing`.
    """
    if scope not in caller.scopes:
        raise Forbidden("scope_missing", f"This API key may not do this: it lacks the scope {scope}.", scope=scope)


async def get_identity(caller: Annotated[Caller, Depends(get_caller)]) -> Identity:
    """The user and the session on whose behalf the request comes.

    Raises:
        Forbidden: `session_required`, the token is an API key.
    """
    if caller.session is None:
        raise Forbidden("session_required", "An API key may not do this: sign in.")
    return caller.session


async def limit_network(
    services: Annotated[Services, Depends(get_services)],
    device: Annotated[Device, Depends(get_device)],
    note: Annotated[Note, Depends(get_note)],
) -> Device:
    """From where the request comes, of a route that anybody may call, so that no network calls it without end.

    Raises:
        RateLimited: `too_many_tries`.
    """
    await services.networks.admit(device.network, note=note)
    return device


async def get_document_id(document_id: UUID) -> DocumentId:
    """The document that the path names, which may be anybody's or nobody's; log lines have it from here on."""
    structlog.contextvars.bind_contextvars(document_id=str(document_id))
    return DocumentId(document_id)


type ServicesDep = Annotated[Services, Depends(get_services)]
type StoppingDep = Annotated[asyncio.Event, Depends(get_stopping)]
type UploadIdle = Annotated[float, Depends(get_upload_idle)]
type DeviceDep = Annotated[Device, Depends(get_device)]
type VisitorDep = Annotated[Account | None, Depends(get_visitor)]
type LimitedDevice = Annotated[Device, Depends(limit_network)]
type CallerDep = Annotated[Caller, Depends(get_caller)]
type NoteDep = Annotated[Note, Depends(get_note)]
type IdentityDep = Annotated[Identity, Depends(get_identity)]
type Reader = Annotated[UserId, Security(get_user, scopes=[Scope.READ])]
type Writer = Annotated[UserId, Security(get_user, scopes=[Scope.WRITE])]
type Asker = Annotated[UserId, Security(get_user, scopes=[Scope.ASK])]
type NamedDocument = Annotated[DocumentId, Depends(get_document_id)]

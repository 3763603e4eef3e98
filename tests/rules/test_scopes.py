"""Every route of the API declares what its caller must be allowed."""

from collections.abc import Iterator
from typing import Annotated, Any, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.routing import iter_route_contexts

from ringfence.accounts.queries import Scope
from ringfence.http.app import create_app
from ringfence.http.deps import Asker, IdentityDep, Reader, Writer, get_caller, get_identity, get_user
from ringfence.ids import UserId
from ringfence.services import Services


def declared(dependant: Any) -> Iterator[str]:
    """What a route asks of its caller: scopes, or a session."""
    for inner in dependant.dependencies:
        if inner.call is get_user:
            yield ",".join(inner.own_oauth_scopes or ()) or "nothing"
        elif inner.call is get_identity:
            yield "session"
        else:
            yield from declared(inner)


def knows_its_caller(dependant: Any) -> bool:
    """Whether a route takes nobody without a token."""
    return any(inner.call is get_caller or knows_its_caller(inner) for inner in dependant.dependencies)


def undeclared(app: FastAPI) -> list[str]:
    """Routes under `/api/v1` (but for `/auth`, which begins sessions) and `/v1` that do not ask for exactly one thing.

    Names of models are shown to any key.
    """
    allowed = [[name] for name in (*Scope, "session")]
    return [
        f"{route.path}: {asked}"
        for route in iter_route_contexts(app.routes)
        if str(route.path).startswith(("/api/v1/", "/v1/")) and not str(route.path).startswith("/api/v1/auth/")
        if (asked := list(declared(route.dependant))) not in allowed
        if not (str(route.path).startswith("/v1/models") and knows_its_caller(route.dependant))
    ]


@pytest.fixture
def app() -> FastAPI:
    return create_app(cast("Services", None), body_max_bytes=1)  # no request is made


def test_every_route_declares_what_its_caller_must_be_allowed(app: FastAPI) -> None:
    assert undeclared(app) == []
    assert sum(str(route.path).startswith("/api/v1/") for route in iter_route_contexts(app.routes)) > 10


async def needs_nothing() -> None: ...
async def knows_its_caller_alone(_caller: Annotated[Any, Depends(get_caller)]) -> None: ...
async def names_no_scope(_user: Annotated[UserId, Security(get_user)]) -> None: ...
async def names_an_unknown_scope(_user: Annotated[UserId, Security(get_user, scopes=["admin"])]) -> None: ...
async def names_two(_reader: Reader, _writer: Writer) -> None: ...
async def reads(_user: Reader) -> None: ...
async def asks(_user: Asker) -> None: ...
async def takes_a_session(_identity: IdentityDep) -> None: ...


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (needs_nothing, "[]"),
        (knows_its_caller_alone, "[]"),
        (names_no_scope, "['nothing']"),
        (names_an_unknown_scope, "['admin']"),
        (names_two, "['read', 'write']"),
        (reads, None),
        (asks, None),
        (takes_a_session, None),
    ],
)
def test_a_route_that_forgets_is_found(app: FastAPI, endpoint: Any, said: str | None) -> None:
    router = APIRouter(prefix="/api/v1")
    router.add_api_route("/more", endpoint, include_in_schema=False)
    app.include_router(router)
    assert undeclared(app) == ([f"/api/v1/more: {said}"] if said else [])


@pytest.mark.parametrize(("path", "endpoint", "found"), [
    ("/v1/models/more", needs_nothing, True),
    ("/v1/models/more", knows_its_caller_alone, False),
    ("/v1/more", knows_its_caller_alone, True),
    ("/v1/more", asks, False),
])  # fmt: skip
def test_so_it_is_below_v1(app: FastAPI, path: str, endpoint: Any, found: bool) -> None:
    app.add_api_route(path, endpoint, include_in_schema=False)
    assert bool(undeclared(app)) == found


def test_all_of_them_are_described_as_bearers(app: FastAPI) -> None:
    description = app.openapi()
    assert {scheme["scheme"] for scheme in description["components"]["securitySchemes"].values()} == {"bearer"}
    for path, operations in description["paths"].items():
        for operation in operations.values():
            open_to_all = not path.startswith(("/api/v1/", "/v1/")) or (
                path.startswith("/api/v1/auth/") and "sign-out" not in path
            )
            assert ("security" in operation) != open_to_all

"""What the API says of itself (OpenAPI 3.1): of every operation, each status that it can answer, with body and headers.

Most errors follow from an operation's form: what takes a body may answer 413, what needs a token 401. `Described` adds
those by itself. Of the others a route names the status: `responses=may(409)`.
"""

from collections.abc import Iterator
from typing import Any, override

from fastapi import FastAPI

from ringfence.http.errors import OPENAI, OpenAIProblem, Problem

type Responses = dict[int | str, dict[str, Any]]

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
"""The content of an error's response, unless a route says otherwise."""

_OPENAI = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIProblem"}}}
_FOREIGN = ("HTTPValidationError", "ValidationError")  # FastAPI's idea of the body of 422, which is not ours
_COMPONENTS = "#/components/schemas/{model}"


def _header(description: str, example: str, *, always: bool = True) -> dict[str, Any]:
    return {"description": description, "required": always, "schema": {"type": "string", "examples": [example]}}


_WAIT = {"Retry-After": _header("Seconds after which another try makes sense.", "5")}
_RATE = {
    "RateLimit-Policy": _header("The limit: tries, and in how many seconds.", '"sign-in";q=10;w=600'),
    "RateLimit": _header("What is left of it, and the seconds until there is more.", '"sign-in";r=0;t=42'),
}
_INVALID_TOKEN = {"WWW-Authenticate": _header("As RFC 6750, section 3, has it.", 'Bearer error="invalid_token"')}
_LACKS_SCOPE = {
    "WWW-Authenticate": _header(
        "Which scope an API key lacks, where it is that.",
        'Bearer error="insufficient_scope", scope="read"',
        always=False,
    )
}

ERRORS: dict[str, dict[str, Any]] = {
    "400": {"description": "What was sent can't be right: the same will fail again."},
    "401": {
        "description": "No token, one that opens nothing, or one whose session has ended.",
        "headers": _INVALID_TOKEN,
    },
    "403": {"description": "Whoever shows this token may not do this.", "headers": _LACKS_SCOPE},
    "404": {"description": "There is no such thing, or it is somebody else's: the two look the same."},
    "409": {"description": "The present state does not allow this."},
    "413": {"description": "More bytes than the limit allows."},
    "415": {"description": "A kind of content that is not read."},
    "422": {"description": "This is not of the form that is described here; `detail` says where."},
    "429": {"description": "This was tried too often, or there were too many requests.", "headers": _WAIT | _RATE},
    "503": {"description": "What the engine depends on is down or full, or the engine is stopping.", "headers": _WAIT},
}
"""The errors' responses, but for their body, a `Problem` (below `/v1`, OpenAI's) unless a route says otherwise."""


def may(*statuses: int) -> Responses:
    """For a route's `responses`: errors that its form alone does not tell."""
    return {status: {} for status in statuses}


class Described(FastAPI):
    """An application whose document names every answer."""

    @override
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        known, made = self.openapi_schema, super().openapi()
        if made is not known:
            _complete(made)
        return made


def _complete(document: dict[str, Any]) -> None:
    """Add to FastAPI's document what it can't know."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    openai = any(path.startswith(OPENAI) for path in document["paths"])
    for form in (Problem, OpenAIProblem) if openai else (Problem,):
        schema = form.model_json_schema(mode="serialization", ref_template=_COMPONENTS)
        _hoist(schema, schemas)
        schemas[form.__name__] = schema
    for name in _FOREIGN:
        schemas.pop(name, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_errors(path, operation)
    _hoist(document["paths"], schemas)


def _add_errors(path: str, operation: dict[str, Any]) -> None:
    responses, form = operation["responses"], _OPENAI if path.startswith(OPENAI) else PROBLEM
    if "422" in responses:
        responses["422"] = {}
    for status in _implied(path, operation):
        responses.setdefault(status, {})
    for status in responses.keys() & ERRORS.keys():
        said = responses[status]
        responses[status] = {**ERRORS[status], "content": said.get("content", form)}
    operation["responses"] = dict(sorted(responses.items()))


def _implied(path: str, operation: dict[str, Any]) -> Iterator[str]:
    """The errors that follow from an operation's form."""
    yield "503"
    if "security" in operation:
        yield from ("401", "403", "429")
    if "requestBody" in operation:
        yield from ("400", "413")
    if "{" in path:
        yield "404"


def _hoist(node: Any, schemas: dict[str, Any]) -> None:
    """Move definitions to where the whole document finds them."""
    match node:
        case dict():
            schemas.update(node.pop("$defs", {}))
            node = node.values()
        case list():
            pass
        case _:
            return
    for inner in node:
        _hoist(inner, schemas)

"""What the API says of itself, held against every answer that a test's client gets."""

import re
from functools import cache
from typing import Any, cast

import httpx2

from ringfence.http.app import create_app
from ringfence.services import Services


class BrokenContract(AssertionError):
    """An answer that the API's description does not know."""


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document, made without an engine."""
    return create_app(cast("Services", None), body_max_bytes=1).openapi()  # no request is made


@cache
def _paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operations) for path, operations in document()["paths"].items()
    ]


async def keeps_to_it(response: httpx2.Response) -> None:
    """For a client's `event_hooks`: whether a status and its kind of body are described; of what is described at all.

    Raises:
        BrokenContract: they are not.
    """
    asked, status = response.request, str(response.status_code)
    what = f"{asked.method} {asked.url.path} answered {status}"
    for pattern, operations in _paths():
        operation = operations.get(asked.method.lower())
        if operation is None or not pattern.fullmatch(asked.url.path):
            continue
        if status not in operation["responses"]:
            raise BrokenContract(what)
        described = operation["responses"][status]
        kinds = described.get("content", {})
        kind = response.headers.get("content-type", "").partition(";")[0]
        if kinds and kind not in kinds and "*/*" not in kinds:
            raise BrokenContract(f"{what} as {kind or 'nothing'}")
        for name, header in described.get("headers", {}).items():
            if header["required"] and name not in response.headers:
                raise BrokenContract(f"{what} without {name}")

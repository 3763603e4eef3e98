"""Pure ASGI middlewares: they see each message of a stream, so they must cost next to nothing."""

import asyncio
import math
import re
import time
import uuid
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.errors import TooLarge, Unavailable
from ringfence.http.errors import defect, problem_of
from ringfence.limits import Standing
from ringfence.telemetry.metrics import HTTP_IN_PROGRESS, UNMATCHED, request_ended
from ringfence.telemetry.traces import Span, answered, tracing

log = structlog.get_logger()

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types ringfence"
    ),
}
_PRIVATE = ("/api/", "/v1/", "/mcp")  # what is answered here is somebody's own


class RequestContext:
    """Gives each request an id, security headers, an answer, and one log line with neither its body nor its query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (or pass a lifespan on)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with tracing.request(scope.get("headers", ())) as span, HTTP_IN_PROGRESS.track_inprogress():
            await self._observed(scope, receive, send, span)

    async def _observed(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        request_id = uuid.uuid4().hex
        # Cleared first: uvicorn runs all requests of a connection in one context.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, **tracing.ids())
        status = 0
        standings: list[Standing] = []  # where `deps.get_note` finds it
        scope.setdefault("state", {})["standings"] = standings

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                _tell(headers, standings)
                if scope["path"].startswith(_PRIVATE):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # a defect: the client gets an answer that tells nothing, the log its trace
            response = defect(error, scope["path"])
            if status:  # it has begun: nothing can be said any more but that it broke off
                raise
            await response(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # the server stops, and waits no longer
            if not status:
                stopping = Unavailable("shutting_down", "The server is stopping. Please try again in a moment.")
                await problem_of(stopping, scope["path"])(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", None) or scope.get("root_path") or None  # or what is mounted
            request_ended(scope["method"], route or UNMATCHED, status, seconds)
            answered(span, scope["method"], route or UNMATCHED, status, request_id)
            log.info(
                "request",
                method=scope["method"],
                route=route,
                client=scope["client"][0] if scope.get("client") else None,
                status=status,
                ms=round(seconds * 1000, 1),
            )


def _tell(headers: MutableHeaders, standings: Sequence[Standing]) -> None:
    """How limits stand (draft-ietf-httpapi-ratelimit-headers-10), beside what an error says of the one that refused."""
    for name, told in (
        ("RateLimit-Policy", [one.rate.policy for one in standings]),
        ("RateLimit", [f'"{one.rate.name}";r={one.remaining};t={math.ceil(one.reset)}' for one in standings]),
    ):
        if told:
            headers[name] = ", ".join([*headers.getlist(name), *told])


class BodyLimit:
    """Refuses a request body over the limit, declared or not; what streams has a limit of its own.

    Args:
        app: gets the request.
        max_bytes: the limit.
        streamed: methods and paths that it does not hold for, as `POST /path`.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, streamed: re.Pattern[str]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or self._streamed.fullmatch(f"{scope['method']} {scope['path']}"):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await problem_of(self._too_large(), scope["path"])(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, receive_counted, send)

    def _too_large(self) -> TooLarge:
        return TooLarge("body_too_large", f"The body is larger than {self._max_bytes} bytes.")

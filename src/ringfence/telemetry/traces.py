"""Traces, for OpenTelemetry: a span for each stage of an upload and of an answer, where an operator asked for them.

Spans hold ids, counts and durations, never a word of a document, a question or an answer; of errors they hold the
code, never the message. Switched off, a span costs less than a microsecond and the SDK is not even imported.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ringfence.errors import RingfenceError

__all__ = ["Span", "Tracing", "answered", "configure_tracing", "failed", "tracing"]

SHUTDOWN_SECONDS = 3.0
"""How long the end of a process may wait for the last spans to be sent."""

EXPORT_SECONDS = 2.0
"""How long spans are gathered before they are sent together."""

_SERVER_ERROR = 500


class Tracing:
    """A process's handle for spans, as `log` is for log lines. It does nothing until `configure_tracing`."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self._off = nullcontext(INVALID_SPAN)

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self.tracer is not None

    def span(self, name: str, **attributes: object) -> AbstractContextManager[Span]:
        """A stage, inside the stage that is current and itself current until its end.

        Not around a `yield` of an asynchronous generator, whose steps may run in different tasks: see `begin`.
        """
        return self._off if self.tracer is None else _current(self.begin(name, **attributes))

    def begin(self, name: str, **attributes: object) -> Span:
        """A stage inside the current one, which does not become current; the caller has to `end` it."""
        if self.tracer is None:
            return INVALID_SPAN
        return self.tracer.start_span(name, attributes=_plain(attributes))

    def request(self, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[Span]:
        """The stage around all others of an HTTP request.

        It begins a trace of its own. The trace that the client names in a `traceparent` header (W3C Trace Context)
        is linked to, but not continued: whoever may send requests shall not decide what is sampled.
        """
        if self.tracer is None:
            return self._off
        span = self.tracer.start_span("request", context=Context(), kind=SpanKind.SERVER, links=_links(headers))
        return _current(span)

    def ids(self) -> dict[str, str]:
        """The current trace's id as log lines hold it; nothing where nobody records it."""
        context = trace.get_current_span().get_span_context()
        return {"trace_id": trace.format_trace_id(context.trace_id)} if context.trace_flags.sampled else {}


tracing = Tracing()


def configure_tracing(
    endpoint: str, *, headers: Mapping[str, str], sample_ratio: float, every: float = EXPORT_SECONDS
) -> Callable[[], None]:
    """Send spans to an OpenTelemetry collector from now on, from a thread of its own; what it can't take is dropped.

    Args:
        endpoint: the collector's base URL; traces go to `/v1/traces` under it.
        headers: sent along, e.g. a key.
        sample_ratio: the share of traces that is recorded, 0 to 1.
        every: seconds between two sendings.

    Returns:
        What stops it and sends the last spans, within `SHUTDOWN_SECONDS`.
    """
    # Only here: the SDK and its exporter take some 0.4 s and 20 MB that nobody pays who does not trace.
    from ringfence.telemetry.otlp import open_provider  # noqa: PLC0415

    provider = open_provider(f"{endpoint.rstrip('/')}/v1/traces", headers, sample_ratio, every)
    tracing.tracer = provider.get_tracer("ringfence")

    def stop() -> None:
        tracing.tracer = None
        # A collector that hangs must not hold the process: the thread is a daemon, and is left behind.
        last = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(SHUTDOWN_SECONDS)

    return stop


def answered(span: Span, method: str, route: str, status: int, request_id: str) -> None:
    """Complete the span of a request, whose route is known only now. `status` is 0 where no answer began."""
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.response.status_code": status, "request_id": request_id})
        if status >= _SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))


def failed(span: Span, error: BaseException) -> None:
    """Note on a span why it ended early: a code or a type, never a message."""
    code = error.code if isinstance(error, RingfenceError) else type(error).__name__
    span.set_attribute("error.type", code)
    if isinstance(error, Exception):  # a cancellation is none
        span.set_status(Status(StatusCode.ERROR))


@contextmanager
def _current(span: Span) -> Generator[Span]:
    # OpenTelemetry's own way of noting an exception writes its message and its trace down.
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except BaseException as error:  # cancelled, too: the span says so, and it goes on
            failed(span, error)
            raise


def _plain(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    return {name: value if isinstance(value, int | float) else str(value) for name, value in attributes.items()}


def _links(headers: Iterable[tuple[bytes, bytes]]) -> list[Link]:
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name == b"traceparent"}
    theirs = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, Context())).get_span_context()
    return [Link(theirs)] if theirs.is_valid else []

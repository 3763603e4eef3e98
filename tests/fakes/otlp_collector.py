"""An OpenTelemetry collector on loopback: takes traces over OTLP/HTTP and keeps their spans."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span:
    """A span as the collector got it."""

    def __init__(self, message: Any, resource: dict[str, Any]) -> None:
        self.name: str = message.name
        self.trace_id: str = message.trace_id.hex()
        self.span_id: str = message.span_id.hex()
        self.parent_id: str = message.parent_span_id.hex()
        self.seconds: float = (message.end_time_unix_nano - message.start_time_unix_nano) / 1e9
        self.began: int = message.start_time_unix_nano
        self.attributes = _attributes(message.attributes)
        self.events: list[str] = [event.name for event in message.events]
        self.links: list[str] = [link.trace_id.hex() for link in message.links]
        self.failed: bool = message.status.code == message.status.STATUS_CODE_ERROR
        self.message: str = message.status.message
        self.resource = resource


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector:
    """What came, and how it behaves: `status` is what it answers, `silent` makes it say nothing at all."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        self.silent = False
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self._released = asyncio.Event()
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Span]:
        """All spans of a name, in the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.began)

    async def one(self, name: str) -> Span:
        """Wait for the one span of a name."""
        async with asyncio.timeout(15):
            while not self.named(name):
                await asyncio.sleep(0.02)
        [span] = self.named(name)
        return span

    def children(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_id == parent.span_id]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.current_task()
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((request, headers))
                if self.silent:
                    await self._released.wait()
                self._keep(body)
                writer.write(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % self.status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            del self._open[writer]

    def _keep(self, body: bytes) -> None:
        if self.status != 200:
            return
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            self.spans += [Span(span, about) for scope in resource.scope_spans for span in scope.spans]

    async def close(self) -> None:
        """Break off what is open."""
        self._released.set()
        tasks = [task for task in self._open.values() if task]
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def otlp_collector() -> AsyncGenerator[Collector]:
    collector = Collector()
    server = await asyncio.start_server(collector.serve, "127.0.0.1", 0)
    collector.port = server.sockets[0].getsockname()[1]
    try:
        yield collector
    finally:
        server.close()
        await collector.close()
        await server.wait_closed()

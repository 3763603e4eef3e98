"""A log ingest over real HTTP on loopback: up, down, slow, refusing, overloaded, as a test scripts it."""

import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer; with `hold`, one that comes only once the test releases it."""

    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    at: float
    headers: Mapping[str, str]
    events: list[dict[str, Any]]
    status: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    fake: "IngestServer"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections.append(self.connection)

    def do_POST(self) -> None:
        fake = self.server.fake
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = fake.script.popleft() if fake.script else Reply()
        fake.seen.append(Seen(time.monotonic(), dict(self.headers), events, reply.status))
        if reply.hold:
            fake.released.wait(60)
        self.send_response(reply.status)
        for name, value in {"Content-Length": "0", **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class IngestServer:
    """The ingest: what it saw, and what it answers next (202 where nothing is scripted)."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.seen: list[Seen] = []
        self.script: deque[Reply] = deque()
        self.released = threading.Event()
        self.connections: list[socket.socket] = []
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """Events of requests that were answered with 202, in order."""
        return [event for seen in self.seen if seen.status == 202 for event in seen.events]

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.fake = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Go down, with all connections."""
        self.released.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

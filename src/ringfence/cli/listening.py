"""Addresses to listen on, and what serves there."""

import contextlib
import socket
from collections.abc import Generator

import uvicorn

from ringfence.errors import SetupError


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        SetupError: `address_taken`; the address is taken, or not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SetupError("address_taken", f"Can't listen on {host}:{port}: {error.strerror}.") from None
    # Connections inherit it. asyncio would set it for them, if this socket said that its protocol is TCP's; without it
    # the second packet of an answer waits for the first one's acknowledgement, up to 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class SignalFreeServer(uvicorn.Server):
    """Uvicorn's server, which leaves signals to us: its own handling ends the process before we clean up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

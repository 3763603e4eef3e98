"""A chat server that costs next to nothing: OpenAI's protocol, tokens at a steady rate until the client leaves.

`python -m bench.chat_stub [RATE]` prints its base URL and serves until its standard input ends. Each answer repeats
`SENTENCES`, a word and its blank a token, so that the engine's check finds them in a document of them.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop

RATE = 50.0
SENTENCES = (
    "The ferry to Holm leaves every morning at seven and carries the mail and most of the fish.",
    "In winter the harbour freezes over and the boats are drawn up on the shore behind the sheds.",
    "Every spring the members of the society paint the lighthouse white and mend what the storms have broken.",
    "The museum keeps the old engine of the first steamer in a hall that was built for it.",
    "Children of the island go to school on the mainland and come home with the last boat.",
)
TEXT = " ".join(SENTENCES)
_SLOTS = 20  # within a token's time: streams that began together are not told together


def _chunks() -> list[bytes]:
    """A chunk of HTTP for each token."""
    words = [f" {word}" for sentence in SENTENCES for word in [*sentence[:-1].split(), "[1]."]]
    return [_chunk({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}) for word in words]


def _chunk(data: dict[str, object]) -> bytes:
    head = {"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": 1780000000, "model": "stub"}
    event = f"data: {json.dumps({**head, **data})}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


class Ticker:
    """Gives every stream a token in each period, a share of them at a time."""

    def __init__(self, rate: float) -> None:
        self._period = 1 / rate
        self._chunks = _chunks()
        self.slots: list[dict[Stream, int]] = [{} for _ in range(_SLOTS)]

    def emptiest(self) -> dict["Stream", int]:
        return min(self.slots, key=len)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began, ticks = loop.time(), 0
        while True:
            for slot in self.slots:
                ticks += 1
                await asyncio.sleep(max(began + ticks * self._period / _SLOTS - loop.time(), 0))
                for stream, said in slot.items():
                    stream.transport.write(self._chunks[said % len(self._chunks)])
                    slot[stream] = said + 1


class Stream(asyncio.Protocol):
    """A connection; what it asks does not matter."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self._slot: dict[Stream, int] | None = None
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, _, body = self._asked.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if self._slot is None and length.strip().isdigit() and len(body) >= int(length):
            self.transport.write(_HEAD)
            self._slot = self._ticker.emptiest()
            self._slot[self] = 0

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._slot is not None:
            del self._slot[self]
            self._slot = None


async def _serve(rate: float) -> None:
    loop, ticker = asyncio.get_running_loop(), Ticker(rate)
    server = await loop.create_server(lambda: Stream(ticker), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    running = asyncio.create_task(ticker.run())
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1]) if len(sys.argv) > 1 else RATE))

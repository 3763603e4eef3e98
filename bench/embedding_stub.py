"""An embedding server that costs next to nothing: OpenAI's protocol, vectors made beforehand. Run as a process.

`python -m bench.embedding_stub` prints its base URL and serves until its standard input ends.
"""

import asyncio
import json
import sys

import numpy as np

DIMENSIONS = 384
_MOST = 2048
_VECTORS = 64  # different ones, in turn


def _answers() -> list[bytes]:
    """By number of texts: the body of an answer, with digits as servers send them."""
    rows = np.random.default_rng(1).standard_normal((_VECTORS, DIMENSIONS))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    texts = [json.dumps([round(float(value), 8) for value in row]).replace(" ", "") for row in rows]
    return [f'{{"object":"embedding","index":{n},"embedding":{texts[n % _VECTORS]}}}'.encode() for n in range(_MOST)]


class _Server(asyncio.Protocol):
    def __init__(self, entries: list[bytes]) -> None:
        self._entries = entries
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self._answer(len(json.loads(body)["input"]))

    def _answer(self, count: int) -> None:
        usage = b'"usage":{"prompt_tokens":1,"total_tokens":1}'
        data = b",".join(self._entries[:count])
        body = b'{"object":"list","model":"stub",' + usage + b',"data":[' + data + b"]}"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.writelines((head, body))  # type: ignore[attr-defined]  # it is a transport that writes


async def _serve() -> None:
    entries = _answers()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Server(entries), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())

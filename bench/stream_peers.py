"""What the engine's streams are measured beside: `python -m bench.stream_peers raw|fastapi CHAT_URL PORT`.

`raw` passes bytes on, unread. `fastapi` is what one writes first: FastAPI, httpx's `aiter_lines`, a StreamingResponse.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from typing import cast
from urllib.parse import urlsplit

import httpx
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse


class _There(asyncio.Protocol):
    def __init__(self, here: asyncio.WriteTransport) -> None:
        self._here = here

    def data_received(self, data: bytes) -> None:
        self._here.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._here.close()


class _Here(asyncio.Protocol):
    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._there: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._task = asyncio.create_task(self._pass_on(data))

    async def _pass_on(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._there is None:
            self._there, _ = await loop.create_connection(lambda: _There(self._transport), *self._address)
        self._there.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._there:
            self._there.close()


async def _raw(host: str, port: int, own: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Here(host, port), "127.0.0.1", own, backlog=1024)
    async with server:
        await server.serve_forever()


def _app(url: str) -> FastAPI:
    app = FastAPI()
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1000), timeout=None)  # noqa: S113  # measured

    async def tokens(question: str) -> AsyncGenerator[str]:
        body = {"model": "stub", "stream": True, "messages": [{"role": "user", "content": question}]}
        async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    text = json.loads(line[6:])["choices"][0]["delta"].get("content")
                    if text:
                        yield f"event: token\ndata: {json.dumps({'type': 'token', 'text': text})}\n\n"

    @app.post("/api/v1/answers")
    async def ask(request: Request) -> StreamingResponse:
        question = (await request.json())["question"]
        return StreamingResponse(tokens(question), media_type="text/event-stream")

    return app


def main() -> None:
    kind, url, port = sys.argv[1:]
    parts = urlsplit(url)
    if kind == "raw":
        assert parts.hostname is not None
        assert parts.port is not None
        uvloop.run(_raw(parts.hostname, parts.port, int(port)))
    else:
        uvicorn.run(_app(url), host="127.0.0.1", port=int(port), log_level="warning", backlog=1024)


if __name__ == "__main__":
    main()

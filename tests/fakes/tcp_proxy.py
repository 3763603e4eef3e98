"""A TCP proxy before a real server, which tests can hold (silence), cut (refusal) and restore."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit, urlunsplit


class Proxy:
    """Forwards a loopback port to a PostgreSQL named by a URL, unix socket or TCP."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._host = parts.hostname or query["host"][0]
        self._port = parts.port or int(query.get("port", ["5432"])[0])
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def url(self, url: str) -> str:
        """A URL of the real server, led through here."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=""))

    def hold(self) -> None:
        """From now on nothing passes, in either direction, though connections stay open and are accepted."""
        self._flows.clear()

    def release(self) -> None:
        """Let everything pass that was held, and what follows."""
        self._flows.set()

    async def restore(self) -> None:
        """Listen (again)."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            await asyncio.sleep(0)  # whoever was accepted just now gets a task yet
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also if it is cancelled before it has begun

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = None
        try:
            if self._host.startswith("/"):
                source, there = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
            else:
                source, there = await asyncio.open_connection(self._host, self._port)
            pumps = [asyncio.create_task(self._pump(*ends)) for ends in ((reader, there), (source, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            if there is not None:
                there.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._flows.wait()
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def tcp_proxy(url: str) -> AsyncGenerator[Proxy]:
    """A listening proxy before the server of a URL."""
    proxy = Proxy(url)
    await proxy.restore()
    try:
        yield proxy
    finally:
        await proxy.cut()

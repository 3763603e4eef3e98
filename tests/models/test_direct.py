"""One request and its answer on a connection of its own, against servers that say what they are told to."""

import asyncio
from contextlib import asynccontextmanager

import httpx2
import pytest

from ringfence.models.direct import MAX_HEAD_BYTES, MAX_UNREAD_BYTES, Direct, Rest

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


class Server:
    """Reads a request, then does as `script` says with the connection."""

    def __init__(self, script):
        self._script = script
        self.requests = []
        self.gone = asyncio.Event()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head + await reader.readexactly(2))
        try:
            await self._script(writer)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.gone.set()


@asynccontextmanager
async def serving(script):
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/x"


def request(url):
    return httpx2.Request("POST", url, headers={"A": "b", "Connection": "keep-alive"}, content=b"{}")


def says(*data, close=False):
    async def script(writer):
        for piece in data:
            writer.write(piece)
            await writer.drain()
        if close:
            writer.close()

    return script


async def test_a_request_as_it_is_sent():
    client = Direct(5)
    async with serving(says(HEAD, chunk(b"yes"), END)) as (server, url):
        exchange = await client.open(request(url))
        assert exchange.status == 200
        assert await exchange.read() == b"yes"
        assert await exchange.read() is None
        client.let_go(exchange)
        await asyncio.wait_for(server.gone.wait(), 30)
    [said] = server.requests
    head, body = said.split(b"\r\n\r\n")
    assert (head.splitlines()[0], body) == (b"POST /v1/x HTTP/1.1", b"{}")
    assert [line for line in head.splitlines() if line.lower().startswith(b"connection")] == [b"Connection: close"]
    assert b"A: b" in head.splitlines()


async def test_what_came_while_nobody_read_is_one_piece():
    client = Direct(5)
    async with serving(says(HEAD + chunk(b"one "), chunk(b"two "), chunk(b"three") + END)) as (_, url):
        exchange = await client.open(request(url))
        said = b""
        while (piece := await exchange.read()) is not None:
            said += piece
        assert said == b"one two three"
        client.let_go(exchange)


async def test_an_answer_may_be_announced():
    before = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with serving(says(before + HEAD + chunk(b"yes") + b"0\r\nRetry-After: 9\r\n\r\n")) as (_, url):
        client = Direct(5)
        exchange = await client.open(request(url))
        assert (exchange.status, exchange.headers) == (200, {"transfer-encoding": "chunked"})
        assert [await exchange.read(), await exchange.read()] == [b"yes", None]
        assert "retry-after" not in exchange.headers
        client.let_go(exchange)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"SSH-2.0-OpenSSH\r\n", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 6 + 1), httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-", httpx2.ReadError),
    ],
)
async def test_what_is_no_answer(said, error):
    client = Direct(5)
    async with serving(says(said, close=True)) as (_, url):
        with pytest.raises(error):
            await client.open(request(url))
    assert client._exchanges == set()


async def test_an_answer_that_breaks_off_brings_what_there_was():
    client = Direct(5)
    async with serving(says(HEAD + chunk(b"some"), close=True)) as (_, url):
        exchange = await client.open(request(url))
        assert await exchange.read() == b"some"
        with pytest.raises(httpx2.ReadError):
            await exchange.read()
        client.let_go(exchange)


async def test_a_server_that_says_too_much_waits():
    client, written = Direct(5), asyncio.Event()

    async def script(writer):
        writer.write(HEAD)
        for _ in range(400):  # more than the system keeps for both ends
            writer.write(chunk(b"x" * 2**16))
            await writer.drain()
        writer.write(END)
        written.set()

    async with serving(script) as (_, url):
        exchange = await client.open(request(url))
        async with asyncio.timeout(60):
            while not exchange._paused:
                await asyncio.sleep(0.01)
            assert exchange._unread <= MAX_UNREAD_BYTES + 2**20
            assert not written.is_set()
            length = 0
            while piece := await exchange.read():
                length += len(piece)
        assert length == 400 * 2**16
        client.let_go(exchange)


async def test_with_many_answers_pieces_are_fewer():
    client, more = Direct(5, Rest(free=0, each=1.0, most=1.0)), asyncio.Event()

    async def script(writer):
        writer.write(HEAD + chunk(b"first "))
        await more.wait()
        for _ in range(3):
            writer.write(chunk(b"word "))
            await writer.drain()
        writer.write(END)

    async with serving(script) as (_, url):
        exchange = await client.open(request(url))
        assert await exchange.read() == b"first "
        more.set()
        assert await exchange.read() == b"word word word "
        assert await exchange.read() is None
        client.let_go(exchange)


async def test_no_server():
    async with serving(says()) as (_, url):
        pass
    with pytest.raises(httpx2.ConnectError):
        await Direct(5).open(request(url))


async def test_a_server_that_does_not_answer_the_call():
    with pytest.raises(httpx2.ConnectTimeout):
        await Direct(0).open(request("http://127.0.0.1:9/"))


def test_a_connection_rests_when_there_are_many():
    rest = Rest(free=2, each=0.5, most=1.0)
    assert [rest.among(answers) for answers in (1, 2, 3, 4, 5)] == [0, 0, 0.5, 1.0, 1.0]

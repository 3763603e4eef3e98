"""A model server on loopback for tests and for trying things by hand: Ollama's API and OpenAI's, over real HTTP.

    async with model_server() as server:
        chat = OllamaChat(server.url, "any", ...)               # or OpenAIChat(server.openai_url, "any", ...)
        server.script(answer="Forty-two [1].", delay=0.01)      # what chat does from now on
        server.script(status=503, times=1)                      # the next request only, then as before
        server.script_embeddings(vectors=[[1.0, 0.0]], times=1)
        server.answerer = lambda messages: "..."                # your own brain, for unscripted chat
        ...
        await server.wait_for(lambda: server.disconnects == 1)  # the client left in the middle of an answer

`model_server_thread()` is the same from code without a loop (tests of the command line, of child processes), and
`python -m tests.fakes.model_server --port 11434` by hand. Unscripted, chat answers by extraction (see `extract`), and
embeddings are hashed bags of words (see `hash_vector`), so that real retrieval works: texts that share words are near.
"""

import argparse
import asyncio
import json
import re
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

type Messages = list[dict[str, str]]
type Answerer = Callable[[Messages], str]

REFUSAL = "The documents do not answer this question."
_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "our",
        "shall",
        "that",
        "the",
        "their",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "der",
        "die",
        "das",
        "den",
        "dem",
        "des",
        "ein",
        "eine",
        "und",
        "oder",
        "ist",
        "sind",
        "war",
        "wer",
        "wie",
        "wann",
        "wo",
        "im",
        "am",
        "zu",
        "von",
        "mit",
        "für",
        "auf",
    ]
)


def _pieces(text: str, size: int | None) -> list[str]:
    """The text in pieces of `size` characters, or word by word."""
    if size is None:
        return re.findall(r"\s*\S+|\s+$", text)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _words(text: str) -> list[str]:
    """The words that carry meaning, in lower case, without an English plural's s."""
    words = (word.lower() for word in re.findall(r"\w+", text))
    return [word.removesuffix("s") if len(word) > 3 else word for word in words if word not in _STOP_WORDS]


def hash_vector(text: str, dimensions: int) -> list[float]:
    """A bag of words hashed into `dimensions`, of no particular length; never zero, the same in every process."""
    vector = [0.0] * dimensions
    for word in _words(text) or [text]:
        vector[zlib.crc32(word.encode(errors="replace")) % dimensions] += 1.0
    return vector


def extract(messages: Messages) -> str:
    """Answer the last user message from the passages in it, numbered `[1]` … at the start of a line.

    The question is what follows the last "Question:", or else the last line. The answer is the sentence with most of
    the question's words, with its passage's number; `REFUSAL` where no word is shared.
    """
    prompt = next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), "")
    prompt = re.sub(r"(?m)^> ?", "", prompt)  # by which lines are marked as quoted
    passages, question = _taken_apart(prompt)
    wanted = set(_words(question))
    best, best_score, best_number = "", 0, ""
    for number, passage in passages:
        for sentence in re.split(r"(?<=[.!?])\s+|\n{2,}", passage.strip()):
            score = len(wanted & set(_words(sentence)))
            if score > best_score:
                best, best_score, best_number = sentence, score, number
    return f"{' '.join(best.split()).rstrip('.!?')} [{best_number}]." if best_score else REFUSAL


def _taken_apart(prompt: str) -> tuple[list[tuple[str, str]], str]:
    """The numbered passages, and the question."""
    parts = re.split(r"(?im)^\s*question:\s*", prompt)
    if len(parts) > 1:
        text, question = "\n".join(parts[:-1]), parts[-1]
        if re.search(r"(?m)^\s*\[\d+\]", question):  # the question comes first, the passages after it
            question, _, text = question.partition("\n")
    else:
        text, _, question = prompt.rstrip().rpartition("\n")
    found = re.split(r"(?m)^\s*\[(\d+)\]", text)
    return list(zip(found[1::2], found[2::2], strict=True)), question


@dataclass(frozen=True)
class Script:
    """How the server behaves. Counts are in pieces of the answer; the response's head goes out with the first piece.

    Attributes:
        answer: the text, or a function of the messages; None: the server's `answerer`.
        chunk_size: characters per piece (None: word by word).
        reasoning: hidden thoughts sent before the answer, in pieces of their own.
        first_delay, delay: seconds before the first piece, and before each further one.
        stall_after: after so many pieces, silence until the client leaves or `ModelServer.release` is called.
        break_after: after so many pieces, the connection is cut.
        error_after: after so many pieces, an error in the provider's format, then the end.
        end_after: after so many pieces, an orderly end of the response without the mark that the answer is complete.
        status: of the response; other than 200, its body is an error in the provider's format.
        retry_after: what a chat's response of another status says of it.
        raw: the body as it is, one HTTP chunk each, instead of all else but the delays and the `..._after`s.
        vectors: what embeddings answer, instead of `hash_vector`s.
        counts: whether chat says what an answer took, in words: OpenAI's protocol where that is asked for.
    """

    answer: str | Answerer | None = None
    chunk_size: int | None = None
    reasoning: str = ""
    first_delay: float = 0.0
    delay: float = 0.0
    stall_after: int | None = None
    break_after: int | None = None
    error_after: int | None = None
    end_after: int | None = None
    status: int = 200
    retry_after: int | str | None = None
    raw: Sequence[bytes] | None = None
    vectors: Sequence[Sequence[float]] | None = None
    counts: bool = True


@dataclass(frozen=True)
class Request:
    """What a client sent. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class _Scripts:
    """The scripts of one kind of request."""

    def __init__(self) -> None:
        self._next: list[Script] = []
        self._lasting = Script()

    def add(self, script: Script, times: int | None) -> None:
        if times is None:
            self._lasting = script
        else:
            self._next.extend([script] * times)

    def take(self) -> Script:
        return self._next.pop(0) if self._next else self._lasting


class ModelServer:
    """A running server: what it was asked, and levers for what it does."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.url = ""
        self.answerer: Answerer = extract  # answers unscripted chat
        self.requests: list[Request] = []
        self.connections = 0  # accepted so far
        self.streaming = 0  # answers under way
        self.disconnects = 0  # clients that left before their answer was complete
        self._chat, self._embeddings, self._reranks, self._predictions = _Scripts(), _Scripts(), _Scripts(), _Scripts()
        self._transports: set[asyncio.WriteTransport] = set()
        self._loop = asyncio.get_running_loop()
        self._released, self._stopped = asyncio.Event(), asyncio.Event()

    @property
    def open_connections(self) -> int:
        return len(self._transports)

    @property
    def openai_url(self) -> str:
        """The base URL of OpenAI's protocol; `url` is Ollama's."""
        return f"{self.url}/v1"

    @property
    def chats(self) -> list[Request]:
        """The requests for chat answers."""
        return [request for request in self.requests if request.path.endswith(("/chat", "/chat/completions"))]

    @property
    def embeddings(self) -> list[Request]:
        """The requests for vectors."""
        return [request for request in self.requests if request.path.endswith(("/embed", "/embeddings"))]

    @property
    def reranks(self) -> list[Request]:
        """The requests for scores."""
        return [request for request in self.requests if request.path.endswith("/rerank")]

    @property
    def predictions(self) -> list[Request]:
        """The requests for what follows from a text."""
        return [request for request in self.requests if request.path == "/predict"]

    def script_predictions(self, *, times: int | None = None, **behaviour: Any) -> None:
        """Inference behaves so (see `Script`): for the next `times` requests, or from now on."""
        self._predictions.add(Script(**behaviour), times)

    def script_reranks(self, *, times: int | None = None, **behaviour: Any) -> None:
        """Reranking behaves so (see `Script`): for the next `times` requests, or from now on."""
        self._reranks.add(Script(**behaviour), times)

    def script(self, *, times: int | None = None, **behaviour: Any) -> None:
        """Chat behaves so (see `Script`): for the next `times` requests, or from now on."""
        self._chat.add(Script(**behaviour), times)

    def script_embeddings(self, *, times: int | None = None, **behaviour: Any) -> None:
        """Embeddings behave so (see `Script`): for the next `times` requests, or from now on."""
        self._embeddings.add(Script(**behaviour), times)

    def release(self) -> None:
        """Let answers go on that stall (`stall_after`), now and from now on. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def wait_for(self, condition: Callable[[], bool], *, within: float = 5.0) -> None:
        """Wait until something came true.

        Raises:
            TimeoutError: it did not, `within` so many seconds.
        """
        async with asyncio.timeout(within):
            while not condition():  # a condition on any state has no event
                await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: asyncio.Event) -> None:
        """One connection: request after request, until the client leaves."""
        self.connections += 1
        self._transports.add(writer.transport)
        try:
            while True:
                request = await _read_request(reader)
                self.requests.append(request)
                await _Exchange(self, request, writer, gone).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._transports.discard(writer.transport)

    async def _stop(self) -> None:
        """Drop what is left of the connections."""
        for transport in list(self._transports):
            transport.abort()
        await self.wait_for(lambda: not self._transports)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, server: ModelServer, request: Request, writer: asyncio.StreamWriter, gone: asyncio.Event
    ) -> None:
        self._server, self._request, self._writer, self._gone = server, request, writer, gone

    async def run(self) -> None:
        path = self._request.path
        routes = {
            "/api/chat": self._chat,
            "/v1/chat/completions": self._chat,
            "/api/embed": self._embed,
            "/v1/embeddings": self._embed,
            "/v1/rerank": self._rerank,
            "/rerank": self._rerank,
            "/predict": self._predict,
        }
        if path not in routes or self._request.method != "POST":
            await self._send_whole(404, {"error": "not found"})
            return
        self._server.streaming += 1
        try:
            await routes[path]()
        except ConnectionError:
            self._server.disconnects += 1
            raise
        finally:
            self._server.streaming -= 1

    async def _chat(self) -> None:
        script = self._server._chat.take()
        wire: type[_OllamaWire | _OpenAIWire] = _OllamaWire if self._request.path == "/api/chat" else _OpenAIWire
        if script.status != HTTPStatus.OK:
            await self._pause(script.first_delay)
            wait = [] if script.retry_after is None else [f"Retry-After: {script.retry_after}"]
            await self._send_whole(script.status, {"error": wire.error}, *wait)
            return
        body = self._request.body
        await self._play(script, wire.content_type, list(wire.lines(script, body, self._text(script))), wire)

    def _text(self, script: Script) -> str:
        messages = self._request.body.get("messages", [])
        answer = script.answer if script.answer is not None else self._server.answerer
        return answer if isinstance(answer, str) else answer(messages)

    async def _embed(self) -> None:
        script = self._server._embeddings.take()
        ollama = self._request.path == "/api/embed"
        wire: type[_OllamaWire | _OpenAIWire] = _OllamaWire if ollama else _OpenAIWire
        if script.raw is not None or script.break_after is not None or script.stall_after is not None:
            await self._play(script, "application/json", list(script.raw or []), wire)
            return
        await self._pause(script.first_delay)
        if script.status != HTTPStatus.OK:
            await self._send_whole(script.status, {"error": wire.error})
            return
        texts = self._request.body["input"]
        texts = [texts] if isinstance(texts, str) else texts
        vectors = script.vectors or [hash_vector(text, self._server.dimensions) for text in texts]
        await self._send_whole(200, wire.vectors(self._request.body["model"], vectors))

    async def _predict(self) -> None:
        """TEI's form; unscripted, the share of the sentence's words that the text has is the entailment."""
        script = self._server._predictions.take()
        if script.raw is not None or script.stall_after is not None:
            await self._play(script, "application/json", list(script.raw or []), _OpenAIWire)
            return
        if script.status != HTTPStatus.OK:
            await self._send_whole(script.status, {"error": "no"})
            return
        found = []
        for text, sentence in self._request.body["inputs"]:
            wanted = set(_words(sentence))
            share = len(wanted & set(_words(text))) / len(wanted)
            labels = {"entailment": share, "neutral": (1 - share) / 4, "contradiction": (1 - share) * 3 / 4}
            found.append([{"label": label, "score": score} for label, score in labels.items()])
        await self._send_whole(200, found)

    async def _rerank(self) -> None:
        """Cohere's form below `/v1`, TEI's elsewhere; unscripted, the score is the number of shared words."""
        script = self._server._reranks.take()
        if script.raw is not None or script.break_after is not None or script.stall_after is not None:
            await self._play(script, "application/json", list(script.raw or []), _OpenAIWire)
            return
        await self._pause(script.first_delay)
        if script.status != HTTPStatus.OK:
            await self._send_whole(script.status, {"error": "no"})
            return
        body, tei = self._request.body, self._request.path == "/rerank"
        wanted = set(_words(body["query"]))
        texts = body["texts" if tei else "documents"]
        scores = [float(len(wanted & set(_words(text)))) for text in texts]
        best_first = sorted(enumerate(scores), key=lambda one: -one[1])
        if tei:
            await self._send_whole(200, [{"index": index, "score": score} for index, score in best_first])
        else:
            found = [
                {"index": index, "relevance_score": score, "document": {"text": "…"}} for index, score in best_first
            ]
            await self._send_whole(200, {"id": "r-1", "results": found, "meta": {}})

    async def _play(
        self, script: Script, content_type: str, pieces: list[bytes], wire: "type[_OllamaWire | _OpenAIWire]"
    ) -> None:
        """Send the pieces one by one, with the mishaps that the script asks for."""
        started = False
        for number in range(len(pieces) + 1):
            if script.stall_after == number:
                await self._stall()
            if script.break_after == number:
                self._writer.transport.abort()
                return
            if number == len(pieces) or script.end_after == number:
                break
            await self._pause(script.delay if started else script.first_delay)
            if not started:
                self._head(200, content_type, "Transfer-Encoding: chunked")
                started = True
            if script.error_after == number:
                await self._send_chunk(wire.error_line)
                break
            await self._send_chunk(pieces[number])
        if not started:
            self._head(200, content_type, "Transfer-Encoding: chunked")
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            ConnectionResetError: the client left meanwhile.
        """
        if seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), seconds)
                raise ConnectionResetError

    async def _stall(self) -> None:
        """Wait until the server is told to go on.

        Raises:
            ConnectionResetError: the client left instead.
        """
        waits = [asyncio.ensure_future(event.wait()) for event in (self._gone, self._server._released)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._gone.is_set():
            raise ConnectionResetError

    async def _send_chunk(self, data: bytes) -> None:
        if data:
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()
        await asyncio.sleep(0)
        if self._gone.is_set():
            raise ConnectionResetError

    async def _send_whole(self, status: int, body: object, *headers: str) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json", f"Content-Length: {len(data)}", *headers)
        self._writer.write(data)
        await self._writer.drain()

    def _head(self, status: int, content_type: str, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {content_type}", *headers]
        if 300 <= status < 400:
            lines.append("Location: /elsewhere")
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())


class _OllamaWire:
    """Ollama's formats (its docs/api.md)."""

    content_type = "application/x-ndjson"
    error: object = "the model runner has unexpectedly stopped"
    error_line = b'{"error":"the model runner has unexpectedly stopped"}\n'

    @staticmethod
    def lines(script: Script, body: Mapping[str, Any], text: str) -> Iterator[bytes]:
        if script.raw is not None:
            yield from script.raw
            return
        common = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}

        def line(message: Mapping[str, str], **more: object) -> bytes:
            turn = {"role": "assistant", "content": "", **message}
            return json.dumps({**common, "message": turn, "done": False, **more}).encode() + b"\n"

        for piece in _pieces(script.reasoning, script.chunk_size):
            yield line({"thinking": piece})
        for piece in _pieces(text, script.chunk_size):
            yield line({"content": piece})
        yield line({}, done=True, done_reason="stop", total_duration=1, prompt_eval_count=1, eval_count=1)

    @staticmethod
    def vectors(model: str, vectors: Sequence[Sequence[float]]) -> dict[str, object]:
        return {"model": model, "embeddings": list(vectors), "total_duration": 1, "prompt_eval_count": 1}


class _OpenAIWire:
    """OpenAI's formats (its API reference). Vectors come last one first: `index` is what counts."""

    content_type = "text/event-stream; charset=utf-8"
    error: object = {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
    error_line = b'data: {"error":{"message":"The server had an error","type":"server_error"}}\n\n'

    @staticmethod
    def lines(script: Script, body: Mapping[str, Any], text: str) -> Iterator[bytes]:
        if script.raw is not None:
            yield from script.raw
            return
        common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

        def event(delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            return b"data: " + json.dumps({**common, "choices": [choice]}).encode() + b"\n\n"

        for piece in _pieces(script.reasoning, script.chunk_size):
            yield event({"content": None, "reasoning_content": piece})
        for number, piece in enumerate(_pieces(text, script.chunk_size)):
            yield event({"content": piece} if number else {"role": "assistant", "content": piece})
        yield event({}, "stop")
        if script.counts and body.get("stream_options", {}).get("include_usage"):
            sent = sum(len(message["content"].split()) for message in body["messages"])
            usage = {"prompt_tokens": sent, "completion_tokens": len(text.split())}
            yield b"data: " + json.dumps({**common, "choices": [], "usage": usage}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    @staticmethod
    def vectors(model: str, vectors: Sequence[Sequence[float]]) -> dict[str, object]:
        data = [{"object": "embedding", "index": i, "embedding": list(v)} for i, v in enumerate(vectors)]
        return {"object": "list", "model": model, "data": data[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, json.loads(data) if data else {})


class _Protocol(asyncio.StreamReaderProtocol):
    """Streams, and an event that says that the client has left, even while nobody reads or writes."""

    def __init__(self, server: ModelServer) -> None:
        self._gone = asyncio.Event()
        super().__init__(
            asyncio.StreamReader(limit=2**20), lambda reader, writer: server._serve(reader, writer, self._gone)
        )

    def eof_received(self) -> bool | None:
        self._gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        super().connection_lost(exc)


@asynccontextmanager
async def model_server(*, host: str = "127.0.0.1", port: int = 0, dimensions: int = 384) -> AsyncIterator[ModelServer]:
    """A server in this loop, on a free port unless told. Leaving drops what is left of its connections."""
    server = ModelServer(dimensions)
    listener = await server._loop.create_server(lambda: _Protocol(server), host, port, backlog=1024)
    server.url = f"http://{host}:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server._stop()
        await listener.wait_closed()


@contextmanager
def model_server_thread(*, dimensions: int = 384) -> Iterator[ModelServer]:
    """The same in a thread of its own, for tests without a loop and for child processes."""
    ready: Future[ModelServer] = Future()

    async def serve() -> None:
        async with model_server(dimensions=dimensions) as server:
            ready.set_result(server)
            await server._stopped.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    server = ready.result(timeout=10)
    try:
        yield server
    finally:
        server._loop.call_soon_threadsafe(server._stopped.set)
        thread.join()


async def _run(host: str, port: int, dimensions: int, delay: float) -> None:
    async with model_server(host=host, port=port, dimensions=dimensions) as server:
        server.script(delay=delay)
        print(  # noqa: T201
            f"Ollama: {server.url}   OpenAI: {server.openai_url}   (Ctrl-C stops it)", flush=True
        )
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A model server for tests: Ollama's API and OpenAI's.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--delay", type=float, default=0.03, help="seconds between two pieces of an answer")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(arguments.host, arguments.port, arguments.dimensions, arguments.delay))


if __name__ == "__main__":
    main()

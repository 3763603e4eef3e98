"""`ttft`: from the request to the first token through the whole engine, beside what its bare parts take.

The parts, one after the other: the same search over HTTP, with the token; the prompt; the chat server's first token to
a bare client.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import httpx2

from bench import streams
from bench.harness import Goal, Series
from ringfence.answers.prompt import Budget, compose
from ringfence.ids import new_document_id
from ringfence.search.queries import Passage

OURS, PARTS = "Ringfence, request to first token", "the parts, added up"
_GROUP = "time to first token, one question at a time, p50"
_RATE = 1000.0  # the stub gives the first token within a millisecond
_PASSAGE = Passage(new_document_id(), "island.txt", " ".join(streams.SENTENCES), ((1, 0, 400),), 0.9)


async def _first(serving: streams.Serving, request: bytes) -> None:
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: streams.Reader(request), "127.0.0.1", serving.port)
    await reader.first
    reader.transport.close()


def _prompt() -> None:
    compose(streams.QUESTION, [], [_PASSAGE] * 8, Budget(8192, 512, 3000))


async def _timed(act: Callable[[], Awaitable[object]], count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await act()
        times.append((time.perf_counter() - began) * 1000)
    return times


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    rounds, count = (3 if quick else 10), (10 if quick else 30)
    medians: dict[str, list[float]] = {}
    async with (
        streams.chat_stub(_RATE) as url,
        streams.engine(url) as engine,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{engine.serving.port}", timeout=30) as http,
    ):
        headers = {"Authorization": f"Bearer {engine.serving.token}"}
        stub = streams.Serving("stub", httpx2.URL(url).port or 0, 0)
        bare = streams.asking(stub)

        async def search() -> None:
            answer = await http.post("/api/v1/search", json={"query": streams.QUESTION, "limit": 8}, headers=headers)
            answer.raise_for_status()

        async def prompt() -> None:
            _prompt()

        acts: dict[str, Callable[[], Awaitable[object]]] = {
            OURS: lambda: _first(engine.serving, streams.asking(engine.serving)),
            "authentication and search": search,
            "prompt": prompt,
            "the chat server's first token": lambda: _first(stub, bare),
        }
        for number in range(-1, rounds):
            for name, act in acts.items():
                median = statistics.median(await _timed(act, count))
                if number >= 0:
                    medians.setdefault(name, []).append(median)
    parts = [sum(values) for values in zip(*(medians[name] for name in list(acts)[1:]), strict=True)]
    series = [Series(_GROUP, name, "ms", tuple(values)) for name, values in {**medians, PARTS: parts}.items()]
    more = statistics.median(ours - part for ours, part in zip(medians[OURS], parts, strict=True))
    goal = Goal(f"{_GROUP}: the engine beyond its parts, ms", 2.0, least=False, got=more)
    return series, [goal], _NOTES


_NOTES = [
    (
        "One question after the other. Authentication and search are one request to `/api/v1/search` with the same "
        "token and question, over a connection that is open; the prompt is made of eight passages; the chat server is "
        "a stub whose first token a client gets that opens a connection for it, as the engine does. The embedding "
        "server is a stub, too. What the engine does besides (evidence, counting the question, its own stream) has to "
        "fit into the 2 ms."
    )
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer rounds."""
    return asyncio.run(_run(quick=quick))

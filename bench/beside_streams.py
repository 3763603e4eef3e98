"""`beside-streams`: how long other requests take while 200 answers stream, with ten connections to the database."""

import asyncio
import statistics
import time

import httpx2

from bench import streams
from bench.harness import Goal, Series, find, ratio

ALONE, BESIDE = "no streams", "beside 200 streams"
_STREAMS, _REQUESTS = 200, 400
_RATES = (5.0, 50.0)  # tokens a second of each stream


async def _times(serving: streams.Serving, count: int) -> list[float]:
    """Milliseconds of requests one after the other; each signs in by its token and reads the database."""
    found = []
    headers = {"Authorization": f"Bearer {serving.token}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{serving.port}", headers=headers, timeout=60) as http:
        for _ in range(count):
            began = time.perf_counter()
            answer = await http.get("/api/v1/documents")
            found.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text
    return found


async def _at(rate: float, rounds: int) -> tuple[list[Series], Goal]:
    group = f"a list of documents, p95, streams of {rate:g} tokens/s"
    values: dict[str, list[float]] = {ALONE: [], BESIDE: []}
    async with streams.chat_stub(rate) as url, streams.engine(url) as engine:
        await _times(engine.serving, 50)
        for _ in range(rounds):
            values[ALONE].append(statistics.quantiles(await _times(engine.serving, _REQUESTS), n=20)[18])
            async with streams.streaming(engine.serving, _STREAMS) as readers:
                await asyncio.sleep(1)
                values[BESIDE].append(statistics.quantiles(await _times(engine.serving, _REQUESTS), n=20)[18])
                assert all(reader.tokens for reader in readers)
            await asyncio.sleep(0.5)
    series = [Series(group, name, "ms", tuple(found)) for name, found in values.items()]
    got = ratio(find(series, group, BESIDE), find(series, group, ALONE))
    return series, Goal(f"{group}: beside 200 streams over alone", 1.5, least=False, got=got)


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    found = [await _at(rate, 1 if quick else 5) for rate in _RATES]
    return [one for series, _ in found for one in series], [goal for _, goal in found], _NOTES


_NOTES = [
    (
        f"{_REQUESTS} requests a round, one after the other, to one process with its default of ten connections to the "
        "database. If a stream held one, none of the requests would be answered. Streams of 50 tokens a second take "
        "half of a core for themselves, and whatever else the process does waits for that; the clients' and the chat "
        "server's share comes from the same two cores. 1.5 is our own bound: the goal says `unaffected`."
    )
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: one round."""
    return asyncio.run(_run(quick=quick))

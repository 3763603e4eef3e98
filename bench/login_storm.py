"""`login-storm`: how long tokens are apart while passwords are checked at full rate, beside streams alone."""

import asyncio
import statistics
from contextlib import suppress
from typing import Self

import httpx2

from bench import streams
from bench.harness import Goal, Series, find, ratio

ALONE, STORM = "streams alone", "beside sign-ins at full rate"
_GROUP = "gap between two pieces of 100 streams, p99"
_RATES = "sign-ins answered"
_STREAMS, _AT_ONCE, _COST = 100, 16, 12
_PASSWORD = "a wrong password, and quite a long one"  # noqa: S105  # nobody's
# Of nobody's password, at the engine's own cost.
_HASH = "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m"


class Storm:
    """Sign-ins that fail, each from a network of its own, as many at once as there is room for."""

    def __init__(self, engine: streams.Engine) -> None:
        self._engine = engine
        self._tasks: list[asyncio.Task[None]] = []
        self.answered = 0

    async def _sign_in(self, number: int) -> None:
        url = f"http://127.0.0.1:{self._engine.serving.port}/api/v1/auth/token"
        async with httpx2.AsyncClient(timeout=60) as http:
            while True:
                number += 1_000
                network = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                data = {"grant_type": "password", "username": f"{number}@example.org", "password": _PASSWORD}
                await http.post(url, data=data, headers={"X-Forwarded-For": network})
                self.answered += 1

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._sign_in(number)) for number in range(_AT_ONCE)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _gaps(serving: streams.Serving, seconds: float) -> float:
    gaps: list[float] = []
    async with streams.streaming(serving, _STREAMS, gaps):
        await asyncio.sleep(1)
        gaps.clear()
        await asyncio.sleep(seconds)
        return statistics.quantiles(gaps, n=100)[98] * 1000


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    found: dict[str, list[float]] = {ALONE: [], STORM: [], _RATES: []}
    seconds = 4.0 if quick else 8.0
    async with streams.chat_stub() as url, streams.engine(url, password_hash=_HASH, cost=_COST) as engine:
        for _ in range(1 if quick else 3):
            found[ALONE].append(await _gaps(engine.serving, seconds))
            async with Storm(engine) as storm:
                before = storm.answered
                found[STORM].append(await _gaps(engine.serving, seconds))
                found[_RATES].append((storm.answered - before) / (seconds + 1))
    series = [Series(_GROUP, name, "ms", tuple(found[name])) for name in (ALONE, STORM)]
    goal = Goal(f"{_GROUP}: beside sign-ins over alone", 2.0, least=False,
                got=ratio(find(series, _GROUP, STORM), find(series, _GROUP, ALONE)))  # fmt: skip
    return [*series, Series(_RATES, STORM, "a second", tuple(found[_RATES]))], [goal], _NOTES


_NOTES = [
    (
        f"{_STREAMS} streams of 50 tokens a second, and {_AT_ONCE} clients that sign in with a wrong password without "
        f"a pause, at bcrypt's cost {_COST}, each from another network and to another address. A gap is the time "
        "between two pieces of one stream as its client sees them; with 100 answers at once, several tokens make one."
    )
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: one round, shorter."""
    return asyncio.run(_run(quick=quick))

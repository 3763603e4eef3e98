"""`stream-cpu`: CPU for a token through the whole engine, beside a pass-through of bytes and FastAPI with httpx."""

import asyncio
from contextlib import AsyncExitStack

from bench import streams
from bench.chat_stub import RATE
from bench.harness import Goal, Series, find, ratio

OURS, RAW = "Ringfence, the whole app", "asyncio, bytes passed on unread"
FASTAPI = "FastAPI, httpx aiter_lines, StreamingResponse"
_DELIVERED = "offered tokens delivered, {} streams"
_CPU = "CPU of a token, {} streams"


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    values: dict[tuple[str, str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(streams.chat_stub())
        ours = (await stack.enter_async_context(streams.engine(url))).serving
        raw = await stack.enter_async_context(streams.peer("raw", RAW, url))
        fastapi = await stack.enter_async_context(streams.peer("fastapi", FASTAPI, url))
        for number in range(1 if quick else 3):
            for count in (100, 500):
                contestants = {OURS: ours, RAW: raw, FASTAPI: fastapi}
                names = list(contestants)
                for name in names[number % 3 :] + names[: number % 3]:
                    window = await streams.watch(contestants[name], count, 4 if quick else 8)
                    cpu, share = (
                        window.cpu / max(window.tokens, 1) * 1e6,
                        window.tokens / (window.seconds * RATE * count),
                    )
                    print(f"  {count} {name}: {cpu:.1f} µs, {share:.2f}", flush=True)
                    values.setdefault((_CPU.format(count), name, "µs"), []).append(cpu)
                    values.setdefault((_DELIVERED.format(count), name, "share"), []).append(share)
    series = [Series(group, name, unit, tuple(found)) for (group, name, unit), found in values.items()]
    series.sort(key=lambda one: one.group)
    at_100, at_500 = _CPU.format(100), _CPU.format(500)
    goals = [
        Goal(f"{at_100}: the engine over bytes passed on", 2.0, least=False,
             got=ratio(find(series, at_100, OURS), find(series, at_100, RAW))),
        Goal(f"{at_100}: FastAPI with httpx over the engine", 5.0, least=True,
             got=ratio(find(series, at_100, FASTAPI), find(series, at_100, OURS))),
        Goal(f"{at_500}: FastAPI with httpx over the engine", 5.0, least=True,
             got=ratio(find(series, at_500, FASTAPI), find(series, at_500, OURS))),
        Goal(_DELIVERED.format(500), 0.9, least=True, got=find(series, _DELIVERED.format(500), OURS).median),
    ]  # fmt: skip
    return series, goals, _NOTES


_NOTES = [
    (
        "A chat server in a process of its own offers 50 tokens a second to each stream. The engine is "
        "`ringfence serve`, one process, with its defaults: sign-in, search, prompt, citations checked, logs, metrics, "
        "answers kept; its embedding server is a stub, and the words of the answers are a document's. CPU is the "
        "process's own and the system's for it (`/proc`), in a window in which all streams run."
    ),
    "PostgreSQL, the chat server, the client that reads all streams and the contestants share the machine's cores.",
    "Several tokens in one event count as several. Peers keep nothing, check nobody and log nothing.",
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: one round, shorter."""
    return asyncio.run(_run(quick=quick))

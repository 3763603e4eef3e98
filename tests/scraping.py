"""Reading metrics as Prometheus does, and what has changed between two scrapes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client.parser import text_string_to_metric_families

from ringfence.telemetry.metrics import exposition

type Scrape = Callable[[], Awaitable[str]]


def samples(text: str) -> dict[str, float]:
    """Each sample's value by its name and labels, `name{a=1,b=2}` with the labels in order."""
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(text: str) -> Iterator[tuple[str, str, str]]:
    """Every sample's name with each of its labels and its value."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield from ((sample.name, key, value) for key, value in sample.labels.items())


async def of_this_process() -> str:
    """A scrape without a server."""
    return exposition([]).decode()


class Deltas:
    """How far this process's counters have come since."""

    def __init__(self, before: str) -> None:
        self._before = samples(before)

    def of(self, now: str, *prefixes: str) -> dict[str, float]:
        """What has changed of the samples whose names begin so, buckets and sums aside (they hold times)."""
        return {
            name: value - self._before.get(name, 0)
            for name, value in samples(now).items()
            if name.startswith(prefixes) and "_bucket{" not in name and "_sum{" not in name
            if value != self._before.get(name, 0)
        }

    async def until(self, expected: dict[str, float], *prefixes: str, scrape: Scrape = of_this_process) -> None:
        """Wait until exactly this has changed; counters move right after what they count."""
        found: dict[str, float] = {}
        try:
            async with asyncio.timeout(15):
                while (found := self.of(await scrape(), *prefixes)) != expected:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            assert found == expected, found

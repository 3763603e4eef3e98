"""The process that is sacrificed: parses documents while a ticker watches its event loop.

usage: python -m bench.loop_lag_child MODE HEARTBEAT DOCUMENT...      MODE: idle, sandbox or thread

HEARTBEAT is a file of two doubles that this process writes while it runs, since it may not live to say anything at its
end: when its ticker last ran (seconds of the system's monotonic clock), and the worst lag until then (seconds).
Prints how many documents ended, and how many of them were read.
"""

import asyncio
import mmap
import struct
import sys
import time
from pathlib import Path

from ringfence.documents import sniff
from ringfence.documents.parsing.sandbox import Sandbox
from ringfence.documents.parsing.wire import Limits
from ringfence.errors import RingfenceError

TICK = 0.005
AT_ONCE = 2
HEARTBEAT = struct.Struct("dd")
IDLE_SECONDS = 3.0
_WARM_TICKS = 20


class Ticker:
    """Sleeps for TICK again and again, and keeps the worst time by which the loop woke it too late."""

    def __init__(self, heartbeat: Path) -> None:
        with heartbeat.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), HEARTBEAT.size)
        self._worst = 0.0

    async def run(self) -> None:
        """Tick until cancelled."""
        for _ in range(_WARM_TICKS):
            await asyncio.sleep(TICK)
        while True:
            before = time.monotonic()
            self._memory[:] = HEARTBEAT.pack(before, self._worst)
            await asyncio.sleep(TICK)
            self._worst = max(self._worst, time.monotonic() - before - TICK)


async def _sandboxed(paths: list[Path]) -> list[bool]:
    async def read(path: Path) -> bool:
        try:
            async with sandbox.parse(path, sniff.PDF) as parsing:
                async for _ in parsing:
                    pass
        except RingfenceError:
            return False
        return True

    async with Sandbox(processes=AT_ONCE) as sandbox:
        return await asyncio.gather(*map(read, paths))


def _read(path: Path) -> bool:
    # Imported here: a process that uses the sandbox never loads PyMuPDF.
    from ringfence.documents.parsing import formats  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            for _ in formats.extract(file, sniff.PDF, None, Limits()):
                pass
    except Exception as error:  # noqa: BLE001  # one document shall not cost the others; which it was is told
        if not isinstance(error, RingfenceError):
            print(f"{path.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


async def _threaded(paths: list[Path]) -> list[bool]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def read(path: Path) -> bool:
        async with slots:
            return await asyncio.to_thread(_read, path)

    return await asyncio.gather(*map(read, paths))


async def _main(mode: str, heartbeat: Path, paths: list[Path]) -> None:
    if mode == "thread":  # importing PyMuPDF is no part of what is measured
        from ringfence.documents.parsing import formats  # noqa: PLC0415

        formats.warm_up()
    ticker = asyncio.create_task(Ticker(heartbeat).run())
    await asyncio.sleep(2 * _WARM_TICKS * TICK)
    if mode == "idle":
        await asyncio.sleep(IDLE_SECONDS)
        read = []
    else:
        read = await (_sandboxed(paths) if mode == "sandbox" else _threaded(paths))
    await asyncio.sleep(2 * TICK)  # the ticker says how late it was in the end
    ticker.cancel()
    print(len(read), sum(read), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]))

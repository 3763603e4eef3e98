"""A document that hangs, bombs or crashes its parser fails alone: others go on, and the API does not notice."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from ringfence.client import Client
from tests.engine import PASSWORD
from tests.fakes.hostile import bomb, hanging
from tests.http.test_documents import finished, upload
from tests.life_cycle.test_faults import box, engine, say

assert box  # a fixture
pytestmark = pytest.mark.timeout(300)  # several processes, on a busy machine

CPU_SECONDS = 2
REQUESTS = 100


async def slowest(http, requests=REQUESTS):
    """The time that 99 of 100 requests stay below, in seconds."""
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        assert (await http.get("/api/v1/documents")).status_code == 200
        took.append(time.perf_counter() - began)
    return sorted(took)[int(requests * 0.99)]


def parsers(parent):
    """The processes that a process started, and those that they did."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children] + [pid for child in children for pid in parsers(child)]


async def test_hostile_documents_fail_alone(settings, box, models):
    limits = {"parse_cpu_seconds": CPU_SECONDS, "parse_memory_bytes": 2**28, "parse_processes": 3, "worker_slots": 4}
    async with engine(settings, box, **limits) as made:
        bob = await made.stack.enter_async_context(Client(str(made.http.base_url)))
        await bob.verify(await bob.register("bob@example.com", PASSWORD), await box.code("bob@example.com"))
        await bob.sign_in("bob@example.com", PASSWORD)
        before = await slowest(bob._http)
        hostile = [
            (await upload(made.http, name, content)).json()["document_id"]
            for name, content in (("hangs.pdf", hanging()), ("bombs.pdf", bomb(300)))
        ]
        good = [(await upload(bob._http, f"{n}.txt", f"Good document {n}.".encode())).json() for n in range(5)]
        during = asyncio.create_task(slowest(bob._http))
        began = time.monotonic()
        for one in good:
            assert (await finished(bob._http, one["document_id"]))["state"] == "ready"
        others = time.monotonic() - began
        failed = [await finished(made.http, document_id) for document_id in hostile]
        say(f"others: {others:.1f} s, hostile: {time.monotonic() - began:.1f} s")
        say(f"p99 of a request: {before * 1000:.0f} ms before, {await during * 1000:.0f} ms beside them")
        assert [one["state"] for one in failed] == ["failed", "failed"]
        assert failed[0]["reason_code"] == "parser_timeout"
        assert failed[1]["reason_code"] in {"parser_timeout", "parser_memory", "document_damaged"}
        assert await during < 5 * before + 0.25
        assert made.newest.process.returncode is None


async def test_a_parser_that_is_killed_fails_its_document_alone(settings, box):
    async with engine(settings, box, parse_processes=2) as made:
        document_id = (await upload(made.http, "hangs.pdf", hanging())).json()["document_id"]
        busy = await _busy(made.newest.process.pid)
        os.kill(busy, signal.SIGSEGV)
        failed = await finished(made.http, document_id)
        assert (failed["state"], failed["reason_code"]) == ("failed", "parser_crashed")
        good = (await upload(made.http, "good.txt", b"A good document.")).json()
        assert (await finished(made.http, good["document_id"]))["state"] == "ready"


async def _busy(worker):
    """The child that parses: it alone uses the processor for a second."""

    def used(pid):
        try:
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
        except OSError:
            return 0

    ticks = os.sysconf("SC_CLK_TCK")
    async with asyncio.timeout(60):
        while True:
            first = {pid: used(pid) for pid in parsers(worker)}
            await asyncio.sleep(0.3)  # so long it is watched: another process's use of the processor is no event
            for pid, ticked in first.items():
                if used(pid) - ticked > 0.02 * ticks and not parsers(pid):
                    return pid

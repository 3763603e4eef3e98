import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import structlog

from ringfence.telemetry.files import RotatingFile
from ringfence.telemetry.logs import logging_to, trace_without_values
from ringfence.telemetry.shipping import Pace
from tests.fakes.ingest_server import IngestServer, Reply


@contextmanager
def pipe():
    """A pipe's writing end, and what came out of it once the context is left."""
    reader, writer = os.pipe()
    out: list[str] = []
    try:
        yield writer, out
    finally:
        os.close(writer)
        with os.fdopen(reader) as file:
            out += file.read().splitlines()


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def rotating(path, **changes):
    return RotatingFile(path, **{"max_bytes": 10**9, "max_seconds": 86400, "keep": 3} | changes)


def test_each_line_is_an_object_with_its_context(tmp_path):
    file = rotating(tmp_path / "a.jsonl")
    with pipe() as (stream, out), logging_to(stream, file=file):
        structlog.contextvars.bind_contextvars(request_id="r1")
        structlog.get_logger().info("happened", count=3)
        logging.getLogger("library").warning("it says %s", "so")
        structlog.get_logger().debug("too fine")
        logging.getLogger("httpx2").info("HTTP Request: …")
    file.close()
    assert (tmp_path / "a.jsonl").read_text().splitlines() == out
    first, second = (json.loads(line) for line in out)
    assert (first["event"], first["count"], first["level"], first["request_id"]) == ("happened", 3, "info", "r1")
    assert (second["event"], second["level"], second["logger"]) == ("it says so", "warning", "library")
    assert second["request_id"] == "r1"
    assert list(first)[:3] == ["timestamp", "level", "event"]
    assert first["timestamp"].endswith("Z")


def test_context_is_that_of_the_caller_not_of_the_thread_that_writes():
    async def task(number):
        structlog.contextvars.bind_contextvars(user_id=number)
        await asyncio.sleep(0)
        structlog.get_logger().info("e", number=number)

    async def several():
        await asyncio.gather(*(asyncio.create_task(task(n)) for n in range(50)))

    with pipe() as (stream, out), logging_to(stream):
        asyncio.run(several())
    lines = [json.loads(line) for line in out]
    assert sorted(line["number"] for line in lines) == list(range(50))
    assert all(line["user_id"] == line["number"] for line in lines)


@pytest.mark.parametrize("form", ["json", "console", "auto"])
def test_a_trace_tells_where_but_no_values(form):
    with pipe() as (stream, out), logging_to(stream, form=form):
        try:
            password = "hunter2"
            raise ValueError(f"bad input: {password}")
        except ValueError:
            structlog.get_logger().exception("defect")
            logging.getLogger("library").exception("theirs")
    written = "\n".join(out)
    assert written.count("builtins.ValueError") == 2
    assert written.count("test_logs.py") == 2
    assert "hunter2" not in written


async def test_a_task_that_nobody_awaited_shows_no_values():
    async def fail():
        raise ValueError("hunter2")

    with pipe() as (stream, out), logging_to(stream):
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
    [line] = map(json.loads, out)
    assert (line["event"], line["logger"]) == ("Task exception was never retrieved", "asyncio")
    assert line["error"] == "builtins.ValueError"
    assert "hunter2" not in str(line)


def test_arguments_that_do_not_fit_are_not_the_callers_trouble():
    with pipe() as (stream, out), logging_to(stream):
        logging.getLogger("library").warning("%d", "hunter2")
    assert [json.loads(line)["event"] for line in out] == ["log_unreadable"]
    assert "hunter2" not in str(out)


def test_an_exception_may_be_given_itself_or_not_at_all():
    assert trace_without_values(None, "", {"exc_info": KeyError("secret")}) == {
        "error": "builtins.KeyError",
        "trace": [],
    }
    for nothing in ({}, {"exc_info": None}, {"exc_info": False}, {"exc_info": (None, None, None)}):
        assert trace_without_values(None, "", nothing) == {}


def test_a_terminal_gets_readable_lines():
    leader, follower = os.openpty()
    try:
        with logging_to(follower):
            structlog.get_logger().info("happened", count=3)
        written = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert "happened" in written
    assert not written.startswith("{")


def test_all_levels_are_named():
    with pipe() as (stream, out), logging_to(stream, level="debug"):
        for name in ("debug", "info", "warning", "error", "critical"):
            getattr(structlog.get_logger(), name)("e")
            getattr(logging.getLogger("library"), name)("e")
    levels = [json.loads(line)["level"] for line in out]
    assert levels == [name for name in ("debug", "info", "warning", "error", "critical") for _ in range(2)]


def test_shipping_never_ships_its_own_troubles(tmp_path):
    """Even at the finest level, where the HTTP client logs all that it does."""
    token = "a-source-token-that-nobody-may-see"
    ingest = IngestServer()
    ingest.script.append(Reply(401))
    file = rotating(tmp_path / "a.jsonl")
    file.open()
    pace = Pace(batch_seconds=0.01, first_delay=0.01, longest_delay=0.02, refused_delay=0.01)
    arguments = {"level": "debug", "file": file, "betterstack": (ingest.url, token), "pace": pace}

    def notes():
        return [json.loads(line)["event"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]

    with pipe() as (stream, out), logging_to(stream, **arguments):
        structlog.get_logger().info("one")
        until(lambda: '"log_shipping_failed"' in (tmp_path / "a.jsonl").read_text())
        with ingest.up():
            until(lambda: '"log_shipping_resumed"' in (tmp_path / "a.jsonl").read_text())
            structlog.get_logger().info("two")
            until(lambda: len(ingest.accepted) == 2)
    file.close()
    expected = ["one", "log_shipping_failed", "log_shipping_refused", "log_shipping_resumed", "two"]
    assert notes() == [json.loads(line)["event"] for line in out] == expected
    assert [event["event"] for event in ingest.accepted] == ["one", "two"]
    assert token not in (tmp_path / "a.jsonl").read_text()


def test_what_is_left_at_the_end_is_shipped():
    ingest = IngestServer()
    arguments = {"betterstack": (ingest.url, "token"), "pace": Pace(batch=500, batch_seconds=1000)}
    with ingest.up(), pipe() as (stream, _), logging_to(stream, **arguments):
        for number in range(700):
            structlog.get_logger().info("e", n=number)
        until(lambda: len(ingest.accepted) == 500)
    assert [event["n"] for event in ingest.accepted] == list(range(700))


BLOCKED = """
import asyncio, sys, time
from pathlib import Path
import structlog
from ringfence.telemetry.files import RotatingFile
from ringfence.telemetry.logs import logging_to

async def main(rounds, pause):
    worst, last = 0.0, time.monotonic()
    for number in range(rounds):
        for _ in range(100):
            structlog.get_logger().info("e", pad="x" * 100)
        await asyncio.sleep(pause)
        worst, last = max(worst, time.monotonic() - last), time.monotonic()
    print(worst, file=sys.stderr, flush=True)
    sys.stdin.readline()
    structlog.get_logger().info("last")

with logging_to(file=RotatingFile(Path(sys.argv[1]), max_bytes=10**9, max_seconds=86400, keep=1)):
    asyncio.run(main(int(sys.argv[2]), float(sys.argv[3])))
"""


def blocked(path, rounds, pause):
    """A process whose standard output is a pipe that nobody reads; 100 lines each round."""
    command = [sys.executable, "-c", BLOCKED, str(path), str(rounds), str(pause)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go_on(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_stdout_that_nobody_reads_blocks_neither_the_loop_nor_the_end(tmp_path):
    with blocked(tmp_path / "a.jsonl", 300, 0.001) as process:
        worst = float(process.stderr.readline())  # the loop has run to its end, though the pipe was full long before
        began = time.monotonic()
        go_on(process)
        assert process.wait(30) == 0
        took = time.monotonic() - began
        assert len(process.stdout.read()) < 30_000 * 100
    assert took < 10  # one second, on a machine that is not busy
    assert worst < 2  # milliseconds, there


def test_lines_that_found_no_room_are_counted_and_the_file_goes_on_without_stdout(tmp_path):
    """For a few seconds the file waits with standard output, and then no more."""
    with blocked(tmp_path / "a.jsonl", 300, 0) as process:
        process.stderr.readline()
        end = time.monotonic() + 60
        file = tmp_path / "a.jsonl"  # made with the first line that it gets, which waits for standard output too
        while not file.exists() or '"log_failed"' not in file.read_text():
            assert time.monotonic() < end
            time.sleep(0.1)
        go_on(process)
        assert process.wait(60) == 0
        process.stdout.read()
    lines = lines_of(tmp_path / "a.jsonl")
    written = sum(line["event"] == "e" for line in lines)
    dropped = sum(line["n"] for line in lines if line["event"] == "log_dropped")
    assert written + dropped == 30_000
    assert dropped > 0
    assert [line["event"] for line in lines].count("last") == 1
    [failed] = [line for line in lines if line["event"] == "log_failed"]
    assert (failed["sink"], failed["reason"]) == ("stream", "nobody reads it")

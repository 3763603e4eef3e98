"""The writer's thread: bounded, in order, and never in its callers' way."""

import json
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from ringfence.telemetry.metrics import REGISTRY
from ringfence.telemetry.writer import Line, StreamSink, Writer


class Kept:
    """A sink that keeps lines, and fails or waits as told."""

    def __init__(self, name: str = "kept") -> None:
        self.name = name
        self.lines: list[Line] = []
        self.failing: OSError | None = None
        self.free = threading.Event()
        self.free.set()
        self.waiting = threading.Event()

    def write(self, lines: Sequence[Line]) -> None:
        self.waiting.set()
        assert self.free.wait(60)
        if self.failing:
            raise self.failing
        self.lines += lines

    @property
    def events(self) -> list[str]:
        return [line.event["event"] for line in self.lines]


def event(name: object = "e", **fields: object) -> dict[str, object]:
    return {"event": name, "level": "info", "timestamp": 1_700_000_000.25, **fields}


def started(*sinks: object, capacity: int = 10_000) -> Writer:
    writer = Writer(sinks, capacity=capacity)  # type: ignore[arg-type]  # sinks of the tests
    writer.start()
    return writer


def test_lines_come_in_order_and_flush_waits_for_them() -> None:
    kept = Kept()
    writer = started(kept)
    for number in range(1000):
        writer.put(event(n=number))
    assert writer.flush(30)
    assert [line.event["n"] for line in kept.lines] == list(range(1000))
    assert json.loads(kept.lines[7].text) == event(n=7) | {"timestamp": "2023-11-14T22:13:20.250000Z"}
    assert kept.lines[7].text.startswith(b'{"timestamp"')
    writer.close(30)


def test_threads_hand_over_at_once() -> None:
    kept = Kept()
    writer = started(kept)
    threads = [threading.Thread(target=lambda: [writer.put(event()) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    writer.close(30)
    assert len(kept.lines) == 4000


def lost(queue: str) -> float:
    """What the metric has counted so far in this process."""
    return REGISTRY.get_sample_value("ringfence_log_lines_dropped_total", {"queue": queue}) or 0


def test_a_full_queue_drops_and_says_how_many_as_soon_as_there_is_room() -> None:
    kept, before = Kept(), lost("local")
    kept.free.clear()
    writer = started(kept, capacity=10)
    writer.put(event())
    assert kept.waiting.wait(30)
    for _ in range(100):
        writer.put(event())
    assert lost("local") - before == 90
    assert not writer.flush(0.01)
    kept.free.set()
    writer.close(30)
    assert kept.events.count("e") == 11
    [dropped] = [line for line in kept.lines if line.event["event"] == "log_dropped"]
    assert (dropped.event["n"], dropped.event["level"]) == (90, "warning")


def test_a_sink_that_fails_takes_nothing_from_the_others() -> None:
    bad, good = Kept("bad"), Kept("good")
    writer = started(bad, good)
    for failing in (OSError(28, "No space left"), OSError("strange"), None):
        bad.failing = failing
        for _ in range(3):
            writer.put(event())
            assert writer.flush(30)
    writer.close(30)
    assert good.events.count("e") == 9
    notes = [line.event for line in good.lines if line.is_own]
    assert [(note["event"], note["sink"]) for note in notes] == [("log_failed", "bad"), ("log_resumed", "bad")]
    assert notes[0]["reason"] == "No space left"
    assert notes[1]["lost"] == 9 - bad.events.count("e") + 1  # the line that said so is lost there too


def test_an_error_without_words_is_named_by_its_type() -> None:
    bad, good = Kept("bad"), Kept("good")
    bad.failing = TimeoutError()
    writer = started(bad, good)
    writer.put(event())
    assert writer.flush(30)
    writer.close(30)
    assert good.lines[1].event["reason"] == "TimeoutError"


def test_closing_does_not_wait_for_a_sink_that_blocks() -> None:
    kept = Kept()
    kept.free.clear()
    writer = started(kept)
    writer.put(event())
    began = time.monotonic()
    writer.close(0.05)
    assert time.monotonic() - began < 30
    kept.free.set()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_value_that_can_not_be_shown_costs_its_line_alone() -> None:
    kept = Kept()
    writer = started(kept)
    writer.put(event("before"))
    writer.put(event(value=Unprintable()))
    writer.put(event("after", value={1}))
    writer.close(30)
    assert kept.events == ["before", "log_unreadable", "after"]
    assert kept.lines[1].event["error"] == "RuntimeError"
    assert json.loads(kept.lines[2].text)["value"] == "{1}"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:  # the test has
            continue


def line(text: bytes, **fields: object) -> Line:
    return Line(event(**fields), text, is_own=False)


def test_short_lines_are_never_torn_by_another_process(pipe: tuple[int, int]) -> None:
    """Each write is of whole lines, and of at most `PIPE_BUF` bytes where that is possible: so it is atomic."""
    reader, writer = pipe
    long = b"l" * (select.PIPE_BUF + 10) + b"\n"
    sent = [line(b"a" * 999 + b"\n") for _ in range(10)] + [line(long), line(b"b\n")]
    os.set_blocking(writer, False)
    StreamSink(writer, readable=False).write(sent)
    assert os.read(reader, 1 << 20) == b"".join(each.text for each in sent)


def fill(writer: int) -> int:
    """Write until a pipe is full; how many bytes that took."""
    full = 0
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            full += os.write(writer, b"x" * select.PIPE_BUF)
    os.set_blocking(writer, True)
    return full


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_is_full_is_waited_for(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    full = fill(writer)
    os.set_blocking(writer, blocking)
    thread = threading.Thread(target=StreamSink(writer, readable=False).write, args=([line(b"y" * 300_000)],))
    thread.start()
    got = b""
    while len(got) < full + 300_000:
        got += os.read(reader, 1 << 16)
    thread.join(30)
    assert not thread.is_alive()
    assert got == b"x" * full + b"y" * 300_000


def test_a_pipe_that_stays_full_loses_its_lines_and_tears_none(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = StreamSink(writer, readable=False, patience=0.01)
    long = b"l" * 300_000 + b"\n"
    for sent in (long, b"short\n", b"another\n"):
        with pytest.raises(TimeoutError, match="nobody reads it"):
            sink.write([line(sent)])
    got = b""
    while not got.endswith(b"after\n"):
        got += os.read(reader, 1 << 20)
        with suppress(TimeoutError):
            sink.write([line(b"after\n")])
    lines = got.split(b"\n")
    assert set(lines) - {b"after", b""} <= {long.strip()}
    assert lines[-2] == b"after"


def test_a_stream_that_nobody_reads_any_more_fails(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        StreamSink(pipe[1], readable=False).write([line(b"x\n")])


def test_people_get_a_readable_line(pipe: tuple[int, int]) -> None:
    sink = StreamSink(pipe[1], readable=True)
    sink.write([line(b"{}\n", name="happened \udcff", count=3), line(b"{plain}\n", exception=5)])
    found = os.read(pipe[0], 1 << 16).decode()
    assert "2023-11-14T22:13:20.250000Z" in found
    assert "happened \\udcff" in found
    assert "count" in found
    assert found.endswith("{plain}\n")  # the console's renderer can't do this one

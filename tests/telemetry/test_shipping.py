"""The shipper against a real ingest on loopback that is up, down, slow, refusing, overloaded, and comes back."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest

from ringfence.telemetry.metrics import REGISTRY
from ringfence.telemetry.shipping import Pace, Shipper, _seconds
from ringfence.telemetry.writer import Line
from tests.fakes.ingest_server import IngestServer, Reply

TOKEN = "a-source-token-that-nobody-may-see"
QUICK = Pace(batch_seconds=0.05, first_delay=0.02, longest_delay=0.05, timeout=20, refused_delay=1000)


@pytest.fixture
def ingest() -> Iterator[IngestServer]:
    """An ingest that is still down."""
    server = IngestServer()
    yield server
    server.stop()


class Notes(list[tuple[str, dict[str, object]]]):
    def __call__(self, event: str, **fields: object) -> None:
        self.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self]

    @property
    def dropped(self) -> int:
        return sum(int(str(fields["n"])) for event, fields in self if event == "log_shipping_dropped")


@pytest.fixture
def notes() -> Iterator[Notes]:
    found = Notes()
    yield found
    assert TOKEN not in str(found)


def shipper(ingest: IngestServer, notes: Notes, pace: Pace = QUICK, token: str = TOKEN) -> Shipper:
    made = Shipper(ingest.url, token, notes, pace=pace)
    made.start()
    return made


def lines(*numbers: int, is_own: bool = False) -> list[Line]:
    events = [{"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": "e", "n": n} for n in numbers]
    return [Line(event, json.dumps(event).encode() + b"\n", is_own) for event in events]


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def numbers(ingest: IngestServer) -> list[int]:
    return [event["n"] for event in ingest.accepted]


def test_up_all_arrive_once_and_in_order(ingest: IngestServer, notes: Notes) -> None:
    with ingest.up():
        ship = shipper(ingest, notes)
        ship.write(lines(*range(1200)))
        until(lambda: len(ingest.accepted) == 1200)
        ship.close(10)
    assert numbers(ingest) == list(range(1200))
    assert max(len(seen.events) for seen in ingest.seen) <= 500
    assert ingest.accepted[0] == {"dt": "2026-01-01T00:00:00Z", "level": "info", "event": "e", "n": 0}
    assert ingest.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert ingest.seen[0].headers["Content-Type"] == "application/json"
    assert notes == []


def test_one_line_goes_by_itself_after_a_while(ingest: IngestServer, notes: Notes) -> None:
    with ingest.up():
        ship = shipper(ingest, notes)
        for n in range(3):
            ship.write(lines(n))
            until(lambda n=n: len(ingest.seen) == n + 1)
        ship.close(10)
    assert numbers(ingest) == [0, 1, 2]


def test_a_batch_is_bounded_in_bytes(ingest: IngestServer, notes: Notes) -> None:
    with ingest.up():
        ship = shipper(ingest, notes, replace(QUICK, batch_bytes=200))
        ship.write(lines(*range(20)))
        ship.close(10)
    assert numbers(ingest) == list(range(20))
    assert max(len(seen.events) for seen in ingest.seen) <= 3


def test_lines_about_the_log_itself_stay_here(ingest: IngestServer, notes: Notes) -> None:
    with ingest.up():
        ship = shipper(ingest, notes)
        ship.write(lines(1, is_own=True) + lines(2))
        ship.close(10)
    assert numbers(ingest) == [2]


def test_down_and_back_all_arrive_once(ingest: IngestServer, notes: Notes) -> None:
    ship = shipper(ingest, notes)
    ship.write(lines(*range(10)))
    until(lambda: notes)
    with ingest.up():
        until(lambda: len(ingest.accepted) == 10)
        ingest.stop()
        ship.write(lines(*range(10, 20)))
        until(lambda: len(notes) == 3)
    ingest.released.clear()
    with ingest.up():
        until(lambda: len(ingest.accepted) == 20)
        ship.close(10)
    assert numbers(ingest) == list(range(20))
    assert notes.names == ["log_shipping_failed", "log_shipping_resumed"] * 2  # once each, however many tries
    assert notes[0][1] == {"reason": "ConnectError"}


def test_slow_is_waited_for_and_nothing_comes_twice(ingest: IngestServer, notes: Notes) -> None:
    ingest.script.append(Reply(hold=True))
    with ingest.up():
        ship = shipper(ingest, notes)
        ship.write(lines(*range(5)))
        until(lambda: ingest.seen)
        ship.write(lines(*range(5, 9)))
        ingest.released.set()
        ship.close(10)
    assert numbers(ingest) == list(range(9))
    assert notes == []


def test_too_slow_is_repeated_so_that_batch_may_come_twice(ingest: IngestServer, notes: Notes) -> None:
    ingest.script.append(Reply(hold=True))
    with ingest.up():
        ship = shipper(ingest, notes, replace(QUICK, timeout=0.3))
        ship.write(lines(1, 2))
        until(lambda: len(ingest.seen) >= 2)
        ingest.released.set()
        until(lambda: "log_shipping_resumed" in notes.names)
        ship.write(lines(3))
        ship.close(10)
    assert numbers(ingest)[:4] == [1, 2, 1, 2]
    assert set(numbers(ingest)) == {1, 2, 3}
    assert numbers(ingest).count(3) == 1
    assert notes[0] == ("log_shipping_failed", {"reason": "ReadTimeout"})


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_refused_is_said_once_and_not_hammered(ingest: IngestServer, notes: Notes, status: int) -> None:
    ingest.script.extend(Reply(status) for _ in range(100))
    with ingest.up():
        ship = shipper(ingest, notes, replace(QUICK, batch=5, capacity=20))
        ship.write(lines(*range(5)))
        until(lambda: notes)
        for n in range(100):
            ship.write(lines(n))
        began = time.monotonic()
        ship.close(10)
        assert time.monotonic() - began < 9
    assert notes[0] == ("log_shipping_refused", {"reason": str(status)})
    assert notes.names.count("log_shipping_refused") == 1
    # One at first; the others are the last tries at the end, one for each batch of what had room.
    assert len(ingest.seen) <= 1 + 1 + 20 // 5
    assert numbers(ingest) == []
    assert notes.dropped == 105


def test_a_token_that_is_mended_lets_them_through(ingest: IngestServer, notes: Notes) -> None:
    ingest.script.extend([Reply(401), Reply(401)])
    with ingest.up():
        ship = shipper(ingest, notes, replace(QUICK, refused_delay=0.05))
        ship.write(lines(1, 2, 3))
        until(lambda: "log_shipping_resumed" in notes.names)
        ship.close(10)
    assert numbers(ingest) == [1, 2, 3]
    assert notes.names == ["log_shipping_refused", "log_shipping_resumed"]


def test_overloaded_is_given_the_time_it_asks_for(ingest: IngestServer, notes: Notes) -> None:
    ingest.script.extend(
        [Reply(429, {"Retry-After": "1"}), Reply(503), Reply(500, {"Retry-After": "soon"}), Reply(408)]
    )
    with ingest.up():
        ship = shipper(ingest, notes)
        ship.write(lines(1, 2, 3))
        until(lambda: "log_shipping_resumed" in notes.names)
        ship.close(10)
    assert [seen.status for seen in ingest.seen] == [429, 503, 500, 408, 202]
    assert ingest.seen[1].at - ingest.seen[0].at >= 1
    assert numbers(ingest) == [1, 2, 3]
    assert notes == [("log_shipping_failed", {"reason": "429"}), ("log_shipping_resumed", {})]


@pytest.mark.parametrize("status", [301, 400, 406, 413])
def test_a_batch_that_is_rejected_does_not_hold_up_the_next(ingest: IngestServer, notes: Notes, status: int) -> None:
    ingest.script.append(Reply(status, {"Location": "/elsewhere"}))
    with ingest.up():
        ship = shipper(ingest, notes)
        ship.write(lines(1, 2, 3))
        until(lambda: notes.dropped == 3)
        ship.write(lines(4))
        ship.close(10)
    assert numbers(ingest) == [4]
    assert notes.names == ["log_shipping_rejected", "log_shipping_dropped", "log_shipping_resumed"]


def test_full_it_drops_and_says_how_many(ingest: IngestServer, notes: Notes) -> None:
    ingest.script.append(Reply(hold=True))
    name, labels = "ringfence_log_lines_dropped_total", {"queue": "shipped"}
    before = REGISTRY.get_sample_value(name, labels) or 0
    with ingest.up():
        ship = shipper(ingest, notes, replace(QUICK, capacity=10))
        ship.write(lines(0))
        until(lambda: ingest.seen)
        ship.write(lines(*range(1, 100)))
        ingest.released.set()
        ship.close(10)
    assert numbers(ingest) == list(range(11))
    assert notes == [("log_shipping_dropped", {"n": 89})]
    assert (REGISTRY.get_sample_value(name, labels) or 0) - before == 89


def test_while_it_is_down_the_count_is_said_at_each_try(ingest: IngestServer, notes: Notes) -> None:
    ship = shipper(ingest, notes, replace(QUICK, capacity=1))
    ship.write(lines(0))
    until(lambda: notes)
    ship.write(lines(*range(1, 51)))
    until(lambda: notes.dropped == 49)
    ship.close(10)
    assert notes.dropped == 51


def test_closing_is_bounded_and_what_was_not_sent_is_counted(ingest: IngestServer, notes: Notes) -> None:
    ingest.script.append(Reply(hold=True))
    with ingest.up():
        ship = shipper(ingest, notes, replace(QUICK, batch=5))
        ship.write(lines(*range(20)))
        until(lambda: ingest.seen)
        began = time.monotonic()
        ship.close(0.2)
        assert time.monotonic() - began < 10
        assert notes.dropped == 20


def test_closing_ends_the_wait_between_two_tries(ingest: IngestServer, notes: Notes) -> None:
    ship = shipper(ingest, notes, replace(QUICK, first_delay=1000, longest_delay=1000))
    ship.write(lines(*range(20)))
    until(lambda: notes)
    began = time.monotonic()
    ship.close(60)
    assert time.monotonic() - began < 50
    assert notes.names == ["log_shipping_failed", "log_shipping_dropped"]
    assert notes.dropped == 20


def test_closing_sends_what_is_left_if_the_ingest_is_back(ingest: IngestServer, notes: Notes) -> None:
    ship = shipper(ingest, notes, replace(QUICK, first_delay=1000, longest_delay=1000))
    ship.write(lines(1, 2))
    until(lambda: notes)
    with ingest.up():
        ship.close(60)
    assert numbers(ingest) == [1, 2]


def test_a_token_that_is_no_header_is_said_without_itself(ingest: IngestServer, notes: Notes) -> None:
    with ingest.up():
        ship = shipper(ingest, notes, token=f"{TOKEN}\nökay")
        ship.write(lines(1))
        until(lambda: notes)
        ship.close(60)
    assert notes.names == ["log_shipping_failed", "log_shipping_dropped"]
    assert ingest.seen == []


def test_how_long_to_wait_is_read_in_both_forms() -> None:
    assert _seconds("120") == 120
    assert _seconds(formatdate(1060, usegmt=True), lambda: 1000.0) == 60
    assert _seconds(formatdate(900, usegmt=True), lambda: 1000.0) == 0
    assert _seconds("") == _seconds("soon") == _seconds("-1") == 0

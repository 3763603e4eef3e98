"""Logs to Better Stack: batches over HTTP from a thread of its own, which drops rather than blocks."""

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

import httpx2

from ringfence.telemetry.metrics import LOG_LINES_DROPPED
from ringfence.telemetry.writer import THREADS, Line

_TIMESTAMP = b'{"timestamp"'
_DT = b'{"dt"'  # what the service calls it
_REFUSALS = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
}
_OVERLOADS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_DOUBLINGS = 10


class Note(Protocol):
    """Says something about the log itself, which is not shipped."""

    def __call__(self, event: str, **fields: object) -> None:
        """Take a line."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and how often. Times are in seconds.

    Attributes:
        capacity: lines that may wait.
        batch: lines of one request.
        batch_bytes: after which a request takes no more lines; the service's limit is 10 MiB.
        batch_seconds: how long a line waits for others.
        timeout: to connect, and for each read and write.
        first_delay: before a failed request is repeated; doubled each time.
        longest_delay: between two tries.
        refused_delay: before the next try after the service refused the token; nothing asks to be tried earlier.
    """

    capacity: int = 10_000
    batch: int = 500
    batch_bytes: int = 2**20
    batch_seconds: float = 1.0
    timeout: float = 10.0
    first_delay: float = 1.0
    longest_delay: float = 60.0
    refused_delay: float = 300.0


@dataclass(frozen=True, slots=True)
class _Failure:
    event: str
    reason: str
    delay: float | None


class Shipper:
    """A sink that sends lines to an HTTP ingest as JSON arrays.

    A request that got an answer is never repeated unless the answer asks for it; one that broke off is, so its lines
    may arrive twice.
    """

    name = "betterstack"

    def __init__(self, url: str, token: str, note: Note, *, pace: Pace | None = None) -> None:
        """Take where lines go; `start` begins.

        Args:
            url: of the ingest.
            token: of the source there.
            note: where its troubles are said.
            pace: how much and how often.
        """
        self._url = url
        self._token = token
        self._note = note
        self._pace = pace or Pace()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = 0
        self._in_hand = 0
        self._closing = threading.Event()
        self._trouble: str | None = None
        self._client: httpx2.Client | None = None
        self._thread = threading.Thread(target=self._run, name=f"{THREADS}-shipper", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def write(self, lines: Sequence[Line]) -> None:
        """Take lines; never blocks: what finds no room is dropped."""
        for line in lines:
            if line.is_own:
                continue
            if self._queue.qsize() >= self._pace.capacity:
                self._drop(1)
            else:
                self._queue.put(line.text.replace(_TIMESTAMP, _DT, 1))

    def close(self, timeout: float) -> None:
        """Send what is left, each batch once and all for so many seconds at most; say how much was not sent."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout)
        self._drop(self._in_hand + self._queue.qsize() - 1)  # what ends the queue is still there, and no line
        self._tell_dropped()

    def _run(self) -> None:
        with ExitStack() as stack:
            while batch := self._gather():
                self._deliver(stack, batch)
                self._in_hand = 0
                self._tell_dropped()

    def _gather(self) -> list[bytes]:
        """The next batch; none at the end."""
        batch: list[bytes] = []
        size, deadline = 0, 0.0
        while len(batch) < self._pace.batch and size < self._pace.batch_bytes:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()) if batch else None)
            except queue.Empty:
                break
            if line is None:
                self._queue.put(None)  # for the next look
                break
            if not batch:
                deadline = time.monotonic() + self._pace.batch_seconds
            batch.append(line)
            size += len(line)
            self._in_hand = len(batch)
        return batch

    def _deliver(self, stack: ExitStack, batch: Sequence[bytes]) -> None:
        body = b"[" + b",".join(batch) + b"]"
        attempt = 0
        while True:
            failure = self._try(stack, body, attempt)
            self._tell(failure)
            if failure is None:
                return
            if failure.delay is None or self._closing.is_set():
                self._drop(len(batch))
                return
            self._tell_dropped()
            self._closing.wait(failure.delay)
            attempt += 1

    def _try(self, stack: ExitStack, body: bytes, attempt: int) -> _Failure | None:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            if self._client is None:
                self._client = stack.enter_context(httpx2.Client(timeout=self._pace.timeout))
            response = self._client.post(self._url, content=body, headers=headers)
        except Exception as error:  # noqa: BLE001  # network, certificates, a token that is no header: the thread goes on
            return _Failure("log_shipping_failed", type(error).__name__, self._delay(attempt))
        status = response.status_code
        if response.is_success:
            return None
        if status in _REFUSALS:
            return _Failure("log_shipping_refused", str(status), self._pace.refused_delay)
        if status in _OVERLOADS or response.is_server_error:
            asked = min(_seconds(response.headers.get("Retry-After", "")), self._pace.refused_delay)
            return _Failure("log_shipping_failed", str(status), max(asked, self._delay(attempt)))
        return _Failure("log_shipping_rejected", str(status), None)

    def _delay(self, attempt: int) -> float:
        longest = min(self._pace.longest_delay, self._pace.first_delay * 2.0 ** min(attempt, _DOUBLINGS))
        return longest * random.uniform(0.5, 1)  # noqa: S311  # no secret: so that many processes do not come at once

    def _tell(self, failure: _Failure | None) -> None:
        """Say that something is wrong, or right again: once each."""
        event = failure.event if failure else None
        if event == self._trouble:
            return
        self._trouble = event
        if failure:
            self._note(failure.event, reason=failure.reason)
        else:
            self._note("log_shipping_resumed")

    def _drop(self, count: int) -> None:
        with self._lock:
            self._dropped += count
        LOG_LINES_DROPPED.labels("shipped").inc(count)

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._note("log_shipping_dropped", n=dropped)


def _seconds(retry_after: str, now: Callable[[], float] = time.time) -> float:
    """How long `Retry-After` (RFC 9110, 10.2.3: seconds or a date) asks to wait; 0 where it says nothing."""
    if retry_after.isdecimal():
        return float(retry_after)
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now())
    return 0.0

"""A circuit breaker: what keeps failing is left alone for a while; then one try finds out whether it is back."""

import time
from collections.abc import Callable
from typing import Literal

type State = Literal["closed", "half_open", "open"]
"""All are let through; one is, to find out; nobody is."""


class Breaker:
    """Closed; open for a while after failures in a row; then half open: one may try.

    Args:
        failures: in a row, after which it opens.
        pause: seconds for which it stays open.
        clock: a monotonic one, in seconds.
    """

    def __init__(self, *, failures: int, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._probe: object | None = None

    @property
    def state(self) -> State:
        """Whether tries are let through."""
        if self._failures < self._most:
            return "closed"
        return "open" if self.wait else "half_open"

    @property
    def wait(self) -> float:
        """Seconds until somebody may try again; 0: one may now, or at the end of the try that is under way."""
        return max(0.0, self._until - self._clock()) if self._failures >= self._most else 0.0

    def begin(self) -> object | None:
        """A try, for `end`; None where none is let through at present."""
        if self.state == "closed":
            return object()
        if self.wait or self._probe:
            return None
        self._probe = object()
        return self._probe

    def end(self, attempt: object, *, well: bool | None) -> None:
        """Say how a try did; None: nobody knows, since whoever made it has left. Of several, the last one counts."""
        if attempt is self._probe:
            self._probe = None
        if well:
            self._failures = 0
        elif well is False:
            self._failures += 1
            self._until = self._clock() + self._pause

"""Waiting for a server that is away: it is restarted, or somebody between is."""

import asyncio
import random
import time

from ringfence.errors import RateLimited, RingfenceError

_FIRST, _LONGEST = 0.25, 30.0


class Patience:
    """How long one tries again, with ever longer pauses, until one gives up.

    Args:
        seconds: since the last success, after which one gives up.
        first: seconds of the first pause, on average three quarters of it.
    """

    def __init__(self, seconds: float, *, first: float = _FIRST) -> None:
        self._seconds = seconds
        self._first = first
        self._pause = first
        self._since: float | None = None

    def reset(self) -> None:
        """The server answers."""
        self._since, self._pause = None, self._first

    async def wait(self, error: RingfenceError) -> None:
        """Pause before another try, or as long as a limit wants; raises the error if it has lasted for too long."""
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= self._seconds:
            raise error
        pause = self._pause * random.uniform(0.5, 1)  # noqa: S311 (no secret)
        self._pause = min(_LONGEST, 2 * self._pause)
        await asyncio.sleep(max(pause, error.retry_after) if isinstance(error, RateLimited) else pause)

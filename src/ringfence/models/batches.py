"""How many texts go to an embedding server at once: as set, and fewer where the server will not take so many."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from ringfence.errors import Invalid
from ringfence.models.tokens import Estimate

log = structlog.get_logger()

type Rows = Sequence[Sequence[float]]
type Ask = Callable[[Sequence[str]], Awaitable[Rows]]
"""Sends one request."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one request may hold.

    Attributes:
        texts: how many.
        tokens: of all of them, estimated by script, as servers limit them; one text may have more.
    """

    texts: int = 32
    tokens: int = 8192


class Batches:
    """Cuts texts into requests, and halves those that are refused, in case there is too much in them.

    A size at which both halves were taken is kept to from then on, so that not every request is sent in vain first.
    """

    def __init__(self, limits: BatchLimits | None = None) -> None:
        self._limits = limits or BatchLimits()
        self._texts = self._limits.texts
        self._ruler = Estimate()

    @property
    def texts(self) -> int:
        """How many texts a request may hold now."""
        return self._texts

    async def ask(self, texts: Sequence[str], send: Ask) -> list[Sequence[float]]:
        """The vectors of all texts, in order, request by request.

        Raises:
            Invalid: `wrong_vector_count`, or the server rejects even a single text.
        """
        rows: list[Sequence[float]] = []
        for batch in self._cut(texts):
            rows += await self._asked(batch, send)
        return rows

    def _cut(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        first, units, most = 0, 0, self._limits.tokens * self._ruler.units
        for place, text in enumerate(texts):
            size = self._ruler.count(text)
            if place > first and (place - first >= self._texts or units + size > most):
                yield texts[first:place]
                first, units = place, 0
            units += size
        if first < len(texts):
            yield texts[first:]

    async def _asked(self, batch: Sequence[str], send: Ask) -> Rows:
        try:
            answered = await send(batch)
        except Invalid as error:
            if error.code != "model_rejected" or len(batch) == 1:
                raise
            half = (len(batch) + 1) // 2
            rows = [*await self._asked(batch[:half], send), *await self._asked(batch[half:], send)]
            if half < self._texts:
                self._texts = half
                log.warning("embedding_batch_halved", texts=half)
            return rows
        if len(answered) != len(batch):
            raise Invalid("wrong_vector_count", f"The model gave {len(answered)} vectors for {len(batch)} texts.")
        return answered

"""Reranking: a model reads the query beside each of the best passages, however they were found, if it is quick.

A reranker that is slow or down costs a search its time box and no more, the order stays as it was, and the result says
so. One that keeps failing is left alone for a while; then a single search tries it again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from ringfence.errors import RingfenceError, Unavailable
from ringfence.models.base import Reranker
from ringfence.models.breaker import Breaker
from ringfence.search.queries import Passage
from ringfence.telemetry.metrics import RERANKS, RETRIEVAL_SECONDS
from ringfence.telemetry.traces import tracing

log = structlog.get_logger()

_FAILURES = 3
_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """Passages in the order in which they are shown.

    Attributes:
        passages: best first.
        scores: the reranker's, for as many of the first passages as it has read; empty where it has not.
        reason: why the reranker has read none: `rerank_off` (there is none, or nothing to order), `rerank_slow`,
            `rerank_paused` (it failed several times just now), or the code of what it said; None where it has.
    """

    passages: tuple[Passage, ...]
    scores: tuple[float, ...] = ()
    reason: str | None = None

    @property
    def reranked(self) -> bool:
        """Whether the reranker has ordered them."""
        return self.reason is None


class Reranking:
    """The step behind all ways of searching.

    Args:
        reranker: the model; without one, passages pass through.
        candidates: how many of the best passages it reads.
        timeout: seconds that a search waits for it.
        pause: seconds for which it is left alone after three failures in a row.
        clock: a monotonic one, in seconds.
    """

    def __init__(
        self,
        reranker: Reranker | None = None,
        *,
        candidates: int = 50,
        timeout: float = 1.0,
        pause: float = _PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reranker = reranker
        self._candidates = candidates
        self._timeout = timeout
        self._breaker = Breaker(failures=_FAILURES, pause=pause, clock=clock)

    @property
    def on(self) -> bool:
        """Whether there is a reranker."""
        return self._reranker is not None

    def wanted(self, limit: int) -> int:
        """How many passages to find where `limit` are shown."""
        return max(limit, self._candidates) if self.on else limit

    async def apply(self, query: str, passages: Sequence[Passage], limit: int) -> Ranked:
        """The best `limit` passages, the candidates among them in the reranker's order. Raises nothing of the model's.

        Args:
            query: what somebody looks for.
            passages: one tenant's, best first; nothing of them is kept.
            limit: how many at most.
        """
        first = passages[: self._candidates]
        if self._reranker is None or len(first) < 2:  # noqa: PLR2004  # one has no order
            return Ranked(tuple(passages[:limit]), reason="rerank_off")
        scores, reason = await self._scores(self._reranker, query, [_text(passage) for passage in first])
        RERANKS.labels(_outcome(reason)).inc()
        if reason:
            return Ranked(tuple(passages[:limit]), reason=reason)
        order = sorted(range(len(first)), key=lambda n: -scores[n])  # stable: equals stay as they were
        ranked = [*(first[n] for n in order), *passages[len(first) :]]
        return Ranked(tuple(ranked[:limit]), tuple(scores[n] for n in order)[:limit])

    async def _scores(self, reranker: Reranker, query: str, texts: Sequence[str]) -> tuple[list[float], str | None]:
        attempt, well = self._breaker.begin(), None
        if attempt is None:
            return [], "rerank_paused"
        try:
            with tracing.span("search.rerank", passages=len(texts)), RETRIEVAL_SECONDS.labels("rerank").time():
                async with asyncio.timeout(self._timeout):
                    scores = await reranker.scores(query, texts)
            well = True
        except TimeoutError:
            well = False
            return [], "rerank_slow"
        except Unavailable as error:
            well = False
            log.warning("rerank_failed", code=error.code, model=reranker.name)
            return [], error.code
        except RingfenceError as error:  # of these texts: what one tenant sends shall not switch it off for others
            well = True
            log.warning("rerank_refused", code=error.code, model=reranker.name)
            return [], error.code
        finally:
            self._breaker.end(attempt, well=well)
        return scores, None


def _text(passage: Passage) -> str:
    return f"{passage.context}\n{passage.text}" if passage.context else passage.text


def _outcome(reason: str | None) -> str:
    return {None: "reranked", "rerank_slow": "slow", "rerank_paused": "paused"}.get(reason, "failed")

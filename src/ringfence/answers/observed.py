"""Answers as those who operate the engine see them: how they end, how soon their first token comes, where time goes."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import wraps

from ringfence.answers.events import DoneEvent, ErrorEvent, Event, TokenEvent
from ringfence.telemetry.metrics import ANSWERS, FIRST_TOKEN_SECONDS, TOKENS
from ringfence.telemetry.traces import failed, tracing


def observed[**P](answer: Callable[P, AsyncGenerator[Event]]) -> Callable[P, AsyncGenerator[Event]]:
    """Count an answer's tokens, how it ends, and, where a model wrote it, the time to its first token."""

    @wraps(answer)
    async def counted(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Event]:
        asked = time.perf_counter()
        first, outcome, by_model = None, "interrupted", True
        try:
            async with aclosing(answer(*args, **kwargs)) as events:
                async for event in events:
                    if isinstance(event, TokenEvent):
                        TOKENS.inc()
                        first = first or time.perf_counter()
                    elif isinstance(event, DoneEvent):
                        outcome, by_model = "refused" if event.refused else "done", event.model is not None
                    elif isinstance(event, ErrorEvent):
                        outcome = "broken_off"
                    yield event
        except Exception:  # whatever it was is counted, and goes on
            outcome = "failed"
            raise
        finally:
            ANSWERS.labels(outcome).inc()
            if first and by_model:
                FIRST_TOKEN_SECONDS.observe(first - asked)

    return counted


def traced(pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """The same pieces of a model's answer; where tracing is on, under a span that notes the first one's coming."""
    return _traced(pieces) if tracing.on else pieces


async def _traced(pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    span = tracing.begin("answer.stream")
    count = 0
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if not count:
                    span.add_event("first_token")
                count += 1
                yield piece
    except BaseException as error:  # cancelled, too: the span says so, and it goes on
        failed(span, error)
        raise
    finally:
        span.set_attribute("tokens", count)
        span.end()

"""An answer that is being written, by a task of its own, whoever follows it.

Its readers come and go. One that was begun as resumable goes on for a while when the last of them has left; any other
is stopped at once, which closes the connection to the model. What there is of it is kept now and then, so that other
processes can show it and little is lost with this one; the same short transaction tells what those want of it.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import structlog

from ringfence.answers.events import Citation, CitationEvent, DoneEvent, ErrorEvent, Event, TokenEvent
from ringfence.answers.queries import CitedPlace
from ringfence.chats.queries import Beat, Claim, Ended, MessageState
from ringfence.chats.said import Last, Numbered, Said, Seen
from ringfence.errors import RingfenceError

log = structlog.get_logger()

type Why = Literal["left", "stopped", "closing", "forgotten"]
"""Why an answer was broken off: nobody reads it; its reader's wish; the server's stop; its chat is gone."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, and how long, in seconds.

    Attributes:
        beat: between two times that a resumable answer in the making is kept.
        slow: the same of any other, which nobody takes up elsewhere.
        silence: after which a stream says that it is alive.
        arrival: that the first reader may take to come, who does at once, unless something fails in between.
        elsewhere: after which it is asked again whether somebody still follows in another process.
        poll: between two looks at an answer that another process writes.
    """

    beat: float = 1.0
    slow: float = 5.0
    silence: float = 15.0
    arrival: float = 30.0
    elsewhere: float = 1.0
    poll: float = 0.5


class Keeper(Protocol):
    """Keeps one answer."""

    async def beat(self, text: str) -> Beat | None:
        """Keep what there is; None if nobody wants it any more."""
        ...

    async def end(self, ended: Ended) -> None:
        """Keep how it ended."""
        ...


class Writing:
    """An answer in the making.

    Args:
        said: where it is taken down.
        keeper: keeps it.
        pace: how often.
        grace: seconds that it goes on without a reader; 0: not at all.
    """

    def __init__(self, said: Said, keeper: Keeper, pace: Pace, *, grace: float) -> None:
        self.said = said
        self.why: Why | None = None
        self._keeper = keeper
        self._pace = pace
        self._grace = grace
        self._over = False
        self._settled = asyncio.Event()
        self._readers = 0
        self._followed_elsewhere = False
        self._news = asyncio.Event()
        self._leaving: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, events: AsyncGenerator[Event]) -> asyncio.Task[None]:
        """Write: take the events behind `sources` down, to the end. Nothing is kept before `settle`."""
        self._task = asyncio.create_task(self._run(events))
        return self._task

    def settle(self, *, there: bool) -> None:
        """Say that its message is there, so that it can be kept, and readers may come; or that it never will be."""
        self._settled.set()
        if there:
            self._expire_in(max(self._grace, self._pace.arrival))
        else:
            self.stop("forgotten")
            self.why = "forgotten"  # also if it had ended already

    def stop(self, why: Why) -> None:
        """Break it off, unless it has ended."""
        if self._task and self.why is None and not self._over:
            self.why = why
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until it has ended and is kept."""
        if self._task:
            await asyncio.wait([self._task])

    async def follow(self, seen: Seen) -> AsyncGenerator[Numbered | None]:
        """What a reader has not seen, and what comes; None where nothing has come for a while."""
        self._readers += 1
        self._stay()
        try:
            while True:
                news, over = self._news, self.said.last is not None
                for one in self.said.after(seen):
                    yield one
                if over:
                    return
                if not await self._comes(news):
                    yield None
        finally:
            self._readers -= 1
            if not self._readers:
                self._expire_in(self._grace)

    async def _comes(self, news: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._pace.silence):
                await news.wait()
        except TimeoutError:
            return False
        return True

    def _expire_in(self, seconds: float) -> None:
        self._stay()
        if self._over:
            return
        if seconds:
            self._leaving = asyncio.get_running_loop().call_later(seconds, self._expire)
        else:
            self.stop("left")

    def _stay(self) -> None:
        if self._leaving:
            self._leaving.cancel()
            self._leaving = None

    def _expire(self) -> None:
        if self._grace and self._followed_elsewhere:
            self._expire_in(self._pace.elsewhere)
        else:
            self.stop("left")

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self, events: AsyncGenerator[Event]) -> None:
        beating = asyncio.create_task(self._beats())
        try:
            last = await self._written(events)
        except asyncio.CancelledError:
            self.why = self.why or "closing"
            last = broken_off(self.why)
        self._over = True
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await self._settled.wait()
        if self.why != "forgotten":
            await self._save(last)
        self.said.last = last
        self._stay()
        self._tell()

    async def _written(self, events: AsyncGenerator[Event]) -> Last:
        try:
            async with aclosing(events):
                async for event in events:
                    match event:
                        case TokenEvent():
                            self.said.text += storable(event.text)
                        case DoneEvent() | ErrorEvent():
                            return event
                        case _:
                            self.said.extras.append((len(self.said.text), event))
                    self._tell()
        except RingfenceError as error:
            return ErrorEvent(code=error.code, message=error.message)
        except Exception:  # a defect: who reads has to hear of the end
            log.exception("answer_defect")
        return ErrorEvent(code="internal", message="Something went wrong inside the engine.")

    def _claims(self) -> tuple[Claim, ...]:
        checked = [event for _, event in self.said.extras if isinstance(event, CitationEvent)]
        # In strict mode a verdict comes before its sentence, which an answer that broke off may not have any more.
        said = [one for one in checked if one.end <= len(self.said.text)]
        return tuple(Claim(one.start, one.end, one.verdict, one.scores.disputed) for one in said)

    async def _save(self, last: Last) -> None:
        try:
            await self._keeper.end(replace(_ended(self.said.text, last, self.why), claims=self._claims()))
        except RingfenceError as error:
            log.warning("answer_unsaved", code=error.code)
        except Exception:  # a defect: the answer's stream must not break off over it
            log.exception("answer_unsaved")

    async def _beats(self) -> None:
        """Keep what there is now and then, and hear what other processes want."""
        await self._settled.wait()
        while True:
            pause = self._pace.beat if self._grace else self._pace.slow
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311  # no secret; not all at once
            try:
                beat = await self._keeper.beat(self.said.text)
            except RingfenceError as error:  # the next one may come through
                log.warning("answer_not_kept", code=error.code)
                continue
            except Exception:  # a defect: the answer goes on without
                log.exception("beat_failed")
                continue
            if beat is None or beat.stop:
                self.stop("stopped" if beat else "forgotten")
            else:
                self._followed_elsewhere = beat.followed


def broken_off(why: Why) -> ErrorEvent:
    """The last event of an answer that was broken off."""
    match why:
        case "stopped":
            return ErrorEvent(code="answer_stopped", message="The answer was stopped; what came before is kept.")
        case "closing":
            message = "The server is stopping; what came before is kept. Please ask again in a moment."
            return ErrorEvent(code="shutting_down", message=message)
        case "forgotten":
            return ErrorEvent(code="chat_not_found", message="There is no such chat.")
        case _:
            message = "The answer was broken off; what came before is kept."
            return ErrorEvent(code="answer_interrupted", message=message)


def _ended(text: str, last: Last, why: Why | None) -> Ended:
    if why:
        return Ended(text, "stopped" if why == "stopped" else "interrupted")
    if isinstance(last, ErrorEvent):
        return Ended(text, "failed", last.code)
    state: MessageState = "refused" if last.refused else "done"
    return Ended(text, state, None, last.model, tuple(_place(citation) for citation in last.citations))


def _place(citation: Citation) -> CitedPlace:
    quote = citation.quote
    return CitedPlace(citation.n, citation.document_id, quote.page, quote.start, quote.end, len(quote.text))


def storable(text: str) -> str:
    """What PostgreSQL can store: no NUL, no lone surrogates, both of which a model may write."""
    return text.replace("\0", "").encode(errors="replace").decode()


def last_of(state: MessageState, error_code: str | None) -> ErrorEvent:
    """The last event of an answer that broke off, as other processes know it."""
    if state == "stopped":
        return broken_off("stopped")
    if state == "failed" and error_code:
        return ErrorEvent(code=error_code, message="The answer broke off.")
    return broken_off("left")

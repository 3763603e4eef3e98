"""The chat models that an operator offers: who of them answers, when it is whose turn, and what it took.

Every question to a model goes through here. It waits in the line before the model's server (`models/line.py`), is asked
again where that can help and nothing was said yet, and goes to the next model of the chain where it can't. A model that
keeps failing is left alone for a while (`models/breaker.py`). What it took is told, however it ended.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal

import structlog

from ringfence.errors import Invalid, NotFound, RingfenceError, SetupError, Unavailable
from ringfence.ids import UserId
from ringfence.models.base import ChatModel, Message, Spent, Usage
from ringfence.models.breaker import Breaker
from ringfence.models.line import Line, Room
from ringfence.models.tokens import estimate_tokens
from ringfence.telemetry.metrics import MODEL_BREAKER, MODEL_FAILURES, MODEL_FALL_BACKS

log = structlog.get_logger()

_PASSING = frozenset({"model_unreachable", "model_busy", "model_error", "model_broke_off"})
"""Codes of failures that are over at once, so that another try may do better."""

_MILLION = 1_000_000
_STATES = {"closed": 0, "half_open": 1, "open": 2}


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, for a million tokens of what it reads, and of what it writes."""

    prompt: Decimal
    completion: Decimal
    currency: str

    def of(self, usage: Usage) -> Decimal:
        """The cost of these tokens."""
        return (self.prompt * usage.prompt + self.completion * usage.completion) / _MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A chat model that users may choose.

    Attributes:
        name: by which they do; no other has it.
        model: does the work.
        server: where it runs; models of one server share a line.
        room: of that line; of several models of a server, the first one's counts.
        cites: whether it is asked to cite; else the engine adds the citations.
        passage_tokens: how many tokens of passages go into its prompt.
        price: what it costs, if that is known.
        fall_back: names of those that are asked where it can't answer, in turn.
    """

    name: str
    model: ChatModel
    server: str
    room: Room
    cites: bool
    passage_tokens: int
    price: Price | None = None
    fall_back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """How much is borne of a model.

    Attributes:
        tries: of one question, before anything was said.
        pause: seconds before the second try, twice as many before the third; less by chance, so that not all come at
            once.
        longest: seconds that a server may ask to be left alone; if it asks for more, there is no other try.
        failures: in a row, after which nobody asks it for a while.
        rest: seconds of that while.
    """

    tries: int = 3
    pause: float = 0.5
    longest: float = 5.0
    failures: int = 5
    rest: float = 30.0


@dataclass(frozen=True, slots=True)
class Spending:
    """What one request to a model took.

    Attributes:
        user_id: for whom it was.
        offer: which model.
        usage: how many tokens.
        question: whether it was a question's answer; else it only helped to find one.
    """

    user_id: UserId
    offer: Offer
    usage: Usage
    question: bool


type Tell = Callable[[Spending], None]
"""Is told what was spent."""


def untold(_spending: Spending) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class _Seat:
    """Where a model sits: behind its server's line, and its own breaker."""

    offer: Offer
    line: Line
    breaker: Breaker


class Desk:
    """The chat models, the first of which answers where nobody has chosen.

    Args:
        offers: the models. None: nobody answers.
        tell: hears of what is spent.
        patience: how much is borne of them.
        clock: a monotonic one, in seconds, of the breakers.

    Raises:
        SetupError: `bad_chat_models`: two have one name, or one falls back to what is not there.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        *,
        tell: Tell = untold,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(offers)
        self.offers = tuple(offers)
        self._tell = tell
        self._patience = patience or Patience()
        lines: dict[str, Line] = {}
        self._seats: dict[str, _Seat] = {}
        for offer in offers:
            line = lines.get(offer.server) or lines.setdefault(offer.server, Line(offer.name, offer.room))
            breaker = Breaker(failures=self._patience.failures, pause=self._patience.rest, clock=clock)
            self._seats[offer.name] = _Seat(offer, line, breaker)
            MODEL_BREAKER.labels(offer.name).set(0)

    def answers(self, name: str) -> bool:
        """Whether a model is asked at present: it has not failed again and again just now."""
        return self._seats[name].breaker.state != "open"

    def of(self, user_id: UserId, name: str | None = None) -> "Turn | None":
        """A model as it answers one tenant; None where there is none.

        Args:
            user_id: for whom it works.
            name: which; None: the first.

        Raises:
            NotFound: `model_not_found`.
        """
        if name is None and not self.offers:
            return None
        seat = self._seats.get(name or self.offers[0].name)
        if seat is None:
            offered = ", ".join(self._seats) or "none"
            raise NotFound("model_not_found", f"There is no such language model. There is: {offered}.")
        chain = (seat, *(self._seats[other] for other in seat.offer.fall_back))
        return Turn(user_id, chain, self._patience, self._tell)


def _check(offers: Sequence[Offer]) -> None:
    names = [offer.name for offer in offers]
    for offer in offers:
        if names.count(offer.name) > 1:
            raise SetupError("bad_chat_models", f"Two chat models have the name {offer.name}.")
        for other in offer.fall_back:
            if other not in names or other == offer.name:
                raise SetupError("bad_chat_models", f"The chat model {offer.name} can't fall back to {other}.")


class Turn:
    """A `ChatModel` that works for one tenant: the one that was chosen, or those behind it. For one question at a time.

    Attributes:
        offer: what was chosen.
    """

    def __init__(
        self, user_id: UserId, chain: Sequence[_Seat], patience: Patience, tell: Tell, *, question: bool = True
    ) -> None:
        self.offer = chain[0].offer
        self._user_id = user_id
        self._chain = chain
        self._patience = patience
        self._tell = tell
        self._question = question
        self._answering = self.offer

    @property
    def name(self) -> str:
        """Which model answers: the chosen one, until another one has taken its place."""
        return self._answering.name

    @property
    def context_tokens(self) -> int:
        """How many tokens the prompt and the answer may have together, whichever of the chain answers."""
        return min(seat.offer.model.context_tokens for seat in self._chain)

    def aside(self) -> "Turn":
        """The same for what is no question of the tenant's, but helps to answer one."""
        return Turn(self._user_id, self._chain, self._patience, self._tell, question=False)

    def require_room(self) -> None:
        """Refuse at once what would be refused anyway, before any work is done for it.

        Raises:
            Unavailable: `model_busy`: nobody more may wait before any of the chain.
        """
        if not any(seat.line.admits(self._user_id) for seat in self._chain):
            raise Unavailable("model_busy", "The language model has too much to do at present. Please ask again soon.")

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int, spent: Spent | None = None
    ) -> AsyncGenerator[str]:
        """As the protocol says; `spent` hears of the tokens in any case, estimated where nobody has counted them.

        Raises (from the iteration):
            Unavailable: `model_busy` (also: too many wait), `model_paused` (it failed again and again just now), or as
                the last model that was asked.
            Invalid: as the model that was asked.
        """
        left = deque(self._chain)
        while True:
            seat = left.popleft()
            self._answering = seat.offer
            said = False
            try:
                async with aclosing(self._asked(seat, messages, max_tokens, spent)) as pieces:
                    async for piece in pieces:
                        said = True
                        yield piece
            except RingfenceError as error:
                if said or isinstance(error, Invalid) or not left:
                    raise
                log.warning("model_fell_back", model=seat.offer.name, code=error.code)
                MODEL_FALL_BACKS.labels(seat.offer.name).inc()
            else:
                return

    async def _asked(
        self, seat: _Seat, messages: Sequence[Message], max_tokens: int, spent: Spent | None
    ) -> AsyncGenerator[str]:
        """One model's answer, in its turn, if it is asked at present."""
        if seat.breaker.wait:
            raise _paused(seat.breaker.wait)
        async with seat.line.place(self._user_id):
            attempt, well = seat.breaker.begin(), None
            if attempt is None:
                raise _paused(seat.breaker.wait)
            try:
                async with aclosing(self._tried(seat.offer, messages, max_tokens, spent)) as pieces:
                    async for piece in pieces:
                        if seat.breaker.state == "half_open":  # it is back: others need not wait for the end
                            self._settle(seat, attempt, well=True)
                        yield piece
                well = True
            except Invalid:  # of this request: what one tenant sends shall not switch it off for others
                well = True
                raise
            except RingfenceError as error:
                well = False
                MODEL_FAILURES.labels(seat.offer.name, error.code).inc()
                raise
            finally:
                self._settle(seat, attempt, well=well)

    @staticmethod
    def _settle(seat: _Seat, attempt: object, *, well: bool | None) -> None:
        seat.breaker.end(attempt, well=well)
        MODEL_BREAKER.labels(seat.offer.name).set(_STATES[seat.breaker.state])

    async def _tried(
        self, offer: Offer, messages: Sequence[Message], max_tokens: int, spent: Spent | None
    ) -> AsyncGenerator[str]:
        """The same, tried again where that may help and nothing was said yet."""
        tries, pause = 1, self._patience.pause
        while True:
            said = False
            try:
                async with aclosing(self._counted(offer, messages, max_tokens, spent)) as pieces:
                    async for piece in pieces:
                        said = True
                        yield piece
            except Unavailable as error:
                wait = error.retry_after or 0.0
                hopeless = error.code not in _PASSING or wait > self._patience.longest
                if said or hopeless or tries >= self._patience.tries:
                    raise
            else:
                return
            await asyncio.sleep(max(wait, pause * random.uniform(0.5, 1)))  # noqa: S311  # no secret
            tries, pause = tries + 1, pause * 2

    async def _counted(
        self, offer: Offer, messages: Sequence[Message], max_tokens: int, spent: Spent | None
    ) -> AsyncGenerator[str]:
        """The same, and what it took is told. What fails before its first word takes nothing."""
        reported: list[Usage] = []
        written, failed = "", False
        try:
            async with aclosing(offer.model.stream(messages, max_tokens=max_tokens, spent=reported.append)) as pieces:
                async for piece in pieces:
                    written += piece
                    yield piece
        except Exception:
            failed = True
            raise
        finally:
            if reported or written or not failed:
                usage = reported[-1] if reported else _estimated(messages, written)
                self._tell(Spending(self._user_id, offer, usage, self._question))
                if spent:
                    spent(usage)

    async def close(self) -> None:
        """Nothing is held: the models are their maker's to close."""


def _estimated(messages: Sequence[Message], written: str) -> Usage:
    prompt = sum(estimate_tokens(message.content) for message in messages)
    return Usage(prompt, estimate_tokens(written), reported=False)


def _paused(wait: float) -> Unavailable:
    message = "The language model has failed several times just now, and is left alone for a moment."
    return Unavailable("model_paused", message, retry_after=wait or None)

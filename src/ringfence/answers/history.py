"""What was asked and answered, kept however the answer ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import structlog

from ringfence.answers import queries
from ringfence.answers.events import Citation, DoneEvent, ErrorEvent, Event, SourcesEvent, TokenEvent
from ringfence.answers.queries import Answer, AnswerState, CitedPlace
from ringfence.db import Database
from ringfence.errors import NotFound, RingfenceError
from ringfence.ids import AnswerId, UserId

log = structlog.get_logger()

_PAGE = 500


@dataclass(slots=True)
class _Draft:
    """An answer in the making."""

    answer: Answer
    begun: bool = False
    ended: bool = False
    pieces: list[str] = field(default_factory=list)

    def follow(self, event: Event) -> None:
        """Take note of what the client is about to hear."""
        match event:
            case SourcesEvent():
                self.begun = True
            case TokenEvent():
                self.pieces.append(event.text)
            case DoneEvent():
                self.ended = True
                state: AnswerState = "refused" if event.refused else "done"
                places = tuple(_place(citation) for citation in event.citations)
                self.answer = replace(self.answer, state=state, model=event.model, citations=places)
            case ErrorEvent():
                self.ended = True
                self.answer = replace(self.answer, state="failed", error_code=event.code)
            case _:  # a sentence's citations: the last event has them all
                pass

    def finished(self) -> Answer:
        """All there is; where no last event came, as interrupted."""
        return replace(self.answer, question=_storable(self.answer.question), text=_storable("".join(self.pieces)))


class History:
    """The answers that tenants were given. Every method acts for one tenant; another's answer does not exist for it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._saving: set[asyncio.Task[None]] = set()

    async def recorded(
        self, user_id: UserId, answer_id: AnswerId, question: str, events: AsyncGenerator[Event]
    ) -> AsyncGenerator[Event]:
        """The same events; the answer is kept before the last of them goes out, or when the stream is closed early.

        What can't be kept is lost with a line in the log: the person who asked has the answer all the same.
        """
        draft = _Draft(Answer(answer_id, question, "interrupted", ""))
        try:
            async with aclosing(events):
                async for event in events:
                    draft.follow(event)
                    if draft.ended:
                        await asyncio.shield(self._save(user_id, draft))
                    yield event
        finally:
            if draft.begun and not draft.ended:
                self._save(user_id, draft)

    def _save(self, user_id: UserId, draft: _Draft) -> asyncio.Task[None]:
        """Begin to save; it goes on when whoever waits for it is cancelled."""
        task = asyncio.create_task(self._add(user_id, draft.finished()))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)
        return task

    async def _add(self, user_id: UserId, answer: Answer) -> None:
        try:
            async with self._db.tenant(user_id) as tx:
                await queries.add(tx, answer)
        except RingfenceError as error:
            log.warning("answer_unsaved", code=error.code)
        except Exception:  # a defect: the answer's stream must not break off over it
            log.exception("answer_unsaved")

    async def newest(self, user_id: UserId, limit: int) -> list[Answer]:
        """The tenant's answers, newest first."""
        async with self._db.tenant(user_id) as tx:
            return await queries.newest(tx, limit)

    async def all(self, user_id: UserId) -> AsyncGenerator[list[Answer]]:
        """All of the tenant's answers, newest first, in pages, with no connection held between two of them."""
        after = None
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await queries.page(tx, after, _PAGE)
            if not page:
                return
            yield page
            after = page[-1]

    async def by_day(self, user_id: UserId, since: datetime) -> dict[date, int]:
        """How many answers there are of each day (UTC) that has any."""
        async with self._db.tenant(user_id) as tx:
            return await queries.answers_by_day(tx, since)

    async def get(self, user_id: UserId, answer_id: AnswerId) -> Answer:
        """One answer.

        Raises:
            NotFound: there is no such answer, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            answer = await queries.get(tx, answer_id)
        if answer is None:
            raise _not_found()
        return answer

    async def delete(self, user_id: UserId, answer_id: AnswerId) -> None:
        """Forget an answer.

        Raises:
            NotFound: there is no such answer, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            if not await queries.delete(tx, answer_id):
                raise _not_found()

    async def close(self) -> None:
        """Wait for what is being saved."""
        await asyncio.gather(*self._saving)


def _place(citation: Citation) -> CitedPlace:
    quote = citation.quote
    return CitedPlace(citation.n, citation.document_id, quote.page, quote.start, quote.end, len(quote.text))


def _storable(text: str) -> str:
    """What PostgreSQL can store: no NUL, no lone surrogates, both of which a model may write."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _not_found() -> NotFound:
    return NotFound("answer_not_found", "There is no such answer.")

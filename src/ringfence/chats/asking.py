"""Asking in a chat: follow-ups, edits, other answers; and following an answer, in whichever process it is written."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import structlog

from ringfence.answers.events import DoneEvent, Event, SourcesEvent
from ringfence.answers.questions import Stopped, never
from ringfence.answers.service import Answers, Way
from ringfence.answers.talk import Basis, Found, Talk, recent
from ringfence.chats import queries, records, trace_queries
from ringfence.chats.events import StartedEvent
from ringfence.chats.queries import Beat, Ended, Message
from ringfence.chats.said import Numbered, Said, Seen
from ringfence.chats.service import chat_not_found, found_message, titled
from ringfence.chats.writing import Pace, Writing, broken_off, last_of
from ringfence.db import Database, TenantTx
from ringfence.errors import Conflict, Invalid, NotFound, RateLimited, Unavailable
from ringfence.filters import Filter
from ringfence.ids import AnswerId, ChatId, MessageId, UserId, new_message_id
from ringfence.limits import Note, unsaid
from ringfence.models.base import ChatModel
from ringfence.search.followups import FollowUps
from ringfence.search.rewrite import MAX_HISTORY, Turn
from ringfence.search.service import HYBRID

log = structlog.get_logger()

MAX_MESSAGES = 1000
"""Of a chat, on all its branches."""

_PATH = 40  # messages of a branch that a follow-up may refer to
_STREAMS = 20  # that a user may take up again at once, in one process
_BEATS = 2  # connections that answers on their way use at once, however many there are
_STATED = 2.0  # seconds after which it is said again that somebody follows an answer here


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, and where it goes.

    Attributes:
        question: what is asked.
        parent_id: the answer that it follows; None: the last one of the branch that the chat shows.
        edits: the question whose place it takes, on a branch of its own.
    """

    question: str
    parent_id: MessageId | None = None
    edits: MessageId | None = None


@dataclass(frozen=True, slots=True)
class How:
    """How an answer is given.

    Attributes:
        resumable: it goes on for a while when its reader is gone.
        note: is told how the limit on questions stands.
        stopped: whether the server stops.
        model: the name of the one that shall answer; None: as the user has chosen.
        strict: as of `Way`.
        chosen: from which documents; None: from all.
    """

    resumable: bool = False
    note: Note = unsaid
    stopped: Stopped = never
    model: str | None = None
    strict: bool | None = None
    chosen: Filter | None = None


@dataclass(slots=True)
class _Draft:
    """What is asked, and what becomes known of its answer before that is begun.

    Attributes:
        chat_id: where.
        question: what.
        parent_id: what the question follows.
        before: that branch.
        asked_before: the question's message, where it is there already.
        question_id: the same, or a new one.
        answer_id: a new message.
        sources: the answer's first event.
        basis: what the answer rests on.
        as_asked: why the question was not rewritten.
    """

    chat_id: ChatId
    question: str
    parent_id: MessageId | None
    before: tuple[Message, ...]
    asked_before: MessageId | None = None
    question_id: MessageId = field(init=False)
    answer_id: MessageId = field(default_factory=new_message_id)
    sources: SourcesEvent = field(init=False)
    basis: Basis = field(init=False)
    as_asked: str | None = None

    def __post_init__(self) -> None:
        self.question_id = self.asked_before or new_message_id()

    def note(self, basis: Basis) -> None:
        """As of `Talk`."""
        self.basis = basis

    def started(self, title: str) -> StartedEvent:
        """The first event, in a chat of this title."""
        return StartedEvent(chat_id=self.chat_id, question_id=self.question_id, message_id=self.answer_id, title=title)

    async def keep(self, tx: TenantTx) -> str:
        """Keep the question and the beginning of its answer; the chat's title."""
        title = await queries.turn(tx, self.chat_id, self.answer_id, titled(self.question))
        if title is None:
            raise chat_not_found()
        if self.asked_before is None:
            await queries.add_question(tx, self.chat_id, self.question_id, self.parent_id, self.question)
        await queries.add_answer(tx, self.chat_id, self.answer_id, self.question_id)
        sources = self.sources.sources
        await records.keep(tx, self.chat_id, self.answer_id, self.basis, sources=sources, as_asked=self.as_asked)
        return title


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Keeps one answer, in short transactions. Those on the way wait for each other at the gate."""

    db: Database
    gate: asyncio.Semaphore
    user_id: UserId
    chat_id: ChatId
    message_id: MessageId

    async def beat(self, text: str) -> Beat | None:
        """As of `Keeper`."""
        async with self.gate, self.db.tenant(self.user_id) as tx:
            return await queries.beat(tx, self.chat_id, self.message_id, text)

    async def end(self, ended: Ended) -> None:
        """As of `Keeper`."""
        async with self.db.tenant(self.user_id) as tx:
            await queries.end(tx, self.chat_id, self.message_id, ended)


class Asking:
    """Answers questions in chats. Every method acts for one tenant; another's chat does not exist for it."""

    def __init__(
        self, db: Database, answers: Answers, follow_ups: FollowUps, *, grace: float, pace: Pace | None = None
    ) -> None:
        """Take what it is made of.

        Args:
            db: where chats are.
            answers: answers questions.
            follow_ups: makes of a follow-up a question that stands alone, and finds passages for it.
            grace: seconds that a resumable answer goes on without a reader.
            pace: how often what is done.
        """
        self._db = db
        self._answers = answers
        self._follow_ups = follow_ups
        self._grace = grace
        self._pace = pace or Pace()
        self._writings: dict[tuple[UserId, MessageId], Writing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resumed: Counter[UserId] = Counter()
        self._gate = asyncio.Semaphore(_BEATS)
        self._closing = False

    async def ask(self, user_id: UserId, chat_id: ChatId, ask: Ask, how: How | None = None) -> Writing:
        """Ask in a chat. The answer is being written when this returns.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`, `model_not_found`.
            Conflict: `answer_being_written`, the answer that it follows; `chat_full`.
            Invalid: `bad_parent`, it follows no answer or edits no question; or as of `Answers.ask`.
            RateLimited, Unavailable: as of `Answers.ask`. Nothing is kept then.
        """
        async with self._db.tenant(user_id) as tx:
            leaf_id = await self._leaf(tx, chat_id)
            parent_id = await _edited(tx, chat_id, ask.edits) if ask.edits else ask.parent_id or leaf_id
            before = await _before(tx, chat_id, parent_id)
        return await self._answer(user_id, _Draft(chat_id, ask.question.strip(), parent_id, before), how or How())

    async def regenerate(
        self, user_id: UserId, chat_id: ChatId, message_id: MessageId, how: How | None = None
    ) -> Writing:
        """Answer a question anew, beside the answers that it has. The message is the question, or one of those.

        Raises:
            NotFound, Conflict, RateLimited, Unavailable: as of `ask`.
        """
        async with self._db.tenant(user_id) as tx:
            await self._leaf(tx, chat_id)
            asked = await found_message(tx, chat_id, message_id)
            if asked.role == "assistant" and asked.parent_id:
                asked = await found_message(tx, chat_id, asked.parent_id)
            before = await _before(tx, chat_id, asked.parent_id)
        draft = _Draft(chat_id, asked.text, asked.parent_id, before, asked.message_id)
        return await self._answer(user_id, draft, how or How())

    @staticmethod
    async def _leaf(tx: TenantTx, chat_id: ChatId) -> MessageId | None:
        """The last message of the branch that a chat shows, if there is room for more."""
        chat = await queries.chat(tx, chat_id)
        if chat is None:
            raise chat_not_found()
        if await queries.count(tx, chat_id) >= MAX_MESSAGES:
            raise Conflict("chat_full", f"A chat has up to {MAX_MESSAGES} messages. Please begin another one.")
        return chat.leaf_id

    async def _answer(self, user_id: UserId, draft: "_Draft", how: How) -> Writing:
        before = _turns(draft.before)

        async def find(question: str, limit: int, chat: ChatModel | None) -> Found:
            history, searched = before[-MAX_HISTORY:], replace(HYBRID, chosen=how.chosen)
            asked = await self._follow_ups.find(user_id, question, limit, history=history, chat=chat, how=searched)
            draft.as_asked = asked.reason
            return asked.query, asked.ranked.passages

        events = self._answers.converse(
            user_id,
            AnswerId(draft.answer_id),
            draft.question,
            Talk(recent(_turns(draft.before, answered=True)), find, draft.note),
            how.note,
            stopped=lambda: self._closing or how.stopped(),
            way=Way(strict=how.strict, model=how.model),
        )
        draft.sources = _sources(await anext(events))  # what fails before it leaves nothing behind
        return await self._begin(user_id, draft, events, resumable=how.resumable)

    async def _begin(
        self, user_id: UserId, draft: "_Draft", events: AsyncGenerator[Event], *, resumable: bool
    ) -> Writing:
        """Keep question and beginning of the answer, while the model is asked already."""
        keeper = _Keeper(self._db, self._gate, user_id, draft.chat_id, draft.answer_id)
        said = Said(draft.started(titled(draft.question)), draft.sources)
        writing = Writing(said, keeper, self._pace, grace=self._grace if resumable else 0.0)
        task = writing.begin(events)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with self._db.tenant(user_id) as tx:
                said.started = draft.started(await draft.keep(tx))
        except BaseException:  # cancelled, too: nobody will ever read it
            writing.settle(there=False)
            raise
        key = (user_id, draft.answer_id)
        self._writings[key] = writing
        task.add_done_callback(lambda _: self._writings.pop(key, None))
        writing.settle(there=True)
        return writing

    async def stop(self, user_id: UserId, chat_id: ChatId, message_id: MessageId) -> None:
        """Stop an answer that is being written, wherever that is. One that has ended is left as it is.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
        """
        async with self._db.tenant(user_id) as tx:
            await found_message(tx, chat_id, message_id)
            await queries.stop(tx, chat_id, message_id)
        if writing := self._writings.get((user_id, message_id)):
            writing.stop("stopped")
            await writing.ended()

    async def follow(
        self, user_id: UserId, chat_id: ChatId, message_id: MessageId, last_event_id: str | None = None
    ) -> AsyncGenerator[Numbered | None]:
        """What a reader has missed of an answer, and what comes of it; None where nothing has come for a while.

        Args:
            user_id: whose.
            chat_id: which chat.
            message_id: the answer's.
            last_event_id: of the last event that reached them.

        Raises (before the first event):
            NotFound: `chat_not_found`, `message_not_found`: or it is no answer.
            Invalid: `bad_event_id`.
            RateLimited: `too_many_streams`.
        """
        seen = Seen.read(last_event_id)
        async with self._db.tenant(user_id) as tx:
            message = await found_message(tx, chat_id, message_id)
            if message.role == "user":
                raise NotFound("message_not_found", "There is no such answer.")
        if self._resumed[user_id] >= _STREAMS:
            policy = f'"streams";q={_STREAMS};w=60'
            text = f"There are {_STREAMS} streams of answers open already. Please close one."
            raise RateLimited("too_many_streams", text, retry_after=self._pace.silence, policy=policy)
        self._resumed[user_id] += 1
        try:
            writing = self._writings.get((user_id, message_id))
            source = writing.follow(seen) if writing else self._elsewhere(user_id, message, seen)
            async with aclosing(source) as events:
                async for one in events:
                    yield one
        finally:
            self._resumed[user_id] -= 1
            if not self._resumed[user_id]:
                del self._resumed[user_id]

    async def _elsewhere(self, user_id: UserId, message: Message, seen: Seen) -> AsyncGenerator[Numbered | None]:
        """The same of an answer that is kept, or that another process writes; what is kept of that is looked at."""
        clock = asyncio.get_running_loop().time
        stated, spoke = clock() - _STATED, clock()
        said = await self._look(user_id, message)
        while True:
            for one in said.after(seen):
                spoke = clock()
                yield one
            if said.last:
                return
            if clock() - spoke >= self._pace.silence:
                spoke = clock()
                yield None
            await asyncio.sleep(self._pace.poll)
            state = clock() - stated >= _STATED
            try:
                await self._look(user_id, message, said, state=state)
            except NotFound:
                said.last = broken_off("forgotten")
            except Unavailable as error:  # it may be there again when we look again
                log.warning("answer_not_seen", code=error.code)
                continue
            stated = clock() if state else stated

    async def _look(self, user_id: UserId, message: Message, said: Said | None = None, *, state: bool = False) -> Said:
        """Take down how far an answer has come that is kept, and if wanted, state that somebody follows it."""
        where = message.chat_id, message.message_id
        async with self._db.tenant(user_id) as tx:
            said = said or await _begun(tx, message)
            await _go_on(tx, said, await found_message(tx, *where))
            if state:
                await queries.followed(tx, *where)
        return said

    async def close(self) -> None:
        """Break off what is being written, and wait until it is kept."""
        self._closing = True
        for writing in list(self._writings.values()):
            writing.stop("closing")
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _sources(first: Event) -> SourcesEvent:
    assert isinstance(first, SourcesEvent)  # noqa: S101  # `Answers` promises it
    return first


async def _edited(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> MessageId | None:
    """What the question follows whose place another one takes."""
    edited = await found_message(tx, chat_id, message_id)
    if edited.role != "user":
        raise Invalid("bad_parent", "Only a question can be edited.")
    return edited.parent_id


async def _before(tx: TenantTx, chat_id: ChatId, parent_id: MessageId | None) -> tuple[Message, ...]:
    """The branch that a question follows, oldest first, as far as it matters."""
    if parent_id is None:
        return ()
    before = await queries.branch(tx, chat_id, parent_id, _PATH)
    if not before:
        raise NotFound("message_not_found", "There is no such message.")
    if before[-1].role != "assistant":
        raise Invalid("bad_parent", "A question follows an answer.")
    if before[-1].state == "writing":
        raise Conflict("answer_being_written", "This answer is still being written.")
    return tuple(before)


def _turns(before: Sequence[Message], *, answered: bool = False) -> list[Turn]:
    """A branch's questions and answers in turns, those that have an answer in words.

    Args:
        before: the branch.
        answered: leave out where the documents did not answer: small models go on refusing when they see that.
    """
    by_id = {message.message_id: message for message in before}
    turns: list[Turn] = []
    for answer in before:
        asked = by_id.get(answer.parent_id) if answer.parent_id and answer.role == "assistant" else None
        if asked and answer.text.strip() and not (answered and answer.state == "refused"):
            turns += [Turn("user", asked.text), Turn("assistant", answer.text)]
    return turns


async def _begun(tx: TenantTx, message: Message) -> Said:
    """What an answer began with, as it is kept."""
    chat = await queries.chat(tx, message.chat_id)
    title = chat.title if chat and chat.title else ""
    started = StartedEvent(
        chat_id=message.chat_id,
        question_id=message.parent_id or message.message_id,
        message_id=message.message_id,
        title=title,
    )
    trace = await trace_queries.get(tx, message.chat_id, message.message_id)
    left = await trace_queries.words(tx, [message.chat_id], [message.message_id])
    if trace is None:
        return Said(started, SourcesEvent(answer_id=message.message_id, sources=[]))
    return Said(started, records.sources_of(records.recorded(trace, left)))


async def _go_on(tx: TenantTx, said: Said, message: Message) -> None:
    """Take down how far an answer has come that is kept."""
    said.text = message.text
    if message.state in {"done", "refused"}:
        left = await trace_queries.words(tx, [message.chat_id], [message.message_id])
        citations = records.citations_of(message, left)
        said.last = DoneEvent(refused=message.state == "refused", model=message.model, citations=citations)
    elif message.state != "writing":
        said.last = last_of(message.state, message.error_code)

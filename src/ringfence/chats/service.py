"""Chats as their owner keeps them: listed, searched, read, renamed, rated, exported, deleted."""

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from ringfence.chats import queries, records, trace_queries
from ringfence.chats.queries import Chat, Listed, Message, Rating
from ringfence.chats.records import Left, Record
from ringfence.db import Database, TenantTx
from ringfence.errors import Invalid, NotFound
from ringfence.ids import ChatId, MessageId, UserId, new_chat_id
from ringfence.search.terms import is_text

MAX_TITLE_CHARS = 200
MAX_COMMENT_CHARS = 2000

_TITLE_CHARS = 60  # of one that is made of a question
_EXPORT_PAGE = 200
_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ChatPage:
    """A part of a list of chats, and the place of what follows, if anything does."""

    chats: list[Listed]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Branch:
    """Messages of one branch of a chat, oldest first, and the words that are left of what they cite."""

    chat: Chat
    messages: list[Message]
    left: Left


class _Cursor(BaseModel):
    model_config = ConfigDict(extra="forbid")

    updated_at: datetime
    chat_id: UUID


class Chats:
    """The chats of tenants. Every method acts for one tenant; another's chat does not exist for it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, user_id: UserId, title: str | None = None) -> Chat:
        """Begin a chat; without a title, its first question gives it one.

        Raises:
            Invalid: `bad_title`.
        """
        chat_id, clean = new_chat_id(), None if title is None else _clean(title)
        async with self._db.tenant(user_id) as tx:
            await queries.add_chat(tx, chat_id, clean)
            return _found(await queries.chat(tx, chat_id))

    async def listed(
        self, user_id: UserId, limit: int, *, text: str | None = None, cursor: str | None = None
    ) -> ChatPage:
        """A page of the tenant's chats, the one that was used last first.

        Args:
            user_id: whose.
            limit: how many at most.
            text: that stands in the title or in a message, whatever its case; None: all.
            cursor: where another page ended.

        Raises:
            Invalid: `bad_cursor`, `bad_query`.
        """
        if text is not None and not is_text(text):
            raise Invalid("bad_query", "This is no text.")
        after = _read(cursor) if cursor else None
        async with self._db.tenant(user_id) as tx:
            found = await queries.listed(tx, after, text, limit + 1)
        more = _written(found[limit - 1].chat) if len(found) > limit else None
        return ChatPage(found[:limit], more)

    async def get(self, user_id: UserId, chat_id: ChatId) -> Chat:
        """One chat.

        Raises:
            NotFound: there is no such chat, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            return _found(await queries.chat(tx, chat_id))

    async def branch(self, user_id: UserId, chat_id: ChatId, limit: int, *, through: MessageId | None = None) -> Branch:
        """The last messages of a branch.

        Args:
            user_id: whose.
            chat_id: which chat.
            limit: how many messages at most.
            through: a message that the branch goes through, to the newest end below it; None: the branch that the chat
                shows.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
        """
        async with self._db.tenant(user_id) as tx:
            chat = _found(await queries.chat(tx, chat_id))
            leaf_id = chat.leaf_id
            if through:
                leaf_id = await queries.leaf_below(tx, chat_id, through)
                if leaf_id is None:
                    raise _no_message()
            messages = await queries.branch(tx, chat_id, leaf_id, limit) if leaf_id else []
            return Branch(chat, messages, await _left(tx, messages))

    async def message(self, user_id: UserId, chat_id: ChatId, message_id: MessageId) -> tuple[Message, Left]:
        """One message, and the words that are left of what it cites.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
        """
        async with self._db.tenant(user_id) as tx:
            await found_message(tx, chat_id, message_id)
            [message] = await queries.branch(tx, chat_id, message_id, 1)
            return message, await _left(tx, [message])

    async def change(
        self, user_id: UserId, chat_id: ChatId, *, title: str | None = None, through: MessageId | None = None
    ) -> Chat:
        """Give a chat another title, or let it show the branch through a message.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
            Invalid: `bad_title`.
        """
        clean = None if title is None else _clean(title)
        async with self._db.tenant(user_id) as tx:
            leaf_id = None
            if through:
                await found_message(tx, chat_id, through)
                leaf_id = await queries.leaf_below(tx, chat_id, through)
            return _found(await queries.change(tx, chat_id, clean, leaf_id))

    async def delete(self, user_id: UserId, chat_id: ChatId) -> None:
        """Forget a chat with all that was said in it. What is being written there ends within a second.

        Raises:
            NotFound: `chat_not_found`.
        """
        async with self._db.tenant(user_id) as tx:
            if not await queries.delete(tx, chat_id):
                raise chat_not_found()

    async def rate(
        self,
        user_id: UserId,
        chat_id: ChatId,
        message_id: MessageId,
        *,
        rating: Rating | None,
        comment: str | None,
    ) -> None:
        """Say what an answer is worth, in the place of what was said before.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`.
            Invalid: `bad_comment`.
        """
        if comment is not None and not is_text(comment):
            raise Invalid("bad_comment", "This comment is no text.")
        async with self._db.tenant(user_id) as tx:
            await found_message(tx, chat_id, message_id)
            if not await queries.rate(tx, chat_id, message_id, rating, comment):
                raise _no_message()

    async def record(self, user_id: UserId, chat_id: ChatId, message_id: MessageId) -> Record:
        """How an answer came about.

        Raises:
            NotFound: `chat_not_found`, `message_not_found`, or it is no answer.
        """
        async with self._db.tenant(user_id) as tx:
            await found_message(tx, chat_id, message_id)
            trace = await trace_queries.get(tx, chat_id, message_id)
            if trace is None:
                raise _no_message()
            return records.recorded(trace, await trace_queries.words(tx, [chat_id], [message_id]))

    async def by_day(self, user_id: UserId, since: datetime) -> dict[date, int]:
        """How many answers there are, of each day (UTC) that has any."""
        async with self._db.tenant(user_id) as tx:
            return await queries.answers_by_day(tx, since)

    async def all(self, user_id: UserId) -> AsyncGenerator[list[Chat]]:
        """All of the tenant's chats, in pages, with no connection held between two of them."""
        after = _NOBODY
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await queries.all_chats(tx, after, _EXPORT_PAGE)
            if not page:
                return
            yield page
            after = page[-1].chat_id

    async def all_messages(self, user_id: UserId) -> AsyncGenerator[list[Message]]:
        """The same of all messages."""
        after = (_NOBODY, _NOBODY)
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await queries.all_messages(tx, after, _EXPORT_PAGE)
            if not page:
                return
            yield page
            after = (page[-1].chat_id, page[-1].message_id)

    async def all_records(self, user_id: UserId) -> AsyncGenerator[list[Record]]:
        """The same of how all answers came about."""
        after = (_NOBODY, _NOBODY)
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await trace_queries.all_traces(tx, after, _EXPORT_PAGE)
                ids = [trace.message_id for trace in page]
                left = await trace_queries.words(tx, [trace.chat_id for trace in page], ids)
            if not page:
                return
            yield [records.recorded(trace, left) for trace in page]
            after = (page[-1].chat_id, page[-1].message_id)


def titled(question: str) -> str:
    """A title made of a question: its beginning, cut between words."""
    line = " ".join(question.split())
    if len(line) <= _TITLE_CHARS:
        return line
    head = line[: _TITLE_CHARS - 1]
    return f"{head.rsplit(' ', 1)[0].rstrip(' ,;:.-')}…"


def _clean(title: str) -> str:
    clean = " ".join(title.split())
    if not clean or len(clean) > MAX_TITLE_CHARS or not is_text(clean):
        raise Invalid("bad_title", f"A title has 1 to {MAX_TITLE_CHARS} characters.")
    return clean


async def _left(tx: TenantTx, messages: Sequence[Message]) -> Left:
    citing = [message for message in messages if message.citations]
    if not citing:
        return {}
    return await trace_queries.words(
        tx, [message.chat_id for message in citing], [message.message_id for message in citing]
    )


async def found_message(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> Message:
    """One message.

    Raises:
        NotFound: `chat_not_found`, `message_not_found`.
    """
    message = await queries.message(tx, chat_id, message_id)
    if message is None:
        _found(await queries.chat(tx, chat_id))
        raise _no_message()
    return message


def _found(chat: Chat | None) -> Chat:
    if chat is None:
        raise chat_not_found()
    return chat


def chat_not_found() -> NotFound:
    """There is no such chat, or it is somebody else's."""
    return NotFound("chat_not_found", "There is no such chat.")


def _no_message() -> NotFound:
    return NotFound("message_not_found", "There is no such message.")


def _written(last: Chat) -> str:
    place = _Cursor(updated_at=last.updated_at, chat_id=last.chat_id)
    return base64.urlsafe_b64encode(place.model_dump_json().encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[datetime, UUID]:
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = _Cursor.model_validate_json(data)
        return place.updated_at.astimezone(UTC), place.chat_id
    except (ValueError, OverflowError, binascii.Error, ValidationError):
        raise Invalid("bad_cursor", "This is no place in such a list: begin again without a cursor.") from None


_SPECIAL = re.compile(r"([\\`*_\[\]<>#!|~])")
_ACTIVE = re.compile(r"(!\[|<)")


def as_markdown(branch: Branch) -> str:
    """A branch of a chat as Markdown. What it shows can load nothing: neither images nor HTML are left in it."""
    title = _SPECIAL.sub(r"\\\1", branch.chat.title or "Chat")
    parts = [f"# {title}\n"]
    for message in branch.messages:
        if message.role == "user":
            quoted = "\n".join(f"> {_ACTIVE.sub(_escaped, line)}".rstrip() for line in message.text.splitlines())
            parts.append(f"## Question, {message.created_at:%Y-%m-%d %H:%M} UTC\n\n{quoted}\n")
        else:
            parts.append(_answer(message, branch.left))
    return "\n".join(parts)


def _answer(message: Message, left: Left) -> str:
    said = [_ACTIVE.sub(_escaped, message.text.strip())] if message.text.strip() else []
    if message.state not in {"done", "refused"}:
        said.append(f"*({message.state})*")
    cited = "\n".join(f"- {_source(place.n, place.page, words)}" for place, words in records.cited(message, left))
    return "\n\n".join(["## Answer", *said, *([cited] if cited else [])]) + "\n"


def _source(n: int, page: int, words: trace_queries.Words | None) -> str:
    if words is None:
        return f"\\[{n}\\] a deleted document, page {page}"
    name, quote = (_SPECIAL.sub(r"\\\1", " ".join(text.split())) for text in (words.document, words.quote))
    return f"\\[{n}\\] {name}, page {page}: “{quote}”"


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"

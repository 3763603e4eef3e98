"""SQL of chats and their messages; how answers came about is in `trace_queries.py`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from asyncpg import ForeignKeyViolationError, Record
from pydantic import TypeAdapter

from ringfence.answers.events import Verdict
from ringfence.answers.queries import CitedPlace
from ringfence.db import TenantTx
from ringfence.errors import Unauthenticated
from ringfence.ids import ChatId, MessageId

type Role = Literal["user", "assistant"]
type MessageState = Literal["writing", "done", "refused", "failed", "interrupted", "stopped"]
type Rating = Literal["up", "down"]

_ADD_CHAT = "insert into chats (user_id, chat_id, title) values ($1, $2, $3)"
_CHAT = "select chat_id, title, leaf_id, created_at, updated_at from chats where user_id = $1 and chat_id = $2"
# What was found: of the chat's messages the newest that holds the text.
_LISTED = """
select c.chat_id, c.title, c.leaf_id, c.created_at, c.updated_at, h.message_id, h.excerpt
from chats c left join lateral (
  select m.message_id, substr(m.text, greatest(strpos(lower(m.text), lower($4)) - 60, 1), 200) as excerpt
  from messages m where m.user_id = $1 and m.chat_id = c.chat_id and strpos(lower(m.text), lower($4)) > 0
  order by m.created_at desc, m.message_id limit 1) h on true
where c.user_id = $1 and ($2::timestamptz is null or (c.updated_at, c.chat_id) < ($2, $3::uuid))
  and ($4::text is null or h.message_id is not null or strpos(lower(c.title), lower($4)) > 0)
order by c.updated_at desc, c.chat_id desc limit $5::int
"""
_CHANGE = """
update chats set title = coalesce($3, title), leaf_id = coalesce($4, leaf_id) where user_id = $1 and chat_id = $2
returning user_id, chat_id, title, leaf_id, created_at, updated_at
"""
_DELETE = "delete from chats where user_id = $1 and chat_id = $2"
_TURN = """
update chats set leaf_id = $3, title = coalesce(title, $4), updated_at = now() where user_id = $1 and chat_id = $2
returning user_id, title
"""
_ADD_QUESTION = """
insert into messages (user_id, chat_id, message_id, parent_id, role, text, state, ended_at)
values ($1, $2, $3, $4, 'user', $5, 'done', now())
"""
_ADD_ANSWER = """
insert into messages (user_id, chat_id, message_id, parent_id, role, text, state)
values ($1, $2, $3, $4, 'assistant', '', 'writing')
"""
_BY_DAY = """
select user_id, (created_at at time zone 'UTC')::date as day, count(*) as answers from messages
where user_id = $1 and role = 'assistant' and ($2::timestamptz is null or created_at >= $2) group by user_id, day
"""
_SILENT = "interval '30 seconds'"  # without a beat: its process is gone
_ROW = f"""
  m.chat_id, m.message_id, m.parent_id, m.role, m.text, m.error_code, m.model, m.citations, m.claims, m.rating,
  m.comment, m.created_at, m.ended_at,
  case when m.state = 'writing' and m.beat_at < now() - {_SILENT} then 'interrupted' else m.state end as state
"""
_MESSAGE = f"select {_ROW} from messages m where m.user_id = $1 and m.chat_id = $2 and m.message_id = $3"  # noqa: S608  # constants, as below
_COUNT = "select user_id, count(*) as messages from messages where user_id = $1 and chat_id = $2 group by user_id"
_BRANCH = f"""
with recursive path (message_id, parent_id, depth) as (
  select message_id, parent_id, 1 from messages where user_id = $1 and chat_id = $2 and message_id = $3
  union all
  select m.message_id, m.parent_id, p.depth + 1 from path p
  join messages m on m.user_id = $1 and m.chat_id = $2 and m.message_id = p.parent_id
  where p.depth < $4::int)
select {_ROW}, case when m.parent_id is null
  then array(select s.message_id from messages s
    where s.user_id = $1 and s.chat_id = $2 and s.parent_id is null order by s.created_at, s.message_id)
  else array(select s.message_id from messages s
    where s.user_id = $1 and s.chat_id = $2 and s.parent_id = m.parent_id order by s.created_at, s.message_id)
  end as siblings
from path p join messages m on m.user_id = $1 and m.chat_id = $2 and m.message_id = p.message_id
order by p.depth desc
"""  # noqa: S608
# Of a message the newest leaf below it, by whichever branch.
_LEAF_BELOW = """
with recursive below (message_id, depth) as (
  select message_id, 1 from messages where user_id = $1 and chat_id = $2 and message_id = $3
  union all
  select m.message_id, b.depth + 1 from below b
  join messages m on m.user_id = $1 and m.chat_id = $2 and m.parent_id = b.message_id)
select m.message_id from below b join messages m on m.user_id = $1 and m.chat_id = $2 and m.message_id = b.message_id
order by m.created_at desc, b.depth desc, m.message_id limit 1
"""
_BEAT = """
update messages set text = $4, beat_at = now()
where user_id = $1 and chat_id = $2 and message_id = $3 and state = 'writing'
returning user_id, stop, coalesce(followed_at > now() - interval '5 seconds', false) as followed
"""
# All values in one, as JSON: its end is one thing.
_END = """
update messages set text = coalesce($4::jsonb ->> 'text', text), state = coalesce($4::jsonb ->> 'state', state),
  error_code = $4::jsonb ->> 'error_code', model = $4::jsonb ->> 'model',
  citations = coalesce($4::jsonb -> 'citations', citations), claims = coalesce($4::jsonb -> 'claims', claims),
  ended_at = now()
where user_id = $1 and chat_id = $2 and message_id = $3 and state = 'writing'
"""
_STOP = """
update messages set stop = true where user_id = $1 and chat_id = $2 and message_id = $3 and state = 'writing'
"""
_FOLLOWED = """
update messages set followed_at = now() where user_id = $1 and chat_id = $2 and message_id = $3 and state = 'writing'
"""
_RATE = """
update messages set rating = $4::jsonb ->> 'rating', comment = $4::jsonb ->> 'comment'
where user_id = $1 and chat_id = $2 and message_id = $3 and role = 'assistant'
"""
_ALL_CHATS = """
select chat_id, title, leaf_id, created_at, updated_at from chats where user_id = $1 and chat_id > $2
order by chat_id limit $3::int
"""
_ALL_MESSAGES = f"""
select {_ROW} from messages m where m.user_id = $1 and (m.chat_id, m.message_id) > ($2, $3)
order by m.chat_id, m.message_id limit $4::int
"""  # noqa: S608

_PLACES = TypeAdapter(tuple[CitedPlace, ...])


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of an answer that was checked: where it stands in the answer's text, and what was found.

    Attributes:
        disputed: number of a source that says the same with another figure.
    """

    start: int
    end: int
    verdict: Verdict
    disputed: int | None = None


_CLAIMS = TypeAdapter(tuple[Claim, ...])


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation.

    Attributes:
        title: as given, or made of the first question; None before that.
        leaf_id: the last message of the branch that is shown; None where nothing was asked.
        updated_at: when something was asked last.
    """

    chat_id: ChatId
    title: str | None
    leaf_id: MessageId | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A chat of a list, and what was looked for: in which message, and what stands around it."""

    chat: Chat
    message_id: MessageId | None
    excerpt: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an answer.

    Attributes:
        parent_id: of an answer its question; of a question the answer that it follows, None at a beginning.
        text: of an answer all that was written before it ended.
        state: a question's is `done`. `stopped`: by whoever asked; `interrupted`: they left, or the server stopped.
        citations: in the answer's order.
        claims: its sentences that were checked, in order; known once it has ended.
        ended_at: None while it is written.
        siblings: what stands in the same place, itself among them, oldest first; where a branch was read.
    """

    chat_id: ChatId
    message_id: MessageId
    parent_id: MessageId | None
    role: Role
    text: str
    state: MessageState
    error_code: str | None
    model: str | None
    citations: tuple[CitedPlace, ...]
    rating: Rating | None
    comment: str | None
    created_at: datetime
    ended_at: datetime | None
    claims: tuple[Claim, ...] = ()
    siblings: tuple[MessageId, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How an answer ended, to be kept."""

    text: str
    state: MessageState
    error_code: str | None = None
    model: str | None = None
    citations: tuple[CitedPlace, ...] = ()
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """What other processes say of an answer: that it shall stop, that somebody follows it there."""

    stop: bool
    followed: bool


def _chat(row: Record) -> Chat:
    return Chat(**{name: row[name] for name in Chat.__slots__})


def _message(row: Record, siblings: Sequence[MessageId] = ()) -> Message:
    values = {name: row[name] for name in Message.__slots__ if name != "siblings"}
    values["citations"] = _PLACES.validate_json(row["citations"])
    values["claims"] = _CLAIMS.validate_json(row["claims"])
    return Message(**values, siblings=tuple(siblings))


async def answers_by_day(tx: TenantTx, since: datetime | None) -> dict[date, int]:
    """How many answers there are in the tenant's chats, of each day (UTC) that has any; `since` None: of all days."""
    return {row["day"]: row["answers"] for row in await tx.fetch(_BY_DAY, tx.user_id, since)}


async def add_chat(tx: TenantTx, chat_id: ChatId, title: str | None) -> None:
    """Begin a chat.

    Raises:
        Unauthenticated: the account was deleted meanwhile.
    """
    try:
        await tx.execute(_ADD_CHAT, tx.user_id, chat_id, title)
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None


async def chat(tx: TenantTx, chat_id: ChatId) -> Chat | None:
    """One of the tenant's chats."""
    row = await tx.fetchrow(_CHAT, tx.user_id, chat_id)
    return _chat(row) if row else None


async def listed(tx: TenantTx, after: tuple[datetime, UUID] | None, text: str | None, limit: int) -> list[Listed]:
    """The tenant's chats, the one that was used last first: all, or those with a text in their title or messages."""
    rows = await tx.fetch(_LISTED, tx.user_id, *(after or (None, None)), text, limit)
    return [Listed(_chat(row), row["message_id"], row["excerpt"]) for row in rows]


async def change(tx: TenantTx, chat_id: ChatId, title: str | None, leaf_id: MessageId | None) -> Chat | None:
    """Set what is given; None if there is no such chat."""
    row = await tx.fetchrow(_CHANGE, tx.user_id, chat_id, title, leaf_id)
    return _chat(row) if row else None


async def delete(tx: TenantTx, chat_id: ChatId) -> bool:
    """Delete a chat with all that was said in it; False where there is none."""
    return bool(await tx.execute(_DELETE, tx.user_id, chat_id))


async def turn(tx: TenantTx, chat_id: ChatId, leaf_id: MessageId, title: str) -> str | None:
    """Let a chat end with a message that is about to be added, and lock it; its title, None if there is no such chat.

    A title is given to one that has none.
    """
    row = await tx.fetchrow(_TURN, tx.user_id, chat_id, leaf_id, title)
    return row["title"] if row else None


async def add_question(
    tx: TenantTx, chat_id: ChatId, message_id: MessageId, parent_id: MessageId | None, text: str
) -> None:
    """Add a question (under `turn`)."""
    await tx.execute(_ADD_QUESTION, tx.user_id, chat_id, message_id, parent_id, text)


async def add_answer(tx: TenantTx, chat_id: ChatId, message_id: MessageId, parent_id: MessageId) -> None:
    """Add an answer that is being written (under `turn`)."""
    await tx.execute(_ADD_ANSWER, tx.user_id, chat_id, message_id, parent_id)


async def message(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> Message | None:
    """One message of one of the tenant's chats."""
    row = await tx.fetchrow(_MESSAGE, tx.user_id, chat_id, message_id)
    return _message(row) if row else None


async def count(tx: TenantTx, chat_id: ChatId) -> int:
    """How many messages there are in a chat, on all its branches."""
    row = await tx.fetchrow(_COUNT, tx.user_id, chat_id)
    return row["messages"] if row else 0


async def branch(tx: TenantTx, chat_id: ChatId, leaf_id: MessageId, limit: int) -> list[Message]:
    """The last messages of the branch that ends with this one, oldest first."""
    rows = await tx.fetch(_BRANCH, tx.user_id, chat_id, leaf_id, limit)
    return [_message(row, row["siblings"]) for row in rows]


async def leaf_below(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> MessageId | None:
    """The newest message below this one (or itself), where its branch ends; None if there is no such message."""
    row = await tx.fetchrow(_LEAF_BELOW, tx.user_id, chat_id, message_id)
    return row["message_id"] if row else None


async def beat(tx: TenantTx, chat_id: ChatId, message_id: MessageId, text: str) -> Beat | None:
    """Say that an answer is being written, and keep what there is of it; None if there is no such answer any more."""
    row = await tx.fetchrow(_BEAT, tx.user_id, chat_id, message_id, text)
    return Beat(row["stop"], row["followed"]) if row else None


async def end(tx: TenantTx, chat_id: ChatId, message_id: MessageId, ended: Ended) -> None:
    """Keep how an answer ended."""
    values = {
        "text": ended.text,
        "state": ended.state,
        "error_code": ended.error_code,
        "model": ended.model,
        "citations": _PLACES.dump_python(ended.citations, mode="json"),
        "claims": _CLAIMS.dump_python(ended.claims, mode="json"),
    }
    await tx.execute(_END, tx.user_id, chat_id, message_id, json.dumps(values))


async def stop(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> None:
    """Tell whoever writes an answer to stop."""
    await tx.execute(_STOP, tx.user_id, chat_id, message_id)


async def followed(tx: TenantTx, chat_id: ChatId, message_id: MessageId) -> None:
    """Tell whoever writes an answer that somebody follows it."""
    await tx.execute(_FOLLOWED, tx.user_id, chat_id, message_id)


async def rate(
    tx: TenantTx, chat_id: ChatId, message_id: MessageId, rating: Rating | None, comment: str | None
) -> bool:
    """Say what an answer is worth, in the place of what was said before; False if there is no such answer."""
    said = json.dumps({"rating": rating, "comment": comment})
    return bool(await tx.execute(_RATE, tx.user_id, chat_id, message_id, said))


async def all_chats(tx: TenantTx, after: UUID, limit: int) -> list[Chat]:
    """The tenant's chats in the order of their ids, behind one."""
    return [_chat(row) for row in await tx.fetch(_ALL_CHATS, tx.user_id, after, limit)]


async def all_messages(tx: TenantTx, after: tuple[UUID, UUID], limit: int) -> list[Message]:
    """The tenant's messages in the order of their chats' ids and their own, behind one."""
    return [_message(row) for row in await tx.fetch(_ALL_MESSAGES, tx.user_id, *after, limit)]

"""Chats as the export of an account shows them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from ringfence.answers.events import Verdict
from ringfence.chats.queries import MessageState, Rating, Role
from ringfence.chats.records import PassageRecord, Record
from ringfence.chats.service import Chats
from ringfence.ids import UserId


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


class CitedWords(_Model):
    """Where the words stand that an answer cited: characters `start` to `end` of a page's text, pages from 1."""

    n: int
    document_id: UUID
    page: int
    start: int
    end: int


class CheckedSentence(_Model):
    """A sentence of an answer, characters `start` to `end` of its text, and what its check found."""

    start: int
    end: int
    verdict: Verdict
    disputed: int | None = None


class ExportedChat(_Model):
    """One of `chats.json`: a conversation. `leaf_id` is the last message of the branch that it shows."""

    chat_id: UUID
    title: str | None
    leaf_id: UUID | None
    created_at: datetime
    updated_at: datetime


class ExportedMessage(_Model):
    """One of `messages.json`: a question or an answer of a chat; `parent_id`: what it follows, or answers."""

    chat_id: UUID
    message_id: UUID
    parent_id: UUID | None
    role: Role
    text: str
    state: MessageState
    error_code: str | None
    model: str | None
    citations: list[CitedWords]
    claims: list[CheckedSentence]
    rating: Rating | None
    comment: str | None
    created_at: datetime
    ended_at: datetime | None


class ExportedPrompt(_Model):
    """A part of what a model was sent."""

    role: str
    content: str


class ExportedPassage(_Model):
    """A passage that an answer rests on: which chunk of which version of a document, and its words.

    `spans`: page from 1, start, end. The words are null where the document was deleted.
    """

    n: int
    document_id: UUID
    version: int | None
    number: int
    spans: tuple[tuple[int, int, int], ...]
    similarity: float | None
    lexical: float
    score: float
    document: str | None
    context: str | None
    text: str | None


class ExportedTrace(_Model):
    """One of `traces.json`: how an answer in a chat came about. `as_asked`: why the question was not rewritten."""

    chat_id: UUID
    message_id: UUID
    query: str
    as_asked: str | None
    model: str | None
    parameters: dict[str, int | float | bool]
    prompt: list[ExportedPrompt]
    passages: list[ExportedPassage]
    created_at: datetime


def traces_list(chats: Chats) -> Callable[[UserId], AsyncGenerator[list[BaseModel]]]:
    """How a user's answers in chats came about, as the export shows it."""

    async def found(user_id: UserId) -> AsyncGenerator[list[BaseModel]]:
        async with aclosing(chats.all_records(user_id)) as several:
            async for page in several:
                yield [_traced(record) for record in page]

    return found


def _traced(record: Record) -> ExportedTrace:
    trace = record.trace
    values = {name: getattr(trace, name, None) for name in ExportedTrace.model_fields}
    prompt = [ExportedPrompt.model_validate(one) for one in record.prompt]
    return ExportedTrace(**{**values, "prompt": prompt, "passages": [_passage(one) for one in record.passages]})


def _passage(one: PassageRecord) -> ExportedPassage:
    names = ExportedPassage.model_fields
    values = {name: getattr(one.pinned, name) for name in names if hasattr(one.pinned, name)}
    return ExportedPassage(**values, **{name: getattr(one.words, name, None) for name in names if name not in values})

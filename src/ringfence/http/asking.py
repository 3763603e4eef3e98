"""Routes that ask in a chat, and follow, take up again or stop an answer."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, TypeAdapter

from ringfence.answers.service import MAX_QUESTION_CHARS
from ringfence.chats.asking import Ask, How
from ringfence.chats.events import ChatEvent, StartedEvent
from ringfence.chats.said import Numbered, Seen
from ringfence.chats.writing import Writing
from ringfence.filters import FilterForm
from ringfence.http.chats import view
from ringfence.http.contract import Responses, may
from ringfence.http.deps import Asker, NoteDep, ServicesDep, StoppingDep
from ringfence.http.models import WantedModel
from ringfence.http.streams import AwaitedJson, EventStream, farewell, is_json, plain_text, server_sent_event, started
from ringfence.ids import ChatId, MessageId, UserId
from ringfence.limits import Note
from ringfence.services import Services

router = APIRouter(prefix="/api/v1/chats", tags=["chats"])

_EVENT_STREAM = {
    "schema": {
        "description": "Each event of the stream. Comments between them tell that it is alive.",
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "id": {"type": "string", "description": "For `Last-Event-ID`."},
            "event": {"enum": ["started", "sources", "token", "citation", "done", "error"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": TypeAdapter(ChatEvent).json_schema(ref_template="#/components/schemas/{model}"),
            },
        },
    }
}
_ANSWER: Responses = {
    200: {
        "description": "Events: `started`, `sources`, `token` and `citation` …, then `done` or `error`; or plain "
        "text; or, for `Accept: application/json`, the answer's message once it has ended.",
        "content": {
            "text/event-stream": _EVENT_STREAM,
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/MessageView"}},
        },
    },
}
_RESUMED: Responses = {
    200: {"description": "What was missed, and what comes.", "content": {"text/event-stream": _EVENT_STREAM}},
    204: {"description": "The answer has ended, and nothing of it was missed."},
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Answering(_Model):
    strict: StrictBool | None = Field(
        default=None,
        description="Whether each sentence is held back until it is checked against the passages that it cites. Unset: "
        "as the installation has it.",
        examples=[True],
    )
    filter: FilterForm | None = Field(
        default=None, description="Answer from these documents alone.", examples=[{"tags": ["contract"]}]
    )
    resumable: StrictBool = Field(
        default=False,
        description="If the connection is lost, the answer is written on for some seconds, in which "
        "`…/stream` takes it up again; otherwise it ends with the connection.",
        examples=[True],
    )
    model: WantedModel = None

    def how(self, note: Note, stopping: asyncio.Event) -> How:
        """The same for the service."""
        chosen = self.filter.chosen() if self.filter else None
        return How(self.resumable, note, stopping.is_set, self.model, self.strict, chosen)


class ChatQuestion(_Answering):
    """A question in a chat."""

    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS, examples=["And in the probation period?"])
    parent_id: UUID | None = Field(
        default=None,
        description="The answer that it follows; unset: the last one of the branch that the chat shows.",
        examples=["2f1d0c5e-3a52-4d0e-8f0c-6a7b1f5f9b11"],
    )
    edits: UUID | None = Field(
        default=None,
        description="The question in whose place it stands, on a branch of its own; then `parent_id` is that one's.",
        examples=["8c1b7a8e-54a0-4c89-93a5-3a1f7f0f4f5d"],
    )


class Regeneration(_Answering):
    """How a question is to be answered anew."""


class NumberedStream(EventStream[Numbered | None]):
    """The stream of an answer in a chat."""

    def __init__(self, events: AsyncGenerator[Numbered | None], media_type: str, stopping: asyncio.Event) -> None:
        encode = _as_text if media_type == "text/plain" else _as_event
        super().__init__(events, encode, media_type, stopping, Numbered("", farewell()))


def _as_event(one: Numbered | None) -> bytes:
    return server_sent_event(one.event, one.id) if one else server_sent_event(None)


def _as_text(one: Numbered | None) -> bytes:
    return b"" if one is None or isinstance(one.event, StartedEvent) else plain_text(one.event)


def _answer(
    request: Request, services: Services, user_id: UserId, writing: Writing, stopping: asyncio.Event
) -> Response:
    """The answer in the form that the client accepts."""
    accepted, events = request.headers.get("accept", ""), writing.follow(Seen())
    if "text/plain" in accepted:
        return NumberedStream(events, "text/plain", stopping)
    if is_json(accepted):
        where = writing.said.started

        async def whole() -> BaseModel:
            found = await services.chats.message(user_id, ChatId(where.chat_id), MessageId(where.message_id))
            return view(*found)

        return AwaitedJson(events, whole, stopping)
    return NumberedStream(events, "text/event-stream", stopping)


@router.post("/{chat_id}/messages", status_code=200, response_model=None, responses=_ANSWER | may(400, 409))
async def ask(
    chat_id: UUID,
    body: ChatQuestion,
    user_id: Asker,
    *,
    request: Request,
    services: ServicesDep,
    stopping: StoppingDep,
    note: NoteDep,
) -> Response:
    """Ask in a chat: what was said before is understood. With `edits`, another question stands beside one of before."""
    question = Ask(
        body.question,
        MessageId(body.parent_id) if body.parent_id else None,
        MessageId(body.edits) if body.edits else None,
    )
    writing = await services.asking.ask(user_id, ChatId(chat_id), question, body.how(note, stopping))
    return _answer(request, services, user_id, writing, stopping)


@router.post(
    "/{chat_id}/messages/{message_id}/regenerate",
    status_code=200,
    response_model=None,
    responses=_ANSWER | may(400, 409),
)
async def regenerate(
    chat_id: UUID,
    message_id: UUID,
    body: Regeneration,
    user_id: Asker,
    *,
    request: Request,
    services: ServicesDep,
    stopping: StoppingDep,
    note: NoteDep,
) -> Response:
    """Answer a question anew, beside the answers that it has."""
    how = body.how(note, stopping)
    writing = await services.asking.regenerate(user_id, ChatId(chat_id), MessageId(message_id), how)
    return _answer(request, services, user_id, writing, stopping)


@router.get(
    "/{chat_id}/messages/{message_id}/stream", status_code=200, response_model=None, responses=_RESUMED | may(400)
)
async def follow(
    chat_id: UUID,
    message_id: UUID,
    user_id: Asker,
    *,
    services: ServicesDep,
    stopping: StoppingDep,
    last_event_id: Annotated[str | None, Header(max_length=100, description="Of the last event that came.")] = None,
) -> Response:
    """Take the stream of an answer up again: what was missed, and what comes, until it ends."""
    events = services.asking.follow(user_id, ChatId(chat_id), MessageId(message_id), last_event_id)
    try:
        begun = await started(events)
    except StopAsyncIteration:  # which stops browsers from asking again
        return Response(status_code=204)
    return NumberedStream(begun, "text/event-stream", stopping)


@router.post("/{chat_id}/messages/{message_id}/stop", status_code=204)
async def stop(chat_id: UUID, message_id: UUID, user_id: Asker, services: ServicesDep) -> None:
    """Stop an answer that is being written; what there is of it is kept."""
    await services.asking.stop(user_id, ChatId(chat_id), MessageId(message_id))

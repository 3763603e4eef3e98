"""Routes of answers: ask, and read what was answered."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, TypeAdapter

from ringfence.answers.events import Event, SourcesEvent
from ringfence.answers.queries import AnswerState
from ringfence.answers.service import MAX_QUESTION_CHARS, Way
from ringfence.http.contract import Responses, may
from ringfence.http.deps import Asker, NoteDep, Reader, ServicesDep, StoppingDep, Writer
from ringfence.http.models import WantedModel
from ringfence.http.streams import AwaitedJson, Streamed, is_json, plain_text, server_sent_event, started
from ringfence.ids import AnswerId

router = APIRouter(prefix="/api/v1/answers", tags=["answers"])

_STREAMS: Responses = {
    200: {
        "description": "Events: `sources`, then `token` and `citation` …, then `done` or `error`; or plain text; or, "
        "for `Accept: application/json`, the answer once it has ended.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "description": "Each event of the stream.",
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["sources", "token", "citation", "done", "error"]},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": TypeAdapter(Event).json_schema(
                                ref_template="#/components/schemas/{model}"
                            ),
                        },
                    },
                }
            },
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/AnswerView"}},
        },
    }
}


class Question(BaseModel):
    """A question to one's own documents."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS, examples=["How long is the notice period?"])
    strict: StrictBool | None = Field(
        default=None,
        description="Whether each sentence is held back until it is checked against the passages that it cites: its "
        "`citation` event then comes before its words. Unset: as the installation has it.",
        examples=[True],
    )
    model: WantedModel = None


class CitedPlaceView(BaseModel):
    """Where the words stand that an answer cited; the document may have been deleted since."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    n: int = Field(description="The citation's number in the answer.", examples=[1])
    document_id: UUID
    page: int = Field(description="From 1.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character.", examples=[204])


class AnswerView(BaseModel):
    """An answer as it was given."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    answer_id: UUID
    question: str
    state: AnswerState = Field(
        description="How it ended. `interrupted`: the client left or the server stopped; the text is what there was."
    )
    text: str
    citations: list[CitedPlaceView]
    error_code: str | None = Field(description="Why it failed, for programs.", examples=["model_silent"])
    model: str | None = Field(description="Who wrote it, where it came to its end.")
    created_at: datetime


class AnswerList(BaseModel):
    """The tenant's answers, newest first."""

    answers: list[AnswerView]


@router.post("", status_code=200, response_model=None, responses=_STREAMS | may(404))
async def ask(
    body: Question, request: Request, user_id: Asker, services: ServicesDep, stopping: StoppingDep, *, note: NoteDep
) -> Response:
    """Ask. `Accept`: `text/plain`, `application/json`, or else server-sent events. The answer is kept."""
    way = Way(strict=body.strict, model=body.model)
    asked = services.answers.ask(user_id, body.question, note, stopped=stopping.is_set, way=way)
    events = await started(asked)
    accepted = request.headers.get("accept", "")
    if "text/plain" in accepted:
        return Streamed(events, plain_text, "text/plain", stopping)
    if is_json(accepted):
        ids: list[UUID] = []

        async def whole() -> BaseModel:
            return AnswerView.model_validate(await services.history.get(user_id, AnswerId(ids[0])))

        return AwaitedJson(_noting(events, ids), whole, stopping)
    return Streamed(events, server_sent_event, "text/event-stream", stopping)


async def _noting(events: AsyncGenerator[Event], ids: list[UUID]) -> AsyncGenerator[Event]:
    """The same events; the answer's id is noted."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, SourcesEvent):
                ids.append(event.answer_id)
            yield event


@router.get("")
async def newest(
    user_id: Reader, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> AnswerList:
    """List past answers, newest first."""
    answers = await services.history.newest(user_id, limit)
    return AnswerList(answers=[AnswerView.model_validate(answer) for answer in answers])


@router.get("/{answer_id}")
async def read(answer_id: UUID, user_id: Reader, services: ServicesDep) -> AnswerView:
    """A past answer, or what there is of one that broke off."""
    return AnswerView.model_validate(await services.history.get(user_id, AnswerId(answer_id)))


@router.delete("/{answer_id}", status_code=204)
async def delete(answer_id: UUID, user_id: Writer, services: ServicesDep) -> None:
    """Forget a past answer."""
    await services.history.delete(user_id, AnswerId(answer_id))

"""The route that answers questions."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ringfence.answers.events import Event
from ringfence.answers.service import MAX_QUESTION_CHARS
from ringfence.http.deps import Principal, ServicesDep
from ringfence.http.streams import Streamed, plain_text, server_sent_events, started

router = APIRouter(prefix="/api/v1", tags=["answers"])

_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream of events `sources`, `token` …, then `done` or `error`; or plain text.",
        "content": {
            "text/event-stream": {
                "schema": TypeAdapter(Event).json_schema(ref_template="#/components/schemas/{model}")
            },
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}


class Question(BaseModel):
    """A question to one's own documents."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS, examples=["How long is the notice period?"])


@router.post("/answers", status_code=200, response_class=Streamed, responses=_STREAMS)
async def ask(body: Question, request: Request, principal: Principal, services: ServicesDep) -> Streamed:
    """Ask. `Accept: text/plain` streams the bare answer; otherwise server-sent events."""
    events = await started(services.answers.ask(principal, body.question))
    if "text/plain" in request.headers.get("accept", ""):
        return Streamed(plain_text(events), "text/plain")
    return Streamed(server_sent_events(events), "text/event-stream")

"""Answers as chat completions: the last message is the question, the ones before make a follow-up stand alone."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.responses import JSONResponse, Response

from ringfence.answers.events import Event
from ringfence.answers.service import Way
from ringfence.errors import Invalid, Unavailable
from ringfence.http.contract import Responses, may
from ringfence.http.deps import Asker, NoteDep, ServicesDep, StoppingDep
from ringfence.http.errors import OpenAIProblem, problem
from ringfence.http.openai.chat_forms import ChatMessage, ChatRequest, Chunk, Completion
from ringfence.http.openai.models import ANSWERS, answering, require_model
from ringfence.http.openai.replies import FINAL, Reply
from ringfence.http.streams import EventStream, cut_short, farewell, started
from ringfence.search.rewrite import MAX_HISTORY, Turn

router = APIRouter(prefix="/v1/chat/completions", tags=["openai"])

_CLIENT_LEFT = 499  # nobody reads it but the log
_STREAMS: Responses = {
    200: {
        "description": "The answer; with `stream`, in chunks, then `[DONE]`, or `error` where it breaks off.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {
                        "data": {
                            "oneOf": [
                                {
                                    "type": "string",
                                    "contentMediaType": "application/json",
                                    "contentSchema": TypeAdapter(Chunk | OpenAIProblem).json_schema(
                                        ref_template="#/components/schemas/{model}"
                                    ),
                                    "pattern": "^{",
                                },
                                {"const": "[DONE]"},
                            ]
                        }
                    },
                }
            }
        },
    },
    500: {
        "description": "The model refuses what the engine sends it, or the engine has a defect.",
        "model": OpenAIProblem,
    },
}


@router.post("", response_model=Completion, responses=_STREAMS | may(404))
async def complete(
    body: ChatRequest, request: Request, user_id: Asker, services: ServicesDep, stopping: StoppingDep, *, note: NoteDep
) -> Response:
    """Answer the last message from one's own documents. The answer is kept, and counts as a question."""
    require_model(body.model, *answering(services))
    question, history = _asked(body.messages)
    reply = Reply(
        _base(request), body.model, tells_usage=bool(body.stream_options and body.stream_options.include_usage)
    )
    model = None if body.model == ANSWERS else body.model
    way = Way(history=history, max_tokens=body.most_tokens, spent=reply.spent, model=model)
    events = services.answers.ask(user_id, question, note, stopped=stopping.is_set, way=way)
    if body.stream:
        return EventStream(await started(events), reply.said, "text/event-stream", stopping, farewell())
    if await cut_short(_followed(events, reply), request.receive, stopping):
        raise Unavailable("shutting_down", farewell().message)
    return _whole(reply, request.scope["path"])


def _base(request: Request) -> str:
    """How the client reaches the engine. Not parsed: whatever it names itself, it is told to nobody else."""
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}/"


def _asked(messages: Sequence[ChatMessage]) -> tuple[str, list[Turn]]:
    """The question, and what was said before."""
    *before, last = messages
    if last.role != "user":
        raise Invalid("bad_question", "The last message is the question, and the user's.", param="messages")
    said = [
        Turn("user" if message.role == "user" else "assistant", message.text)
        for message in before
        if message.role in {"user", "assistant"} and message.text.strip()
    ]
    return last.text, said[-MAX_HISTORY:]


async def _followed(events: AsyncGenerator[Event], reply: Reply) -> None:
    async with aclosing(events):
        async for event in events:
            reply.follow(event)


def _whole(reply: Reply, path: str) -> Response:
    if reply.done:
        return JSONResponse(reply.completion(reply.done).model_dump(mode="json"))
    if reply.error is None:
        return Response(status_code=_CLIENT_LEFT)
    if reply.error.code in FINAL:
        return problem(500, reply.error.code, reply.error.message, path=path)
    raise Unavailable(reply.error.code, reply.error.message)

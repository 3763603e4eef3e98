"""An answer of a chat as HTML, for the chat's page alone: programs have its Markdown from the API."""

from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from ringfence.errors import Unauthenticated
from ringfence.http.deps import ServicesDep, VisitorDep
from ringfence.http.web.markdown import rendered
from ringfence.ids import ChatId, MessageId

router = APIRouter(include_in_schema=False)


@router.get("/chats/{chat_id:uuid}/messages/{message_id:uuid}/html")
async def html(chat_id: UUID, message_id: UUID, visitor: VisitorDep, services: ServicesDep) -> Response:
    """A message's text as a piece of HTML."""
    if visitor is None:
        raise Unauthenticated("no_token", "Sign in first.")
    message, _ = await services.chats.message(visitor.user_id, ChatId(chat_id), MessageId(message_id))
    return HTMLResponse(rendered(message.text, message.claims), headers={"Cache-Control": "no-store"})

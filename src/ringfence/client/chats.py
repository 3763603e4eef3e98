"""Calls of chats."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from ringfence.chats.events import ChatEvent
from ringfence.chats.queries import Rating
from ringfence.client.models import AnswerTrace, ChatBranch, ChatInfo, Chats, MessageInfo
from ringfence.client.patience import Patience
from ringfence.client.transport import Connection
from ringfence.errors import RingfenceError, Unavailable

_EVENT: TypeAdapter[ChatEvent] = TypeAdapter(ChatEvent)
_CHATS = "/api/v1/chats"
_PATIENCE = 10.0


class ChatCalls(Connection):
    """Conversations: begun, asked in, read, searched, rated, explained."""

    async def add_chat(self, title: str | None = None) -> ChatInfo:
        """Begin a chat; without a title, its first question gives it one."""
        response = await self._call("POST", _CHATS, json={"title": title})
        return ChatInfo.model_validate_json(response.content)

    async def chats(self, text: str | None = None) -> list[ChatInfo]:
        """All chats, the one that was used last first; or those in whose title or messages a text stands."""
        params: dict[str, Any] = {"limit": "200"} | ({"q": text} if text else {})
        found: list[ChatInfo] = []
        while True:
            page = Chats.model_validate_json((await self._call("GET", _CHATS, params=params)).content)
            found += page.chats
            if page.next_cursor is None:
                return found
            params["cursor"] = page.next_cursor

    async def chat(self, chat_id: UUID, *, through: UUID | None = None) -> ChatBranch:
        """A chat with the last messages of the branch that it shows, or of the newest through a message."""
        params = {"through": str(through)} if through else None
        response = await self._call("GET", f"{_CHATS}/{chat_id}", params=params)
        return ChatBranch.model_validate_json(response.content)

    async def change_chat(self, chat_id: UUID, *, title: str | None = None, through: UUID | None = None) -> ChatInfo:
        """Give a chat another title, or let it show the branch through a message."""
        body = {"title": title, "through": str(through) if through else None}
        response = await self._call("PATCH", f"{_CHATS}/{chat_id}", json=body)
        return ChatInfo.model_validate_json(response.content)

    async def delete_chat(self, chat_id: UUID) -> None:
        """Forget a chat with all that was said in it."""
        await self._call("DELETE", f"{_CHATS}/{chat_id}")

    async def export_chat(self, chat_id: UUID) -> str:
        """The branch that a chat shows, as Markdown."""
        return (await self._call("GET", f"{_CHATS}/{chat_id}/export")).text

    def say(
        self,
        chat_id: UUID,
        question: str,
        *,
        parent: UUID | None = None,
        edits: UUID | None = None,
        model: str | None = None,
        patience: float = _PATIENCE,
    ) -> AsyncGenerator[ChatEvent]:
        """Ask in a chat; the answer's events as they come. Leaving them stops the answer.

        A connection that is lost is taken up again where it was lost, by other pieces of the same words.

        Args:
            chat_id: in which.
            question: what is asked.
            parent: the answer that it follows; None: the last one of the branch that the chat shows.
            edits: the question in whose place it stands, on a branch of its own.
            model: the one that answers, as of `models`; None: the one that is chosen.
            patience: seconds in which a lost connection is tried again; 0: not at all.
        """
        more = {"parent_id": parent, "edits": edits, "model": model}
        body = {"question": question} | {name: str(value) for name, value in more.items() if value}
        return self._answer(chat_id, "messages", body, patience)

    def regenerate(
        self, chat_id: UUID, message_id: UUID, *, model: str | None = None, patience: float = _PATIENCE
    ) -> AsyncGenerator[ChatEvent]:
        """Have a question answered anew, as `say` does. The message is the question, or an answer of it."""
        body = {"model": model} if model else {}
        return self._answer(chat_id, f"messages/{message_id}/regenerate", body, patience)

    async def stop(self, chat_id: UUID, message_id: UUID) -> None:
        """Stop an answer that is being written."""
        await self._call("POST", f"{_CHATS}/{chat_id}/messages/{message_id}/stop")

    async def message(self, chat_id: UUID, message_id: UUID) -> MessageInfo:
        """One message."""
        response = await self._call("GET", f"{_CHATS}/{chat_id}/messages/{message_id}")
        return MessageInfo.model_validate_json(response.content)

    async def rate(
        self, chat_id: UUID, message_id: UUID, rating: Rating | None = None, comment: str | None = None
    ) -> None:
        """Say what an answer is worth, in the place of what was said before."""
        body = {"rating": rating, "comment": comment}
        await self._call("PUT", f"{_CHATS}/{chat_id}/messages/{message_id}/feedback", json=body)

    async def trace(self, chat_id: UUID, message_id: UUID) -> AnswerTrace:
        """How an answer came about."""
        response = await self._call("GET", f"{_CHATS}/{chat_id}/messages/{message_id}/trace")
        return AnswerTrace.model_validate_json(response.content)

    async def _answer(
        self, chat_id: UUID, path: str, body: dict[str, Any], patience: float
    ) -> AsyncGenerator[ChatEvent]:
        """An answer's events, over as many connections as it takes. One that is left is stopped."""
        waits, last, message_id, over = Patience(patience), "", None, False
        request: tuple[str, str, dict[str, Any]] = (
            "POST",
            f"{_CHATS}/{chat_id}/{path}",
            {"json": {**body, "resumable": patience > 0}},
        )
        try:
            while not over:
                try:
                    async with self._open(request[0], request[1], **request[2]) as response:
                        async for event_id, event in _events(response.aiter_lines()):
                            waits.reset()
                            last, over = event_id or last, event.type in {"done", "error"}
                            message_id = event.message_id if event.type == "started" else message_id
                            yield event
                    if not over:
                        raise Unavailable("stream_broke_off", "The server broke the stream off.")
                except Unavailable as error:
                    if message_id is None:
                        raise
                    await waits.wait(error)
                    where = f"{_CHATS}/{chat_id}/messages/{message_id}/stream"
                    request = ("GET", where, {"headers": {"Last-Event-ID": last}})
        except GeneratorExit:
            if message_id and not over:
                with suppress(RingfenceError):  # it ends by itself soon
                    await self.stop(chat_id, message_id)
            raise


async def _events(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str, ChatEvent]]:
    """A stream's events with their ids."""
    event_id = ""
    async for line in lines:
        if line.startswith("id:"):
            event_id = line.removeprefix("id:").strip()
        elif line.startswith("data:"):
            yield event_id, _EVENT.validate_json(line.removeprefix("data:"))
            event_id = ""

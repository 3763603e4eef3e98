"""Routes of chats: begin, list, search, read, rename, take along, delete; of answers: rate, explain."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ringfence.answers.events import Verdict
from ringfence.answers.queries import CitedPlace
from ringfence.chats.queries import Listed, Message, MessageState, Rating, Role
from ringfence.chats.records import Left, PassageRecord, Record, cited
from ringfence.chats.service import MAX_COMMENT_CHARS, MAX_TITLE_CHARS, Branch, as_markdown
from ringfence.chats.trace_queries import Words
from ringfence.filters import is_text
from ringfence.http.contract import Responses, may
from ringfence.http.deps import Asker, Reader, ServicesDep, Writer
from ringfence.ids import ChatId, MessageId

router = APIRouter(prefix="/api/v1/chats", tags=["chats"])

_MARKDOWN: Responses = {
    200: {"description": "The chat as Markdown.", "content": {"text/markdown": {"schema": {"type": "string"}}}}
}
_LOCATION = {"Location": {"description": "Of the chat.", "required": True, "schema": {"type": "string"}}}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)


def _text(value: str) -> str:
    if not is_text(value):
        raise ValueError("it is no text")
    return value


class NewChat(_Model):
    """A chat to begin."""

    title: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_TITLE_CHARS,
        description="Unset: its first question gives it one.",
        examples=["Notice periods"],
    )


class ChatChange(_Model):
    """What is to be otherwise; what is left out, or null, stays."""

    title: str | None = Field(default=None, min_length=1, max_length=MAX_TITLE_CHARS, examples=["Notice periods"])
    through: UUID | None = Field(
        default=None,
        description="A message: from now on the chat shows the newest branch through it.",
        examples=["2f1d0c5e-3a52-4d0e-8f0c-6a7b1f5f9b11"],
    )


class ChatView(_Model):
    """A conversation."""

    chat_id: UUID
    title: str | None = Field(description="Null until something is asked.", examples=["How long is the notice period?"])
    leaf_id: UUID | None = Field(description="The last message of the branch that it shows.")
    created_at: datetime
    updated_at: datetime = Field(description="When something was asked last.")


class ListedChat(ChatView):
    """A chat of a list."""

    message_id: UUID | None = Field(description="Of a search: the newest message that has the text.")
    excerpt: str | None = Field(description="What stands around it there.")


class ChatList(_Model):
    """A page of chats, the one that was used last first."""

    chats: list[ListedChat]
    next_cursor: str | None = Field(description="Where the next page begins; null: this is the last one.")


class MessageCitation(_Model):
    """Where the words stand that an answer cited, and the words, unless the document was deleted."""

    n: int = Field(description="The citation's number in the answer.", examples=[1])
    document_id: UUID
    page: int = Field(description="From 1.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character.", examples=[204])
    document: str | None = Field(description="Its name then.", examples=["handbook.pdf"])
    quote: str | None = Field(examples=["The notice period is six weeks to the end of a quarter."])


class ClaimView(_Model):
    """A sentence of an answer that was checked against the passages."""

    start: int = Field(description="Its first character in the answer's text, in Unicode's.", examples=[0])
    end: int = Field(description="Behind its last.", examples=[31])
    verdict: Verdict
    disputed: int | None = Field(
        default=None,
        description="Number of a source that says the same with another figure, cited or not; none where none does.",
        examples=[3],
    )


class MessageView(_Model):
    """A question or an answer."""

    message_id: UUID
    parent_id: UUID | None = Field(description="Of an answer its question; of a question the answer that it follows.")
    siblings: list[UUID] = Field(description="What stands in the same place, itself among them, oldest first.")
    role: Role
    text: str
    state: MessageState = Field(
        description="`writing`, or how it ended. `stopped`: by you; `interrupted`: its reader left or the server "
        "stopped; the text is what there was."
    )
    error_code: str | None = Field(description="Why it failed, for programs.", examples=["model_silent"])
    model: str | None = Field(description="Who wrote it, where it came to its end.")
    citations: list[MessageCitation]
    claims: list[ClaimView] = Field(description="Its sentences that were checked, once it has ended.")
    rating: Rating | None
    comment: str | None
    created_at: datetime
    ended_at: datetime | None


class BranchView(_Model):
    """A chat, and the last messages of one of its branches, oldest first."""

    chat: ChatView
    messages: list[MessageView]


class Feedback(_Model):
    """What an answer is worth; it takes the place of what was said before, null of each takes it back."""

    rating: Literal["up", "down"] | None = Field(default=None, examples=["up"])
    comment: Annotated[str, AfterValidator(_text)] | None = Field(
        default=None, max_length=MAX_COMMENT_CHARS, examples=["The second sentence is not in the handbook."]
    )


class PromptMessage(_Model):
    """A part of what the model was sent."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(description="`[deleted]` stands in the place of words of documents that were deleted.")


class PlaceView(_Model):
    """Where a part of a passage stands."""

    page: int = Field(description="From 1.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character.", examples=[204])


class TracedPassage(_Model):
    """A passage that the answer rests on. Its words are null where the document was deleted, or lies in the bin."""

    n: int = Field(description="Its number in the prompt and in the answer.", examples=[1])
    document_id: UUID
    version: int | None = Field(
        description="Of the document; null where another took its place at that very moment.", examples=[1]
    )
    number: int = Field(description="Of the chunk in its document.", examples=[12])
    places: list[PlaceView] = Field(description="One for each page that it touches.")
    similarity: float | None = Field(description="Cosine with the query.", examples=[0.71])
    lexical: float = Field(description="BM25.", examples=[5.2])
    score: float = Field(description="By which it was ordered.", examples=[0.93])
    document: str | None = Field(description="The document's name then.", examples=["handbook.pdf"])
    context: str | None = Field(description="The headings above it.", examples=["Handbook \u203a Leaving"])
    text: str | None = Field(examples=["The notice period is six weeks to the end of a quarter."])
    quote: str | None = Field(description="The sentence that bears most on the question.")


class TraceView(_Model):
    """How an answer came about."""

    message_id: UUID
    query: str = Field(description="What was looked for, and what the model was asked.")
    rewritten: bool = Field(description="Whether the chat model made it of the question and what was said before.")
    not_rewritten: str | None = Field(description="Why not, as of a search.", examples=["rewrite_off"])
    model: str | None = Field(description="Who was asked to write; null: nobody.")
    parameters: dict[str, int | float | bool] = Field(examples=[{"answer_tokens": 512, "relevance_floor": 0.25}])
    prompt: list[PromptMessage] = Field(description="What the model was sent, word by word.")
    passages: list[TracedPassage]
    created_at: datetime


def view(message: Message, left: Left) -> MessageView:
    """A message as it is shown."""
    values = {name: getattr(message, name) for name in MessageView.model_fields}
    values["citations"] = [_citation(place, words) for place, words in cited(message, left)]
    values["claims"] = [ClaimView.model_validate(claim) for claim in message.claims]
    return MessageView(**values | {"siblings": list(message.siblings)})


def _citation(place: CitedPlace, words: Words | None) -> MessageCitation:
    return MessageCitation(
        n=place.n,
        document_id=place.document_id,
        page=place.page,
        start=place.start,
        end=place.end,
        document=words.document if words else None,
        quote=words.quote if words else None,
    )


def _listed(one: Listed) -> ListedChat:
    values = {name: getattr(one.chat, name) for name in ChatView.model_fields}
    return ListedChat(**values, message_id=one.message_id, excerpt=one.excerpt)


def _branch(branch: Branch) -> BranchView:
    messages = [view(message, branch.left) for message in branch.messages]
    return BranchView(chat=ChatView.model_validate(branch.chat), messages=messages)


def _trace(record: Record) -> TraceView:
    trace = record.trace
    return TraceView(
        message_id=trace.message_id,
        query=trace.query,
        rewritten=trace.as_asked is None,
        not_rewritten=trace.as_asked,
        model=trace.model,
        parameters=trace.parameters,
        prompt=[PromptMessage(role=one.role, content=one.content) for one in record.prompt],
        passages=[_passage(one) for one in record.passages],
        created_at=trace.created_at,
    )


def _passage(one: PassageRecord) -> TracedPassage:
    pinned, words = one.pinned, one.words
    return TracedPassage(
        n=pinned.n,
        document_id=pinned.document_id,
        version=pinned.version,
        number=pinned.number,
        places=[PlaceView(page=page, start=start, end=end) for page, start, end in pinned.spans],
        similarity=pinned.similarity,
        lexical=pinned.lexical,
        score=pinned.score,
        document=words.document if words else None,
        context=words.context if words else None,
        text=words.text if words else None,
        quote=words.quote if words else None,
    )


@router.post("", status_code=201, responses={201: {"description": "It is there.", "headers": _LOCATION}, **may(400)})
async def add(body: NewChat, user_id: Asker, services: ServicesDep, response: Response) -> ChatView:
    """Begin a chat."""
    chat = await services.chats.add(user_id, body.title)
    response.headers["Location"] = f"{router.prefix}/{chat.chat_id}"
    return ChatView.model_validate(chat)


@router.get("", responses=may(400))
async def listed(
    user_id: Reader,
    services: ServicesDep,
    *,
    q: Annotated[
        str | None,
        Query(min_length=1, max_length=500, description="A text of the title or of a message, whatever its case."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
) -> ChatList:
    """List chats, the one that was used last first; or find those in which something was said."""
    page = await services.chats.listed(user_id, limit, text=q, cursor=cursor)
    return ChatList(chats=[_listed(one) for one in page.chats], next_cursor=page.next_cursor)


@router.get("/{chat_id}")
async def read(
    chat_id: UUID,
    user_id: Reader,
    services: ServicesDep,
    *,
    through: Annotated[UUID | None, Query(description="A message: show the newest branch through it.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="The last messages, so many.")] = 200,
) -> BranchView:
    """A chat with the messages of the branch that it shows."""
    found = MessageId(through) if through else None
    return _branch(await services.chats.branch(user_id, ChatId(chat_id), limit, through=found))


@router.patch("/{chat_id}", responses=may(400))
async def change(chat_id: UUID, body: ChatChange, user_id: Writer, services: ServicesDep) -> ChatView:
    """Rename a chat, or let it show another of its branches."""
    through = MessageId(body.through) if body.through else None
    chat = await services.chats.change(user_id, ChatId(chat_id), title=body.title, through=through)
    return ChatView.model_validate(chat)


@router.delete("/{chat_id}", status_code=204)
async def delete(chat_id: UUID, user_id: Writer, services: ServicesDep) -> None:
    """Forget a chat with all that was said in it."""
    await services.chats.delete(user_id, ChatId(chat_id))


@router.get("/{chat_id}/export", response_class=Response, responses=_MARKDOWN)
async def export(
    chat_id: UUID,
    user_id: Reader,
    services: ServicesDep,
    through: Annotated[UUID | None, Query(description="As of the chat.")] = None,
) -> Response:
    """Take a chat along as Markdown: the branch that it shows."""
    found = MessageId(through) if through else None
    branch = await services.chats.branch(user_id, ChatId(chat_id), 1000, through=found)
    headers = {"Content-Disposition": f'attachment; filename="chat-{chat_id}.md"'}
    return Response(as_markdown(branch), media_type="text/markdown", headers=headers)


@router.get("/{chat_id}/messages/{message_id}")
async def message(chat_id: UUID, message_id: UUID, user_id: Reader, services: ServicesDep) -> MessageView:
    """One message: of an answer all that there is, however it ended."""
    return view(*await services.chats.message(user_id, ChatId(chat_id), MessageId(message_id)))


@router.put("/{chat_id}/messages/{message_id}/feedback", status_code=204)
async def rate(chat_id: UUID, message_id: UUID, body: Feedback, user_id: Asker, services: ServicesDep) -> None:
    """Say what an answer is worth."""
    await services.chats.rate(user_id, ChatId(chat_id), MessageId(message_id), rating=body.rating, comment=body.comment)


@router.get("/{chat_id}/messages/{message_id}/trace")
async def trace(chat_id: UUID, message_id: UUID, user_id: Reader, services: ServicesDep) -> TraceView:
    """How an answer came about: what was looked for and found, and what the model was sent."""
    return _trace(await services.chats.record(user_id, ChatId(chat_id), MessageId(message_id)))

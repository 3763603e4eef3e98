"""The tools: what an agent may do for its user, each by one service, within the scopes of the token that it shows."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel

from ringfence.accounts.queries import Scope
from ringfence.answers.events import DoneEvent, ErrorEvent, SourcesEvent, TokenEvent
from ringfence.answers.questions import Stopped
from ringfence.documents.listing import Listing
from ringfence.errors import NotFound, Unavailable
from ringfence.http.deps import Caller, require
from ringfence.http.mcp.forms import (
    Answered,
    AskArguments,
    Found,
    FoundPassage,
    ListArguments,
    Listed,
    ListedDocument,
    ReadArguments,
    ReadPart,
    SearchArguments,
)
from ringfence.ids import DocumentId
from ringfence.limits import Note
from ringfence.search.service import How
from ringfence.services import Services

_CHUNKS = 20  # of a document in one part: some thousand words


@dataclass(frozen=True, slots=True)
class Desk:
    """Where one call is answered: by which services, for whom.

    Attributes:
        services: that do it.
        caller: on whose behalf.
        note: is told how limits stand.
        stopped: whether the server stops.
    """

    services: Services
    caller: Caller
    note: Note
    stopped: Stopped


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool.

    Attributes:
        title: for people.
        takes: its arguments; the class's docstring tells agents what it does.
        gives: its result.
        scope: that the token needs.
        run: does it.
        reads: whether it changes nothing.
    """

    title: str
    takes: type[BaseModel]
    gives: type[BaseModel]
    scope: Scope
    run: Callable[..., Awaitable[BaseModel]]
    reads: bool = True

    async def call(self, desk: Desk, arguments: object) -> BaseModel:
        """Run it.

        Raises:
            ValidationError: the arguments are not of its form.
            RingfenceError: it can't be done.
        """
        wanted = self.takes.model_validate(arguments)
        require(desk.caller, self.scope)
        return await self.run(desk, wanted)


async def _search(desk: Desk, wanted: SearchArguments) -> Found:
    how = How(chosen=wanted.filter.chosen() if wanted.filter else None)
    found = await desk.services.search.find(desk.caller.user_id, wanted.query, wanted.limit, how=how)
    return Found(
        passages=[
            FoundPassage(
                document_id=one.document_id,
                document=one.document,
                page=one.spans[0][0],
                number=one.number,
                context=one.context or None,
                score=round(one.score, 4),
                text=one.text,
            )
            for one in found.passages
        ]
    )


async def _ask(desk: Desk, wanted: AskArguments) -> Answered:
    events = desk.services.answers.ask(desk.caller.user_id, wanted.question, desk.note, stopped=desk.stopped)
    answered = Answered(answer_id=UUID(int=0), answer="", refused=False, citations=[])
    async with aclosing(events):
        async for event in events:
            match event:
                case SourcesEvent():
                    answered.answer_id = event.answer_id
                case TokenEvent():
                    answered.answer += event.text
                case DoneEvent():
                    answered.refused, answered.citations = event.refused, event.citations
                case ErrorEvent():
                    raise Unavailable(event.code, event.message)
                case _:  # a sentence's verdict: the last event has the citations
                    pass
    return answered


async def _list(desk: Desk, wanted: ListArguments) -> Listed:
    listing = Listing(filter=wanted.filter.chosen() if wanted.filter else None, name=wanted.name)
    page = await desk.services.library.listed(desk.caller.user_id, listing, wanted.limit, wanted.cursor)
    shown = ListedDocument.model_fields
    return Listed(
        documents=[
            ListedDocument.model_validate({name: getattr(document, name) for name in shown})
            for document in page.documents
        ],
        next_cursor=page.next_cursor,
    )


async def _read(desk: Desk, wanted: ReadArguments) -> ReadPart:
    user_id, document_id = desk.caller.user_id, DocumentId(wanted.document_id)
    document = await desk.services.library.get(user_id, document_id)
    part = await desk.services.search.text(user_id, document_id, wanted.start, _CHUNKS)
    if not part.spans:
        raise NotFound("nothing_to_read", "There is no text: the document is not ready, or ends before that place.")
    return ReadPart(
        document_id=document_id,
        name=document.name,
        pages=sorted({page for page, _, _ in part.spans}),
        text=part.text,
        next_start=part.following,
    )


TOOLS = {
    "search": Tool("Search documents", SearchArguments, Found, Scope.READ, _search),
    "ask": Tool("Ask documents", AskArguments, Answered, Scope.ASK, _ask, reads=False),
    "list_documents": Tool("List documents", ListArguments, Listed, Scope.READ, _list),
    "read_document": Tool("Read a document", ReadArguments, ReadPart, Scope.READ, _read),
}

"""Pages of lists, as OpenAI's clients turn them: behind, or before, the thing that an id names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ringfence.documents import listing
from ringfence.documents.listing import Listing
from ringfence.documents.queries import Document, State
from ringfence.errors import Invalid, NotFound
from ringfence.filters import Filter
from ringfence.ids import DocumentId, UserId
from ringfence.services import Services

MAX_PAGE = 1000


class PageQuery(BaseModel):
    """Which part of a list, and in which order."""

    model_config = ConfigDict(extra="forbid")

    after: UUID | None = Field(default=None, description="The last id of the page before.")
    before: UUID | None = Field(default=None, description="The first id of the page behind.")
    limit: int = Field(default=20, ge=1, le=100, description="Things of a page at most.")
    order: Literal["asc", "desc"] = Field(default="desc", description="By the time when they were made.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.after is not None and self.before is not None:
            raise ValueError("a page is behind a thing or before it, not both")
        return self


@dataclass(frozen=True, slots=True)
class Part[T]:
    """A part of a list, and whether there is more of it in the direction in which it was asked."""

    items: Sequence[T]
    has_more: bool


async def documents(
    services: Services, user_id: UserId, query: PageQuery, chosen: Filter | None = None, states: tuple[State, ...] = ()
) -> Part[Document]:
    """A page of the tenant's documents.

    Raises:
        Invalid: `bad_cursor`.
    """
    order = query.order
    if query.before is not None:
        order = "asc" if order == "desc" else "desc"
    wanted = Listing(filter=chosen, states=states, order=order)
    cursor = None
    if place := query.after or query.before:
        try:
            last = await services.library.get(user_id, DocumentId(place))
        except NotFound:
            raise _no_place(query) from None
        cursor = listing.written(wanted, last)
    page = await services.library.listed(user_id, wanted, min(query.limit, MAX_PAGE), cursor)
    found = page.documents[::-1] if query.before is not None else page.documents
    return Part(found, page.next_cursor is not None)


def part[T](ids: Sequence[UUID], items: Sequence[T], query: PageQuery) -> Part[T]:
    """A page of a list that is there as a whole, the newest first.

    Raises:
        Invalid: `bad_cursor`.
    """
    if query.order == "asc":
        ids, items = ids[::-1], items[::-1]
    start, end = 0, len(items)
    try:
        if query.after is not None:
            start = ids.index(query.after) + 1
        if query.before is not None:
            end = ids.index(query.before)
            start = max(end - query.limit, 0)
            return Part(items[start:end], start > 0)
    except ValueError:
        raise _no_place(query) from None
    return Part(items[start : start + query.limit], start + query.limit < end)


def _no_place(query: PageQuery) -> Invalid:
    param = "after" if query.after is not None else "before"
    return Invalid("bad_cursor", f"There is nothing with the id that `{param}` names.", param=param)

"""What a list of documents is to show, in which order, and where its next page begins.

A place is the last document's value of what the list is sorted by, with its id: pages stay whole whatever comes and
goes between them. Clients hold it as a string that means nothing to them.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from ringfence.documents.queries import Document, State
from ringfence.errors import Invalid
from ringfence.filters import Filter, is_text

type Sort = Literal["created", "name", "size"]
type Order = Literal["asc", "desc"]

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """Which documents, and in which order.

    Attributes:
        filter: which; None: all.
        states: in one of these; none: in any.
        name: a part of the name, whatever its case.
        deleted: those in the bin, and no others.
        sort: by the time of the upload, the name (its case does not matter), or the size.
        order: of it.
    """

    filter: Filter | None = None
    states: tuple[State, ...] = ()
    name: str | None = None
    deleted: bool = False
    sort: Sort = "created"
    order: Order = "desc"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and the place of what follows, if anything does."""

    documents: list[Document]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: the value by which it is sorted, and the id, of the last document before it."""

    value: datetime | str | int
    document_id: UUID


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sort: Sort
    order: Order
    value: str
    document_id: UUID


def written(listing: Listing, last: Document) -> str:
    """The place behind a document of a list."""
    values = {"created": last.created_at.isoformat(), "name": last.name, "size": str(last.size)}
    value = values[listing.sort]
    place = _Written(sort=listing.sort, order=listing.order, value=value, document_id=last.document_id)
    return base64.urlsafe_b64encode(place.model_dump_json().encode()).decode().rstrip("=")


def read(listing: Listing, cursor: str) -> Cursor:
    """The place that a client names.

    Raises:
        Invalid: `bad_cursor`, it is none, or one of a list in another order.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = _Written.model_validate_json(data)
        if (place.sort, place.order) != (listing.sort, listing.order):
            raise ValueError(place.sort)
        return Cursor(_value(place), place.document_id)
    except (ValueError, OverflowError, binascii.Error, ValidationError):
        raise Invalid("bad_cursor", "This is no place in such a list: begin again without a cursor.") from None


def _value(place: _Written) -> datetime | str | int:
    if place.sort == "created":
        return datetime.fromisoformat(place.value).astimezone(UTC)
    if place.sort == "size":
        size = int(place.value)
        if not 0 <= size <= _LARGEST:
            raise ValueError(size)
        return size
    if not is_text(place.value):
        raise ValueError(place.sort)
    return place.value

"""What an owner says of a document: its collections, tags and metadata, checked."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from ringfence.db import TenantTx
from ringfence.documents import collection_queries
from ringfence.errors import Invalid
from ringfence.filters import MAX_KEY_CHARS, MAX_TAGS, fold, is_text

MAX_COLLECTIONS = 50
MAX_METADATA_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Labels:
    """What is to be said of a document; None: nothing about that.

    Attributes:
        collections: ids; `require_collections` finds out whether they are the tenant's.
        tags: folded, in order.
        metadata: JSON.
    """

    collections: tuple[UUID, ...] | None = None
    tags: tuple[str, ...] | None = None
    metadata: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything is to be said."""
        return any(part is not None for part in (self.collections, self.tags, self.metadata))


def labels(
    collections: Iterable[UUID] | None = None,
    tags: Iterable[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Labels:
    """Labels in their right form.

    Raises:
        Invalid: `bad_tags`, `bad_metadata`, `too_many_collections`.
    """
    return Labels(
        None if collections is None else _collections(collections),
        None if tags is None else _tags(tags),
        None if metadata is None else _metadata(metadata),
    )


def read_metadata(text: str) -> dict[str, Any]:
    """Metadata as a form has it.

    Raises:
        Invalid: `bad_metadata`; it is no JSON object.
    """
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _bad_metadata("is a JSON object")
    return found


async def require_collections(tx: TenantTx, wanted: Labels) -> None:
    """Refuse collections that are not the tenant's.

    Raises:
        Invalid: `unknown_collection`.
    """
    if wanted.collections and await collection_queries.known(tx, wanted.collections) != set(wanted.collections):
        raise unknown_collection()


def unknown_collection() -> Invalid:
    """A document can't be put into a collection that is not there, or somebody else's: the two look the same."""
    return Invalid("unknown_collection", "There is no such collection to put the document into.")


def _collections(ids: Iterable[UUID]) -> tuple[UUID, ...]:
    found = tuple(sorted(set(ids)))
    if len(found) > MAX_COLLECTIONS:
        raise Invalid("too_many_collections", f"A document is in at most {MAX_COLLECTIONS} collections.")
    return found


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    try:
        found = tuple(sorted({fold(tag) for tag in tags}))
    except ValueError as error:
        raise Invalid("bad_tags", f"These are no tags: {error}.") from None
    if len(found) > MAX_TAGS:
        raise Invalid("bad_tags", f"A document has at most {MAX_TAGS} tags.")
    return found


def _metadata(metadata: dict[str, Any]) -> str:
    for key, value in metadata.items():
        if not 1 <= len(key) <= MAX_KEY_CHARS or not is_text(key):
            raise _bad_metadata(f"has keys of 1 to {MAX_KEY_CHARS} characters")
        for one in value if isinstance(value, list) else [value]:
            if not (one is None or isinstance(one, str | int | float)) or (isinstance(one, str) and not is_text(one)):
                raise _bad_metadata("has strings, numbers, true, false, null, and lists of them as its values")
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # of numbers alone
        raise _bad_metadata("has no such number") from None
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise _bad_metadata(f"has at most {MAX_METADATA_BYTES} bytes as JSON")
    return text


def _bad_metadata(what: str) -> Invalid:
    return Invalid("bad_metadata", f"A document's metadata {what}.")

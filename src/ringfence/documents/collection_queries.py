"""SQL of collections: named sets of a tenant's documents. `documents.collections` says what is in one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import ForeignKeyViolationError, UniqueViolationError

from ringfence.db import TenantTx
from ringfence.errors import Conflict, Unauthenticated
from ringfence.ids import CollectionId

_COLUMNS = "k.collection_id, k.name, k.created_at"
_SIZES = """
  select unnest(d.collections) as collection_id, count(*) as documents
  from documents d where d.user_id = $1 and d.deleted_at is null group by 1
"""
_LIST = f"""
select {_COLUMNS}, coalesce(s.documents, 0) as documents
from collections k left join ({_SIZES}) s using (collection_id) where k.user_id = $1 order by lower(k.name), k.name
"""  # noqa: S608  # constants, as below
_GET = f"""
select {_COLUMNS}, coalesce(s.documents, 0) as documents
from collections k left join ({_SIZES}) s using (collection_id) where k.user_id = $1 and k.collection_id = $2
"""  # noqa: S608
_CONTENTS = """
select d.user_id, k.collection_id, d.state, count(*) as documents, sum(d.size)::bigint as bytes
from documents d cross join unnest(d.collections) as k (collection_id)
where d.user_id = $1 and d.deleted_at is null and ($2::uuid is null or k.collection_id = $2) group by 1, 2, 3
"""
_ADD = "insert into collections (user_id, collection_id, name) values ($1, $2, $3)"
_COUNT = "select user_id, count(*) as collections from collections where user_id = $1 group by user_id"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('collections ' || $1::text, 0))"
_RENAME = "update collections set name = $3 where user_id = $1 and collection_id = $2"
_DELETE = "delete from collections where user_id = $1 and collection_id = $2"
_KNOWN = "select collection_id from collections where user_id = $1 and collection_id = any($2)"


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents, and how many are in it, the bin's left out."""

    collection_id: CollectionId
    name: str
    created_at: datetime
    documents: int


@dataclass(frozen=True, slots=True)
class Contents:
    """How many documents of a collection are in one state, and how many bytes they have."""

    collection_id: UUID
    state: str
    documents: int
    bytes: int


def _taken() -> Conflict:
    return Conflict("collection_exists", "You have a collection of this name already.")


async def listed(tx: TenantTx) -> list[Collection]:
    """The tenant's collections, by name."""
    return [Collection(**dict(row)) for row in await tx.fetch(_LIST, tx.user_id)]


async def get(tx: TenantTx, collection_id: CollectionId) -> Collection | None:
    """One collection, if it is the tenant's."""
    row = await tx.fetchrow(_GET, tx.user_id, collection_id)
    return Collection(**dict(row)) if row else None


async def contents(tx: TenantTx, collection_id: CollectionId | None) -> list[Contents]:
    """What is in a collection, or in each of them, the bin's left out."""
    rows = await tx.fetch(_CONTENTS, tx.user_id, collection_id)
    return [Contents(row["collection_id"], row["state"], row["documents"], row["bytes"]) for row in rows]


async def count(tx: TenantTx) -> int:
    """How many there are; until the transaction's end, no other one of the tenant counts them."""
    await tx.execute(_LOCK, str(tx.user_id))
    row = await tx.fetchrow(_COUNT, tx.user_id)
    return row["collections"] if row else 0


async def add(tx: TenantTx, collection_id: CollectionId, name: str) -> None:
    """Make an empty collection.

    Raises:
        Conflict: `collection_exists`.
        Unauthenticated: the tenant's account is gone.
    """
    try:
        await tx.execute(_ADD, tx.user_id, collection_id, name)
    except UniqueViolationError:
        raise _taken() from None
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None


async def rename(tx: TenantTx, collection_id: CollectionId, name: str) -> bool:
    """Give a collection another name; False if there is none.

    Raises:
        Conflict: `collection_exists`.
    """
    try:
        return bool(await tx.execute(_RENAME, tx.user_id, collection_id, name))
    except UniqueViolationError:
        raise _taken() from None


async def delete(tx: TenantTx, collection_id: CollectionId) -> bool:
    """Remove a collection, and none of its documents; False if there is none."""
    return bool(await tx.execute(_DELETE, tx.user_id, collection_id))


async def known(tx: TenantTx, ids: Iterable[UUID]) -> set[UUID]:
    """Which of these are collections of the tenant."""
    return {row["collection_id"] for row in await tx.fetch(_KNOWN, tx.user_id, list(ids))}

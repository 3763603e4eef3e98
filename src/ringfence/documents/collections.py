"""Collections of a tenant's documents: made, named, listed, dissolved. Which documents are in one, their labels say."""

import unicodedata

from ringfence.db import Database
from ringfence.documents import collection_queries as queries
from ringfence.documents.collection_queries import Collection, Contents
from ringfence.errors import Conflict, Invalid, NotFound
from ringfence.filters import UNSEEN
from ringfence.ids import CollectionId, UserId, new_collection_id

MAX_NAME_CHARS = 100
MAX_COLLECTIONS = 1000


class Collections:
    """The collections of tenants. Every method acts for one tenant; another's does not exist for it.

    Args:
        db: where they are.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self, user_id: UserId) -> list[Collection]:
        """The tenant's collections, by name."""
        async with self._db.tenant(user_id) as tx:
            return await queries.listed(tx)

    async def get(self, user_id: UserId, collection_id: CollectionId) -> Collection:
        """One collection.

        Raises:
            NotFound: there is no such collection, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            return _found(await queries.get(tx, collection_id))

    async def contents(self, user_id: UserId, collection_id: CollectionId | None = None) -> list[Contents]:
        """What is in a collection, or in each of them: of documents in one state how many, and how large."""
        async with self._db.tenant(user_id) as tx:
            return await queries.contents(tx, collection_id)

    async def add(self, user_id: UserId, name: str) -> Collection:
        """Make an empty collection.

        Raises:
            Invalid: `bad_collection_name`.
            Conflict: `collection_exists`, or `too_many_collections`.
        """
        clean, collection_id = _clean(name), new_collection_id()
        async with self._db.tenant(user_id) as tx:
            if await queries.count(tx) >= MAX_COLLECTIONS:
                raise Conflict("too_many_collections", f"You have {MAX_COLLECTIONS} collections. Delete some first.")
            await queries.add(tx, collection_id, clean)
            return _found(await queries.get(tx, collection_id))

    async def rename(self, user_id: UserId, collection_id: CollectionId, name: str) -> Collection:
        """Give a collection another name.

        Raises:
            NotFound, Invalid, Conflict: as of `get` and `add`.
        """
        clean = _clean(name)
        async with self._db.tenant(user_id) as tx:
            await queries.rename(tx, collection_id, clean)
            return _found(await queries.get(tx, collection_id))

    async def delete(self, user_id: UserId, collection_id: CollectionId) -> None:
        """Dissolve a collection; its documents stay.

        Raises:
            NotFound: there is no such collection, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            if not await queries.delete(tx, collection_id):
                raise _not_found()


def _clean(name: str) -> str:
    clean = " ".join(UNSEEN.sub("", " ".join(unicodedata.normalize("NFC", name).split())).split())
    if not 1 <= len(clean) <= MAX_NAME_CHARS:
        raise Invalid("bad_collection_name", f"A collection's name has 1 to {MAX_NAME_CHARS} characters.")
    return clean


def _found(collection: Collection | None) -> Collection:
    if collection is None:
        raise _not_found()
    return collection


def _not_found() -> NotFound:
    return NotFound("collection_not_found", "There is no such collection.")

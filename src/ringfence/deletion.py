"""The deletion of an account that was closed: documents, files, and at last every row.

Each step is safe to run again, and the account's row, on which its job depends, goes last: whatever breaks the job off,
the next worker goes on with it, and nothing is left that no job knows of.
"""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from ringfence.accounts import leaving
from ringfence.db import Database, SystemTx
from ringfence.documents.service import Library
from ringfence.ids import UserId
from ringfence.jobs import Job
from ringfence.storage.base import Storage

log = structlog.get_logger()

type Farewell = Callable[[SystemTx, UserId], Awaitable[None]]
"""What has to be done at the end of the transaction that removes an account, because rows of it outlive it."""


class Deletion:
    """Runs the jobs of closed accounts.

    Args:
        db: where the rows are.
        library: the documents.
        storage: their files.
        farewells: called just after the account's row has gone.
    """

    def __init__(self, db: Database, library: Library, storage: Storage, farewells: Sequence[Farewell] = ()) -> None:
        self._db = db
        self._library = library
        self._storage = storage
        self._farewells = farewells

    async def run(self, job: Job) -> None:
        """Delete all that a closed account has; of one that is not closed, nothing.

        The job's own row goes with the rest.

        Raises:
            Unavailable: the database or the disk; run it again.
        """
        user_id = job.user_id
        async with self._db.system() as tx:
            if not await leaving.hold(tx, user_id):
                log.error("account_not_closed")
                return
        # What may take long comes first, in small steps.
        await self._library.delete_rows(user_id)
        await self._storage.delete_all(user_id)
        async with self._db.system() as tx:
            # An upload inserts a row before it stores a file, which refers to the account's: none begins from here on.
            # One that has begun finds the account gone, and deletes its file; `sweep` is for one that dies before that.
            if await leaving.hold(tx, user_id):
                await self._storage.delete_all(user_id)
                await leaving.remove(tx, user_id)
                # Last: by now whoever was still changing a row of the account, and said so in its log, is done.
                for farewell in self._farewells:
                    await farewell(tx, user_id)
        log.info("account_deleted")

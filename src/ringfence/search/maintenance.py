"""Maintenance of tiers: large tenants get a table and an index of their own, and lose them when they have become small.

All of it is done in small steps, between which searches and writes go on; at each of them a search finds everything,
because it looks in both parts of the table of vectors in one statement, and a row is in one of them. What is to be done
is seen from what is there: whatever breaks a round off, the next one goes on.

Searches go by an index once it is whole. Until then, and for what was uploaded since, they are exact. An upload never
waits for an index: its vectors begin in the part that all share, and maintenance moves them.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import structlog

from ringfence.db import Database, OwnerTx
from ringfence.errors import Conflict, RingfenceError
from ringfence.ids import DocumentId, UserId, user_id_from_record
from ringfence.migrations.owner import Owner, no_snapshot_of_before
from ringfence.search import tier_queries as queries
from ringfence.search.tier_queries import OWN, SHARED, OwnTable, Size
from ringfence.search.tiers import Tiers

log = structlog.get_logger()

LOCK = 7_264_123_002
"""By which rounds know each other: one at a time in a database."""

_PAUSE = 600.0
_DOCUMENTS = 32  # held at once
_BULK = 1000  # rows moved at once: some 50 ms
_INDEXED = 50  # the same where an index takes each in: some 100 ms
_LEAST_MEMORY, _MOST_MEMORY = 64 * 2**20, 2**30  # for building an index
_LINKS = 400  # bytes of a vector in the graph beside its numbers; measured

type Connect = Callable[[], AbstractAsyncContextManager[Owner | None]]


class Maintenance:
    """Promotes and demotes tenants.

    Args:
        db: where vectors are; rows are moved as their tenant.
        connect: opens the owner's connection, which makes and drops tables, and sees no row.
        tiers: the limits.
        pause: seconds between two rounds.
        step: is told of each step of a promotion or a demotion before it is taken.
    """

    def __init__(
        self,
        db: Database,
        connect: Connect,
        tiers: Tiers,
        *,
        pause: float = _PAUSE,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._db = db
        self._connect = connect
        self._tiers = tiers
        self._pause = pause
        self._step = step

    async def run(self) -> None:
        """A round every few minutes, until cancelled; one that fails is logged, and the next one comes."""
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001  # whatever the database says: the next round may get further
                log.warning("maintenance_failed", error=str(error))
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)

    async def round(self) -> bool:
        """Look at every tenant once, and bring what it has to where it belongs; False if another one is at it.

        Raises:
            SetupError: the administrator is refused, or may not become the owner.
            Unavailable: the database can't be reached.
        """
        async with self._connect() as owner:
            if owner is None:
                return False
            there: dict[UserId, OwnTable] = {}

            async def look(tx: OwnerTx) -> None:
                there.update({table.user_id: table for table in await queries.own_tables(tx)})

            await owner.apply(look)
            sizes = await self._sizes(set(there))
            for user_id, table in there.items():
                await self._carefully(self._keep(owner, table, sizes.get(user_id, [])))
            free = self._tiers.promoted_most - len(there)
            await self._promote_largest(owner, {who: of for who, of in sizes.items() if who not in there}, free)
        return True

    async def _sizes(self, promoted: set[UserId]) -> dict[UserId, list[Size]]:
        """The sizes of tenants that are large, or were."""
        last, found = user_id_from_record(UUID(int=0)), dict[UserId, list[Size]]()
        while True:
            async with self._db.system() as tx:
                tenants = await queries.tenants_after(tx, last)
            if not tenants:
                return found
            for last in tenants:
                async with self._db.tenant(last) as tx:
                    sizes = await queries.sizes(tx)
                if last in promoted or _largest(sizes) >= self._tiers.promote_at:
                    found[last] = sizes

    async def _promote_largest(self, owner: Owner, large: dict[UserId, list[Size]], free: int) -> None:
        waiting = sorted(large, key=lambda user_id: (-_largest(large[user_id]), user_id))
        if left := max(0, len(waiting) - max(0, free)):
            log.warning("promotion_full", left_out=left, most=self._tiers.promoted_most)
        for user_id in waiting[: max(0, free)]:
            await self._carefully(self._promote(owner, user_id, large[user_id]))

    async def _carefully(self, work: "asyncio._CoroutineLike[None]") -> None:
        """Do what concerns one tenant; if the database has no moment for it, the others come none the less."""
        try:
            await work
        except RingfenceError as error:
            log.warning("maintenance_put_off", code=error.code)

    async def _promote(self, owner: Owner, user_id: UserId, sizes: list[Size]) -> None:
        self._step("table")
        await owner.apply(lambda tx: queries.create_table(tx, user_id))
        await self._fill(owner, OwnTable(user_id, frozenset(), ()), sizes)

    async def _keep(self, owner: Owner, table: OwnTable, sizes: list[Size]) -> None:
        """Go on with a tenant that has a table of its own: fill it, or take it away."""
        for name in table.remains:
            self._step("remains")
            await owner.alone(queries.remove_index(name), _LEAST_MEMORY)
        if _largest(sizes) >= self._tiers.demote_at:
            await self._fill(owner, table, sizes)
        else:
            await self._demote(owner, table.user_id, sizes)

    async def _fill(self, owner: Owner, table: OwnTable, sizes: list[Size]) -> None:
        began, user_id = time.monotonic(), table.user_id
        self._step("move in")
        moved = await self._move(user_id, SHARED, OWN, _INDEXED if table.models else _BULK)
        wanted = {size.model_id: size for size in sizes if size.total >= self._tiers.demote_at}
        for model_id in table.models - wanted.keys():
            self._step("unwanted index")
            await owner.alone(queries.remove_index(queries.index_name(user_id, model_id)), _LEAST_MEMORY)
        missing = wanted.keys() - table.models
        for model_id in sorted(missing):
            await self._build(owner, user_id, wanted[model_id])
        if moved or missing:
            seconds = round(time.monotonic() - began, 1)
            log.info("promoted", user_id=str(user_id), moved=moved, indexes=len(missing), seconds=seconds)

    async def _build(self, owner: Owner, user_id: UserId, size: Size) -> None:
        self._step("index")
        memory = size.total * (2 * size.dimensions + _LINKS) * 5 // 4
        await owner.alone(queries.build_index(user_id, size), max(_LEAST_MEMORY, min(memory, _MOST_MEMORY)))
        self._step("name")
        await owner.apply(lambda tx: queries.name_index(tx, user_id, size.model_id))

    async def _demote(self, owner: Owner, user_id: UserId, sizes: list[Size]) -> None:
        self._step("move out")
        moved = await self._move(user_id, OWN, SHARED, _BULK) if any(size.own for size in sizes) else 0
        self._step("drop")
        await owner.apply(lambda tx: self._drop_empty(tx, user_id))
        log.info("demoted", user_id=str(user_id), moved=moved)

    async def _drop_empty(self, tx: OwnerTx, user_id: UserId) -> None:
        """Drop the table of a tenant that has nothing in it.

        Raises:
            Conflict: it has, or a backup is being taken.
        """
        if not await no_snapshot_of_before(tx):
            raise Conflict("backup_running", "A backup is being taken.")
        await queries.keep_writers_out(tx, user_id)
        async with self._db.tenant(user_id) as tenant:  # the owner sees no row
            if any(size.own for size in await queries.sizes(tenant)):
                raise Conflict("table_not_empty", "Some of the tenant's documents are being changed.")
        await queries.drop_table(tx, user_id)

    async def _move(self, user_id: UserId, source: int, target: int, rows: int) -> int:
        """Move a tenant's vectors, some at a time; how many. What somebody else holds stays for the next round."""
        last, total = DocumentId(UUID(int=0)), 0
        while True:
            async with self._db.tenant(user_id) as tx:
                documents = await queries.hold_documents(tx, source, last, _DOCUMENTS)
                if not documents:
                    return total
                moved = await queries.move(tx, source, target, documents, rows)
            total += moved
            self._step("batch")
            if moved < rows:
                last = documents[-1]


def _largest(sizes: list[Size]) -> int:
    return max((size.total for size in sizes), default=0)

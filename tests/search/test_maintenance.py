"""Promotion and demotion: nothing is lost or doubled at any step, whatever goes on beside or breaks it off."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from ringfence.db import Database, DatabaseOptions
from ringfence.documents import library_queries
from ringfence.errors import Conflict, RingfenceError, Unavailable
from ringfence.ids import DocumentId
from ringfence.migrations.forms import Pace
from ringfence.migrations.owner import Owner, owner
from ringfence.migrations.roles import LOCK as MIGRATIONS
from ringfence.search import queries
from ringfence.search.maintenance import LOCK, Maintenance
from ringfence.search.queries import Wanted
from ringfence.search.tiers import Tiers
from tests.conftest import with_database
from tests.migrations.later import QUICK
from tests.migrations.test_migrate import Pooler
from tests.search.conftest import CHUNK, DOCUMENT, VECTOR, fill, new_tenant, points

TIERS = Tiers(promote_at=100, demote_at=50, promoted_most=2, ef_search=100)
IMPATIENT = Pace(lock=0.05, statement=5, pause=0.02, longest_pause=0.05, patience=0.2)
_OWN = """
select replace(c.relname, 'embeddings_', '')::uuid from pg_inherits h join pg_class c on c.oid = h.inhrelid
where h.inhparent = 'embeddings_own'::regclass order by 1
"""
_INDEXES = (
    "select indexrelid::regclass::text from pg_index where indrelid = $1::regclass and not indisprimary order by 1"
)
_PARTS = "select part, count(*) from embeddings where user_id = $1 group by part order by part"


@pytest.fixture
def maintained(db, database_url):
    """Maintenance with other limits, another pace, or a step at which it is broken off."""

    def make(tiers=TIERS, pace=QUICK, **options) -> Maintenance:
        return Maintenance(db, lambda: owner(database_url, LOCK, pace=pace), tiers, **options)

    return make


async def promoted(bulk) -> set[UUID]:
    return {row[0] for row in await bulk.fetch(_OWN)}


async def parts(bulk, user_id) -> dict[int, int]:
    return dict(await bulk.fetch(_PARTS, user_id))


async def texts(db, user_id, model_id, vector, limit=100):
    async with db.call(user_id) as call:
        return [hit.text for hit in await queries.nearest(call, Wanted(model_id, vector, limit, None), TIERS)]


async def test_the_largest_come_first_and_the_number_is_capped(bulk, model_id, maintained):
    sizes = (40, 110, 150, 130)
    users = [await new_tenant(bulk) for _ in sizes]
    for user_id, size in zip(users, sizes, strict=True):
        await fill(bulk, user_id, model_id, points(size, seed=1))
    assert await maintained().round()
    assert await promoted(bulk) == {users[2], users[3]}
    assert await maintained().round()
    assert await promoted(bulk) == {users[2], users[3]}
    assert await parts(bulk, users[2]) == {1: 150}
    assert await parts(bulk, users[1]) == {0: 110}
    assert await maintained(Tiers(100, 50, promoted_most=3)).round()
    assert await promoted(bulk) == set(users[1:])


async def test_who_has_become_small_is_demoted_but_not_at_the_first_deletion(db, bulk, model_id, maintained):
    user_id, vectors = await new_tenant(bulk), points(120, seed=1)
    found = await fill(bulk, user_id, model_id, vectors)
    await maintained().round()
    for document_id, left in zip(found[:3], (95, 70, 45), strict=True):
        async with db.tenant(user_id) as tx:
            assert (await library_queries.delete(tx, [document_id]))[0]
        await maintained().round()
        assert await parts(bulk, user_id) == {1 if left >= 50 else 0: left}
    assert await promoted(bulk) == set()
    assert len(await texts(db, user_id, model_id, vectors[0])) == 45


async def test_a_deleted_tenants_table_goes(bulk, model_id, maintained):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(120, seed=1))
    await maintained().round()
    await bulk.execute("delete from users where user_id = $1", user_id)
    assert await bulk.fetchval("select count(*) from embeddings") == 0
    await maintained().round()
    assert await promoted(bulk) == set()


async def test_each_model_has_an_index_as_long_as_it_has_vectors(db, bulk, model_id, maintained):
    user_id, vectors = await new_tenant(bulk), points(120, seed=1)
    found = await fill(bulk, user_id, model_id, vectors)
    await maintained().round()
    table = f"embeddings_{user_id.hex}"
    other = await bulk.fetchval("insert into embedding_models (name, dimensions) values ('n', 16) returning model_id")
    rows = [(user_id, found[n // 25], n % 25, other, vectors[n][:16]) for n in range(120)]
    await bulk.executemany(VECTOR, rows[:30])
    await maintained().round()
    assert [row[0] for row in await bulk.fetch(_INDEXES, table)] == [f"{table}_m{model_id}"]
    assert len(await texts(db, user_id, other, vectors[0][:16])) == 30
    await bulk.executemany(VECTOR, rows[30:])
    await maintained().round()
    assert [row[0] for row in await bulk.fetch(_INDEXES, table)] == [f"{table}_m{model_id}", f"{table}_m{other}"]
    assert len(await texts(db, user_id, other, vectors[0][:16])) == 100
    await bulk.execute("delete from embeddings where model_id = $1", model_id)
    await maintained().round()
    assert [row[0] for row in await bulk.fetch(_INDEXES, table)] == [f"{table}_m{other}"]


async def test_what_is_being_ingested_waits_and_what_is_held_is_left_out(db, bulk, model_id, maintained):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(120, seed=1))
    await maintained().round()
    ingested, held, *_ = await fill(bulk, user_id, model_id, points(75, seed=2))
    await bulk.execute("update documents set state = 'processing' where document_id = $1", ingested)
    async with db.tenant(user_id) as tx:
        await tx.execute("update documents set name = 'b' where user_id = $1 and document_id = $2", user_id, held)
        await maintained().round()
    assert await parts(bulk, user_id) == {0: 50, 1: 145}
    await bulk.execute("update documents set state = 'ready'")
    await maintained().round()
    assert await parts(bulk, user_id) == {1: 195}


async def test_no_round_begins_beside_another_or_a_migration(database_url, maintained):
    async with owner(database_url, LOCK) as other:
        assert isinstance(other, Owner)
        assert not await maintained().round()
    connection = await asyncpg.connect(database_url)
    await connection.execute("select pg_advisory_lock($1)", MIGRATIONS)
    assert not await maintained().round()
    await connection.close()


async def test_no_table_goes_while_a_backup_is_taken(database_url, bulk, model_id, maintained):
    """It sees rows of before, which are in that table."""
    user_id = await new_tenant(bulk)
    [one, *_] = await fill(bulk, user_id, model_id, points(100, seed=1), per_document=51)
    await maintained().round()
    connection = await asyncpg.connect(database_url)
    await connection.execute("select pg_advisory_lock_shared($1)", MIGRATIONS)
    await bulk.execute("delete from documents where document_id = $1", one)
    await maintained().round()
    assert await promoted(bulk) == {user_id}
    assert await parts(bulk, user_id) == {0: 49}
    await connection.close()
    await maintained().round()
    assert await promoted(bulk) == set()


async def test_a_table_with_rows_in_it_never_goes(db, bulk, model_id, maintained):
    user_id = await new_tenant(bulk)
    one, *others = await fill(bulk, user_id, model_id, points(100, seed=1))
    await maintained().round()
    await bulk.execute("delete from documents where document_id = any($1)", others)
    async with db.tenant(user_id) as tx:
        await tx.execute("update documents set name = 'b' where user_id = $1 and document_id = $2", user_id, one)
        await maintained().round()
    assert await promoted(bulk) == {user_id}
    assert await parts(bulk, user_id) == {1: 25}
    await maintained().round()
    assert await parts(bulk, user_id) == {0: 25}


@pytest.mark.parametrize("lock", ["documents in row exclusive", "embeddings_own in share"])
async def test_where_others_are_in_the_way_it_steps_back(database_url, bulk, model_id, maintained, lock):
    blocked, other = await new_tenant(bulk), await new_tenant(bulk)
    await fill(bulk, blocked, model_id, points(120, seed=1))
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"lock table {lock} mode")
    assert await maintained(pace=IMPATIENT).round()
    assert await promoted(bulk) == set()
    await transaction.rollback()
    await connection.close()
    await fill(bulk, other, model_id, points(130, seed=1))
    await maintained().round()
    assert await promoted(bulk) == {blocked, other}


async def test_it_gets_its_lock_as_soon_as_others_are_done(database_url, bulk, model_id, maintained):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(120, seed=1))
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("lock table documents in row exclusive mode")
    task = asyncio.create_task(maintained().round())
    waiting = "select exists(select from pg_locks where not granted and relation = 'documents'::regclass)"
    async with asyncio.timeout(30):
        for _ in range(2):  # at the second time it has stepped back once
            while not await bulk.fetchval(waiting):
                await asyncio.sleep(0.005)
            while await bulk.fetchval(waiting):
                await asyncio.sleep(0.005)
    await transaction.rollback()
    await connection.close()
    assert await task
    assert await promoted(bulk) == {user_id}


class BrokenOff(BaseException):
    """As by kill -9: nothing handles it, and the connections end."""


async def test_broken_off_at_any_step_it_goes_on_with_the_next_round(db, bulk, model_id, maintained):
    """Each time one step later than before, promoting and demoting, until both get to the end."""
    user_id, vectors = await new_tenant(bulk), points(120, seed=1)
    await fill(bulk, user_id, model_id, vectors, per_document=2)
    expected = await texts(db, user_id, model_id, vectors[7])
    seen = set()

    async def until(at, tiers) -> bool:
        steps = []

        def step(name):
            steps.append(name)
            seen.add(name)
            if len(steps) == at:
                raise BrokenOff

        try:
            await maintained(tiers, step=step).round()
        except BrokenOff:
            assert sum((await parts(bulk, user_id)).values()) == 120
            assert await texts(db, user_id, model_id, vectors[7]) == expected
            return False
        return True

    small = Tiers(1000, 500)
    for begun, ended in ((TIERS, small), (small, TIERS)):
        at = 0
        while not await until(at := at + 1, begun):
            await maintained(ended).round()
        assert at >= 4
        await maintained(begun).round()
        assert await parts(bulk, user_id) == ({1: 120} if begun is TIERS else {0: 120})
        assert await promoted(bulk) == ({user_id} if begun is TIERS else set())
    assert {"table", "move in", "batch", "index", "name", "move out", "drop"} <= seen


async def test_broken_off_and_taken_up_again_it_comes_to_the_same_end(db, bulk, model_id, maintained):
    """As above, but nothing is undone in between."""
    user_id, vectors = await new_tenant(bulk), points(120, seed=1)
    await fill(bulk, user_id, model_id, vectors, per_document=2)
    for tiers, end in ((TIERS, {1: 120}), (Tiers(1000, 500), {0: 120})):
        for at in range(1, 8):
            left = [at]

            def step(_name, left=left):
                left[0] -= 1
                if not left[0]:
                    raise BrokenOff

            try:
                await maintained(tiers, step=step).round()
            except BrokenOff:
                continue
            break
        await maintained(tiers).round()
        assert await parts(bulk, user_id) == end
    assert await promoted(bulk) == set()


async def test_an_index_without_its_name_is_built_anew(bulk, model_id, maintained):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(120, seed=1))

    def step(name):
        if name == "name":
            raise BrokenOff

    with pytest.raises(BrokenOff):
        await maintained(step=step).round()
    table, steps = f"embeddings_{user_id.hex}", []
    assert [row[0] for row in await bulk.fetch(_INDEXES, table)] == [f"{table}_m{model_id}_building"]
    await maintained(step=steps.append).round()
    assert steps == ["remains", "move in", "index", "name"]
    assert [row[0] for row in await bulk.fetch(_INDEXES, table)] == [f"{table}_m{model_id}"]


async def test_an_index_that_was_broken_off_is_built_anew(database_url, db, bulk, model_id, maintained):
    user_id, vectors = await new_tenant(bulk), points(120, seed=1)
    await fill(bulk, user_id, model_id, vectors)
    expected = await texts(db, user_id, model_id, vectors[7])
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    index = f"embeddings_{user_id.hex}_m{model_id}"
    steps = []
    task = asyncio.create_task(maintained(step=steps.append).round())
    async with asyncio.timeout(30):
        while "batch" not in steps:
            await asyncio.sleep(0.005)
    # Whoever wrote before the index began is waited for.
    await other.execute("update documents set name = name where false; select pg_current_xact_id()")
    invalid = "select not indisvalid from pg_index where indexrelid = to_regclass($1)"
    try:
        async with asyncio.timeout(30):
            while not await bulk.fetchval(invalid, f"{index}_building"):
                await asyncio.sleep(0.005)
        assert await texts(db, user_id, model_id, vectors[7]) == expected
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        await transaction.rollback()
        await other.close()
    await maintained().round()
    table = f"embeddings_{user_id.hex}"
    assert [row[0] for row in await bulk.fetch(_INDEXES, table)] == [index]
    assert await bulk.fetchval(invalid, index) is False


class Load:
    """Two clients that search and one that writes, without a pause."""

    def __init__(self, db, user_id, model_id, vector, stable):
        self._db, self._user_id, self._model_id, self._vector, self._stable = db, user_id, model_id, vector, stable
        self.searches = self.writes = 0

    async def search(self):
        while True:
            found = await texts(self._db, self._user_id, self._model_id, self._vector, limit=1000)
            assert sorted((text for text in found if text != "fleeting"), key=int) == self._stable
            self.searches += 1

    async def write(self):
        fresh = points(10, seed=3)
        while True:
            document_id = DocumentId(UUID(int=1 + self.writes))
            async with self._db.tenant(self._user_id) as tx:
                await tx.execute(DOCUMENT, self._user_id, document_id, "x", document_id.bytes * 2, 10)
                await tx.executemany(CHUNK, [(self._user_id, document_id, n, "fleeting") for n in range(10)])
                rows = [(self._user_id, document_id, n, self._model_id, fresh[n]) for n in range(10)]
                await tx.executemany(VECTOR, rows)
            if self.writes > 2:
                async with self._db.tenant(self._user_id) as tx:
                    assert (await library_queries.delete(tx, [DocumentId(UUID(int=self.writes - 2))]))[0]
            self.writes += 1

    async def go_on(self):
        """Wait until more of each was done; raises what failed."""
        searches, writes = self.searches + 3, self.writes + 3
        async with asyncio.timeout(30):
            while self.searches < searches or self.writes < writes:
                await asyncio.sleep(0.005)


async def test_searches_and_writes_go_on(app_url, system_url, bulk, model_id, maintained):
    """While a tenant is promoted and demoted again and again: no statement fails, nothing is missing or there twice."""
    user_id, vectors = await new_tenant(bulk), points(150, seed=1)
    await fill(bulk, user_id, model_id, vectors, per_document=5)
    busy = Database(app_url, system_url, DatabaseOptions(connect_timeout=30, command_timeout=30))
    await busy.open()
    load = Load(busy, user_id, model_id, vectors[7], [str(n) for n in range(150)])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for work in (load.search, load.search, load.write)]
        for tiers in (TIERS, Tiers(1000, 500)) * 3:
            await maintained(tiers).round()
            await load.go_on()
        for task in tasks:
            task.cancel()
    await busy.close()


async def test_the_table_has_its_fence_from_the_beginning(bulk, model_id, maintained):
    user_id = await new_tenant(bulk)
    await fill(bulk, user_id, model_id, points(120, seed=1))

    def step(name):
        if name == "move in":
            raise BrokenOff

    with pytest.raises(BrokenOff):
        await maintained(step=step).round()
    stranger = await new_tenant(bulk)
    with pytest.raises(asyncpg.CheckViolationError):
        await bulk.execute(
            f"insert into embeddings_{user_id.hex} select $1, document_id, number, model_id, embedding, 1 "
            "from embeddings",
            stranger,
        )


async def test_rounds_come_again_and_outlive_a_failure(db):
    rounds = asyncio.Semaphore(0)

    @asynccontextmanager
    async def connect():
        rounds.release()
        raise Unavailable("database_unavailable", "Down.")
        yield

    task = asyncio.create_task(Maintenance(db, connect, TIERS, pause=0).run())
    async with asyncio.timeout(30):
        for _ in range(3):
            await rounds.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# The owner's connection.


async def refusal(url) -> str:
    with pytest.raises(RingfenceError) as raised:
        async with owner(url, LOCK):
            pass
    return raised.value.code


async def test_who_may_not_become_the_owner_is_refused(app_url, database_url):
    assert await refusal(app_url) == "database_rights"
    assert await refusal(with_database(database_url, "nowhere")) == "database_login"
    assert await refusal("postgresql://localhost:1/x") == "database_unavailable"


async def test_a_pooler_is_refused(database_url):
    pooler = Pooler(database_url)
    await pooler.restore()
    try:
        assert await refusal(pooler.url(database_url)) == "database_pooled"
    finally:
        await pooler.cut()


async def test_an_error_of_the_change_itself_is_no_reason_to_try_again(database_url):
    tries = []

    async def change(_tx):
        tries.append(1)
        raise Conflict("x", "No.")

    async with owner(database_url, LOCK) as found:
        with pytest.raises(Conflict):
            await found.apply(change)
    assert len(tries) == 1


async def test_a_lost_connection_is_no_reason_to_try_again(database_url, admin):
    with pytest.raises(Unavailable, match="database_unavailable"):
        async with owner(database_url, LOCK) as found:
            await admin.execute("select pg_terminate_backend($1)", found.connection.get_server_pid())
            await found.apply(lambda tx: tx.execute("select 1"))

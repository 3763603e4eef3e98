"""The table of vectors is divided while the engine of before reads and writes it."""

import asyncio
from uuid import uuid4

from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.ids import new_user_id
from ringfence.migrations import migrate, scripts
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD
from tests.migrations.later import QUICK
from tests.migrations.test_under_load import PASSWORDS

FIRST = "0038"
USER = "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', $2, 'x')"
DOCUMENT = """
insert into documents (user_id, document_id, name, media_type, size, sha256, state)
values ($1, $2, 'x', 'text/plain', 1, $3, 'ready')
"""
VECTOR = """
insert into embeddings (user_id, document_id, number, model_id, embedding) values ($1, $2, $3, 1, '[1,0]'::halfvec)
"""
SEARCH = """
select e.number, e.embedding <=> '[0,1]' as distance from embeddings e
join documents d on d.user_id = $1 and d.document_id = e.document_id and d.state = 'ready'
where e.user_id = $1 and e.model_id = 1 order by distance, e.number
"""


class Load:
    """What the engine of before does, over and over: it stores a batch of vectors, and searches all."""

    def __init__(self, db, user_id, document_id):
        self._db, self._user_id, self._document_id = db, user_id, document_id
        self.stored, self.turns = 10, 0

    async def go_on(self):
        while True:
            async with self._db.tenant(self._user_id) as tx:
                await tx.execute("update documents set chunks = $2 where user_id = $1", self._user_id, self.stored)
                await tx.executemany(VECTOR, [(self._user_id, self._document_id, self.stored + n) for n in range(5)])
            self.stored += 5
            async with self._db.tenant(self._user_id) as tx:
                rows = await tx.fetch(SEARCH, self._user_id)
            assert [row["number"] for row in rows] == list(range(self.stored))
            self.turns += 1


async def test_the_engine_of_before_goes_on(empty_url, empty):
    await migrate(empty_url, *PASSWORDS, wanted=[script for script in scripts() if script[0] < FIRST])
    await empty.execute("insert into embedding_models (name, dimensions) values ('m', 2)")
    urls = role_url(empty_url, APP_ROLE, APP_PASSWORD), role_url(empty_url, SYSTEM_ROLE, SYSTEM_PASSWORD)
    db = Database(*urls, DatabaseOptions(connect_timeout=30, command_timeout=30))
    await db.open()
    loads = []
    for _ in range(3):
        user_id, document_id = new_user_id(), uuid4()
        await empty.execute(USER, user_id, str(user_id))
        await empty.execute(DOCUMENT, user_id, document_id, document_id.bytes * 2)
        await empty.executemany(VECTOR, [(user_id, document_id, n) for n in range(10)])
        loads.append(Load(db, user_id, document_id))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.go_on()) for load in loads]
        while min(load.turns for load in loads) < 5:
            await asyncio.sleep(0.005)
        assert await migrate(empty_url, *PASSWORDS, pace=QUICK)
        goal = max(load.turns for load in loads) + 5
        while min(load.turns for load in loads) < goal:
            await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
    await db.close()
    assert await empty.fetchval("select count(*) from embeddings") >= sum(load.stored for load in loads)
    assert await empty.fetchval("select count(*) from embeddings_shared") == await empty.fetchval(
        "select count(*) from embeddings"
    )

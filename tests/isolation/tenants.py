"""Two tenants with rows in every tenant table, and raw SQL that tries to reach from one to the other."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import asyncpg

from ringfence.db import APP_ROLE, Database, TenantTx
from ringfence.ids import UserId, new_user_id

# One row a tenant and table, in an order that foreign keys allow. $1: the tenant; $2, $3, $4: its document's id,
# digest and state; $5: a text of the tenant's own; $6: a running job's token.
SEED = {
    "users": """
        insert into users (user_id, email, email_key, password_hash, verified_at)
        values ($1, $5 || '@example.org', $5 || '@example.org', $5, now())""",
    "one_time_codes": """
        insert into one_time_codes (user_id, purpose, digest, expires_at) values ($1, 'verify', $3, now())""",
    "documents": """
        insert into documents (user_id, document_id, sha256, state, name, media_type, size, ingest_token)
        values ($1, $2, $3, $4, $5, 'application/pdf', 1, $6)""",
    "chunks": """
        insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, 1, '{1,0,9}', $5)""",
    "embeddings": """
        insert into embeddings (user_id, document_id, number, model_id, embedding)
        select $1, $2, 1, model_id, '[1,0]' from embedding_models""",
    "job_lanes": "insert into job_lanes (user_id, tag) values ($1, 1)",
    "jobs": """
        insert into jobs (user_id, kind, payload, tag, state, token)
        values ($1, $5, jsonb_build_object('of', $5::text), 1, 'running', $6)""",
}
PER_DOCUMENT = ("documents", "chunks", "embeddings")
STATES = ("ready", "processing", "failed")
MODEL = "insert into embedding_models (name, dimensions) values ('m', 2) on conflict (name) do nothing"
PROBES = {
    "select": "select count(*) from TABLE where user_id = $1",
    "select all": "select count(*) from TABLE where user_id <> (current_setting('app.user_id'))::uuid",
    "update": "update TABLE set user_id = user_id where user_id = $1",
    "update all": "update TABLE set user_id = user_id where user_id <> (current_setting('app.user_id'))::uuid",
    "delete": "delete from TABLE where user_id = $1",
    "move": "update TABLE set user_id = $1 where user_id = (current_setting('app.user_id'))::uuid",
}


@dataclass(frozen=True)
class Tenant:
    """A tenant whose every value differs from any other tenant's."""

    text: str
    user_id: UserId = field(default_factory=new_user_id)
    documents: dict[str, UUID] = field(default_factory=lambda: {state: uuid4() for state in STATES})
    token: UUID = field(default_factory=uuid4)

    def digest(self, state: str) -> bytes:
        return self.documents[state].bytes * 2

    def row(self, table: str, state: str) -> tuple[str, list[object]]:
        """An INSERT and its arguments: $1 to the last that its SQL names."""
        sql = SEED[table]
        values = [self.user_id, self.documents[state], self.digest(state), state, self.text, self.token]
        used = [number for number in range(1, 7) if f"${number}" in sql]
        for place, number in enumerate(used, 1):
            sql = sql.replace(f"${number}", f"${place}")
        return sql, [values[number - 1] for number in used]

    async def seed(self, connection: asyncpg.Connection) -> None:
        await connection.execute(MODEL)
        for table in SEED:
            for state in STATES if table in PER_DOCUMENT else STATES[:1]:
                sql, values = self.row(table, state)
                await connection.execute(sql, *values)


async def two_tenants(connection: asyncpg.Connection) -> tuple[Tenant, Tenant]:
    mine, theirs = Tenant("mine-0a1b"), Tenant("theirs-9f8e")
    await mine.seed(connection)
    await theirs.seed(connection)
    return mine, theirs


async def widen(connection: asyncpg.Connection) -> None:
    """Grant the app's role everything on rows, so that nothing but the policies is left to hold it."""
    await connection.execute(f"grant select, insert, update, delete on all tables in schema public to {APP_ROLE}")


async def fingerprint(connection: asyncpg.Connection, tenant: Tenant) -> dict[str, str]:
    """A digest of all that a tenant has, by table."""
    sql = "select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from TABLE t where user_id = $1"
    return {table: await connection.fetchval(sql.replace("TABLE", table), tenant.user_id) for table in SEED}


class _UndoError(Exception):
    pass


async def leaks(db: Database, table: str, mine: Tenant, theirs: Tenant) -> set[str]:
    """The probes that got through to a row of `theirs`, tried as `mine`. Leaves nothing behind."""
    found = set()
    for name, sql in PROBES.items():
        if await _gets_through(db, mine, sql.replace("TABLE", table), [theirs.user_id][: sql.count("$1")]):
            found.add(name)
    stranger = Tenant(theirs.text + "-more", user_id=theirs.user_id, documents=theirs.documents)
    insert, values = stranger.row(table, STATES[0])
    if await _gets_through(db, mine, insert, values):
        found.add("insert")
    return found


async def _gets_through(db: Database, mine: Tenant, sql: str, values: list[object]) -> bool:
    try:
        async with db.tenant(mine.user_id) as tx:
            raise _UndoError(await _touched(tx, sql, values))
    except _UndoError as undo:
        return bool(undo.args[0])
    except asyncpg.InsufficientPrivilegeError:  # a missing grant, or "new row violates row-level security policy"
        return False
    except asyncpg.IntegrityConstraintViolationError:  # so the policy had let it pass
        return True


async def _touched(tx: TenantTx, sql: str, values: list[object]) -> int:
    if sql.startswith("select"):
        return await tx.fetchval(sql, *values)
    return await tx.execute(sql, *values)

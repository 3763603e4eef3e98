"""Two tenants with rows in every tenant table, and raw SQL that tries to reach from one to the other."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import asyncpg

from ringfence.db import APP_ROLE, Database, TenantTx
from ringfence.ids import UserId, new_user_id

# One row a tenant and table, in an order that foreign keys allow. $1: the tenant; $2, $3, $4: its document's id,
# digest and state (one that is `processing` lies in the bin; of each, chunk 0 is live no more); $5: a text of the
# tenant's own; $6: a running job's token.
SEED = {
    "users": """
        insert into users (user_id, email, email_key, password_hash, verified_at)
        values ($1, $5 || '@example.org', $5 || '@example.org', $5, now())""",
    "one_time_codes": """
        insert into one_time_codes (user_id, purpose, digest, expires_at) values ($1, 'verify', $3, now())""",
    "documents": """
        insert into documents (user_id, document_id, sha256, state, name, media_type, size, ingest_token, collections,
          tags, language, first_chunk, chunks, deleted_at)
        values ($1, $2, $3, $4, $5, 'application/pdf', 1, $6, array[$6]::uuid[], array[$5, 'ready'], $5, 1, 9,
          case $4 when 'processing' then now() end)""",
    "chunks": """
        insert into chunks (user_id, document_id, number, spans, passage_digest, text, context)
        select $1, $2, number, '{1,0,9}', $3, $5, $5 from generate_series(0, 2) number""",
    "embeddings": """
        insert into embeddings (user_id, document_id, number, model_id, embedding)
        select $1, $2, number, model_id, '[1,0]' from embedding_models, generate_series(0, 2) number
        where name = 'm'""",
    "replacements": """
        insert into replacements (user_id, document_id, replacement_id, media_type, size, sha256, state, reason,
          ingest_token)
        values ($1, $2, $6, 'application/pdf', 2, $3, 'processing', $5, $6)""",
    "ingestions": """
        insert into ingestions (user_id, document_id, token, ended_at)
        values ($1, $2, $6, case $4 when 'failed' then now() - interval '1 hour' end)""",
    "batches": "insert into batches (user_id, batch_id, document_ids) values ($1, $6, array[$2::uuid])",
    # One of a document's chunk 1, of which fresh postings and blocks have something (chunk 2 is not indexed); one of
    # chunk 0; and one of a document that is gone.
    "lexical_segments": """
        insert into lexical_segments (user_id, segment, document_id, first, width, length, analysis)
        overriding system value values ($1, 4000000001, $2, 1, 1, 9, 0), ($1, 4000000002, $6, 1, 1, 9, 0),
          ($1, 4000000003, $2, 0, 1, 9, 0)""",
    "lexical_fresh": """
        insert into lexical_fresh (user_id, part, segment, terms, ends, postings)
        values ($1, 1, 4000000001, '{1}', '{1}', array[(4000000001 << 31) + 8201])""",
    "lexical_blocks": """
        insert into lexical_blocks (user_id, term, first, postings)
        values ($1, 1, (4000000001 << 31) + 8201, array[(4000000001 << 31) + 8201])""",
    "collections": "insert into collections (user_id, collection_id, name) values ($1, $6, $5)",
    "live_models": "insert into live_models (user_id, model_id, next_model_id) values ($1, 1, 2)",
    "sessions": """
        insert into sessions (user_id, session_id, address, agent, expires_at)
        values ($1, $6, $5, $5, now() + interval '1 day')""",
    "refresh_tokens": "insert into refresh_tokens (user_id, session_id, digest) values ($1, $6, $3)",
    "api_keys": """
        insert into api_keys (user_id, key_id, name, prefix, digest, scopes)
        values ($1, $6, $5, $5, $3, '{read}')""",
    "answers": """
        insert into answers (user_id, answer_id, question, state, text, citations)
        values ($1, $6, $5, 'done', $5, '[]')""",
    "chats": "insert into chats (user_id, chat_id, title, leaf_id) values ($1, $6, $5, $6)",
    "messages": """
        insert into messages (user_id, chat_id, message_id, role, text, state, rating, comment)
        values ($1, $6, $6, 'assistant', $5, 'writing', 'up', $5)""",
    "traces": """
        insert into traces (user_id, chat_id, message_id, query, parameters, prompt, passages)
        values ($1, $6, $6, $5, '{}', '[]', '[]')""",
    "pinned_passages": """
        insert into pinned_passages (user_id, chat_id, message_id, n, document_id, document, context, text, quote,
          spans)
        values ($1, $6, $6, 1, $2, $5, $5, $5, $5, '{1,0,9}')""",
    "evaluations": """
        insert into evaluations (user_id, evaluation_id, name, state, questions, question_count)
        values ($1, $6, $5, 'running', jsonb_build_array($5::text), 1)""",
    "audit_events": """
        insert into audit_events (user_id, event_id, kind, address, agent, detail)
        values ($1, $2, 'signed_in', $5, $5, '{}')""",
    "quotas": "insert into quotas (user_id, documents) values ($1, 7)",
    "model_usage": """
        insert into model_usage (user_id, day, model, currency, requests, questions, estimated, prompt_tokens,
          completion_tokens, cost)
        values ($1, current_date, $5, 'USD', 2, 1, 0, 30, 4, 0.5)""",
    "model_choices": "insert into model_choices (user_id, model) values ($1, $5)",
    "questions_asked": "insert into questions_asked (user_id, day, questions) values ($1, current_date, 3)",
    "job_lanes": "insert into job_lanes (user_id, tag) values ($1, 1)",
    "jobs": """
        insert into jobs (user_id, kind, payload, tag, state, token, run_after)
        values ($1, $5, jsonb_build_object('of', $5::text), 1, 'running', $6, now()),
          ($1, 'store', jsonb_build_object('of', $5::text), 1, 'ready', null, now() + interval '1 hour')""",
}
PER_DOCUMENT = (
    "documents",
    "chunks",
    "embeddings",
    "ingestions",
    "audit_events",
)  # of each state; of events, simply several
STATES = ("ready", "processing", "failed")
MODELS = """
insert into embedding_models (name, dimensions) select name, 2 from unnest('{m,next}'::text[]) name
on conflict (name) do nothing
"""
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
    # The least id is the first one's, the only one that lists show: so it stands before others where a list begins.
    documents: dict[str, UUID] = field(
        default_factory=lambda: dict(zip(STATES, sorted(uuid4() for _ in STATES), strict=True))
    )
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
        await connection.execute(MODELS)
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
    one = (
        "(select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from TABLE t where user_id = $1) as TABLE"
    )
    sql = f"select {', '.join(one.replace('TABLE', table) for table in SEED)}"
    return dict(await connection.fetchrow(sql, tenant.user_id))


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

"""The rules hold in the migrated database, and each of them can fail."""

from contextlib import suppress
from uuid import UUID

import asyncpg
import pytest

from ringfence.db import OwnerTx
from ringfence.search import tier_queries
from tests.isolation import catalog

OWN = UUID(int=7)  # has a table of its own

GOOD = """
create table notes (user_id uuid references users on delete cascade, note_id int, primary key (user_id, note_id));
alter table notes enable row level security;
alter table notes force row level security;
create policy tenant on notes to ringfence_app
  using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
  with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on notes to ringfence_app;
"""

# What somebody might do to a good table, the check that must see it, and what it says.
SABOTAGE = {
    "alter table notes disable row level security": (catalog.tables, "notes: row level security is not enabled"),
    "alter table notes no force row level security": (catalog.tables, "notes: row level security is not forced"),
    "alter table notes drop constraint notes_pkey, add primary key (note_id, user_id)": (
        catalog.tables,
        "notes: user_id does not lead the primary key",
    ),
    "alter table notes drop constraint notes_pkey": (catalog.tables, "notes: user_id does not lead the primary key"),
    "create schema other; grant create on schema other to ringfence_owner; alter table notes set schema other": (
        catalog.tables,
        "notes: outside public",
    ),
    "reset role; alter table notes owner to current_user": (catalog.tables, "notes: owned by "),
    "create view v as select * from notes": (catalog.tables, "v: a view without security_invoker"),
    "create view v with (security_invoker = false) as select * from notes": (
        catalog.tables,
        "v: a view without security_invoker",
    ),
    "create materialized view m as select * from notes": (
        catalog.tables,
        "m: a kind of table without row level security",
    ),
    "drop policy tenant on notes": (catalog.policies, "notes: 0 permissive policies for ringfence_app"),
    "drop policy tenant on notes; create policy tenant on notes to ringfence_app "
    "using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)": (
        catalog.policies,
        "notes: policy tenant checks None",
    ),
    "alter policy tenant on notes using (true)": (catalog.policies, "notes: policy tenant uses true"),
    "alter policy tenant on notes with check (true)": (catalog.policies, "notes: policy tenant checks true"),
    "create policy more on notes to ringfence_app using (true)": (
        catalog.policies,
        "notes: 2 permissive policies for ringfence_app",
    ),
    "create policy more on notes using (true)": (
        catalog.policies,
        "notes: 2 permissive policies for ringfence_app",
    ),
    "create policy more on notes to pg_monitor using (true)": (
        catalog.policies,
        "notes: policy more for ['pg_monitor']",
    ),
    "drop policy tenant on notes; create policy tenant on notes for select to ringfence_app "
    "using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)": (
        catalog.policies,
        "notes: policy tenant is for SELECT alone",
    ),
    "create table pins (user_id uuid, pin_id int, primary key (user_id, pin_id), other uuid references users)": (
        catalog.foreign_keys,
        "pins: foreign key pins_other_fkey to users crosses tenants",
    ),
    "alter table notes add unique (note_id); "
    "create table pins (user_id uuid primary key, note_id int references notes (note_id))": (
        catalog.foreign_keys,
        "pins: foreign key pins_note_id_fkey to notes crosses tenants",
    ),
    "create table pins (user_id uuid primary key, other uuid, n int, foreign key (other, n) references notes)": (
        catalog.foreign_keys,
        "pins: foreign key pins_other_n_fkey to notes crosses tenants",
    ),
    "create unique index notes_id on notes (note_id)": (
        catalog.unique_indexes,
        "notes: unique index notes_id spans tenants",
    ),
    "create unique index notes_id on notes (note_id) include (user_id)": (
        catalog.unique_indexes,
        "notes: unique index notes_id spans tenants",
    ),
    "alter table notes add constraint notes_id exclude (note_id with =)": (
        catalog.unique_indexes,
        "notes: unique index notes_id spans tenants",
    ),
    "reset role; grant create on schema public to ringfence_app; alter table notes owner to ringfence_app": (
        catalog.roles,
        "ringfence_app: owns something in pg_class",
    ),
    "grant select on notes to public": (catalog.grants, "notes: SELECT to public"),
    "grant select (note_id) on notes to public": (catalog.grants, "notes: SELECT to public"),
    "grant truncate on notes to ringfence_app": (catalog.grants, "notes: TRUNCATE to ringfence_app"),
    "grant references on notes to ringfence_app": (catalog.grants, "notes: REFERENCES to ringfence_app"),
    "grant trigger on notes to ringfence_app": (catalog.grants, "notes: TRIGGER to ringfence_app"),
    "grant select on notes to ringfence_system": (
        catalog.grants,
        "notes: SELECT to ringfence_system, which holds content",
    ),
    "grant select (text) on chunks to ringfence_system": (
        catalog.grants,
        "chunks: SELECT to ringfence_system, which holds content",
    ),
    "grant update on job_clock to ringfence_app": (
        catalog.grants,
        "job_clock: UPDATE to ringfence_app, which belongs to no tenant",
    ),
    "grant update (kind) on audit_events to ringfence_app": (
        catalog.grants,
        "audit_events: UPDATE to ringfence_app, which only grows",
    ),
    "drop policy nobodys on audit_events": (
        catalog.grants,
        "audit_events: DELETE to ringfence_system, which only grows",
    ),
    "alter policy nobodys on audit_events using (created_at < now() - interval '90 days')": (
        catalog.grants,
        "audit_events: DELETE to ringfence_system, which only grows",
    ),
    "grant select on embeddings_shared to ringfence_app": (
        catalog.parts,
        "embeddings_shared: a part of embeddings is granted",
    ),
    f"alter table embeddings_{OWN.hex} disable row level security": (
        catalog.tables,
        f"embeddings_{OWN.hex}: row level security is not enabled",
    ),
    f"alter table embeddings_{OWN.hex} no force row level security": (
        catalog.tables,
        f"embeddings_{OWN.hex}: row level security is not forced",
    ),
    f"drop policy tenant on embeddings_{OWN.hex}": (
        catalog.policies,
        f"embeddings_{OWN.hex}: 0 permissive policies",
    ),
    f"alter policy tenant on embeddings_{OWN.hex} using (true)": (
        catalog.policies,
        f"embeddings_{OWN.hex}: policy tenant uses true",
    ),
    f"grant select on embeddings_{OWN.hex} to ringfence_app": (
        catalog.parts,
        f"embeddings_{OWN.hex}: a part of embeddings_own is granted",
    ),
    f"alter table embeddings_{OWN.hex} drop constraint embeddings_own": (
        catalog.parts,
        f"embeddings_{OWN.hex}: others' rows may be in it",
    ),
    f"alter table embeddings_{OWN.hex} rename to embeddings_{UUID(int=8).hex}": (
        catalog.parts,
        f"embeddings_{UUID(int=8).hex}: has another tenant's name",
    ),
    "create function f() returns bigint language sql security definer as 'select count(*) from notes'": (
        catalog.code,
        "f(): SECURITY DEFINER",
    ),
    "alter default privileges grant select on tables to ringfence_app": (
        catalog.code,
        "ringfence_owner: default privileges",
    ),
    "reset role; grant create on schema public to ringfence_app": (
        catalog.code,
        "ringfence_app: may create in schema public",
    ),
}


async def violations(connection: asyncpg.Connection) -> list[str]:
    return [line for check in catalog.CHECKS for line in await check(connection)]


async def test_the_migrated_database_keeps_every_rule(admin):
    assert await violations(admin) == []
    assert await catalog.tenant_tables(admin) == [
        "answers", "api_keys", "audit_events", "batches", "chats", "chunks", "collections", "documents", "embeddings",
        "evaluations", "ingestions", "job_lanes", "jobs", "lexical_blocks", "lexical_fresh", "lexical_segments",
        "live_models", "messages", "model_choices", "model_usage",
        "one_time_codes", "pinned_passages", "questions_asked", "quotas",
        "refresh_tokens", "replacements", "sessions", "traces", "users",
    ]  # fmt: skip


async def test_exceptions_exist_and_say_why(admin):
    found = await admin.fetch("select relname::text from pg_class where relnamespace = 'public'::regnamespace")
    listed = catalog.GLOBAL_TABLES | catalog.CROSS_TENANT_INDEXES
    assert set(listed) | catalog.SYSTEM_TABLES <= {row[0] for row in found}
    assert all(listed.values())


async def test_a_good_table_more_breaks_no_rule(admin):
    await admin.execute(f"set role ringfence_owner; {GOOD}")
    await tier_queries.create_table(OwnerTx(admin), OWN)
    assert await violations(admin) == []
    assert f"embeddings_{OWN.hex}" in await catalog.tenant_tables(admin, parts=True)
    assert "notes" in await catalog.tenant_tables(admin)


@pytest.mark.parametrize("sabotage", SABOTAGE)
async def test_each_rule_can_fail(admin, sabotage):
    check, said = SABOTAGE[sabotage]
    await admin.execute("grant create on database " + (await admin.fetchval("select current_database()"))
                        + " to ringfence_owner")  # fmt: skip
    await admin.execute(f"set role ringfence_owner; {GOOD}")
    await tier_queries.create_table(OwnerTx(admin), OWN)
    await admin.execute(sabotage)
    await admin.execute("reset role")
    assert any(line.startswith(said) for line in await check(admin)), await check(admin)


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        ("alter role ringfence_app bypassrls", "ringfence_app: has more than LOGIN"),
        ("alter role ringfence_system superuser", "ringfence_system: has more than LOGIN"),
        ("grant ringfence_owner to ringfence_app", "ringfence_app: member of ringfence_owner"),
        ("alter role ringfence_app rename to somebody", "a role is missing"),
    ],
)
async def test_the_rule_on_roles_can_fail(admin, sabotage, said):
    """Roles belong to the whole server, so this stays inside a transaction that is rolled back."""
    altered = False
    while not altered:
        transaction = admin.transaction()
        await transaction.start()
        try:
            with suppress(asyncpg.InternalServerError):  # "tuple concurrently updated": by other tests' migrations
                await admin.execute(sabotage)
                altered = True
                assert said in await catalog.roles(admin)
        finally:
            await transaction.rollback()


async def test_the_content_is_out_of_the_system_roles_reach(admin):
    for table in ("documents", "chunks", "embeddings"):
        for privilege in ("select", "insert", "update", "references"):
            assert not await admin.fetchval(
                "select has_any_column_privilege('ringfence_system', $1, $2)", table, privilege
            )
        assert not await admin.fetchval("select has_table_privilege('ringfence_system', $1, 'delete, truncate')", table)

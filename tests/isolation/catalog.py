"""The rules of isolation as questions to pg_catalog. Each check returns its violations, none if all is well."""

import re
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from ringfence.db import APP_ROLE, SYSTEM_ROLE
from ringfence.migrations.roles import OWNER_ROLE

# Tables that belong to no tenant, and why.
GLOBAL_TABLES = {
    "migrations": "names and digests of the SQL files that were applied",
    "embedding_models": "names of embedding models, so that a vector carries two bytes instead of a name",
    "signing_keys": "the installation's keys for access tokens, sealed; only the system role reads them",
    "limits": "how often something was tried; names are keyed digests, and only the system role reads them",
    "job_clock": "one number: how far the fair queue has come",
}
# Unique indexes of tenant tables that span tenants on purpose, and why.
CROSS_TENANT_INDEXES = {
    "users_verified_email": "an address signs in to one account; only the system role reads and writes it",
}
# Where the system role may have grants. A table that is missing here holds content, which it must not read.
SYSTEM_TABLES = {
    *GLOBAL_TABLES,
    "users",
    "one_time_codes",
    "sessions",
    "refresh_tokens",
    "api_keys",
    "audit_events",
    "job_lanes",
    "jobs",
    "quotas",
}
# Tables that only grow, and what the system role may do besides.
APPEND_ONLY = {"audit_events": {"UPDATE"}}  # of the owner's id, to put a pseudonym there, and of what would name them
# What of them may be deleted by the system role, by a restrictive policy: old events of nobody.
DELETABLE = {
    "audit_events": "((user_id = '00000000-0000-0000-0000-000000000000'::uuid) AND "
    "(created_at < (now() - '90 days'::interval)))"
}

STANDARD = "(user_id = (NULLIF(current_setting('app.user_id'::text, true), ''::text))::uuid)"

type Check = Callable[[asyncpg.Connection], Awaitable[list[str]]]

_RELATIONS = """
select c.oid, c.relname::text as name, c.relispartition as part,
  n.nspname::text as schema, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
  pg_get_userbyid(c.relowner)::text as owner, coalesce(c.reloptions, '{}') as options,
  (select a.attname::text from pg_constraint k join pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
    where k.conrelid = c.oid and k.contype = 'p') as first_key
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f', 'v', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
  and n.nspname !~ '^pg_(toast|temp)' and c.oid not in (select objid from pg_depend where deptype = 'e')
order by 2
"""


async def tenant_tables(connection: asyncpg.Connection, *, parts: bool = False) -> list[str]:
    """Every table that is not listed as global; a divided one's parts as well, or not."""
    return [
        row["name"]
        for row in await connection.fetch(_RELATIONS)
        if row["relkind"] in (b"r", b"p") and row["name"] not in GLOBAL_TABLES and (parts or not row["part"])
    ]


async def tables(connection: asyncpg.Connection) -> list[str]:
    """Tables are tenant tables (user_id leads the primary key, RLS enabled and forced) or listed."""
    return [
        f"{row['name']}: {fault}"
        for row in await connection.fetch(_RELATIONS)
        for fault, true in _faults(row).items()
        if true
    ]


def _faults(row: asyncpg.Record) -> dict[str, bool]:
    table = row["relkind"] in (b"r", b"p")
    tenant = table and row["name"] not in GLOBAL_TABLES
    invoker = "security_invoker=true" in row["options"]
    return {
        "outside public": row["schema"] != "public",
        f"owned by {row['owner']}": row["owner"] != OWNER_ROLE,
        "a view without security_invoker": row["relkind"] == b"v" and not invoker,
        "a kind of table without row level security": row["relkind"] in (b"f", b"m"),
        "user_id does not lead the primary key": tenant and row["first_key"] != "user_id",
        "row level security is not enabled": tenant and not row["relrowsecurity"],
        "row level security is not forced": tenant and not row["relforcerowsecurity"],
    }


_POLICIES = """
select tablename::text as name, policyname::text as policy, permissive = 'PERMISSIVE' as permissive, cmd, qual,
  with_check, $1 = any(roles) or 'public' = any(roles) as for_app,
  array(select unnest(roles) except select unnest(array[$1, $2]::name[]))::text[] as strangers
from pg_policies where schemaname = 'public'
"""


async def policies(connection: asyncpg.Connection) -> list[str]:
    """Every tenant table has one policy for the app's role, the standard one, for all commands."""
    rows = await connection.fetch(_POLICIES, APP_ROLE, SYSTEM_ROLE)
    found = [f"{row['name']}: policy {row['policy']} for {row['strangers']}" for row in rows if row["strangers"]]
    for table in await tenant_tables(connection, parts=True):
        mine = [row for row in rows if row["name"] == table and row["for_app"] and row["permissive"]]
        if len(mine) != 1:
            found.append(f"{table}: {len(mine)} permissive policies for {APP_ROLE}")
        for row in mine:
            if row["cmd"] != "ALL":
                found.append(f"{table}: policy {row['policy']} is for {row['cmd']} alone")
            if row["qual"] != STANDARD:
                found.append(f"{table}: policy {row['policy']} uses {row['qual']}")
            if row["with_check"] != STANDARD:
                found.append(f"{table}: policy {row['policy']} checks {row['with_check']}")
    return found


_FOREIGN_KEYS = """
select k.conname::text as name, k.conrelid::regclass::text as source, k.confrelid::regclass::text as target,
  exists (select from unnest(k.conkey, k.confkey) as pair (mine, theirs)
    join pg_attribute m on m.attrelid = k.conrelid and m.attnum = pair.mine and m.attname = 'user_id'
    join pg_attribute t on t.attrelid = k.confrelid and t.attnum = pair.theirs and t.attname = 'user_id') as fenced
from pg_constraint k where k.contype = 'f' order by 1
"""


async def foreign_keys(connection: asyncpg.Connection) -> list[str]:
    """A foreign key pairs user_id with user_id, or leads to a listed global table."""
    rows = await connection.fetch(_FOREIGN_KEYS)
    return [
        f"{row['source']}: foreign key {row['name']} to {row['target']} crosses tenants"
        for row in rows
        if not row["fenced"] and row["target"] not in GLOBAL_TABLES
    ]


_UNIQUE = """
select c.relname::text as name, i.indrelid::regclass::text as source,
  exists (select from unnest(i.indkey::smallint[]) with ordinality as key (number, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = key.number and a.attname = 'user_id'
    where key.place <= i.indnkeyatts) and not i.indisexclusion as fenced
from pg_index i join pg_class c on c.oid = i.indexrelid
where (i.indisunique or i.indisexclusion) and c.relnamespace = 'public'::regnamespace order by 1
"""


async def unique_indexes(connection: asyncpg.Connection) -> list[str]:
    """A unique index of a tenant table has user_id among its keys, or is listed."""
    tenant = set(await tenant_tables(connection, parts=True))
    return [
        f"{row['source']}: unique index {row['name']} spans tenants"
        for row in await connection.fetch(_UNIQUE)
        if row["source"] in tenant and not row["fenced"] and row["name"] not in CROSS_TENANT_INDEXES
    ]


_ROLES = """
select r.rolname::text as name, r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication
    as mighty,
  array(select pg_get_userbyid(m.roleid)::text from pg_auth_members m where m.member = r.oid) as groups,
  array(select d.classid::regclass::text from pg_shdepend d where d.refobjid = r.oid and d.deptype = 'o'
    and d.dbid in (0, (select oid from pg_database where datname = current_database()))) as owns
from pg_roles r where r.rolname = any($1::text[]) order by 1
"""


async def roles(connection: asyncpg.Connection) -> list[str]:
    """The engine's roles exist, own nothing, belong to no group, and have no attribute beyond LOGIN."""
    rows = await connection.fetch(_ROLES, [APP_ROLE, SYSTEM_ROLE])
    found = [] if len(rows) == 2 else ["a role is missing"]
    for row in rows:
        if row["mighty"]:
            found.append(f"{row['name']}: has more than LOGIN")
        found += [f"{row['name']}: member of {group}" for group in row["groups"]]
        found += [f"{row['name']}: owns something in {catalog}" for catalog in row["owns"]]
    return found


_GRANTS = """
select c.relname::text as name, c.relkind = 'S' as sequence, a.privilege_type as privilege,
  case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee)::text end as grantee
from pg_class c, lateral (
  select * from aclexplode(c.relacl)
  union select x.* from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
where c.relnamespace = 'public'::regnamespace and a.grantee <> c.relowner
  and c.oid not in (select objid from pg_depend where deptype = 'e') order by 1, 3
"""


_PARTS = """
select c.relname::text as name, c.relacl::text as granted, p.relname::text as whole,
  pg_get_expr(c.relpartbound, c.oid) as bound, c.relkind = 'r' and p.relname = 'embeddings_own' as own, array(
    select pg_get_constraintdef(k.oid) from pg_constraint k where k.conrelid = c.oid and k.contype = 'c') as checks
from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_class p on p.oid = h.inhparent
where c.relkind in ('r', 'p') order by 1
"""


async def parts(connection: asyncpg.Connection) -> list[str]:
    """A part of a divided table is reached by way of the whole alone; a tenant's own holds that tenant's rows alone."""
    found = []
    for row in await connection.fetch(_PARTS):
        if APP_ROLE in (row["granted"] or "") or SYSTEM_ROLE in (row["granted"] or ""):
            found.append(f"{row['name']}: a part of {row['whole']} is granted")
        if row["own"]:
            [user_id] = re.findall(r"'([0-9a-f-]{36})'", row["bound"])
            if f"CHECK (((user_id = '{user_id}'::uuid) AND (part = 1)))" not in row["checks"]:
                found.append(f"{row['name']}: others' rows may be in it")
            if row["name"] != f"embeddings_{user_id.replace('-', '')}":
                found.append(f"{row['name']}: has another tenant's name")
    return found


async def grants(connection: asyncpg.Connection) -> list[str]:
    """Tables are granted to the two roles alone, rows alone, and no content to the system role."""
    found, fences = [], await connection.fetch(_FENCES, SYSTEM_ROLE)
    for row in await connection.fetch(_GRANTS):
        text = f"{row['name']}: {row['privilege']} to {row['grantee']}"
        allowed = {"USAGE"} if row["sequence"] else {"SELECT", "INSERT", "UPDATE", "DELETE"}
        if row["grantee"] not in (APP_ROLE, SYSTEM_ROLE) or row["privilege"] not in allowed:
            found.append(text)
        elif row["grantee"] == SYSTEM_ROLE and row["name"] not in SYSTEM_TABLES:
            found.append(f"{text}, which holds content")
        elif row["grantee"] == APP_ROLE and row["name"] in GLOBAL_TABLES and row["privilege"] != "SELECT":
            found.append(f"{text}, which belongs to no tenant")
        elif row["name"] in APPEND_ONLY and row["privilege"] not in {"SELECT", "INSERT"} | _besides(row, fences):
            found.append(f"{text}, which only grows")
    return found


def _besides(row: asyncpg.Record, fences: Sequence[asyncpg.Record]) -> set[str]:
    if row["grantee"] != SYSTEM_ROLE:
        return set()
    fenced = (row["name"], DELETABLE.get(row["name"])) in {(fence["name"], fence["qual"]) for fence in fences}
    return APPEND_ONLY[row["name"]] | ({"DELETE"} if fenced else set())


_FENCES = """
select tablename::text as name, qual from pg_policies
where permissive = 'RESTRICTIVE' and cmd in ('DELETE', 'ALL') and roles && array['public', $1]::name[]
"""


_DEFINERS = """
select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')
"""
_DEFAULTS = "select defaclrole::regrole::text from pg_default_acl"
_SCHEMAS = """
select n.nspname::text, r.rolname::text from pg_namespace n, pg_roles r
where r.rolname = any($1::text[]) and has_schema_privilege(r.rolname, n.oid, 'create') and n.nspname !~ '^pg_temp'
"""


async def code(connection: asyncpg.Connection) -> list[str]:
    """No function runs with its owner's rights, no default privilege waits for new tables, no role may make any."""
    definers = [f"{row[0]}: SECURITY DEFINER" for row in await connection.fetch(_DEFINERS)]
    defaults = [f"{row[0]}: default privileges" for row in await connection.fetch(_DEFAULTS)]
    makers = await connection.fetch(_SCHEMAS, [APP_ROLE, SYSTEM_ROLE])
    return definers + defaults + [f"{row[1]}: may create in schema {row[0]}" for row in makers]


CHECKS: tuple[Check, ...] = (tables, policies, foreign_keys, unique_indexes, roles, parts, grants, code)

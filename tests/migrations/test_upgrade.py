"""From every version there ever was (a version's schema is a prefix of the migrations) to this one, with data in it."""

import json
from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio

from ringfence.migrations import migrate, scripts
from tests.conftest import APP_PASSWORD, SYSTEM_PASSWORD, cloned
from tests.isolation import catalog
from tests.isolation.tenants import MODELS, SEED, two_tenants
from tests.migrations.conftest import schema_of
from tests.migrations.later import EXAMPLES, LATER

PASSWORDS = (APP_PASSWORD, SYSTEM_PASSWORD)
# Values of columns that newer versions have no more, where an older one can't do without: table, column, value.
# Empty until a migration drops such a column.
OF_OLD: dict[str, dict[str, object]] = {}
_ROWS = "select to_jsonb(t)::text from TABLE t"
_COLUMNS = """
select array_agg(attname::text) from pg_attribute where attrelid = $1::regclass and attnum > 0 and attidentity = ''
"""
_INSERT = "insert into TABLE (COLUMNS) select COLUMNS from jsonb_populate_record(null::TABLE, $1::jsonb)"


@dataclass(frozen=True)
class Newest:
    """The newest version: its schema, and two tenants' rows by table, in an order that foreign keys allow."""

    schema: str
    rows: dict[str, list[dict]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def newest(server_url, template):
    async with cloned(server_url, template) as url:
        schema = await schema_of(url)
        admin = await asyncpg.connect(url)
        await two_tenants(admin)
        rows = {
            table: [json.loads(row[0]) for row in await admin.fetch(_ROWS.replace("TABLE", table))] for table in SEED
        }
        await admin.close()
    return Newest(schema, rows)


async def fill(old: asyncpg.Connection, rows: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Put into an older version what it has columns for; what is in it then."""
    await old.execute(MODELS)
    there = {}
    for table, table_rows in rows.items():
        if not await old.fetchval("select to_regclass($1)", table):
            continue
        known = await old.fetchval(_COLUMNS, table)
        for row in ({**row, **OF_OLD.get(table, {})} for row in table_rows):
            columns = ", ".join(f'"{column}"' for column in known if column in row)
            insert = _INSERT.replace("TABLE", table).replace("COLUMNS", columns)
            await old.execute(insert, json.dumps(row))
        there[table] = [json.loads(row[0]) for row in await old.fetch(_ROWS.replace("TABLE", table))]
    return there


async def upgraded(newest, url, old, wanted, first):
    """Upgrade from the first migrations to all of them; the rows of before that are not there any more."""
    await migrate(url, *PASSWORDS, wanted=wanted[:first])
    before = await fill(old, newest.rows)
    assert before
    assert await migrate(url, *PASSWORDS, wanted=wanted) == [name for name, _ in wanted[first:]]
    lost = []
    for table, rows in before.items():
        now = [json.loads(row[0]) for row in await old.fetch(_ROWS.replace("TABLE", table))]
        lost += [(table, row) for row in rows if not any(same(row, new) for new in now)]
    return lost


def same(row, new):
    """Whether a row has its former values, in the columns that there still are."""
    return all(new[name] == value for name, value in row.items() if name in new)


@pytest.mark.parametrize("first", range(1, len(scripts()) + 1))
async def test_from_every_version(newest, empty_url, empty, first):
    assert await upgraded(newest, empty_url, empty, scripts(), first) == []
    assert await schema_of(empty_url) == newest.schema
    for check in catalog.CHECKS:
        assert await check(empty) == []


@pytest.mark.parametrize("first", range(len(scripts()), len(LATER) + 1))
async def test_from_every_version_to_a_later_one(newest, empty_url, empty, first):
    """The same with migrations as later versions may bring them, so that it is known to work before there is one."""
    assert await upgraded(newest, empty_url, empty, LATER, first) == []
    assert await empty.fetchval("select count(*) from chunks where weight is distinct from 1") == 0
    for check in catalog.CHECKS:
        assert await check(empty) == []


async def test_lost_rows_are_found(newest, empty_url, empty):
    spoiling = [
        *scripts(),
        ("9100_spoil.tenant.sql", "update chunks set text = 'x' where user_id = $1 and text <> 'x'"),
    ]
    lost = await upgraded(newest, empty_url, empty, spoiling, len(scripts()))
    assert {table for table, _ in lost} == {"chunks"}
    assert len(lost) == 18
    assert EXAMPLES

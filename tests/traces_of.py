"""Looks for what is left of a person: in every row of every table, and in every name and byte of a folder."""

from collections.abc import Iterable
from pathlib import Path

import asyncpg

_TABLES = """
select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
order by 1
"""


def spellings(sign: str | bytes) -> set[str]:
    """How a text or some bytes look in a row that is printed: also as hex, of bytea."""
    data = sign.encode() if isinstance(sign, str) else sign
    plain = {sign.lower()} if isinstance(sign, str) else set()
    undashed = {sign.replace("-", "").lower()} if isinstance(sign, str) and sign.count("-") == 4 else set()
    return {data.hex(), *plain, *undashed}


async def in_tables(admin: asyncpg.Connection, signs: Iterable[str | bytes]) -> dict[str, int]:
    """How many rows of each table show one of the signs in any of their columns."""
    wanted = [f"%{text}%" for sign in signs for text in spellings(sign)]
    found = {}
    for (table,) in await admin.fetch(_TABLES):
        count = await admin.fetchval(
            f"select count(*) from {table} t where lower(t::text) like any($1::text[])", wanted
        )
        found |= {table: count} if count else {}
    return found


def in_folder(root: Path, signs: Iterable[str | bytes]) -> list[str]:
    """Paths that show one of the signs in their names or their bytes."""
    texts = [text for sign in signs for text in spellings(sign)]
    wanted = [sign.encode() if isinstance(sign, str) else sign for sign in signs]
    return [
        name
        for path in sorted(root.rglob("*"))
        if any(text in (name := str(path.relative_to(root))).lower() for text in texts)
        or (path.is_file() and any(sign in path.read_bytes() for sign in wanted))
    ]


def contents(root: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def rows_of(admin: asyncpg.Connection, sign: str) -> dict[str, list[str]]:
    """All rows of all tables that show a sign, as text."""
    found = {}
    for (table,) in await admin.fetch(_TABLES):
        rows = await admin.fetch(
            f"select t::text from {table} t where lower(t::text) like $1 order by 1", f"%{sign.lower()}%"
        )
        found[table] = [row[0] for row in rows]
    return {table: rows for table, rows in found.items() if rows}

"""SQL of backups: which tables there are and who may read them, their rows out and in."""

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from ringfence.db import APP_ROLE, SYSTEM_ROLE, OwnerTx, SystemTx, TenantTx, Write
from ringfence.errors import SetupError
from ringfence.ids import UserId, user_id_from_record

# In which part of a divided table a row stands is left out: a restored database begins with one.
_TABLES = """
select c.relname::text as name,
  array(select attname::text from pg_attribute
    where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = ''
      and not (atthasdef and attnum = any(coalesce(
        (select p.partattrs::smallint[] from pg_partitioned_table p where p.partrelid = c.oid), '{}')))
    order by attnum) as columns,
  array(select confrelid::regclass::text from pg_constraint
    where conrelid = c.oid and contype = 'f' and confrelid <> c.oid) as needs,
  has_table_privilege($1, c.oid, 'select') as system, has_table_privilege($2, c.oid, 'select') as app
from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  and c.relname <> 'migrations' and c.oid not in (select objid from pg_depend where deptype = 'e')
"""
_MIGRATIONS = "select name, encode(sha256, 'hex') as sha256 from public.migrations order by name"
_TENANTS = "select user_id from users order by user_id"
_FILES = """
select sha256 from documents where user_id = $1
union select sha256 from replacements where user_id = $1 and state <> 'failed' order by sha256
"""
_FORCED = """
select relname::text as name from pg_class where relnamespace = 'public'::regnamespace and relforcerowsecurity
"""
_ANY_USER = "select exists (select from users)"
_STAY = "set local idle_in_transaction_session_timeout = 0"
_SEQUENCES = """
select format('select setval(%L, coalesce(max(%I), 1), max(%I) is not null) from %I.%I',
  pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname), a.attname, a.attname, n.nspname, c.relname)
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where a.attidentity <> '' and n.nspname = 'public'
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `by_tenant` where only the app's role may read its rows, those of one tenant at a time."""

    name: str
    columns: tuple[str, ...]
    by_tenant: bool

    @property
    def rows(self) -> str:
        """The query of its rows, `$1` being the tenant of a table `by_tenant`."""
        columns = ", ".join(f'"{column}"' for column in self.columns)
        return f'select {columns} from "{self.name}"' + (" where user_id = $1" if self.by_tenant else "")  # noqa: S608 (from the catalogue)


async def tables(tx: SystemTx) -> list[Table]:
    """Every table, those first that others refer to.

    Raises:
        SetupError: `backup_unreadable`, neither role may read one of them.
    """
    rows = {row["name"]: row for row in await tx.fetch(_TABLES, SYSTEM_ROLE, APP_ROLE)}
    if closed := sorted(name for name, row in rows.items() if not row["system"] and not row["app"]):
        raise SetupError("backup_unreadable", f"No role of the engine may read these tables: {', '.join(closed)}.")
    order = TopologicalSorter({name: row["needs"] for name, row in sorted(rows.items())}).static_order()
    return [Table(name, tuple(rows[name]["columns"]), by_tenant=not rows[name]["system"]) for name in order]


async def migrations(tx: SystemTx | OwnerTx) -> dict[str, str]:
    """The migrations that were applied, name to SHA-256 in hex, in their order."""
    return {row["name"]: row["sha256"] for row in await tx.fetch(_MIGRATIONS)}


async def tenants(tx: SystemTx) -> list[UserId]:
    """All tenants, registrations that await their code included."""
    return [user_id_from_record(row["user_id"]) for row in await tx.fetch(_TENANTS)]


async def files(tx: TenantTx) -> list[bytes]:
    """The SHA-256 of each file that a tenant's documents need."""
    return [row["sha256"] for row in await tx.fetch(_FILES, tx.user_id)]


async def copy_out(tx: SystemTx | TenantTx, table: Table, write: Write) -> int:
    """Stream a table's rows (a tenant's, of a table `by_tenant`) in COPY's binary form; how many there were."""
    tenant = [tx.user_id] if isinstance(tx, TenantTx) else []
    return await tx.copy_out(table.rows, *tenant, write=write)


async def lift_fence(tx: OwnerTx) -> list[str]:
    """Let the owner see and write rows, others meanwhile nothing, until `put_up_fence`; the tables concerned.

    Raises:
        SetupError: `restore_not_empty`.
    """
    await tx.execute(_STAY)
    forced = [str(row["name"]) for row in await tx.fetch(_FORCED)]
    for name in forced:
        await tx.execute(f'alter table "{name}" no force row level security')
    if await tx.fetchval(_ANY_USER):
        raise SetupError("restore_not_empty", "This database has accounts: restore into a new, empty one.")
    return forced


async def put_up_fence(tx: OwnerTx, forced: Sequence[str]) -> None:
    """Undo `lift_fence`."""
    for name in forced:
        await tx.execute(f'alter table "{name}" force row level security')


async def clear(tx: OwnerTx, names: Sequence[str]) -> None:
    """Remove what migrations put into tables."""
    await tx.execute("truncate table " + ", ".join(f'"{name}"' for name in names))


async def copy_in(tx: OwnerTx, name: str, columns: Sequence[str], source: Path) -> None:
    """Fill a table from a file in COPY's binary form."""
    await tx.copy_in(name, columns, source)


async def advance_sequences(tx: OwnerTx) -> None:
    """Let identity columns go on after the rows that are there."""
    for row in await tx.fetch(_SEQUENCES):
        await tx.execute(row[0])

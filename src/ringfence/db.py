"""Connections, and the only makers of transactions.

A query on a tenant's rows is impossible without a `TenantTx`, or, for a function that does all in one call, a
`TenantCall`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
import numpy as np
import structlog
from numpy.typing import NDArray

from ringfence.errors import SetupError, Unavailable
from ringfence.ids import UserId
from ringfence.telemetry.metrics import POOL_IN_USE, POOL_WAIT_SECONDS

log = structlog.get_logger()

APP_ROLE = "ringfence_app"
SYSTEM_ROLE = "ringfence_system"

# What a wrong role, password, database or a malformed URL raises.
BAD_LOGIN = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)
# What a lost, slow or overloaded database raises. InterfaceError: "connection is closed" and the like.
DOWN = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionTimeoutError,
    asyncpg.TransactionRollbackError,  # deadlocks, serialization failures
    asyncpg.ReadOnlySQLTransactionError,  # a replica, in the middle of a failover
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidCachedStatementError,  # a migration changed a column's type; the next try prepares anew
)
_LIBPQ_ONLY = frozenset({"channel_binding", "gssencmode", "gsslib", "keepalives", "load_balance_hosts", "requirepeer"})
_CLOSE = 5.0  # seconds that connections in use get at the end, before they are cut
_GRACE = 1.0  # seconds that a failed transaction gets to roll back, before its connection is cut

_ROLE_CHECK = """
select session_user::text as role, current_user = session_user as same,
  exists (select from pg_roles p where (p.rolsuper or p.rolbypassrls)
    and pg_has_role(session_user, p.oid, 'member')) as bypasses,
  exists (select from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
    and not c.oid in (select objid from pg_depend where deptype = 'e')
    and pg_has_role(session_user, c.relowner, 'member')) as owns,
  to_regclass('public.migrations') is not null as migrated,
  (select n.nspname from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where t.typname = 'halfvec' and pg_type_is_visible(t.oid)) as halfvec_schema
"""

type Write = Callable[[bytes], Coroutine[Any, Any, None]]


@contextmanager
def _mapped() -> Generator[None]:
    """Map what a lost, slow or overloaded database raises; everything else is a defect and passes as it is."""
    try:
        yield
    except BAD_LOGIN:
        message = "PostgreSQL refuses the engine's role or its database: run `ringfence migrate`."
        raise SetupError("database_login", message) from None
    except DOWN as error:
        log.warning("database_unavailable", error=type(error).__name__)
        raise Unavailable("database_unavailable", "The database can't be reached. Please try again soon.") from error


@dataclass(frozen=True, slots=True)
class _Tx:
    """An open transaction. Statements are constants with `$n` parameters."""

    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows of a query."""
        with _mapped():
            return await self.connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row of a query, if any."""
        with _mapped():
            return await self.connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, if any."""
        with _mapped():
            return await self.connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> int:
        """Run a statement; the number of rows that it touched."""
        with _mapped():
            status = await self.connection.execute(sql, *args)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once a row, pipelined over the binary protocol."""
        with _mapped():
            await self.connection.executemany(sql, rows)

    async def copy_out(self, sql: str, *args: object, write: Write) -> int:
        """Stream the rows of a query in COPY's binary form; how many there were."""
        with _mapped():
            status = await self.connection.copy_from_query(sql, *args, output=write, format="binary")
        return int(status.rpartition(" ")[2])


@dataclass(frozen=True, slots=True)
class TenantTx(_Tx):
    """A transaction of the app's role that sees one tenant's rows and no other's."""

    user_id: UserId


@dataclass(frozen=True, slots=True)
class TenantCall:
    """A connection of the app's role outside of any transaction, for functions that set the tenant themselves.

    One round trip instead of four. What such a function sets ends with its statement, whatever that comes to. Any other
    statement has no tenant, and sees no row.
    """

    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    user_id: UserId

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """The rows of a call whose `$1` is the tenant, and whose other arguments follow."""
        with _mapped():
            return await self.connection.fetch(sql, self.user_id, *args)


@dataclass(frozen=True, slots=True)
class SystemTx(_Tx):
    """A transaction of the system role: accounts and the queue of all tenants, but no grant on anybody's content."""


@dataclass(frozen=True, slots=True)
class OwnerTx(_Tx):
    """A transaction of the tables' owner, for DDL alone: under FORCE ROW LEVEL SECURITY it sees no tenant's row."""

    async def copy_in(self, table: str, columns: Sequence[str], source: Path) -> None:
        """Fill a table from a file in COPY's binary form; PostgreSQL refuses this under row level security."""
        with _mapped():
            await self.connection.copy_to_table(table, columns=columns, source=source, format="binary")


def encode_halfvec(vector: NDArray[np.floating[Any]] | bytes) -> bytes:
    """Pgvector's binary form of `halfvec`: int16 dimensions, int16 unused, then big-endian IEEE half floats.

    What has that form stays as it is: in a list for `halfvec[]` it must have, since asyncpg takes an array of NumPy for
    one more dimension of PostgreSQL's array.
    """
    if isinstance(vector, bytes):
        return vector
    return len(vector).to_bytes(2, "big") + b"\0\0" + vector.astype(">f2").tobytes()


def decode_halfvec(data: bytes) -> NDArray[np.float32]:
    """The inverse of `encode_halfvec`, as float32 of shape (dimensions,)."""
    return np.frombuffer(data, dtype=">f2", offset=4).astype(np.float32)


def connectable(url: str) -> str:
    """The URL without what only libpq understands; asyncpg would send it to the server as a setting.

    Raises:
        SetupError: it is no URL.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"} or parts.port == 0:
            raise ValueError(parts.scheme)
    except ValueError:  # or a bad port or address
        raise SetupError("database_login", "A database URL is malformed.") from None
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in _LIBPQ_ONLY]
    return urlunsplit(parts._replace(query=urlencode(query)))


def role_url(admin_url: str, role: str, password: str) -> str:
    """The administrator's URL with another role and password in it."""
    parts = urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role, safe='')}:{quote(password, safe='')}@{address}"))


async def check_role(connection: "asyncpg.Connection[asyncpg.Record]") -> str:
    """Refuse a role that row level security would not hold.

    Returns:
        The schema in which pgvector's types live.

    Raises:
        SetupError: superuser, BYPASSRLS, owner of (or member of the owner of) a table, or nothing migrated yet.
    """
    (row,) = await connection.fetch(_ROLE_CHECK)
    if not row["same"] or row["bypasses"] or row["owns"]:
        raise SetupError(
            "unsafe_role",
            f"The engine must not serve as the PostgreSQL role {row['role']!r}: it is a superuser, has BYPASSRLS or "
            "owns the tables (or may become a role that does), so row level security would not hold it. Let "
            "`ringfence migrate` make the roles.",
        )
    if not row["migrated"] or row["halfvec_schema"] is None:
        raise SetupError("not_migrated", "The database has not been set up: run `ringfence migrate` first.")
    return str(row["halfvec_schema"])


async def _init(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    schema = await check_role(connection)
    await connection.set_type_codec(
        "halfvec", schema=schema, encoder=encode_halfvec, decoder=decode_halfvec, format="binary"
    )


type _PoolConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


def _cut(connection: _PoolConnection) -> None:
    """Close a connection whose state is not known; the pool will make another."""
    with suppress(asyncpg.InterfaceError):  # lost already, and taken back by the pool
        connection.terminate()


async def _settle(connection: _PoolConnection, step: Callable[[], Awaitable[None]]) -> None:
    """BEGIN or COMMIT. If it is not known whether it took effect, nobody may use the connection again."""
    try:
        with _mapped():
            await step()
    except BaseException:  # cancelled, too: nobody knows what state it is in
        _cut(connection)
        raise


async def _undo(connection: _PoolConnection, rollback: Callable[[], Awaitable[None]]) -> None:
    """ROLLBACK, or cut the connection, which does the same. The caller has an error of its own to raise."""
    try:
        async with asyncio.timeout(_GRACE):
            await rollback()
    except BaseException as error:  # likewise
        _cut(connection)
        if not isinstance(error, DOWN):
            raise


async def _keep(_connection: object) -> None:
    """Reset nothing: all that a transaction sets is local to it, and LISTEN has a connection of its own."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How connections are made. Times in seconds."""

    pool_size: int = 10
    connect_timeout: float = 1.5
    command_timeout: float = 2.0
    statement_cache: int = 100


class Database:
    """Two pools: one of the app's role (tenants' content, fenced), one of the system role (accounts, queue)."""

    def __init__(self, app_url: str, system_url: str, options: DatabaseOptions) -> None:
        self._options = options
        self._system_url = connectable(system_url)
        self._app = self._pool(connectable(app_url))
        self._system = self._pool(self._system_url)

    def _pool(self, url: str) -> "asyncpg.Pool[asyncpg.Record]":
        options = self._options
        return asyncpg.create_pool(
            url,
            min_size=0,
            max_size=options.pool_size,
            timeout=options.connect_timeout,
            command_timeout=options.command_timeout,
            statement_cache_size=options.statement_cache,
            init=_init,
            reset=_keep,
        )

    async def open(self) -> None:
        """Check that both roles can connect and are safe.

        Raises:
            SetupError: a role is unsafe, refused, or the database was never migrated.
            Unavailable: PostgreSQL can't be reached.
        """
        await self._app
        await self._system
        await self.check()

    async def check(self) -> None:
        """A round trip on each pool; raises as `open`."""
        async with self._connection(self._app) as app, self._connection(self._system) as system:
            await _Tx(app).fetchval("select 1")
            await _Tx(system).fetchval("select 1")

    async def close(self) -> None:
        """Close all connections, waiting a moment for those in use."""
        for pool in (self._app, self._system):
            try:
                await asyncio.wait_for(pool.close(), min(_CLOSE, self._options.command_timeout))
            except DOWN:
                pool.terminate()

    @asynccontextmanager
    async def _connection(self, pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncGenerator[_PoolConnection]:
        role = "app" if pool is self._app else "system"
        with _mapped(), POOL_WAIT_SECONDS.labels(role).time():
            connection = await pool.acquire(timeout=self._options.connect_timeout)
        try:
            with POOL_IN_USE.labels(role).track_inprogress():
                yield connection
        finally:
            with suppress(*DOWN):  # the pool has closed it then
                await pool.release(connection, timeout=_GRACE)

    @asynccontextmanager
    async def _transaction(
        self, pool: "asyncpg.Pool[asyncpg.Record]", *, snapshot: bool = False
    ) -> AsyncGenerator[_PoolConnection]:
        async with self._connection(pool) as connection:
            transaction = connection.transaction(isolation="repeatable_read" if snapshot else None, readonly=snapshot)
            await _settle(connection, transaction.start)
            try:
                yield connection
            except BaseException:  # cancelled, too: nothing of it is committed
                await _undo(connection, transaction.rollback)
                raise
            await _settle(connection, transaction.commit)

    @asynccontextmanager
    async def tenant(self, user_id: UserId, *, snapshot: str | None = None) -> AsyncGenerator[TenantTx]:
        """A transaction fenced to one tenant; commits at the end, rolls back on an error.

        Given a snapshot's name, it only reads, and sees what that snapshot sees.
        """
        async with self._transaction(self._app, snapshot=snapshot is not None) as connection:
            tx = TenantTx(connection, user_id)
            if snapshot is not None:
                await tx.execute(f"set transaction snapshot '{snapshot}'")
            await tx.execute("select set_config('app.user_id', $1, true)", str(user_id))
            yield tx

    @asynccontextmanager
    async def call(self, user_id: UserId) -> AsyncGenerator[TenantCall]:
        """A connection over which to call functions that fence themselves to one tenant."""
        async with self._connection(self._app) as connection:
            yield TenantCall(connection, user_id)

    @asynccontextmanager
    async def system(self) -> AsyncGenerator[SystemTx]:
        """A transaction of the system role; commits at the end, rolls back on an error."""
        async with self._transaction(self._system) as connection:
            yield SystemTx(connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[tuple[SystemTx, str]]:
        """A reading transaction of the system role, and the name under which tenants' may see the same moment."""
        async with self._transaction(self._system, snapshot=True) as connection:
            tx = SystemTx(connection)
            await tx.execute("set local idle_in_transaction_session_timeout = 0")
            yield tx, str(await tx.fetchval("select pg_export_snapshot()"))

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncGenerator[asyncio.Event]:
        """An event that is set at every NOTIFY on a channel, over a connection of its own.

        Behind a transaction pooler nothing arrives; whoever waits must poll as well.
        """
        event = asyncio.Event()
        options = self._options
        with _mapped():
            connection = await asyncpg.connect(
                self._system_url,
                timeout=options.connect_timeout,
                command_timeout=options.command_timeout,
                statement_cache_size=0,
            )
        try:
            with _mapped():
                await connection.add_listener(channel, lambda *_: event.set())
            yield event
        finally:
            connection.terminate()

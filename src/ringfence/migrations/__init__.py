"""Schema: plain SQL files, applied in order, once, by one process at a time, while the engine goes on serving.

`forms.py` says how each kind of file is run, docs/decisions/0014-migrations-under-load.md why.
"""

from collections.abc import Sequence
from importlib.resources import files

from ringfence.db import SystemTx
from ringfence.errors import SetupError, Unavailable
from ringfence.migrations.forms import PACE, Pace, Runner, Say, Script, silent
from ringfence.migrations.roles import LOCK
from ringfence.migrations.session import migrator

__all__ = ["Runner", "Script", "check", "hold", "migrate", "migrator", "scripts"]

_RECORDED = "select name from public.migrations order by name"
_HOLD = "select pg_try_advisory_xact_lock_shared($1)"
_STAY = "set local idle_in_transaction_session_timeout = 0"


def scripts() -> list[Script]:
    """All migrations, (name, SQL), in the order of their names."""
    found = (file for file in files(__package__).iterdir() if file.name.endswith(".sql"))
    return sorted((file.name, file.read_text(encoding="utf-8")) for file in found)


async def migrate(
    admin_url: str,
    app_password: str,
    system_password: str,
    *,
    wanted: Sequence[Script] | None = None,
    new_secret: bool = False,
    pace: Pace = PACE,
    say: Say = silent,
) -> list[str]:
    """Make the roles, and apply what has not been applied.

    Args:
        admin_url: of a role that may create roles and extensions in this database; not a pooler's.
        app_password: the app role gets it, at every call.
        system_password: likewise.
        wanted: the migrations; by default `scripts()`.
        new_secret: whether the passwords may take the place of another installation's, or of another secret's.
        pace: how long it makes others wait, and how long it tries.
        say: is told of progress, a line at a time.

    Returns:
        The names of the migrations that this call applied.

    Raises:
        SetupError: PostgreSQL or pgvector is missing or too old, the role may not do this, the roles have another
            installation's passwords, or a file that was applied has changed since.
        Unavailable: PostgreSQL can't be reached, or what others do there left no moment for this; nothing is lost,
            and the same call goes on where this one ended.
    """
    async with migrator(admin_url, app_password, system_password, new_secret=new_secret, pace=pace, say=say) as runner:
        return await runner.run(scripts() if wanted is None else wanted)


async def check(tx: SystemTx, wanted: Sequence[Script] | None = None) -> list[str]:
    """Compare what was applied with what this engine needs; the names of what only a newer engine knows.

    Raises:
        SetupError: `not_migrated`.
    """
    needed = {name for name, _ in (scripts() if wanted is None else wanted)}
    recorded = [str(row["name"]) for row in await tx.fetch(_RECORDED)]
    if missing := sorted(needed.difference(recorded)):
        raise SetupError(
            "not_migrated",
            f"The database is behind this engine ({len(missing)} to apply, from {missing[0]} on): run "
            "`ringfence migrate` first.",
        )
    return [name for name in recorded if name not in needed]


async def hold(tx: SystemTx) -> None:
    """Keep migrations out until the transaction's end; any number may hold at once.

    Raises:
        Unavailable: `migration_running`.
    """
    await tx.execute(_STAY)
    if not await tx.fetchval(_HOLD, LOCK):
        raise Unavailable("migration_running", "The database is being migrated. Please try again when that is done.")

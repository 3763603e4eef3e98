"""`ringfence backup`, `restore` and `migrate --new-secret`, as a terminal runs them."""

import asyncio

import asyncpg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from ringfence.cli import EXIT_CODES, build_app
from ringfence.cli.local import everything
from ringfence.client import Client
from ringfence.embedded import postgres
from ringfence.errors import Kind
from ringfence.services import database_urls, role_passwords
from ringfence.settings import Settings
from tests.backup.conftest import contents
from tests.conftest import SECRET
from tests.engine import PASSWORD
from tests.isolation.tenants import two_tenants


async def ringfence(*arguments, **environment):
    """Run a command while this loop goes on."""
    env = {"RINGFENCE_SECRET_KEY": SECRET, **{f"RINGFENCE_{name.upper()}": str(v) for name, v in environment.items()}}
    return await asyncio.to_thread(CliRunner().invoke, build_app(), [str(a) for a in arguments], None, env)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """No `.env` of the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def accounts(admin):
    """Two accounts, and no documents, which would need files."""
    await two_tenants(admin)
    await admin.execute("delete from documents")


@pytest.mark.parametrize("urls", ["administrator's", "roles'"])
async def test_there_and_back(accounts, admin, database_url, app_url, system_url, fresh, fresh_url, tmp_path, urls):
    given = (
        {"database_url": database_url}
        if urls == "administrator's"
        else {"app_database_url": app_url, "system_database_url": system_url, "secret_key": ""}
    )
    done = await ringfence("backup", tmp_path / "set", data_dir=tmp_path / "data", **given)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'set'}: {await rows(admin)} rows, 0 files\n"
    assert "round 1: 0 files" in done.stderr
    again = await ringfence(
        "backup", tmp_path / "two", "--reuse", tmp_path / "set", data_dir=tmp_path / "data", **given
    )
    assert again.exit_code == 0
    back = await ringfence("restore", tmp_path / "set", database_url=fresh_url, data_dir=tmp_path / "new")
    assert back.exit_code == 0, back.output
    assert back.stdout.endswith("is restored\n")
    assert "users: 2 rows" in back.stderr
    assert await contents(fresh) == await contents(admin, settled=True)


async def rows(admin):
    return sum(len(found) for table, found in (await contents(admin)).items() if table != "migrations")


async def test_errors_are_said(accounts, database_url, tmp_path):
    nothing = await ringfence("backup", tmp_path / "set", data_dir=tmp_path / "none")
    assert nothing.exception.code == "database_missing"
    assert str(tmp_path / "none") in nothing.exception.message
    assert not (tmp_path / "none").exists()
    missing = await ringfence("restore", tmp_path / "set", database_url=database_url, data_dir=tmp_path)
    assert missing.exception.code == "backup_missing"
    assert (await ringfence("backup", tmp_path / "set", database_url=database_url, data_dir=tmp_path)).exit_code == 0
    full = await ringfence("restore", tmp_path / "set", database_url=database_url, data_dir=tmp_path)
    assert full.exception.code == "restore_not_empty"
    (tmp_path / "set" / "tables" / "users.copy").write_bytes(b"x")
    damaged = await ringfence("restore", tmp_path / "set", database_url=database_url, data_dir=tmp_path)
    assert damaged.exception.code == "backup_damaged"
    assert EXIT_CODES[damaged.exception.kind] == EXIT_CODES[Kind.SETUP]


async def test_a_new_secret_is_asked_for(database_url):
    assert (await ringfence("migrate", database_url=database_url)).stdout == "nothing to do\n"
    other = await ringfence("migrate", database_url=database_url, secret_key="another secret, 0123456789abcdef0123")
    assert other.exception.code == "other_secret"
    assert "--new-secret" in other.exception.message
    assert (await ringfence("migrate", "--new-secret", database_url=database_url)).exit_code == 0


# The embedded server.


async def test_the_embedded_server_of_a_running_engine(settings, models, tmp_path):
    """Backed up while `ringfence run` uses it, restored into a folder of its own with a secret of its own."""
    folder = tmp_path / "run"
    alone = settings.model_copy(
        update={"data_dir": folder, "secret_key": None, "app_database_url": None, "system_database_url": None}
    )
    async with everything(alone, chat=True, worker_output=False) as running, Client(running.url) as client:
        await client.register("ada@example.com", PASSWORD)
        taken = await ringfence("backup", tmp_path / "set", data_dir=folder, secret_key="")
        assert taken.exit_code == 0, (taken.output, taken.exception)
    stopped = await ringfence("backup", tmp_path / "two", data_dir=folder, secret_key="")
    assert stopped.exit_code == 0, (stopped.output, stopped.exception)
    back = await ringfence("restore", tmp_path / "set", data_dir=tmp_path / "new", secret_key="")
    assert back.exit_code == 0, (back.output, back.exception)
    assert (tmp_path / "new" / "secret_key").read_text() != (folder / "secret_key").read_text()
    async with await postgres.start(tmp_path / "new") as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("select email from users") == "ada@example.com"
        await connection.close()
        # Its secret may change: no other installation can be on it.
        changed = Settings(_env_file=None, data_dir=tmp_path / "new", secret_key=SecretStr("z" * 40))
        async with (
            everything(
                settings.model_copy(
                    update={**changed.model_dump(include={"data_dir", "secret_key"}), "app_database_url": None}
                ),
                chat=True,
                worker_output=False,
            ) as running,
            Client(running.url),
        ):
            pass
        named = changed.model_copy(update={"database_url": SecretStr(server.url)})
        app, _ = database_urls(named)
        await (await asyncpg.connect(app)).close()
        assert len(role_passwords(named)) == 2

"""A backup is one consistent set, also under load; a restored engine answers as the first one did."""

import asyncio
import hashlib
import os
import subprocess

import pytest

from ringfence import migrations
from ringfence.backup import queries, service, sets
from ringfence.backup.service import back_up
from ringfence.client import Client
from ringfence.db import OwnerTx
from ringfence.embedded.postgres import find_binaries
from ringfence.errors import SetupError, Unavailable
from ringfence.ids import user_id_from_record
from ringfence.migrations import migrate
from ringfence.migrations.roles import LOCK
from ringfence.search.tier_queries import create_table
from ringfence.storage.local import LocalStorage
from tests.backup.conftest import PASSWORDS, contents, restore, silent
from tests.conftest import with_database
from tests.engine import PASSWORD, running
from tests.isolation import catalog
from tests.isolation.tenants import SEED, two_tenants
from tests.migrations.conftest import schema_of
from tests.migrations.later import LATER

TEXT = "The notice period is six weeks.\n\nAnders repairs the oven."
QUESTION = "How long is the notice period?"


async def ready(client, document):
    async with asyncio.timeout(60):
        while not (found := await client.document(document.document_id)).final:
            await asyncio.sleep(0.02)
    assert found.state == "ready"


def psql(url, sql):
    """Run a statement while this loop stands still."""
    command = [str(find_binaries() / "psql"), "-d", url, "-Atc", sql]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def upload(client, folder, name, text):
    path = folder / name
    path.write_text(text)
    with path.open("rb") as file:
        document, _ = await client.upload(name, file)
    return document


async def answer(client):
    return [event.model_dump(exclude={"answer_id"}) for event in await collect(client)]


async def collect(client):
    return [event async for event in client.ask(QUESTION)]


@pytest.fixture
async def user(live, tmp_path):
    """Somebody with a document that is ready."""
    async with live.account("ada@example.com") as client:
        await ready(client, await upload(client, tmp_path, "handbook.txt", TEXT))
        yield client


async def test_a_restored_engine_gives_the_same_answer(
    user, models, admin, fresh, fresh_url, source, storage, restored, tmp_path
):
    before, said = await answer(user), []
    manifest = await back_up(source, storage, tmp_path / "sets" / "one", say=said.append)
    assert said == ["round 1: 1 files, of which 0 are gone"]
    await restore(tmp_path / "sets" / "one", fresh_url, restored.data_dir, say=said.append)
    assert await contents(fresh) == await contents(admin)
    assert {table.name: table.rows for table in manifest.tables} == {
        name: len(rows) for name, rows in (await contents(admin)).items() if name != "migrations"
    }
    async with running(restored, models) as engine, Client(engine.url) as client:
        await client.sign_in("ada@example.com", PASSWORD)
        assert await answer(client) == before
        assert "six weeks" in str(before)
        [document] = await client.documents()
        assert await downloaded(client, document) == TEXT.encode()
        await ready(client, await upload(client, tmp_path, "more.txt", "Holidays are thirty days a year."))


async def downloaded(client, document):
    return (await client._call("GET", f"/api/v1/documents/{document.document_id}/content")).content


@pytest.fixture
async def tenants(admin, storage):
    """Two tenants with rows in every table, and files to their documents."""
    tenants = await two_tenants(admin)
    for tenant in tenants:
        for state in tenant.documents:
            content = f"{tenant.text} {state}".encode()
            sha256 = hashlib.sha256(content).digest()
            sql = "update TABLE set sha256 = $1 where user_id = $2 and document_id = $3"
            arguments = sha256, tenant.user_id, tenant.documents[state]
            for table in ("documents", "replacements"):
                await admin.execute(sql.replace("TABLE", table), *arguments)
            path = storage.path(tenant.user_id, sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return tenants


async def test_every_row_of_every_table_comes_back(tenants, admin, fresh, fresh_url, source, storage, tmp_path):
    folder = tmp_path / "set"
    manifest = await back_up(source, storage, folder, say=silent)
    assert {table.name for table in manifest.tables} >= set(SEED)
    await restore(folder, fresh_url, tmp_path / "new")
    assert await contents(fresh) == await contents(admin, settled=True)
    assert await fresh.fetchval("select count(*) from jobs where state = 'running'") == 0
    assert await schema_of(fresh_url) == await schema_of(str(admin_url(admin, fresh_url)))
    for check in catalog.CHECKS:
        assert await check(fresh) == []
    # Identity columns go on after what is there.
    insert = "insert into embedding_models (name, dimensions) values ('other', 3) returning model_id"
    assert await fresh.fetchval(insert) == await admin.fetchval("select max(model_id) + 1 from embedding_models")
    first, second = tree(storage._root), tree(tmp_path / "new" / "files")
    assert first == second
    assert len(first) == 6


def admin_url(admin, fresh_url):
    return with_database(fresh_url, admin._params.database)


def tree(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "incoming" not in path.parts
    }


async def test_a_tenants_own_table_is_in_it(admin, fresh, fresh_url, source, storage, tmp_path):
    """A restored database begins with one table of vectors; maintenance divides it anew."""
    [mine, _] = await two_tenants(admin)
    await admin.execute("delete from documents")
    await admin.execute("set role ringfence_owner")
    await create_table(OwnerTx(admin), mine.user_id)
    await admin.execute("reset role")
    document = """insert into documents (user_id, document_id, sha256, name, media_type, size)
      values ($1, $2, $3, 'x', 'x', 1)"""
    vector = """insert into embeddings (user_id, document_id, number, model_id, embedding, part)
      values ($1, $2, $3, 1, $4, $5)"""
    content = b"x"
    sha256 = hashlib.sha256(content).digest()
    path = storage.path(mine.user_id, sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    await admin.execute(document, mine.user_id, mine.token, sha256)
    for part in (0, 1):
        await admin.execute(
            vector.replace("$4", f"'[1,{part}]'").replace("$5", "$4"), mine.user_id, mine.token, part, part
        )
    manifest = await back_up(source, storage, tmp_path / "set", say=silent)
    [columns] = [table.columns for table in manifest.tables if table.name == "embeddings"]
    assert columns == ("user_id", "document_id", "number", "model_id", "embedding")
    await restore(tmp_path / "set", fresh_url, tmp_path / "new")
    rows = "select number, embedding::text, user_id, document_id from embeddings order by number"
    assert await fresh.fetch(rows) == await admin.fetch(rows)
    assert await fresh.fetchval("select count(*) from embeddings_shared") == 2
    assert [line for check in catalog.CHECKS for line in await check(fresh)] == []


async def test_only_its_owner_can_read_it(tenants, source, storage, tmp_path):
    folder = tmp_path / "deep" / "set"
    old = os.umask(0)
    try:
        await back_up(source, storage, folder, say=silent)
    finally:
        os.umask(old)
    modes = {path.is_dir(): set() for path in folder.rglob("*")}
    for path in [folder, *folder.rglob("*")]:
        modes[path.is_dir()].add(path.stat().st_mode & 0o777)
    assert modes == {True: {0o700}, False: {0o600}}


async def test_standard_tools_can_check_it(tenants, source, storage, tmp_path):
    await back_up(source, storage, tmp_path / "set", say=silent)
    process = await asyncio.create_subprocess_exec(
        "sha256sum", "--quiet", "-c", "SHA256SUMS", cwd=tmp_path / "set", stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 0, err


async def test_files_of_an_earlier_backup_are_linked(tenants, source, storage, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    await back_up(source, storage, one, say=silent)
    [harmed, *fine] = sorted((one / "files").glob("*/*"))
    harmed.write_bytes(b"rotten")
    (gone := fine.pop()).unlink()
    await back_up(source, storage, two, reuse=one, say=silent)
    for path in fine:
        assert (two / path.relative_to(one)).samefile(path)
    for path in (harmed, gone):
        copy = two / path.relative_to(one)
        assert hashlib.sha256(copy.read_bytes()).hexdigest() == copy.name
    assert sets.read(two).manifest.files == 6


# Under load.


@pytest.mark.long
async def test_a_backup_amid_uploads_and_deletions_is_consistent(live, source, storage, fresh, fresh_url, tmp_path):
    stop, deleted = asyncio.Event(), 0

    async def churn(client, who):
        nonlocal deleted
        number = 0
        while not stop.is_set():
            number += 1
            document = await upload(client, tmp_path, f"{who}-{number}.txt", f"{who} says {number} times hello.")
            if number % 3:
                await client._call("DELETE", f"/api/v1/documents/{document.document_id}")
                deleted += 1

    async with live.account("ada@example.com") as ada, live.account("bob@example.com") as bob:
        work = [asyncio.create_task(churn(client, who)) for client, who in ((ada, "ada"), (bob, "bob"))]
        try:
            for number in range(4):
                async with asyncio.timeout(60):
                    goal = deleted + 5
                    while deleted < goal:
                        await asyncio.sleep(0.01)
                await back_up(source, storage, tmp_path / f"set{number}", say=silent)
        finally:
            stop.set()
            await asyncio.gather(*work)
    for number in range(4):
        found = sets.read(tmp_path / f"set{number}")
        rows = next(table.rows for table in found.manifest.tables if table.name == "documents")
        assert found.manifest.files == rows == len(found.files)
    await restore(tmp_path / "set3", fresh_url, tmp_path / "new")
    documents = await fresh.fetch("select user_id, sha256 from documents")
    assert documents
    for row in documents:
        path = tmp_path / "new" / "files" / str(row["user_id"]) / row["sha256"].hex()
        assert hashlib.sha256(path.read_bytes()).digest() == row["sha256"]


async def test_a_document_deleted_meanwhile_is_left_out(tenants, admin, database_url, source, storage, tmp_path):
    """Its row was in the first snapshot and its file is gone when it is to be copied: a later snapshot is taken."""
    rows = await admin.fetch("select user_id, document_id, sha256 from documents order by user_id, sha256")
    copied, gone = rows[0], rows[-1]
    await storage.delete(user_id_from_record(gone["user_id"]), gone["sha256"])
    said = []

    def say(line):
        said.append(line)
        for row in (copied, gone):
            psql(database_url, f"delete from documents where document_id = '{row['document_id']}'")

    manifest = await back_up(source, storage, tmp_path / "set", say=say)
    assert manifest.files == 4
    assert said == ["round 1: 6 files, of which 1 are gone", "round 2: 4 files, of which 0 are gone"]
    assert len(list((tmp_path / "set" / "files").glob("*/*"))) == 4
    assert sets.read(tmp_path / "set").manifest == manifest


@pytest.mark.parametrize("harm", ["gone", "changed"])
async def test_a_file_that_is_lost_is_said(tenants, admin, source, storage, tmp_path, harm):
    row = await admin.fetchrow("select user_id, sha256 from documents limit 1")
    path = storage.path(row["user_id"], row["sha256"])
    path.unlink() if harm == "gone" else path.write_bytes(b"rotten")
    with pytest.raises(Unavailable, match=f"1 documents have no unharmed file, {row['user_id']}/{row['sha256'].hex()}"):
        await back_up(source, storage, tmp_path / "set", say=silent)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("set")] == []


async def test_no_migration_runs_meanwhile(tenants, database_url, source, storage, tmp_path):
    async with migrations.migrator(database_url, *PASSWORDS):
        with pytest.raises(Unavailable, match="migration_running"):
            await back_up(source, storage, tmp_path / "set", say=silent)
    ask = f"select pg_try_advisory_lock({LOCK})"
    said = []
    await back_up(source, storage, tmp_path / "set", say=lambda _line: said.append(psql(database_url, ask)))
    assert said == ["f"]
    assert psql(database_url, ask) == "t"


# Where it goes.


async def test_a_folder_that_is_there_is_left_alone(tenants, source, storage, tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(SetupError, match="backup_folder"):
        await back_up(source, storage, tmp_path / "set", say=silent)
    (tmp_path / "other.partial").mkdir()
    with pytest.raises(SetupError, match="was killed"):
        await back_up(source, storage, tmp_path / "other", say=silent)
    assert (tmp_path / "other.partial").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="backup_unwritable"):
        await back_up(source, storage, tmp_path / "file" / "set", say=silent)


async def test_a_table_that_nobody_may_read_is_no_silent_gap(admin, source, storage, tmp_path):
    await admin.execute("create table secrets (a int)")
    with pytest.raises(SetupError, match="these tables: secrets"):
        await back_up(source, storage, tmp_path / "set", say=silent)


async def test_tables_are_in_an_order_that_foreign_keys_allow(source):
    async with source.snapshot() as (tx, _):
        names = [table.name for table in await queries.tables(tx)]
    assert names.index("users") < names.index("documents") < names.index("chunks")


# Restoring.


@pytest.fixture
async def folder(tenants, source, storage, tmp_path):
    await back_up(source, storage, tmp_path / "set", say=silent)
    return tmp_path / "set"


async def refusal(attempt):
    with pytest.raises(SetupError) as caught:
        await attempt
    return caught.value.code


async def test_a_database_with_accounts_is_left_alone(folder, database_url, admin, tmp_path):
    before = await contents(admin)
    assert await refusal(restore(folder, database_url, tmp_path / "new")) == "restore_not_empty"
    assert await contents(admin) == before
    assert not (tmp_path / "new").exists()
    assert await schema_of(database_url)
    for check in catalog.CHECKS:
        assert await check(admin) == []


async def test_a_migrated_database_without_accounts_will_do(folder, fresh_url, fresh, admin, tmp_path):
    await migrate(fresh_url, *PASSWORDS)
    await fresh.execute("insert into embedding_models (name, dimensions) values ('stale', 3)")
    await restore(folder, fresh_url, tmp_path / "new")
    assert await contents(fresh) == await contents(admin, settled=True)


async def test_a_database_of_another_version_is_left_alone(folder, fresh_url, fresh, tmp_path):
    await migrate(fresh_url, *PASSWORDS, wanted=LATER)
    assert await refusal(restore(folder, fresh_url, tmp_path / "new")) == "restore_not_empty"


async def test_an_older_backup_is_brought_up_to_date(folder, fresh_url, fresh, tmp_path):
    await restore(folder, fresh_url, tmp_path / "new", scripts=LATER)
    assert await fresh.fetchval("select count(*) from chunks where weight is distinct from 1") == 0
    assert await fresh.fetchval("select count(*) from chunks") == 18
    assert [row[0] for row in await fresh.fetch("select name from migrations order by name")] == [n for n, _ in LATER]


async def test_a_backup_of_a_newer_engine_is_refused(folder, fresh_url, fresh, tmp_path):
    [(name, sql), *rest] = LATER
    for known in ([], [(name, sql + " "), *rest]):
        assert await refusal(restore(folder, fresh_url, tmp_path / "new", scripts=known)) == "backup_newer"
    assert await fresh.fetchval("select to_regclass('users')") is None


async def test_all_rows_come_or_none(folder, fresh_url, fresh, admin, tmp_path):
    """The last step fails (no file can be stored): nothing is in the database, and a second try succeeds."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "files").touch()
    with pytest.raises(Unavailable, match="storage_unavailable"):
        await restore(folder, fresh_url, tmp_path / "new")
    assert await fresh.fetchval("select count(*) from users") == 0
    assert await fresh.fetchval("select bool_and(relforcerowsecurity) from pg_class where relname = 'users'")
    (tmp_path / "new" / "files").unlink()
    await restore(folder, fresh_url, tmp_path / "new")
    assert await contents(fresh) == await contents(admin, settled=True)


async def test_a_file_that_changes_after_the_check_is_noticed(folder, fresh_url, fresh, tmp_path):
    found = sets.read(folder)
    next((folder / "files").glob("*/*")).write_bytes(b"rotten")
    with pytest.raises(SetupError, match="backup_damaged"):
        await service.restore(found, fresh_url, *PASSWORDS, LocalStorage(tmp_path / "new"), say=silent)
    assert await fresh.fetchval("select count(*) from users") == 0

"""The wheel: holds all that is in the package, and runs from wherever it is installed."""

import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import asyncpg
import httpx2

import ringfence
from tests.conftest import SECRET
from tests.packaging.conftest import Processes, build, free_port, plain_environment, until
from tests.packaging.containers import ROOT
from tests.rules import house

SERVES = "import ringfence.cli.serving"


async def answers(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    package = {
        path.relative_to(ROOT / "src").as_posix() for path in house.repository_files() if path.is_relative_to(house.SRC)
    }
    info = f"ringfence-{ringfence.__version__}.dist-info"
    assert names(wheel) == package | {
        f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    for needed in (
        "py.typed",
        "migrations/0001_initial.sql",
        "http/web/templates/base.html",
        "http/web/static/api.js",
        "samples/bakery-handbook.pdf",
        "embedded/weights.json",
    ):
        assert f"ringfence/{needed}" in package


def test_what_it_says_of_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"ringfence-{ringfence.__version__}.dist-info"
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE")
    assert wheel.name == f"ringfence-{ringfence.__version__}-py3-none-any.whl"
    assert metadata["License-Expression"] == "AGPL-3.0-or-later"
    assert metadata["Requires-Python"] == ">=3.12"
    assert b"GNU AFFERO GENERAL PUBLIC LICENSE" in licence
    assert "# Ringfence" in str(metadata.get_payload())


def test_two_builds_are_the_same_byte_for_byte(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    assert build("wheel", ROOT, tmp_path / "wheel").read_bytes() == wheel.read_bytes()
    assert build("sdist", ROOT, tmp_path / "sdist").read_bytes() == sdist.read_bytes()


def test_the_sdist_holds_what_is_committed(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    committed = {path.relative_to(ROOT).as_posix() for path in house.repository_files()}
    assert held - committed == {"PKG-INFO"}
    assert {name for name in committed - held if name.startswith(("src/", "tests/", "docs/"))} == set()


def run(installed: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=installed,
        env=plain_environment(installed) | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_runs_from_its_own_files(installed: Path) -> None:
    assert run(installed, "ringfence", "--version").stdout == f"{ringfence.__version__}\n"
    where = run(installed, "python", "-c", f"{SERVES}, ringfence.samples as s; print(ringfence.__file__, s.__file__)")
    assert where.stderr == ""
    assert all(Path(path).is_relative_to(installed / "lib") for path in where.stdout.split())


def test_its_samples_can_be_read(installed: Path) -> None:
    code = (
        "from ringfence import samples\n"
        "for tenant in samples.TENANTS:\n"
        "    with samples.files(tenant) as files:\n"
        "        print(*(file.read_bytes()[:4] for file in files))\n"
    )
    assert run(installed, "python", "-c", code).stdout.count("b'%PDF'") == 4


async def test_it_migrates_and_its_page_is_complete(
    installed: Path, empty_database: str, tmp_path: Path, processes: Processes
) -> None:
    port = free_port()
    environment = {
        "RINGFENCE_SECRET_KEY": SECRET,
        "RINGFENCE_DATABASE_URL": empty_database,
        "RINGFENCE_DATA_DIR": str(tmp_path / "data"),
        "RINGFENCE_PORT": str(port),
        "RINGFENCE_SMTP_HOST": "localhost",
        "RINGFENCE_EMBEDDING_PROVIDER": "openai",
        "RINGFENCE_EMBEDDING_URL": "http://127.0.0.1:9",
        "RINGFENCE_EMBEDDING_MODEL": "any",
        "RINGFENCE_CHAT_PROVIDER": "none",
    }
    migrated = run(installed, "ringfence", "migrate", **environment)
    assert "applied 0001_initial.sql" in migrated.stdout
    connection = await asyncpg.connect(empty_database)
    assert await connection.fetchval("select count(*) from migrations") == len(migrated.stdout.splitlines())
    await connection.close()
    await processes.start([str(installed / "bin" / "ringfence"), "serve"], plain_environment(installed) | environment)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await until(lambda: answers(client))
        assert " · Ringfence</title>" in (await client.get("/")).text
        for name in ("base.css", "api.js", "icon.svg"):
            assert (await client.get(f"/static/{name}")).status_code == 200
        assert (await client.get("/api/openapi.json")).json()["info"]["version"] == ringfence.__version__


def test_the_tests_build_with_the_backend_that_a_release_builds_with() -> None:
    def pin(name: str) -> list[str]:
        return [line.split()[0] for line in (ROOT / name).read_text().splitlines() if line.startswith("hatchling==")]

    assert pin("requirements-dev.txt") == pin("scripts/build.txt") != []

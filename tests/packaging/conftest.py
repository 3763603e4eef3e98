"""What is shipped, built as for a release and installed into an environment of its own, with no network."""

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.conftest import cloned
from tests.packaging.containers import ROOT


def build(target: str, source: Path, folder: Path) -> Path:
    """Build one distribution with the environment's own build backend."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the sdist: that is how a release makes it."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; what it depends on is the running environment's."""
    root = tmp_path_factory.mktemp("installed")
    venv.EnvBuilder(symlinks=True).create(root)
    python = root / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True, env=plain_environment(root)
    )
    (packages,) = (root / "lib").glob("python3*/site-packages")
    # A path in a .pth file is searched, but the .pth files there are not obeyed: no editable install comes along.
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(paths)))
    return root


def plain_environment(root: Path) -> dict[str, str]:
    """Only what a shell would have: none of the tests' own variables, and this environment first."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "LANG") if name in os.environ}
    return kept | {"PATH": f"{root / 'bin'}:{os.defpath}", "HOME": str(root)}


@pytest.fixture
async def empty_database(server_url: str) -> AsyncGenerator[str]:
    """The administrator's URL of a database in which nothing is."""
    async with cloned(server_url, "template1") as url:
        yield url


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 120) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


class Processes:
    """Processes of a test, which end with it; what they write goes into files of this folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[asyncio.subprocess.Process] = []

    async def start(
        self, command: list[str], environment: dict[str, str], name: str = "output"
    ) -> asyncio.subprocess.Process:
        with (self.folder / name).open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        self.running.append(process)
        return process

    def output(self, name: str) -> str:
        return (self.folder / name).read_text()

    async def end(self) -> None:
        for process in self.running:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncGenerator[Processes]:
    (tmp_path / "processes").mkdir()
    started = Processes(tmp_path / "processes")
    yield started
    await started.end()

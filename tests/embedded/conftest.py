"""Data folders for the tests of the embedded PostgreSQL."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.embedded import postgres
from ringfence.embedded.postgres_cluster import prepare
from ringfence.embedded.postgres_guard import Layout
from tests.embedded.postgres_tools import FAST


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A data folder with a fresh cluster, to copy."""
    with tempfile.TemporaryDirectory(prefix="rf-", dir=FAST) as folder:
        asyncio.run(prepare(Layout(Path(folder).resolve()), postgres.find_binaries()))
        yield Path(folder)


@pytest.fixture
def empty() -> Iterator[Path]:
    """A data folder with a short path (pytest's own are too long for a socket)."""
    with tempfile.TemporaryDirectory(prefix="rf-", dir=FAST, ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def made(empty: Path, cluster: Path) -> Path:
    """A data folder with a cluster that never ran."""
    shutil.copytree(cluster / "postgres", empty / "postgres")
    return empty

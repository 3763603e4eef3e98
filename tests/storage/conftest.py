"""Both storages, behind the same face."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringfence.storage.local import LocalStorage
from ringfence.storage.s3 import S3Storage
from tests.fakes.s3_server import S3Server


def now():
    return datetime.now(UTC)


@dataclass
class World:
    """A storage, and what it really holds."""

    storage: LocalStorage | S3Storage
    root: Path
    server: S3Server | None = None

    def names(self) -> list[str]:
        """All that is stored, but for the marks of who left; also what is half there."""
        if self.server is None:
            found = [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()]
        else:
            found = [key.removeprefix("a/b/") for key in self.server.held()]
        return sorted(name for name in found if not name.startswith("left/"))

    def marks(self) -> list[str]:
        """The marks."""
        if self.server is None:
            return [path.name for path in (self.root / "left").glob("*")]
        return [key.rpartition("/")[2] for key in self.server.held() if key.startswith("a/b/left/")]


@pytest.fixture(params=["local", "s3"])
def world(request, tmp_path):
    if request.param == "local":
        return World(LocalStorage(tmp_path / "files"), tmp_path / "files")
    server = request.getfixturevalue("s3")
    return World(S3Storage(server.bucket(), tmp_path / "scratch", now), tmp_path / "scratch", server)

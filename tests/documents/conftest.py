"""A tenant with a library whose bin has a clock of its own, and what ingests."""

from datetime import UTC, datetime, timedelta

import pytest

from ringfence.documents.collections import Collections
from ringfence.documents.ingest import Ingestion
from ringfence.documents.service import Library
from ringfence.documents.versions import Versions
from ringfence.ids import new_user_id
from ringfence.models.openai import OpenAIEmbedder
from ringfence.storage.local import LocalStorage
from tests.parsers import parser

DAY = timedelta(days=1)


class Clock:
    """A clock that a test moves on."""

    def __init__(self):
        self.time = datetime.now(UTC)

    def __call__(self):
        return self.time


async def new_user(admin):
    """An account, and nothing else."""
    user_id = new_user_id()
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', $2, 'x')",
        user_id,
        str(user_id),
    )
    return user_id


@pytest.fixture
async def user(admin):
    return await new_user(admin)


@pytest.fixture
async def stranger(admin):
    return await new_user(admin)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "files")


@pytest.fixture
def library(db, storage, clock):
    return Library(db, storage, 10_000_000, trash=DAY, now=clock)


@pytest.fixture
def versions(db, library):
    return Versions(db, library)


@pytest.fixture
def collections(db):
    return Collections(db)


@pytest.fixture
async def ingestion(db, storage, models):
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    async with parser() as sandbox:
        yield Ingestion(db, storage, sandbox, embedder, chunk_tokens=68, chunk_overlap_tokens=13, beat=0.05)
    await embedder.close()

"""A real PostgreSQL with production's roles: one server for the run, one database for each test, cloned in ms."""

import gc
import hashlib
import importlib
import logging
import os
import pkgutil
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import coverage
import httpx2
import platformdirs
import pytest
import pytest_asyncio
import structlog
from pydantic import SecretStr

import ringfence
from ringfence import migrations
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.embedded import postgres
from ringfence.keys import Purpose, derive_password
from ringfence.models.openai import OpenAIEmbedder
from ringfence.settings import Settings
from tests import certificates
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.s3_server import S3Server, s3_server

if TYPE_CHECKING:
    from tests.engine import Live

SECRET = "a secret for tests alone, 0123456789abcdef"
APP_PASSWORD = derive_password(SECRET, Purpose.APP_ROLE)
SYSTEM_PASSWORD = derive_password(SECRET, Purpose.SYSTEM_ROLE)

_CONFIG = {"max_connections": "400", "fsync": "off", "full_page_writes": "off"}
# By copying files a database is cloned in half the time; but not where each of them has to reach a disk.
_CLONED = "wal_log" if "RINGFENCE_TEST_DATABASE_URL" in os.environ else "file_copy"


# Thousands of databases come and go, each of some hundred files. For each file that is made, ext4 looks through what it
# has just deleted, which took a quarter of the run; memory does not.
_MEMORY = Path("/dev/shm")  # noqa: S108  # the folder in it has a name that nobody can guess
_ROOM = 4 * 2**30
_SERVER = "TESTS_SERVER_FOLDER"  # no RINGFENCE_…: the engine would take it for a setting that it does not know


def pytest_configure(config: pytest.Config) -> None:
    """Whoever runs this in the background ignores these signals, and so would the processes that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if not hasattr(config, "workerinput") and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM:
        for left in _MEMORY.glob("ringfence-test-*"):
            if not Path("/proc", left.name.split("-")[2]).exists():  # of a run that was killed
                shutil.rmtree(left, ignore_errors=True)
        os.environ[_SERVER] = tempfile.mkdtemp(prefix=f"ringfence-test-{os.getpid()}-", dir=_MEMORY)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """In parallel runs each worker collects all tests, which took a tenth of the run, most of it for tracing.

    So the engine's modules are imported before, with coverage, and the tests without. What is there by then stays to
    the end, and nobody looks through it for garbage again, which took another tenth; nor often through what comes.
    """
    measured = coverage.Coverage.current() if hasattr(session.config, "workerinput") else None
    if measured is not None:
        for module in pkgutil.walk_packages(ringfence.__path__, "ringfence."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        measured.stop()
    found = yield
    if measured is not None:
        measured.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first: at the end, the others would wait for it and have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The server is gone with the last of those who use it, or soon after."""
    if not hasattr(config, "workerinput") and (folder := os.environ.pop(_SERVER, None)):
        deadline = time.monotonic() + 10
        while any(Path(folder).glob("*/*/postmaster.pid")) and time.monotonic() < deadline:
            time.sleep(0.1)  # nobody tells when it has stopped
        shutil.rmtree(folder, ignore_errors=True)


# As structlog's defaults, but that those draw an exception with all its variables, which takes ten seconds.
_PROCESSORS = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.dev.set_exc_info,
    structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S", utc=False),
    structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
]


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Whatever a test sets up of logging is gone after it."""
    root, client = logging.getLogger(), logging.getLogger("httpx2")
    before = (root.handlers, root.level, client.level)
    structlog.configure(processors=_PROCESSORS)
    yield
    root.handlers, root.level, client.level = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    """The administrator's URL: RINGFENCE_TEST_DATABASE_URL, or the embedded server that all xdist workers share."""
    if url := os.environ.get("RINGFENCE_TEST_DATABASE_URL"):
        yield url
        return
    base: Path = tmp_path_factory.getbasetemp()
    folder = Path(os.environ.get(_SERVER) or (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base))
    async with await postgres.start(folder / "server", config=_CONFIG) as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(server_url: str) -> str:
    """A migrated database to clone, made by whichever worker comes first."""
    digest = hashlib.sha256("".join(sql for _, sql in migrations.scripts()).encode()).hexdigest()[:12]
    name = f"ringfence_template_{digest}"
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute("select pg_advisory_lock(1)")
        if not await admin.fetchval("select 1 from pg_database where datname = $1 and datistemplate", name):
            await admin.execute(f"drop database if exists {name}")
            await admin.execute(f"create database {name}")
            await migrations.migrate(with_database(server_url, name), APP_PASSWORD, SYSTEM_PASSWORD)
            await admin.execute(f"alter database {name} is_template true")
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def cloned(server_url: str, template: str) -> AsyncGenerator[str]:
    """A copy of a database, while the context lasts; the administrator's URL of it."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f"create database {name} template {template} strategy {_CLONED}")
        yield with_database(server_url, name)
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


@pytest.fixture
async def database_url(server_url: str, template: str) -> AsyncGenerator[str]:
    """The administrator's URL of a fresh, migrated database."""
    async with cloned(server_url, template) as url:
        yield url


@pytest.fixture
def app_url(database_url: str) -> str:
    return role_url(database_url, APP_ROLE, APP_PASSWORD)


@pytest.fixture
def system_url(database_url: str) -> str:
    return role_url(database_url, SYSTEM_ROLE, SYSTEM_PASSWORD)


@pytest.fixture
async def db(app_url: str, system_url: str) -> AsyncGenerator[Database]:
    database = Database(app_url, system_url, DatabaseOptions(connect_timeout=10, command_timeout=30))
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator[asyncpg.Connection]:
    """A superuser's connection, to look behind the policies."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Where the real weights lie, which `make test` pulls."""
    return Path(os.environ.get("RINGFENCE_TEST_MODELS_DIR") or platformdirs.user_cache_path("ringfence") / "models")


@pytest.fixture
async def models() -> AsyncGenerator[ModelServer]:
    """A model server over real HTTP: hashed bags of words as vectors, extraction as chat, or what a test scripts."""
    async with model_server() as server:
        yield server


@pytest.fixture
async def embedder(models: ModelServer) -> AsyncGenerator[OpenAIEmbedder]:
    """An embedder on that server."""
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    yield embedder
    await embedder.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3_process() -> AsyncGenerator[S3Server]:
    """An S3 server for this worker's run."""
    async with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_process: S3Server) -> S3Server:
    """An S3 server with a bucket of the test's own."""
    return s3_process.with_bucket()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of one authority."""
    file = tmp_path_factory.mktemp("authority") / "both.pem"
    certificates.write(file)
    return file


@pytest.fixture(scope="session")
def common_settings() -> Settings:
    """What all engines of tests have in common, read once: that takes longer than many a test."""
    return Settings(
        _env_file=None,
        port=0,
        secret_key=SecretStr(SECRET),
        bcrypt_cost=4,
        requests_per_minute=1_000_000,  # tests poll
        network_requests_per_hour=1_000_000,  # all of them come from one network
        embedding_provider="openai",
        embedding_url="http://127.0.0.1",
        embedding_model="hash",
        chat_provider="openai",
        chat_url="http://127.0.0.1",
        chat_model="extract",
        chat_tries=1,  # what fails shall do so at once
        relevance_floor=0.1,
        db_connect_timeout=10,
        db_command_timeout=10,
    )


@pytest.fixture
def settings(
    common_settings: Settings,
    app_url: str,
    system_url: str,
    models: ModelServer,
    authority: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings of an engine on the test's database and model server."""
    # Nobody speaks TLS here, and each HTTP client would read all of the system's authorities: 20 ms.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    own = {
        "data_dir": tmp_path / "data",
        "app_database_url": SecretStr(app_url),
        "system_database_url": SecretStr(system_url),
        "embedding_url": models.openai_url,
        "chat_url": models.openai_url,
    }
    return common_settings.model_copy(update=own)


@pytest.fixture
async def live(settings: Settings, models: ModelServer) -> AsyncGenerator["Live"]:
    """A running engine."""
    from tests.engine import running

    async with running(settings, models) as engine:
        yield engine


@pytest.fixture
async def http(live: "Live") -> AsyncGenerator[httpx2.AsyncClient]:
    """A bare HTTP client of the running engine; every answer that it gets has to be one that the API describes."""
    from tests.contract import keeps_to_it

    async with httpx2.AsyncClient(base_url=live.url, timeout=30, event_hooks={"response": [keeps_to_it]}) as client:
        yield client

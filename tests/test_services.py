"""The composition root: what a wrong or missing setting says, and which parts are chosen."""

import asyncio
from contextlib import aclosing
from uuid import uuid4

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ringfence.errors import SetupError
from ringfence.ids import new_user_id
from ringfence.jobs import Job
from ringfence.models.base import Message
from ringfence.models.ollama import OllamaChat
from ringfence.services import (
    EmbeddedChat,
    Services,
    database_urls,
    local_secret,
    open_handlers,
    open_services,
    require_secret,
    require_smtp,
)
from ringfence.settings import load_settings
from tests.conftest import SECRET


def with_(settings, **values):
    return settings.model_copy(update=values)


def test_a_secret_is_required(settings):
    assert require_secret(settings) == SECRET
    with pytest.raises(SetupError, match="RINGFENCE_SECRET_KEY"):
        require_secret(with_(settings, secret_key=None))


def test_a_mail_server_is_required(settings):
    assert require_smtp(with_(settings, smtp_host="localhost", smtp_password=SecretStr("x"), smtp_username="u"))
    with pytest.raises(SetupError, match="RINGFENCE_SMTP_HOST"):
        require_smtp(settings)


def test_database_urls_are_as_set_or_derived(settings):
    given = settings.app_database_url.get_secret_value(), settings.system_database_url.get_secret_value()
    assert database_urls(settings) == given
    bare = with_(settings, app_database_url=None, system_database_url=None)
    with pytest.raises(SetupError, match="RINGFENCE_DATABASE_URL"):
        database_urls(bare)
    app, system = database_urls(with_(bare, database_url=SecretStr("postgresql://admin:pw@db.example/ringfence?a=b")))
    assert app.startswith("postgresql://ringfence_app:")
    assert system.startswith("postgresql://ringfence_system:")
    assert app.endswith("@db.example/ringfence?a=b")
    assert "admin" not in app


def test_a_data_folder_has_one_secret_of_its_own(tmp_path):
    first = local_secret(tmp_path / "data")
    path = tmp_path / "data" / "secret_key"
    assert len(first.get_secret_value()) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert local_secret(tmp_path / "data") == first
    assert list(path.parent.iterdir()) == [path]


async def test_processes_that_start_together_agree_on_the_secret(tmp_path):
    secrets = await asyncio.gather(*(asyncio.to_thread(local_secret, tmp_path) for _ in range(20)))
    assert len({secret.get_secret_value() for secret in secrets}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"embedding_url": None}, "RINGFENCE_EMBEDDING_URL"),
        ({"embedding_model": None}, "RINGFENCE_EMBEDDING_MODEL"),
        ({"chat_url": None}, "RINGFENCE_CHAT_URL"),
        ({"chat_model": ""}, "RINGFENCE_CHAT_MODEL"),
        ({"embedding_provider": "embedded"}, "ringfence model pull all-minilm-l6-v2"),
        ({"chat_provider": "embedded", "chat_model": None}, "ringfence model pull qwen"),
    ],
)
async def test_what_a_provider_needs_is_named(settings, tmp_path, change, named):
    async def start():
        async with open_services(with_(settings, models_dir=tmp_path / "models", **change)):
            pass

    with pytest.raises(SetupError, match=named):
        await start()


async def test_ollama_and_no_model_at_all(settings, models):
    ollama = {
        "embedding_provider": "ollama",
        "embedding_url": models.url,
        "chat_provider": "ollama",
        "chat_url": models.url,
    }
    async with open_services(with_(settings, **ollama)) as services:
        assert isinstance(services, Services)
        assert isinstance(services.answers._chat, OllamaChat)
    async with open_services(with_(settings, chat_provider="none")) as services:
        assert services.answers._chat is None


async def test_the_embedded_models_are_used(settings, models_dir):
    embedded = with_(
        settings,
        embedding_provider="embedded",
        chat_provider="embedded",
        chat_model="smollm2-135m-instruct",
        models_dir=models_dir,
    )
    async with open_services(embedded) as services:
        assert services.search._embedder.name == "all-minilm-l6-v2"
        chat = services.answers._chat
        assert chat.name == "smollm2-135m-instruct"
        async with aclosing(chat.stream([Message("user", "Say hello.")], max_tokens=8)) as pieces:
            assert "".join([piece async for piece in pieces])


async def test_a_job_that_is_parked_is_noted_in_the_log(settings):
    job = Job(new_user_id(), 1, "mail", "{}", 5, uuid4())
    async with open_handlers(settings, require_smtp(with_(settings, smtp_host="localhost"))) as work:
        with capture_logs() as logs:
            await work.handlers["mail"].give_up(job, "mail_refused", "No such mailbox.")
    assert logs == [{"event": "job_parked", "kind": "mail", "code": "mail_refused", "log_level": "error"}]


class FakeServer:
    """Stands where the server of the embedded chat model stands, in front of the tests' model server."""

    def __init__(self, url, error=None):
        self.url = url
        self.api_key = "key"
        self.error = error
        self.alive = False
        self.started = self.stopped = 0

    async def __aenter__(self):
        self.started += 1
        if self.error:
            raise self.error
        self.alive = True
        return self

    async def __aexit__(self, *_):
        self.stopped += 1


async def test_the_embedded_chat_models_server_starts_beside_and_answers(settings, models):
    server = FakeServer(models.openai_url)
    chat = EmbeddedChat("qwen", server, settings)
    models.script(answer="Hello there")
    pieces = [piece async for piece in chat.stream([Message("user", "Hi")], max_tokens=5)]
    assert "".join(pieces) == "Hello there"
    assert models.chats[0].headers["authorization"] == "Bearer key"
    assert chat.context_tokens == 4096
    assert chat.name.startswith("qwen")
    await chat.close()
    assert server.started == 1


async def test_an_embedded_chat_model_that_died_is_started_anew(settings, models):
    server = FakeServer(models.openai_url)
    chat = EmbeddedChat("qwen", server, settings)
    for starts in (1, 2):
        models.script(answer="Hello")
        assert [piece async for piece in chat.stream([Message("user", "Hi")], max_tokens=5)]
        assert server.started == starts
        server.alive = False
    await chat.close()


async def test_an_embedded_chat_model_that_can_not_start_says_so_at_each_question(settings):
    server = FakeServer("", SetupError("chat_model_failed", "No memory."))
    chat = EmbeddedChat("qwen", server, settings)
    for _ in range(2):
        with pytest.raises(SetupError, match="chat_model_failed"):
            await anext(chat.stream([Message("user", "Hi")], max_tokens=5))
    assert server.started == 2
    await chat.close()


async def test_closing_before_it_has_started(settings, models):
    server = FakeServer(models.openai_url)
    await EmbeddedChat("qwen", server, settings).close()
    assert server.stopped


async def test_a_worker_gets_a_handler_for_each_kind_of_job(settings):
    async with open_handlers(settings, require_smtp(with_(settings, smtp_host="localhost"))) as work:
        assert set(work.handlers) == {"ingest", "erase", "mail"}


def test_settings_say_what_is_wrong_in_the_operators_words(monkeypatch):
    monkeypatch.setenv("RINGFENCE_PORT", "99999")
    monkeypatch.setenv("RINGFENCE_SECRET_KEY", "short-secret")
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert "RINGFENCE_PORT" in caught.value.message
    assert "RINGFENCE_SECRET_KEY" in caught.value.message
    assert "short-secret" not in caught.value.message


def test_an_empty_setting_is_no_setting(monkeypatch):
    for name in ("SMTP_HOST", "DATABASE_URL", "SECRET_KEY", "PORT"):
        monkeypatch.setenv(f"RINGFENCE_{name}", "")
    settings = load_settings(_env_file=None)
    assert (settings.smtp_host, settings.database_url, settings.secret_key) == (None, None, None)
    with pytest.raises(SetupError, match="smtp_missing"):
        require_smtp(settings)


def test_settings_that_do_not_fit_together_end_the_start(monkeypatch):
    monkeypatch.setenv("RINGFENCE_CHUNK_CHARS", "200")
    with pytest.raises(SetupError, match="RINGFENCE_CHUNK_OVERLAP"):
        load_settings()

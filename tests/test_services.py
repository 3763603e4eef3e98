"""The composition root: what a wrong or missing setting says, and which parts are chosen."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from decimal import Decimal
from uuid import uuid4

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ringfence.errors import SetupError
from ringfence.ids import new_user_id
from ringfence.jobs import Job
from ringfence.models.base import Message
from ringfence.models.desk import Price
from ringfence.models.ollama import OllamaChat
from ringfence.services import (
    Services,
    database_urls,
    embedding_names,
    local_secret,
    open_handlers,
    open_services,
    open_storage,
    require_secret,
    require_smtp,
)
from ringfence.services.chat_models import open_desk, passage_tokens
from ringfence.services.parts import open_checker, open_reranking
from ringfence.setting_types import ChatModelEntry
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


async def test_a_reranker_is_opened_as_set(settings, models):
    async with AsyncExitStack() as stack:
        assert not open_reranking(settings, stack).on
        with pytest.raises(SetupError, match="RINGFENCE_RERANK_URL"):
            open_reranking(with_(settings, rerank_provider="tei"), stack)
        cohere = with_(settings, rerank_provider="cohere", rerank_url=models.openai_url)
        with pytest.raises(SetupError, match="RINGFENCE_RERANK_MODEL"):
            open_reranking(cohere, stack)
        for chosen in (
            with_(cohere, rerank_model="m", rerank_api_key=SecretStr("k"), rerank_candidates=7),
            with_(settings, rerank_provider="tei", rerank_url=models.url, rerank_candidates=7),
        ):
            assert open_reranking(chosen, stack).wanted(2) == 7


async def test_chat_models_are_opened_as_set(settings, models):
    declared = (
        ChatModelEntry(name="big", url=models.openai_url, api_key=SecretStr("k"), at_once=3, prompt_price=2),
        ChatModelEntry(name="local", provider="ollama", url=models.url, model="qwen3", context_tokens=4096),
    )
    async with AsyncExitStack() as stack:
        desk = open_desk(with_(settings, chat_models=declared, chat_fall_back=("local",)), stack)
        own, big, local = desk.offers
        assert [(one.name, one.fall_back, one.cites) for one in desk.offers] == [
            ("extract", ("local",), True),
            ("big", (), True),
            ("local", (), True),
        ]
        assert (own.room.places, big.room.places, local.room.waiting) == (256, 3, 200)
        assert (own.price, big.price, own.server == big.server) == (None, Price(Decimal(2), Decimal(0), "USD"), True)
        for offer in (big, local):
            assert [piece async for piece in offer.model.stream([Message("user", "Hi")], max_tokens=5)]
        assert [request.body["model"] for request in models.chats] == ["big", "qwen3"]
        assert models.chats[0].headers["authorization"] == "Bearer k"
        assert passage_tokens(settings, "embedded") < passage_tokens(settings, "openai")
        assert passage_tokens(with_(settings, passage_tokens=7), "openai") == 7
        alone = open_desk(with_(settings, chat_provider="none", chat_models=declared[:1]), stack)
        assert alone.of(new_user_id()).name == "big"
        with pytest.raises(SetupError, match="RINGFENCE_CHAT_MODELS: url of nowhere"):
            open_desk(with_(settings, chat_models=(ChatModelEntry(name="nowhere"),)), stack)


async def test_a_model_of_inference_is_opened_as_set(settings, models, embedder):
    async with AsyncExitStack() as stack:
        without = open_checker(settings, embedder, stack)
        assert await without.inference(["Tea is free."], "Tea is free.") is None
        chosen = with_(settings, entailment_url=models.url, entailment_api_key=SecretStr("k"))
        found = await open_checker(chosen, embedder, stack).inference(["Tea is free."], "Tea is free.")
        assert (found.entailment, found.contradiction) == (1, 0)
        assert models.predictions[0].headers["authorization"] == "Bearer k"


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
        assert isinstance(services.models.offers[0].model, OllamaChat)
    async with open_services(with_(settings, chat_provider="none")) as services:
        assert services.models.offers == ()


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
        [offer] = services.models.offers
        assert (offer.name, offer.cites, offer.room.places) == ("smollm2-135m-instruct", False, 2)
        chat = await services.models.of(new_user_id())
        async with aclosing(chat.stream([Message("user", "Say hello.")], max_tokens=8)) as pieces:
            assert "".join([piece async for piece in pieces])


async def test_the_next_model_is_opened_beside_the_live_one(settings, models, models_dir):
    coming = with_(settings, embedding_next_provider="ollama", embedding_next_url=models.url)
    with pytest.raises(SetupError, match="RINGFENCE_EMBEDDING_NEXT_MODEL"):
        embedding_names(coming)
    coming = with_(coming, embedding_next_model="next")
    assert embedding_names(settings) == ["openai/hash"]
    assert embedding_names(coming) == ["openai/hash", "ollama/next"]
    assert embedding_names(with_(coming, embedding_provider="embedded")) == ["all-minilm-l6-v2", "ollama/next"]
    async with open_services(coming) as services:
        assert services.search._models.newest.name == "ollama/next"
    transport = require_smtp(with_(settings, smtp_host="localhost"))
    with capture_logs() as logs:
        async with open_handlers(coming, transport) as work:
            assert "reembed" in work.handlers
    assert "next_model_cuts_chunks" not in {entry["event"] for entry in logs}
    short = with_(settings, embedding_next_provider="embedded", models_dir=models_dir, chunk_tokens=300)
    with capture_logs() as logs:
        async with open_handlers(short, transport):
            pass
    [warning] = [entry for entry in logs if entry["event"] == "next_model_cuts_chunks"]
    assert (warning["reads"], warning["chunks"]) == (256, 300)


async def test_a_next_model_of_the_same_name_is_refused(settings, models):
    same = with_(
        settings, embedding_next_provider="openai", embedding_next_url=models.openai_url, embedding_next_model="hash"
    )
    with pytest.raises(SetupError, match="same_model"):
        async with open_services(same):
            pass


async def test_a_job_that_is_parked_is_noted_in_the_log(settings):
    job = Job(new_user_id(), 1, "mail", "{}", 5, uuid4())
    async with open_handlers(settings, require_smtp(with_(settings, smtp_host="localhost"))) as work:
        with capture_logs() as logs:
            await work.handlers["mail"].give_up(job, "mail_refused", "No such mailbox.")
    assert logs == [{"event": "job_parked", "kind": "mail", "code": "mail_refused", "log_level": "error"}]


async def test_a_bucket_needs_its_name_and_is_looked_for_at_the_start(settings, s3):
    chosen = with_(settings, storage="s3", s3_endpoint=s3.url)
    with pytest.raises(SetupError, match="RINGFENCE_S3_BUCKET"):
        await open_storage(chosen)
    keys = {"s3_access_key_id": "key", "s3_secret_access_key": SecretStr("secret")}
    for name, value in keys.items():
        with pytest.raises(SetupError, match="setting_missing: Set RINGFENCE_S3_"):
            await open_storage(with_(chosen, s3_bucket=s3.name, **{name: value}))
    for opened in (open_services, open_handlers):
        arguments = (require_smtp(with_(settings, smtp_host="x")),) if opened is open_handlers else ()
        with pytest.raises(SetupError, match="bucket_missing: There is no bucket nowhere"):
            async with opened(with_(chosen, s3_bucket="nowhere", **keys), *arguments):
                raise AssertionError
    assert await open_storage(with_(chosen, s3_bucket=s3.name, **keys))


async def test_a_worker_gets_a_handler_for_each_kind_of_job(settings):
    async with open_handlers(settings, require_smtp(with_(settings, smtp_host="localhost"))) as work:
        assert set(work.handlers) == {
            "ingest", "replace", "purge", "erase", "store", "index", "mail", "delete_account", "evaluate", "reembed",
            "forget_vectors", "retitle",
        }  # fmt: skip


@pytest.mark.parametrize("ocr", ["auto", "off"])
async def test_text_recognition_is_looked_for_unless_it_is_off(settings, ocr):
    with capture_logs() as logs:
        async with open_handlers(with_(settings, ocr=ocr), require_smtp(with_(settings, smtp_host="localhost"))):
            pass
    assert ("text_recognition" in {log["event"] for log in logs}) == (ocr == "auto")


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
    monkeypatch.setenv("RINGFENCE_CHUNK_TOKENS", "64")
    monkeypatch.setenv("RINGFENCE_CHUNK_OVERLAP_TOKENS", "40")
    with pytest.raises(SetupError, match="RINGFENCE_CHUNK_OVERLAP_TOKENS"):
        load_settings()


async def test_an_engine_does_not_start_on_a_schema_that_is_behind(settings, admin):
    await admin.execute("insert into migrations (name, sha256) values ('9999_newer.sql', '')")
    with capture_logs() as logs:
        async with open_services(settings):
            pass
    assert [log["migrations"] for log in logs if log["event"] == "schema_is_newer"] == [["9999_newer.sql"]]
    await admin.execute("delete from migrations where name = '0001_initial.sql'")
    with pytest.raises(SetupError, match="not_migrated"):
        async with open_services(settings):
            pass

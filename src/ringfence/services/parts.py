"""What the API, workers and operators' commands have in common: secrets, URLs, storage, database, models."""

import os
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from pydantic import SecretStr

from ringfence import migrations
from ringfence.accounts.keyring import KeyRing
from ringfence.accounts.tokens import LEEWAY_SECONDS
from ringfence.answers.checking import Checker
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.documents.service import Library
from ringfence.embedded.weights import Weights
from ringfence.errors import SetupError
from ringfence.keys import Purpose, derive, derive_password
from ringfence.limits import Quota, Quotas
from ringfence.mail import FolderTransport, Mail, SmtpTransport, Transport
from ringfence.models.base import Embedder, Reranker
from ringfence.models.batches import BatchLimits
from ringfence.models.entailment import TeiEntailment
from ringfence.models.http import Timeouts
from ringfence.models.minilm import MiniLM
from ringfence.models.ollama import OllamaEmbedder
from ringfence.models.openai import OpenAIEmbedder
from ringfence.models.rerank import CohereReranker, TeiReranker
from ringfence.models.tokens import Tokens
from ringfence.search.rerank import Reranking
from ringfence.search.tiers import Tiers
from ringfence.setting_types import Provider
from ringfence.settings import Settings
from ringfence.storage.base import Storage
from ringfence.storage.local import LocalStorage
from ringfence.storage.s3 import Bucket, S3Storage

log = structlog.get_logger()

EMBEDDING_WEIGHTS = "all-minilm-l6-v2"


def require_secret(settings: Settings) -> str:
    """The installation's secret.

    Raises:
        SetupError: there is none.
    """
    if settings.secret_key is None:
        raise SetupError(
            "secret_missing",
            "Set RINGFENCE_SECRET_KEY to 32 or more random characters (`openssl rand -base64 48`): the engine signs "
            "its tokens with a key made from it.",
        )
    return settings.secret_key.get_secret_value()


def require_smtp(settings: Settings) -> Transport:
    """The mail server.

    Raises:
        SetupError: there is none.
    """
    if settings.smtp_host is None:
        raise SetupError("smtp_missing", "Set RINGFENCE_SMTP_HOST: people get their one-time codes by mail.")
    return SmtpTransport(
        settings.smtp_host,
        settings.smtp_port,
        tls=settings.smtp_tls,
        username=settings.smtp_username,
        password=plain(settings.smtp_password),
        timeout=settings.smtp_timeout,
        sender=settings.mail_from,
    )


def mail_folder_transport(folder: Path, echo: Callable[[Mail], None]) -> Transport:
    """Development's mail: into a folder and onto the terminal."""
    return FolderTransport(folder, echo)


def local_secret(data_dir: Path) -> SecretStr:
    """The secret of a data folder, made at first use and readable by its owner alone."""
    path = data_dir / "secret_key"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48))
        with suppress(FileExistsError):  # another process was faster: its secret holds
            path.hardlink_to(fresh)
        fresh.unlink()
    return SecretStr(path.read_text(encoding="ascii").strip())


def role_passwords(settings: Settings) -> tuple[str, str]:
    """The passwords of the app's and the system role, derived from the installation's secret."""
    secret = require_secret(settings)
    return derive_password(secret, Purpose.APP_ROLE), derive_password(secret, Purpose.SYSTEM_ROLE)


def admin_url(settings: Settings) -> str:
    """The administrator's URL.

    Raises:
        SetupError: there is none.
    """
    if settings.database_url is None:
        raise SetupError("database_missing", "Set RINGFENCE_DATABASE_URL to an administrator's PostgreSQL URL.")
    return settings.database_url.get_secret_value()


def database_urls(settings: Settings) -> tuple[str, str]:
    """The URLs of the app's and the system role: as set, or derived from the administrator's.

    Raises:
        SetupError: neither is there.
    """
    app, system = plain(settings.app_database_url), plain(settings.system_database_url)
    if app and system:
        return app, system
    admin = plain(settings.database_url)
    if admin is None:
        raise SetupError("database_missing", "Set RINGFENCE_DATABASE_URL, or use `ringfence run`.")
    app_password, system_password = role_passwords(settings)
    return app or role_url(admin, APP_ROLE, app_password), system or role_url(admin, SYSTEM_ROLE, system_password)


async def open_storage(settings: Settings) -> Storage:
    """Where files are kept, checked.

    Raises:
        SetupError, Unavailable: `setting_missing`, or as `Storage.check`.
    """
    storage = make_storage(settings)
    await storage.check()
    return storage


def make_storage(settings: Settings) -> Storage:
    """Where files are kept, not looked at yet.

    Raises:
        SetupError: `setting_missing`.
    """
    if settings.storage == "local":
        return LocalStorage(settings.data_dir / "files")
    key, secret = settings.s3_access_key_id, plain(settings.s3_secret_access_key)
    bucket = Bucket(
        required(settings.s3_bucket, "S3_BUCKET"),
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key_id=required(key, "S3_ACCESS_KEY_ID") if secret else None,
        secret_access_key=required(secret, "S3_SECRET_ACCESS_KEY") if key else None,
        prefix=settings.s3_prefix,
        timeout=settings.s3_timeout,
    )
    return S3Storage(bucket, settings.data_dir / "scratch", utc_now)


def make_library(settings: Settings, db: Database, storage: Storage) -> Library:
    """The documents of tenants, within their quotas."""
    return Library(
        db,
        storage,
        settings.upload_max_bytes,
        default_quotas(settings),
        password_key=derive(require_secret(settings), Purpose.DOCUMENT_PASSWORDS),
        trash=timedelta(hours=settings.trash_hours),
        now=utc_now,
    )


def default_quotas(settings: Settings) -> Quotas:
    """How much each user may keep and ask, unless an operator said otherwise."""
    return Quotas(Quota(settings.quota_documents, settings.quota_bytes, settings.quota_questions_per_day))


def make_tiers(settings: Settings) -> Tiers:
    """Where the limit is between small and large tenants."""
    return Tiers(settings.promote_at, settings.demote_at, settings.promoted_most, settings.ef_search)


def make_key_ring(settings: Settings, db: Database, now: Callable[[], datetime]) -> KeyRing:
    """The keys that sign access tokens."""
    return KeyRing(
        db,
        derive(require_secret(settings), Purpose.SIGNING_KEYS),
        max_age=timedelta(days=settings.signing_key_days),
        keep=timedelta(seconds=settings.access_token_seconds + LEEWAY_SECONDS),
        now=now,
    )


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def plain(secret: SecretStr | None) -> str | None:
    """A secret as it is sent."""
    return secret.get_secret_value() if secret else None


async def open_database(settings: Settings, stack: AsyncExitStack, *, request: bool) -> Database:
    """The database, connected and checked; the stack closes it.

    Args:
        settings: where it is.
        stack: of whoever opens the services.
        request: whether a person waits; else statements may take twenty times as long.

    Raises:
        SetupError: a role is unsafe or refused, or the schema is behind this engine.
        Unavailable: it can't be reached.
    """
    app, system = database_urls(settings)
    options = DatabaseOptions(
        settings.db_pool_size,
        settings.db_connect_timeout,
        settings.db_command_timeout if request else settings.db_command_timeout * 20,
        settings.db_statement_cache,
    )
    db = Database(app, system, options)
    stack.push_async_callback(db.close)
    await db.open()
    async with db.system() as tx:
        if newer := await migrations.check(tx):  # a rolling upgrade: the schema goes first, and bears old processes
            log.info("schema_is_newer", migrations=newer)
    return db


def timeouts(settings: Settings) -> Timeouts:
    """The limits of each request to a model server."""
    return Timeouts(
        settings.model_connect_timeout,
        settings.model_first_token_timeout,
        settings.model_token_timeout,
        settings.model_total_timeout,
    )


def required(value: str | None, name: str) -> str:
    """A setting's value.

    Raises:
        SetupError: `setting_missing`.
    """
    if not value:
        raise SetupError("setting_missing", f"Set RINGFENCE_{name}: what you chose needs it.")
    return value


@dataclass(frozen=True, slots=True)
class _EmbeddingSettings:
    """Where one embedding model is; `prefix` is how its settings are named."""

    prefix: str
    provider: Provider
    url: str | None
    api_key: SecretStr | None
    model: str | None
    tokenizer: Path | None
    languages: str | None

    @property
    def name(self) -> str:
        """As the embedder's own, without opening it."""
        if self.provider == "embedded":
            return EMBEDDING_WEIGHTS
        return f"{self.provider}/{required(self.model, f'{self.prefix}_MODEL')}"


def _embedding_settings(settings: Settings) -> list[_EmbeddingSettings]:
    found = [
        _EmbeddingSettings(
            "EMBEDDING",
            settings.embedding_provider,
            settings.embedding_url,
            settings.embedding_api_key,
            settings.embedding_model,
            settings.embedding_tokenizer,
            settings.embedding_languages,
        )
    ]
    if settings.embedding_next_provider:
        found.append(
            _EmbeddingSettings(
                "EMBEDDING_NEXT",
                settings.embedding_next_provider,
                settings.embedding_next_url,
                settings.embedding_next_api_key,
                settings.embedding_next_model,
                settings.embedding_next_tokenizer,
                settings.embedding_next_languages,
            )
        )
    return found


def embedding_names(settings: Settings) -> list[str]:
    """The names of the embedding models that are set up: the installation's, and the one that is to take its place.

    Raises:
        SetupError: a setting is missing, or both have the same name, by which their vectors would be mixed.
    """
    names = [one.name for one in _embedding_settings(settings)]
    if len(set(names)) < len(names):
        raise SetupError(
            "same_model", f"RINGFENCE_EMBEDDING_* and RINGFENCE_EMBEDDING_NEXT_* both name the model {names[0]}."
        )
    return names


@dataclass(frozen=True, slots=True)
class Embedders:
    """What makes vectors: of the installation's model, and of the one that is to take its place, if there is one."""

    main: Embedder
    coming: Embedder | None = None


def open_embedders(settings: Settings, stack: AsyncExitStack) -> Embedders:
    """What makes vectors; the stack closes it.

    Raises:
        SetupError: a setting or the weights are missing, or as of `embedding_names`.
    """
    embedding_names(settings)
    return Embedders(*[_open_embedder(settings, one, stack) for one in _embedding_settings(settings)])


def _open_embedder(settings: Settings, one: _EmbeddingSettings, stack: AsyncExitStack) -> Embedder:
    embedder: Embedder
    if one.provider == "embedded":
        files = Weights(settings.models_dir).paths(EMBEDDING_WEIGHTS)
        embedder = MiniLM(files["model.safetensors"], files["tokenizer.json"])
    else:
        kind = OllamaEmbedder if one.provider == "ollama" else OpenAIEmbedder
        embedder = kind(
            required(one.url, f"{one.prefix}_URL"),
            required(one.model, f"{one.prefix}_MODEL"),
            limits=BatchLimits(settings.embedding_batch_texts, settings.embedding_batch_tokens),
            ruler=Tokens(one.tokenizer) if one.tokenizer else None,
            languages=frozenset(one.languages.split(",")) if one.languages else None,
            api_key=plain(one.api_key),
            timeouts=timeouts(settings),
        )
    stack.push_async_callback(embedder.close)
    return embedder


def open_reranking(settings: Settings, stack: AsyncExitStack) -> Reranking:
    """The step behind a search; the stack closes its reranker, if there is one.

    Raises:
        SetupError: a setting is missing.
    """
    reranker: Reranker | None = None
    if settings.rerank_provider != "none":
        timeout = settings.rerank_timeout
        limits = Timeouts(min(settings.model_connect_timeout, timeout), timeout, timeout, timeout)
        url, key = required(settings.rerank_url, "RERANK_URL"), plain(settings.rerank_api_key)
        if settings.rerank_provider == "cohere":
            model = required(settings.rerank_model, "RERANK_MODEL")
            reranker = CohereReranker(url, model, api_key=key, timeouts=limits)
        else:
            reranker = TeiReranker(url, settings.rerank_model or "tei", api_key=key, timeouts=limits)
        stack.push_async_callback(reranker.close)
    return Reranking(reranker, candidates=settings.rerank_candidates, timeout=settings.rerank_timeout)


def open_checker(settings: Settings, embedder: Embedder, stack: AsyncExitStack) -> Checker:
    """What checks answers; the stack closes its model, if there is one.

    Raises:
        SetupError: a setting can't be used.
    """
    entailment: TeiEntailment | None = None
    if settings.entailment_url:
        timeout = settings.check_timeout
        limits = Timeouts(min(settings.model_connect_timeout, timeout), timeout, timeout, timeout)
        key = plain(settings.entailment_api_key)
        entailment = TeiEntailment(settings.entailment_url, api_key=key, timeouts=limits)
        stack.push_async_callback(entailment.close)
    return Checker(embedder, entailment, timeout=settings.check_timeout)

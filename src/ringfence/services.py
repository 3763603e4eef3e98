"""The composition root: settings → services. Nothing is built at import; whoever opens the services closes them."""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from pydantic import SecretStr

from ringfence import mail
from ringfence.accounts.passwords import Passwords
from ringfence.accounts.service import Accounts
from ringfence.accounts.tokens import AccessTokens
from ringfence.answers.service import Answers
from ringfence.db import APP_ROLE, SYSTEM_ROLE, Database, DatabaseOptions, role_url
from ringfence.documents.ingest import Ingestion
from ringfence.documents.parsing.sandbox import Limits, Sandbox
from ringfence.documents.service import ERASE, INGEST, Library
from ringfence.embedded.llama import LlamaServer
from ringfence.embedded.weights import Weights
from ringfence.errors import SetupError
from ringfence.jobs import Handler, Job
from ringfence.keys import Purpose, derive, derive_password
from ringfence.mail import FolderTransport, Mail, Outbox, SmtpTransport, Transport
from ringfence.models.base import ChatModel, Embedder, Message
from ringfence.models.http import Timeouts
from ringfence.models.minilm import MiniLM
from ringfence.models.ollama import OllamaChat, OllamaEmbedder
from ringfence.models.openai import OpenAIChat, OpenAIEmbedder
from ringfence.search.service import Search
from ringfence.settings import Settings
from ringfence.storage import LocalStorage

log = structlog.get_logger()

EMBEDDING_WEIGHTS = "all-minilm-l6-v2"
_CHAT_WEIGHTS = "qwen2.5-coder-1.5b-instruct-q4_k_m"
_EMBEDDED_PASSAGE_TOKENS = 500
_EMBEDDED_CONTEXT = 4096  # passages, question and answer need half of it; each token of context costs memory
_PASSAGE_TOKENS = 3000


@dataclass(frozen=True, slots=True)
class Services:
    """What the doors hand requests to."""

    db: Database
    accounts: Accounts
    tokens: AccessTokens
    library: Library
    search: Search
    answers: Answers


def chat_weights(settings: Settings) -> str:
    """The name of the embedded chat model: as set, or the default."""
    return settings.chat_model or _CHAT_WEIGHTS


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
        password=_plain(settings.smtp_password),
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


def database_urls(settings: Settings) -> tuple[str, str]:
    """The URLs of the app's and the system role: as set, or derived from the administrator's.

    Raises:
        SetupError: neither is there.
    """
    app, system = _plain(settings.app_database_url), _plain(settings.system_database_url)
    if app and system:
        return app, system
    admin = _plain(settings.database_url)
    if admin is None:
        raise SetupError("database_missing", "Set RINGFENCE_DATABASE_URL, or use `ringfence run`.")
    app_password, system_password = role_passwords(settings)
    return app or role_url(admin, APP_ROLE, app_password), system or role_url(admin, SYSTEM_ROLE, system_password)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncGenerator[Services]:
    """All that the API needs, checked: it refuses unsafe database roles, and missing settings or weights.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    secret = require_secret(settings)
    async with AsyncExitStack() as stack:
        db = await _open_database(settings, stack, request=True)
        embedder = _open_embedder(settings, stack)
        chat = await _open_chat(settings, stack)
        passwords = Passwords(settings.bcrypt_cost)
        stack.callback(passwords.close)
        issuer = settings.public_url or "ringfence"
        tokens = AccessTokens(secret, issuer, settings.access_token_seconds, _now)
        search = Search(db, embedder)
        yield Services(
            db=db,
            accounts=Accounts(
                db,
                passwords,
                tokens,
                code_key=derive(secret, Purpose.ONE_TIME_CODES),
                mail_key=derive(secret, Purpose.MAIL),
                code_seconds=settings.code_seconds,
                now=_now,
            ),
            tokens=tokens,
            library=Library(db, LocalStorage(settings.data_dir / "files"), settings.upload_max_bytes),
            search=search,
            answers=Answers(
                search,
                chat,
                passage_tokens=settings.passage_tokens or _default_passage_tokens(settings),
                answer_tokens=settings.answer_tokens,
                relevance_floor=settings.relevance_floor,
                mark=settings.chat_provider == "embedded",
            ),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker needs: the queue's database, and what runs each kind of job."""

    db: Database
    handlers: dict[str, Handler]


@asynccontextmanager
async def open_handlers(settings: Settings, transport: Transport) -> AsyncGenerator[Work]:
    """All that a worker needs: the database, and what runs each kind of job.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    secret = require_secret(settings)
    async with AsyncExitStack() as stack:
        db = await _open_database(settings, stack, request=False)
        embedder = _open_embedder(settings, stack)
        storage = LocalStorage(settings.data_dir / "files")
        limits = Limits(
            cpu_seconds=settings.parse_cpu_seconds,
            wall_seconds=settings.parse_wall_seconds,
            memory_bytes=settings.parse_memory_bytes,
            max_pages=settings.parse_max_pages,
            max_chars=settings.parse_max_chars,
        )
        sandbox = await stack.enter_async_context(Sandbox(processes=settings.parse_processes, limits=limits))
        ingestion = Ingestion(
            db,
            storage,
            sandbox,
            embedder,
            chunk_chars=settings.chunk_chars,
            chunk_overlap=settings.chunk_overlap,
        )
        library = Library(db, storage, settings.upload_max_bytes)
        await asyncio.to_thread(storage.sweep)
        outbox = Outbox(derive(secret, Purpose.MAIL), transport)
        handlers = {
            INGEST: Handler(ingestion.run, ingestion.give_up),
            ERASE: Handler(lambda job: library.erase(job.user_id, job.payload), _note, timedelta(days=7)),
            mail.KIND: Handler(
                lambda job: outbox.deliver(job.payload), _note, timedelta(seconds=settings.code_seconds)
            ),
        }
        yield Work(db, handlers)


async def _note(job: Job, code: str, _reason: str) -> None:
    log.error("job_parked", kind=job.kind, code=code)


def _now() -> datetime:
    return datetime.now(UTC)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _default_passage_tokens(settings: Settings) -> int:
    return _EMBEDDED_PASSAGE_TOKENS if settings.chat_provider == "embedded" else _PASSAGE_TOKENS


async def _open_database(settings: Settings, stack: AsyncExitStack, *, request: bool) -> Database:
    app, system = database_urls(settings)
    options = DatabaseOptions(
        settings.db_pool_size,
        settings.db_connect_timeout,
        # A worker's bulk inserts may take their time; a person does not wait.
        settings.db_command_timeout if request else settings.db_command_timeout * 20,
        settings.db_statement_cache,
    )
    db = Database(app, system, options)
    stack.push_async_callback(db.close)
    await db.open()
    return db


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        settings.model_connect_timeout,
        settings.model_first_token_timeout,
        settings.model_token_timeout,
        settings.model_total_timeout,
    )


def _required(value: str | None, name: str) -> str:
    if not value:
        raise SetupError("setting_missing", f"Set RINGFENCE_{name}: the chosen provider needs it.")
    return value


def _open_embedder(settings: Settings, stack: AsyncExitStack) -> Embedder:
    embedder: Embedder
    if settings.embedding_provider == "embedded":
        files = Weights(settings.models_dir).paths(EMBEDDING_WEIGHTS)
        embedder = MiniLM(files["model.safetensors"], files["tokenizer.json"])
    else:
        kind = OllamaEmbedder if settings.embedding_provider == "ollama" else OpenAIEmbedder
        embedder = kind(
            _required(settings.embedding_url, "EMBEDDING_URL"),
            _required(settings.embedding_model, "EMBEDDING_MODEL"),
            api_key=_plain(settings.embedding_api_key),
            timeouts=_timeouts(settings),
        )
    stack.push_async_callback(embedder.close)
    return embedder


async def _open_chat(settings: Settings, stack: AsyncExitStack) -> ChatModel | None:
    chat: ChatModel
    if settings.chat_provider == "none":
        return None
    if settings.chat_provider == "embedded":
        name = chat_weights(settings)
        path = Weights(settings.models_dir).paths(name)["model.gguf"]
        chat = EmbeddedChat(name, LlamaServer(path, context=_EMBEDDED_CONTEXT), settings)
    else:
        kind = OllamaChat if settings.chat_provider == "ollama" else OpenAIChat
        chat = kind(
            _required(settings.chat_url, "CHAT_URL"),
            _required(settings.chat_model, "CHAT_MODEL"),
            context_tokens=settings.chat_context_tokens,
            api_key=_plain(settings.chat_api_key),
            timeouts=_timeouts(settings),
        )
    stack.push_async_callback(chat.close)
    return chat


class EmbeddedChat:
    """The embedded chat model. Its server starts beside, so that the API is up at once, and anew where it has died."""

    def __init__(self, name: str, server: LlamaServer, settings: Settings) -> None:
        self._name = name
        self._server = server
        self._settings = settings
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> OpenAIChat:
        await self._server.__aexit__(None, None, None)
        await self._server.__aenter__()
        return OpenAIChat(
            self._server.url,
            self.name,
            context_tokens=self.context_tokens,
            api_key=self._server.api_key,
            reuse=False,
            timeouts=_timeouts(self._settings),
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """How many tokens the prompt and the answer may have together."""
        return _EMBEDDED_CONTEXT

    async def stream(self, messages: Sequence[Message], *, max_tokens: int) -> AsyncGenerator[str]:
        """As the protocol says; an answer waits for the server's start, and starts it again if it failed or died."""
        if self._starting.done() and (self._starting.exception() or not self._server.alive):
            self._starting = asyncio.create_task(self._start())
        chat = await asyncio.shield(self._starting)
        async with aclosing(chat.stream(messages, max_tokens=max_tokens)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Stop the server."""
        if self._starting.done() and not self._starting.exception():
            await self._starting.result().close()
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        await self._server.__aexit__(None, None, None)

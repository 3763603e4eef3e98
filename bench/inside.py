"""A whole engine inside this process: embedded PostgreSQL, services, a worker; tenants that are made without mail."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from ringfence.answers.models import Models
from ringfence.answers.service import Answers
from ringfence.cli.local import with_database
from ringfence.embedded.llama import LlamaServer
from ringfence.embedded.weights import Weights
from ringfence.embedded_chat import EmbeddedChat
from ringfence.ids import UserId, new_user_id
from ringfence.models.base import ChatModel, Message, Spent
from ringfence.models.desk import Desk, Offer
from ringfence.models.http import Timeouts
from ringfence.models.line import Room
from ringfence.services import Services, chat_weights, mail_folder_transport, open_handlers, open_services
from ringfence.services.chat_models import open_desk
from ringfence.settings import Settings
from ringfence.worker import Worker

_USER = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, '', now())"
_LEFT = "select count(*) from documents where user_id = $1 and state in ('queued', 'processing')"
_FAILED = "select name, reason_code from documents where user_id = $1 and state <> 'ready'"


class Heard:
    """A chat model, and what it wrote last."""

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat
        self.name = chat.name
        self.context_tokens = chat.context_tokens
        self.wrote = ""
        self.rules = ""

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int, spent: Spent | None = None
    ) -> AsyncGenerator[str]:
        self.wrote, self.rules = "", messages[0].content
        async for piece in self._chat.stream(messages, max_tokens=max_tokens, spent=spent):
            self.wrote += piece
            yield piece

    async def close(self) -> None:
        await self._chat.close()


@dataclass(frozen=True)
class Inside:
    """An engine."""

    settings: Settings
    services: Services
    chat: Heard | None
    admin: Any

    async def tenant(self) -> UserId:
        user_id = new_user_id()
        await self.admin.execute(_USER, user_id, f"{user_id}@example.org")
        return user_id

    async def upload(self, user_id: UserId, files: Sequence[tuple[str, bytes]]) -> None:
        """Upload files, and wait until all of them are ready."""
        for name, data in files:
            async with self.services.library.receive(user_id) as incoming:
                await incoming.write(data)
                await self.services.library.add(user_id, name, incoming)
        while await self.admin.fetchval(_LEFT, user_id):  # noqa: ASYNC110  # a worker sets no event
            await asyncio.sleep(0.05)
        if failed := await self.admin.fetch(_FAILED, user_id):
            raise RuntimeError(f"not ingested: {failed}")

    def answers(self, *, mark: bool, answer_tokens: int) -> Answers:
        """What answers; `mark`: as with the embedded model, where the engine cites; else the model is asked to."""
        services, settings = self.services, self.settings
        passage_tokens = settings.passage_tokens or 500
        offers = []
        if self.chat:
            room = Room(places=1, seconds=3600)
            chosen = Offer(
                name=self.chat.name,
                model=self.chat,
                server="bench",
                room=room,
                cites=not mark,
                passage_tokens=passage_tokens,
            )
            offers = [chosen]
        return Answers(
            services.search,
            Models(services.db, Desk(offers)),
            services.history,
            services.questions,
            passage_tokens=passage_tokens,
            answer_tokens=answer_tokens,
            relevance_floor=settings.relevance_floor,
            rewrite_timeout=120,
        )


@asynccontextmanager
async def opened(**given: object) -> AsyncGenerator[Inside]:
    """An engine with settings (`chat_provider="none"`: nobody writes), while the context lasts."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ringfence-bench-")))
        wanted = Settings(
            data_dir=folder,
            database_url=None,
            quota_questions_per_day=0,
            model_first_token_timeout=600,
            model_token_timeout=120,
            model_total_timeout=1200,
            **given,
        )
        settings = await with_database(wanted, stack)
        assert settings.database_url is not None
        admin = await asyncpg.connect(settings.database_url.get_secret_value())
        stack.push_async_callback(admin.close)
        chat = _chat(settings, stack)
        bare = settings.model_copy(update={"chat_provider": "none"})
        services = await stack.enter_async_context(open_services(bare))
        transport = mail_folder_transport(folder / "mail", lambda _: None)
        work = await stack.enter_async_context(open_handlers(bare, transport, ready=False))
        worker = asyncio.create_task(Worker(work.db, work.handlers, slots=2, lease=120, poll=0.2).run())
        try:
            yield Inside(settings, services, Heard(chat) if chat else None, admin)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


def _chat(settings: Settings, stack: AsyncExitStack) -> ChatModel | None:
    """As the settings have it; the embedded one on one thread: several would wait for each other on a busy machine."""
    if settings.chat_provider != "embedded":
        return next((offer.model for offer in open_desk(settings, stack).offers), None)
    name = chat_weights(settings)
    path = Weights(settings.models_dir).paths(name)["model.gguf"]
    server = LlamaServer(path, context=4096, parallel=1, threads=1)
    chat = EmbeddedChat(name, server, context_tokens=4096, timeouts=Timeouts(3, 600, 120, 1200))
    stack.push_async_callback(chat.close)
    return chat


class Clock:
    """Says how long what was begun took."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._began

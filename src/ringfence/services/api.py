"""All that the API needs."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from ringfence.accounts.audit import AuditLog
from ringfence.accounts.composition import AccountOptions, AccountServices, account_services
from ringfence.accounts.keyring import KeyRing
from ringfence.answers.checking import Checker
from ringfence.answers.history import History
from ringfence.answers.models import Ledger, Models
from ringfence.answers.questions import Questions
from ringfence.answers.service import Answers
from ringfence.chats.asking import Asking
from ringfence.chats.exported import ExportedChat, ExportedMessage, traces_list
from ringfence.chats.service import Chats
from ringfence.db import Database
from ringfence.documents.collections import Collections
from ringfence.documents.looking import Looking, Turns
from ringfence.documents.parsing.sandbox import Limits, Sandbox
from ringfence.documents.progress import Progress
from ringfence.documents.service import Library
from ringfence.documents.versions import Versions
from ringfence.documents.watching import Watch
from ringfence.evaluation.service import Evaluations
from ringfence.export import (
    Export,
    ExportedAnswer,
    ExportedApiKey,
    ExportedCollection,
    ExportedEvent,
    ExportedModelUsage,
    ExportedSession,
    List,
    evaluations_list,
    one_page,
    pages,
    usage,
)
from ringfence.keys import Purpose, derive
from ringfence.lexical import languages
from ringfence.limits import Gate, Rate, RateLimits, rate
from ringfence.models.base import Embedder
from ringfence.search.followups import FollowUps
from ringfence.search.service import Search
from ringfence.services.chat_models import open_desk, passage_tokens
from ringfence.services.parts import (
    default_quotas,
    make_key_ring,
    make_library,
    make_tiers,
    open_checker,
    open_database,
    open_embedders,
    open_reranking,
    open_storage,
    require_secret,
    utc_now,
)
from ringfence.settings import Settings
from ringfence.storage.base import Storage

_EXPORTS = Rate("export", 5, 3600)


@dataclass(frozen=True, slots=True)
class Services:
    """What the doors hand requests to."""

    db: Database
    people: AccountServices
    export: Export
    audit: AuditLog
    keys: KeyRing
    library: Library
    looking: Looking
    versions: Versions
    collections: Collections
    progress: Progress
    search: Search
    embedder: Embedder
    follow_ups: FollowUps
    models: Models
    ledger: Ledger
    answers: Answers
    history: History
    chats: Chats
    asking: Asking
    questions: Questions
    evaluations: Evaluations
    networks: Gate


@asynccontextmanager
async def open_services(settings: Settings, *, now: Callable[[], datetime] = utc_now) -> AsyncGenerator[Services]:
    """All that the API needs, checked: it refuses unsafe database roles, and missing settings or weights.

    Args:
        settings: of this process.
        now: the clock of accounts, limits and quotas.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    secret = require_secret(settings)
    async with AsyncExitStack() as stack:
        db = await open_database(settings, stack, request=True)
        embedders = open_embedders(settings, stack)
        ledger = Ledger(db, now=now)
        stack.push_async_callback(ledger.close)
        models = Models(db, open_desk(settings, stack, ledger.enter))
        keys = make_key_ring(settings, db, now)
        limits = RateLimits(derive(secret, Purpose.LIMITS), now)
        people = stack.enter_context(account_services(db, secret, keys, limits, _account_options(settings), now=now))
        library = make_library(settings, db, storage := await open_storage(settings))
        collections = Collections(db)
        search = Search(
            db, embedders.main, open_reranking(settings, stack), make_tiers(settings), coming=embedders.coming
        )
        await asyncio.to_thread(languages.warm_up)
        watch = Watch(db)
        history = History(db)
        evaluations = _evaluations(settings, db, limits)
        audit = AuditLog(db)
        questions = Questions(db, default_quotas(settings), now=now)
        follow_ups = FollowUps(search, timeout=settings.rewrite_timeout)
        checker = open_checker(settings, embedders.main, stack)
        answers = _answers(settings, search, models, history, questions, checker=checker)
        chats = Chats(db)
        asking = Asking(db, answers, follow_ups, grace=settings.resume_seconds)
        stack.push_async_callback(history.close)
        stack.push_async_callback(watch.close)
        stack.push_async_callback(asking.close)
        yield Services(
            db=db,
            people=people,
            export=Export(
                people.accounts,
                library,
                _exported(people, library, collections, history, ledger, models, chats, questions, evaluations, audit),
                Gate(db, limits, _EXPORTS),
                now=now,
            ),
            audit=audit,
            keys=keys,
            library=library,
            looking=_looking(settings, library, storage, stack),
            versions=Versions(db, library),
            collections=collections,
            progress=Progress(db, watch),
            search=search,
            follow_ups=follow_ups,
            models=models,
            ledger=ledger,
            answers=answers,
            embedder=embedders.main,
            history=history,
            chats=chats,
            asking=asking,
            questions=questions,
            evaluations=evaluations,
            networks=Gate(db, limits, rate("network", settings.network_requests_per_hour, 3600)),
        )


def _account_options(settings: Settings) -> AccountOptions:
    return AccountOptions(
        bcrypt_cost=settings.bcrypt_cost,
        issuer=settings.public_url or "ringfence",
        access_token_seconds=settings.access_token_seconds,
        session_days=settings.session_days,
        code_seconds=settings.code_seconds,
        requests_per_minute=settings.requests_per_minute,
    )


def _evaluations(settings: Settings, db: Database, limits: RateLimits) -> Evaluations:
    gate = Gate(db, limits, rate("evaluations", settings.evaluations_per_hour, 3600))
    return Evaluations(db, gate, max_questions=settings.evaluation_max_questions)


def _answers(
    settings: Settings,
    search: Search,
    models: Models,
    history: History,
    questions: Questions,
    *,
    checker: Checker,
) -> Answers:
    return Answers(
        search,
        models,
        history,
        questions,
        passage_tokens=passage_tokens(settings, settings.chat_provider),
        answer_tokens=settings.answer_tokens,
        relevance_floor=settings.relevance_floor,
        rewrite_timeout=settings.rewrite_timeout,
        checker=checker,
        strict=settings.answer_strict,
    )


def _looking(settings: Settings, library: Library, storage: Storage, stack: AsyncExitStack) -> Looking:
    limits = Limits(
        cpu_seconds=math.ceil(settings.page_seconds),
        wall_seconds=settings.page_seconds,
        memory_bytes=settings.parse_memory_bytes,
        max_pages=settings.parse_max_pages,
    )
    # It starts with the first page that somebody looks at.
    sandbox = Sandbox(processes=settings.page_processes, limits=limits)
    stack.push_async_callback(sandbox.close)
    return Looking(library, storage, sandbox, Turns(settings.page_processes))


def _exported(  # noqa: PLR0917  # all that there is
    people: AccountServices,
    library: Library,
    collections: Collections,
    history: History,
    ledger: Ledger,
    models: Models,
    chats: Chats,
    questions: Questions,
    evaluations: Evaluations,
    audit: AuditLog,
) -> dict[str, List]:
    """What a user may take along; each further kind of rows is a line here and a model in `export.py`."""
    return {
        "sessions.json": one_page(ExportedSession, people.sessions.newest),
        "api-keys.json": one_page(ExportedApiKey, people.api_keys.newest),
        "collections.json": one_page(ExportedCollection, collections.all),
        "answers.json": pages(ExportedAnswer, history.all),
        "model-usage.json": pages(ExportedModelUsage, ledger.all),
        "chats.json": pages(ExportedChat, chats.all),
        "messages.json": pages(ExportedMessage, chats.all_messages),
        "traces.json": traces_list(chats),
        "audit.json": pages(ExportedEvent, audit.all),
        "evaluations.json": evaluations_list(evaluations),
        "usage.json": usage(library, questions, models),
    }

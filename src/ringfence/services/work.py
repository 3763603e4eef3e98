"""All that a worker needs."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from ringfence import mail
from ringfence.accounts import audit_queries, leaving
from ringfence.accounts.audit import pseudonym
from ringfence.accounts.composition import make_post
from ringfence.db import Database, SystemTx
from ringfence.deletion import Deletion, Farewell
from ringfence.documents.ingest import Ingestion
from ringfence.documents.intake import ERASE, STORE
from ringfence.documents.parsing import recognition
from ringfence.documents.parsing.sandbox import Limits, Sandbox
from ringfence.documents.reembed import PATIENCE, REEMBED, Reembedding
from ringfence.documents.renaming import RETITLE, Retitling
from ringfence.documents.service import INGEST, PURGE, REPLACE
from ringfence.documents.vectors import FORGET, PassageVectors
from ringfence.evaluation import service as evaluation
from ringfence.evaluation.finding import SearchWays
from ringfence.ids import UserId
from ringfence.jobs import Handler, Job
from ringfence.keys import Purpose, derive
from ringfence.lexical import service as lexical
from ringfence.mail import Outbox, Transport
from ringfence.models.registry import EmbeddingModels
from ringfence.search.service import Search
from ringfence.services.parts import (
    Embedders,
    make_library,
    open_database,
    open_embedders,
    open_reranking,
    open_storage,
    require_secret,
    utc_now,
)
from ringfence.settings import Settings
from ringfence.upkeep import Upkeep

log = structlog.get_logger()

_MAIL_PATIENCE = timedelta(days=1)
_MAIL_DELAY = timedelta(minutes=1)  # somebody sits and waits for a code


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker needs: the queue's database, what runs each kind of job, and what it does beside."""

    db: Database
    handlers: dict[str, Handler]
    upkeep: Upkeep


def _parser_limits(settings: Settings) -> Limits:
    ocr = None
    if settings.ocr == "auto":
        ocr = recognition.find(settings.ocr_languages, cpu_seconds=settings.ocr_cpu_seconds)
        log.info("text_recognition", languages=ocr.languages if ocr else "none is installed")
    return Limits(
        cpu_seconds=settings.parse_cpu_seconds,
        wall_seconds=settings.parse_wall_seconds,
        memory_bytes=settings.parse_memory_bytes,
        max_pages=settings.parse_max_pages,
        max_chars=settings.parse_max_chars,
        ocr=ocr,
    )


@asynccontextmanager
async def open_handlers(
    settings: Settings, transport: Transport, *, now: Callable[[], datetime] = utc_now, ready: bool = True
) -> AsyncGenerator[Work]:
    """All that a worker needs: the database, and what runs each kind of job.

    Args:
        settings: of this process.
        transport: takes mail.
        now: the clock of mail and upkeep; the queue has the database's.
        ready: whether the parser starts at once, and says if it can't; else with the first document.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    secret = require_secret(settings)
    async with AsyncExitStack() as stack:
        db = await open_database(settings, stack, request=False)
        embedders = open_embedders(settings, stack)
        storage = await open_storage(settings)
        limits = _parser_limits(settings)
        sandbox = Sandbox(processes=settings.parse_processes, limits=limits)
        stack.push_async_callback(sandbox.close)
        if ready:
            await sandbox.start()
        ingestion = Ingestion(
            db,
            storage,
            sandbox,
            embedders.main,
            coming=embedders.coming,
            chunk_tokens=settings.chunk_tokens,
            chunk_overlap_tokens=settings.chunk_overlap_tokens,
            password_key=derive(secret, Purpose.DOCUMENT_PASSWORDS),
            beat=settings.job_lease / 3,  # as the worker's
        )
        library = make_library(settings, db, storage)
        await storage.sweep()
        erase = Handler(lambda job: library.erase(job.user_id, job.payload), _note, timedelta(days=7))
        ways = SearchWays(Search(db, embedders.main, open_reranking(settings, stack), coming=embedders.coming))
        evaluator = evaluation.Evaluator(db, ways, embedding_model=embedders.main.name)
        index, retitling = lexical.LexicalIndex(db), Retitling(db)
        outbox = Outbox(derive(secret, Purpose.MAIL), transport, now)
        post = make_post(db, secret, settings.code_seconds, now=now)
        reembedding = _reembedding(settings, db, embedders)
        handlers = {
            INGEST: Handler(ingestion.run, ingestion.give_up),
            REPLACE: Handler(ingestion.run_replacement, ingestion.give_up_replacement),
            PURGE: Handler(lambda job: library.purge(job.user_id), _note, timedelta(days=30)),
            REEMBED: Handler(reembedding.run, _note, PATIENCE),
            FORGET: Handler(reembedding.forget, _note, PATIENCE),
            ERASE: erase,
            STORE: erase,
            evaluation.KIND: Handler(evaluator.run, evaluator.give_up),
            lexical.KIND: Handler(lambda job: index.run(job.user_id, job.payload), _note, timedelta(days=7)),
            RETITLE: Handler(lambda job: retitling.run(job.user_id, job.payload), _note, timedelta(days=7)),
            leaving.KIND: Handler(
                Deletion(db, library, storage, [_pseudonymous(secret)]).run, _note, timedelta(days=30)
            ),
            mail.KIND: Handler(
                lambda job: outbox.deliver(job.payload, partial(post.is_due, job.user_id)),
                _note,
                _MAIL_PATIENCE,
                longest_delay=_MAIL_DELAY,
            ),
        }
        yield Work(db, handlers, Upkeep(db, now))


def _reembedding(settings: Settings, db: Database, embedders: Embedders) -> Reembedding:
    main, coming = embedders.main, embedders.coming
    longest = min(settings.chunk_tokens, main.max_tokens or settings.chunk_tokens)
    if coming and coming.max_tokens and coming.max_tokens < longest:
        log.warning("next_model_cuts_chunks", reads=coming.max_tokens, chunks=longest)
    models = EmbeddingModels(db, [main, coming] if coming else [main])
    return Reembedding(db, models, PassageVectors(db, models))


def _pseudonymous(secret: str) -> Farewell:
    """What lets the audit log outlive its account, under a name that only the secret's holder can tell."""
    key = derive(secret, Purpose.AUDIT)

    async def rename(tx: SystemTx, user_id: UserId) -> None:
        await audit_queries.pseudonymise(tx, user_id, pseudonym(key, user_id))

    return rename


async def _note(job: Job, code: str, _reason: str) -> None:
    log.error("job_parked", kind=job.kind, code=code)

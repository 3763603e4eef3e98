"""SQL of evaluations, and of the scratch tenants in which collections are evaluated."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from asyncpg import ForeignKeyViolationError, Record
from pydantic import TypeAdapter

from ringfence.db import SystemTx, TenantTx
from ringfence.errors import Unauthenticated
from ringfence.ids import EvaluationId, UserId, user_id_from_record

SCRATCH_DOMAIN = "evaluation.invalid"
"""No address of this domain can be registered, signed in as or written to (RFC 2606; `accounts.emails` refuses it)."""

type EvaluationState = Literal["queued", "running", "done", "failed"]

_STALE = """
select user_id from users where email_key like 'run-%@evaluation.invalid' and created_at < $1 order by user_id
"""
_CHUNKS = "select user_id, sum(chunks)::integer as chunks from documents where user_id = $1 group by user_id"
_DOCUMENTS = """
select document_id from documents where user_id = $1 and document_id = any($2) and deleted_at is null
"""
_LOCK = "select pg_advisory_xact_lock(hashtextextended('evaluations ' || $1::text, 0))"
_COUNT = "select user_id, count(*)::integer as evaluations from evaluations where user_id = $1 group by user_id"
_ADD = """
insert into evaluations (user_id, evaluation_id, name, questions, question_count) values ($1, $2, $3, $4::jsonb, $5)
"""
_COLUMNS = """
  evaluation_id, name, state, question_count, questions_done, embedding_model, modes, worst, reason_code, reason,
  created_at, finished_at
"""
_GET = f"select {_COLUMNS} from evaluations where user_id = $1 and evaluation_id = $2"  # noqa: S608  # a constant, as below
_PAGE = f"""
select {_COLUMNS} from evaluations where user_id = $1 and (created_at, evaluation_id) < ($2, $3)
order by created_at desc, evaluation_id desc limit $4
"""  # noqa: S608
_QUESTIONS = "select questions from evaluations where user_id = $1 and evaluation_id = $2"
# Whoever runs one that is done already, because its job was delivered twice, does nothing.
_START = """
update evaluations set state = 'running', questions_done = 0
where user_id = $1 and evaluation_id = $2 and state in ('queued', 'running') returning questions
"""
_PROGRESS = """
update evaluations set questions_done = $3 where user_id = $1 and evaluation_id = $2 and state = 'running'
"""
_FINISH = """
update evaluations set state = 'done', questions_done = question_count, embedding_model = $3, modes = $4::jsonb,
  worst = $5::jsonb, finished_at = now()
where user_id = $1 and evaluation_id = $2 and state = 'running'
"""
_FAIL = """
update evaluations set state = 'failed', reason_code = $3, reason = $4, finished_at = now()
where user_id = $1 and evaluation_id = $2 and state in ('queued', 'running')
"""
_DELETE = "delete from evaluations where user_id = $1 and evaluation_id = $2"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a question should find: a document, or a page of it (from 1)."""

    document_id: UUID
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what it should find; any of that will do, and all is better."""

    text: str
    expected: tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """How one way of searching did: means over all questions, and the time of a search in milliseconds."""

    mode: str
    scores: dict[str, float]
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """A hit: characters `start` to `end` of a page's text, the search's score, and whether it was expected."""

    document_id: UUID
    page: int
    start: int
    end: int
    score: float
    expected: bool


@dataclass(frozen=True, slots=True)
class WorstQuestion:
    """A question on which one way of searching did badly, with its scores and first hits."""

    mode: str
    question: str
    scores: dict[str, float]
    expected: tuple[Expected, ...]
    hits: tuple[PlaceFound, ...]


_QUESTION_LIST = TypeAdapter(tuple[Question, ...])
_FIGURES = TypeAdapter(tuple[ModeFigures, ...])
_WORST = TypeAdapter(tuple[WorstQuestion, ...])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as its owner sees it.

    Attributes:
        evaluation_id: names it.
        name: what its owner calls it.
        state: `done` and `failed` are final.
        question_count: how many questions it has.
        questions_done: how many were asked so far, of each way of searching.
        embedding_model: with which it was done.
        modes: the figures of each way of searching, once it is done.
        worst: the questions that went worst, once it is done.
        reason_code: why it failed, for programs.
        reason: why it failed, for people.
        created_at: when it was asked for.
        finished_at: when it reached a final state.
    """

    evaluation_id: EvaluationId
    name: str
    state: EvaluationState
    question_count: int
    questions_done: int
    embedding_model: str | None
    modes: tuple[ModeFigures, ...]
    worst: tuple[WorstQuestion, ...]
    reason_code: str | None
    reason: str | None
    created_at: datetime
    finished_at: datetime | None


def _evaluation(row: Record) -> Evaluation:
    values = {name: row[name] for name in Evaluation.__slots__}
    modes, worst = _FIGURES.validate_json(row["modes"] or "[]"), _WORST.validate_json(row["worst"] or "[]")
    return Evaluation(**{**values, "modes": modes, "worst": worst})


async def stale_scratch(tx: SystemTx, before: datetime) -> list[UserId]:
    """Scratch tenants that were not meant to be kept, and were made before that: whoever made them was killed."""
    return [user_id_from_record(row["user_id"]) for row in await tx.fetch(_STALE, before)]


async def chunk_count(tx: TenantTx) -> int:
    """How many chunks the tenant's documents have."""
    row = await tx.fetchrow(_CHUNKS, tx.user_id)
    return row["chunks"] if row else 0


async def known_documents(tx: TenantTx, wanted: Collection[UUID]) -> set[UUID]:
    """Which of these documents are the tenant's."""
    return {row["document_id"] for row in await tx.fetch(_DOCUMENTS, tx.user_id, list(wanted))}


async def count(tx: TenantTx) -> int:
    """How many evaluations the tenant has; nobody adds one until the transaction ends."""
    await tx.execute(_LOCK, str(tx.user_id))
    row = await tx.fetchrow(_COUNT, tx.user_id)
    return row["evaluations"] if row else 0


async def add(tx: TenantTx, evaluation_id: EvaluationId, name: str, questions: Sequence[Question]) -> None:
    """Keep what is to be evaluated.

    Raises:
        Unauthenticated: the tenant's account is gone.
    """
    stored = _QUESTION_LIST.dump_json(tuple(questions)).decode()
    try:
        await tx.execute(_ADD, tx.user_id, evaluation_id, name, stored, len(questions))
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None


async def get(tx: TenantTx, evaluation_id: EvaluationId) -> Evaluation | None:
    """One of the tenant's evaluations."""
    row = await tx.fetchrow(_GET, tx.user_id, evaluation_id)
    return _evaluation(row) if row else None


async def page(tx: TenantTx, after: Evaluation | None, limit: int) -> list[Evaluation]:
    """The tenant's evaluations, newest first: the first ones, or those that come after one."""
    place = (after.created_at, after.evaluation_id) if after else (datetime.max.replace(tzinfo=UTC), UUID(int=0))
    return [_evaluation(row) for row in await tx.fetch(_PAGE, tx.user_id, *place, limit)]


async def questions(tx: TenantTx, evaluation_id: EvaluationId) -> tuple[Question, ...]:
    """What one of the tenant's evaluations asks; nothing if there is none."""
    stored = await tx.fetchval(_QUESTIONS, tx.user_id, evaluation_id)
    return _QUESTION_LIST.validate_json(stored or "[]")


async def start(tx: TenantTx, evaluation_id: EvaluationId) -> tuple[Question, ...] | None:
    """Begin an evaluation, from its start; None if it was deleted or has ended."""
    stored = await tx.fetchval(_START, tx.user_id, evaluation_id)
    return _QUESTION_LIST.validate_json(stored) if stored else None


async def progress(tx: TenantTx, evaluation_id: EvaluationId, done: int) -> bool:
    """Say how far it has come; False if it was deleted or has ended."""
    return bool(await tx.execute(_PROGRESS, tx.user_id, evaluation_id, done))


async def finish(
    tx: TenantTx,
    evaluation_id: EvaluationId,
    embedding_model: str,
    modes: Sequence[ModeFigures],
    worst: Sequence[WorstQuestion],
) -> None:
    """Keep what was found."""
    figures, bad = _FIGURES.dump_json(tuple(modes)).decode(), _WORST.dump_json(tuple(worst)).decode()
    await tx.execute(_FINISH, tx.user_id, evaluation_id, embedding_model, figures, bad)


async def fail(tx: TenantTx, evaluation_id: EvaluationId, code: str, reason: str) -> None:
    """End without figures, with a reason for people."""
    await tx.execute(_FAIL, tx.user_id, evaluation_id, code, reason)


async def delete(tx: TenantTx, evaluation_id: EvaluationId) -> bool:
    """Delete one of the tenant's evaluations; False where there is none."""
    return bool(await tx.execute(_DELETE, tx.user_id, evaluation_id))

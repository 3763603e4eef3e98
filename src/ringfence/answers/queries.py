"""SQL of answers that were given."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal
from uuid import UUID

from asyncpg import ForeignKeyViolationError, Record
from pydantic import TypeAdapter

from ringfence.db import TenantTx
from ringfence.errors import Unauthenticated
from ringfence.ids import AnswerId

type AnswerState = Literal["done", "refused", "failed", "interrupted"]

_ADD = """
insert into answers (user_id, answer_id, question, state, error_code, text, model, citations)
values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)
"""
_COLUMNS = "answer_id, question, state, text, citations, error_code, model, created_at"
_LIST = f"select {_COLUMNS} from answers where user_id = $1 order by created_at desc, answer_id limit $2"  # noqa: S608
_GET = f"select {_COLUMNS} from answers where user_id = $1 and answer_id = $2"  # noqa: S608
_PAGE = f"""
select {_COLUMNS} from answers where user_id = $1 and (created_at, answer_id) < ($2, $3)
order by created_at desc, answer_id desc limit $4
"""  # noqa: S608
_BY_DAY = """
select user_id, (created_at at time zone 'UTC')::date as day, count(*) as answers from answers
where user_id = $1 and ($2::timestamptz is null or created_at >= $2) group by user_id, day
"""
_DELETE = "delete from answers where user_id = $1 and answer_id = $2"
# A day never goes back: the clocks of several processes differ around midnight.
_COUNT = """
insert into questions_asked as q (user_id, day, questions) values ($1, $2, 1)
on conflict (user_id) do update set day = greatest(q.day, $2),
  questions = case when q.day < $2 then 1 else q.questions + 1 end
where q.day < $2 or $3 = 0 or q.questions < $3
returning user_id, questions
"""
_UNCOUNT = """
update questions_asked set questions = questions - 1 where user_id = $1 and day = $2 and questions > 0
"""
_ASKED = "select user_id, questions from questions_asked where user_id = $1 and day >= $2"


@dataclass(frozen=True, slots=True)
class CitedPlace:
    """Where the words stand that an answer cited.

    Attributes:
        n: the citation's number in the answer.
        document_id: the document, which may have been deleted since.
        page: from 1.
        start: offset of the first character in that page's text.
        end: offset behind the last, or the page's end if they run on.
        length: characters, with what stands on following pages; 0: nobody knows.
    """

    n: int
    document_id: UUID
    page: int
    start: int
    end: int
    length: int = 0


_PLACES = TypeAdapter(tuple[CitedPlace, ...])


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given.

    Attributes:
        answer_id: names it in the stream of events too.
        question: as it was asked.
        state: how it ended: `done`; `refused`, where the documents do not answer; `failed`, where the model did;
            `interrupted`, where the client left or the server stopped.
        text: all that was written before it ended.
        citations: in the order of the answer.
        error_code: why it failed.
        model: who wrote it; none where no model was asked or none came to its end.
        created_at: when it had ended; the database's own time unless it is kept already.
    """

    answer_id: AnswerId
    question: str
    state: AnswerState
    text: str
    citations: tuple[CitedPlace, ...] = ()
    error_code: str | None = None
    model: str | None = None
    created_at: datetime | None = None


def _answer(row: Record) -> Answer:
    values = {name: row[name] for name in Answer.__slots__}
    return Answer(**{**values, "citations": _PLACES.validate_json(row["citations"])})


async def count_question(tx: TenantTx, day: date, limit: int) -> int | None:
    """Count a question, unless the day has seen so many already (0: any number); how many that makes.

    Raises:
        Unauthenticated: the account was deleted meanwhile.
    """
    try:
        row = await tx.fetchrow(_COUNT, tx.user_id, day, limit)
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None
    return row["questions"] if row else None


async def uncount_question(tx: TenantTx, day: date) -> None:
    """Take a question back that was counted on a day, if it is still that day."""
    await tx.execute(_UNCOUNT, tx.user_id, day)


async def questions_asked(tx: TenantTx, day: date) -> int:
    """How many questions the tenant has asked today."""
    row = await tx.fetchrow(_ASKED, tx.user_id, day)
    return row["questions"] if row else 0


async def answers_by_day(tx: TenantTx, since: datetime | None) -> dict[date, int]:
    """How many answers the tenant has kept of each day (UTC) that has any; `since` None: of all days."""
    return {row["day"]: row["answers"] for row in await tx.fetch(_BY_DAY, tx.user_id, since)}


async def add(tx: TenantTx, answer: Answer) -> None:
    """Keep an answer.

    Raises:
        Unauthenticated: the account was deleted meanwhile.
    """
    places = _PLACES.dump_json(answer.citations).decode()
    values = (answer.question, answer.state, answer.error_code, answer.text, answer.model, places)
    try:
        await tx.execute(_ADD, tx.user_id, answer.answer_id, *values)
    except ForeignKeyViolationError:
        raise Unauthenticated("unknown_account", "This account no longer exists.") from None


async def newest(tx: TenantTx, limit: int) -> list[Answer]:
    """The tenant's answers, newest first."""
    return [_answer(row) for row in await tx.fetch(_LIST, tx.user_id, limit)]


async def page(tx: TenantTx, after: Answer | None, limit: int) -> list[Answer]:
    """The tenant's answers, newest first: the first ones, or those that come after one."""
    place = (after.created_at, after.answer_id) if after else (datetime.max.replace(tzinfo=UTC), UUID(int=0))
    return [_answer(row) for row in await tx.fetch(_PAGE, tx.user_id, *place, limit)]


async def get(tx: TenantTx, answer_id: AnswerId) -> Answer | None:
    """One of the tenant's answers."""
    row = await tx.fetchrow(_GET, tx.user_id, answer_id)
    return _answer(row) if row else None


async def delete(tx: TenantTx, answer_id: AnswerId) -> bool:
    """Delete one of the tenant's answers; False where there is none."""
    return bool(await tx.execute(_DELETE, tx.user_id, answer_id))

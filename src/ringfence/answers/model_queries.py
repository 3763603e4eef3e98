"""SQL of which chat models users choose, and of what those took for them."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from asyncpg import ForeignKeyViolationError, Record

from ringfence.db import TenantTx
from ringfence.errors import Unauthenticated
from ringfence.models.desk import Spending

_SPEND = """
insert into model_usage as u (user_id, day, model, currency, requests, questions, estimated, prompt_tokens,
  completion_tokens, cost)
values ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9)
on conflict (user_id, day, model, currency) do update set requests = u.requests + 1,
  questions = u.questions + excluded.questions, estimated = u.estimated + excluded.estimated,
  prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
  completion_tokens = u.completion_tokens + excluded.completion_tokens, cost = u.cost + excluded.cost
"""
_SPENT = """
select day, model, currency, requests, questions, estimated, prompt_tokens, completion_tokens, cost
from model_usage where user_id = $1 and day >= $2 order by day, model, currency
"""
_CHOSEN = "select user_id, model from model_choices where user_id = $1"
_CHOOSE = """
insert into model_choices (user_id, model) values ($1, $2) on conflict (user_id) do update set model = $2
"""
_UNCHOOSE = "delete from model_choices where user_id = $1"


@dataclass(frozen=True, slots=True)
class DaySpent:
    """What one model took for a user on one day.

    Attributes:
        day: in UTC.
        model: by its name then.
        currency: of the cost; empty: no price was known, and the cost is 0.
        requests: how often it was asked.
        questions: how many of them wrote answers; the others helped to find passages.
        estimated: how many of them had their tokens estimated.
        prompt_tokens: of what it read.
        completion_tokens: of what it wrote.
        cost: at the prices of then.
    """

    day: date
    model: str
    currency: str
    requests: int
    questions: int
    estimated: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal


def _spent(row: Record) -> DaySpent:
    return DaySpent(**{name: row[name] for name in DaySpent.__slots__})


async def spend(tx: TenantTx, day: date, spending: Spending) -> None:
    """Add what a request took.

    Raises:
        Unauthenticated: the account was deleted meanwhile.
    """
    usage, price = spending.usage, spending.offer.price
    counts = (int(spending.question), int(not usage.reported), usage.prompt, usage.completion)
    cost = price.of(usage) if price else Decimal(0)
    key = (spending.offer.name, price.currency if price else "")
    try:
        await tx.execute(_SPEND, tx.user_id, day, *key, *counts, cost)
    except ForeignKeyViolationError:
        raise _gone() from None


async def spent(tx: TenantTx, since: date) -> list[DaySpent]:
    """What the tenant's requests took since a day, by day and model."""
    return [_spent(row) for row in await tx.fetch(_SPENT, tx.user_id, since)]


async def chosen(tx: TenantTx) -> str | None:
    """Which model the tenant wants."""
    row = await tx.fetchrow(_CHOSEN, tx.user_id)
    return row["model"] if row else None


async def choose(tx: TenantTx, model: str | None) -> None:
    """Take down which model the tenant wants.

    Raises:
        Unauthenticated: the account was deleted meanwhile.
    """
    if model is None:
        await tx.execute(_UNCHOOSE, tx.user_id)
        return
    try:
        await tx.execute(_CHOOSE, tx.user_id, model)
    except ForeignKeyViolationError:
        raise _gone() from None


def _gone() -> Unauthenticated:
    return Unauthenticated("unknown_account", "This account no longer exists.")

"""What one uses, and how much one may."""

from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ringfence.answers.model_queries import DaySpent
from ringfence.http.deps import Reader, ServicesDep

router = APIRouter(prefix="/api/v1/me", tags=["accounts"])

_DAYS = 30
_LIMIT = Field(description="null: there is none.", examples=[10_000])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Used(_Model):
    """How much there is of something, and how much there may be."""

    used: int = Field(examples=[412])
    limit: int | None = _LIMIT


class UsedToday(_Model):
    """How often one did something today (UTC), and how often one may."""

    used: int = Field(examples=[9])
    limit: int | None = _LIMIT
    resets_at: datetime = Field(description="When the count begins anew.")


class ModelDay(_Model):
    """What a chat model took for you on a day (UTC)."""

    day: date
    model: str = Field(description="By its name then.", examples=["mistral-small"])
    requests: int = Field(description="How often it was asked.", examples=[11])
    questions: int = Field(description="So many of them wrote answers; others helped to find passages.", examples=[9])
    estimated: int = Field(description="So many of them had their tokens estimated.", examples=[1])
    prompt_tokens: int = Field(examples=[9120])
    completion_tokens: int = Field(examples=[720])
    cost: Decimal | None = Field(description="At the prices of that day; null: none was known.", examples=["0.0018"])
    currency: str | None = Field(description="Of the cost.", examples=["USD"])


class UsageView(_Model):
    """What one uses. Documents count until they are gone: those that failed, and those in the bin too."""

    documents: Used
    bytes: Used
    questions: UsedToday
    models: list[ModelDay] = Field(description="Of the last 30 days, oldest first. What is being written is not in it.")


class DayView(_Model):
    """What one did on a day (UTC)."""

    day: date
    questions: int = Field(description="Answers that are kept of it, in chats and outside.", examples=[9])


class DayList(_Model):
    """The last thirty days, the oldest first."""

    days: list[DayView]


@router.get("/usage")
async def usage(user_id: Reader, services: ServicesDep) -> UsageView:
    """How much you keep and ask, and how much you may."""
    kept, quota = await services.library.usage(user_id), await services.library.quota(user_id)
    asked = await services.questions.today(user_id)
    spent = await services.ledger.newest(user_id, _DAYS)
    return UsageView(
        documents=Used(used=kept.documents, limit=quota.documents or None),
        bytes=Used(used=kept.bytes, limit=quota.bytes or None),
        questions=UsedToday(used=asked.questions, limit=quota.questions or None, resets_at=asked.resets_at),
        models=[_day(one) for one in spent],
    )


@router.get("/usage/days")
async def days(user_id: Reader, services: ServicesDep) -> DayList:
    """How much you asked on each of the last thirty days, as far as the answers are kept."""
    tomorrow = (await services.questions.today(user_id)).resets_at
    since = tomorrow - timedelta(days=_DAYS)
    asked = Counter(await services.history.by_day(user_id, since)) + Counter(
        await services.chats.by_day(user_id, since)
    )
    shown = [since.date() + timedelta(days=past) for past in range(_DAYS)]
    return DayList(days=[DayView(day=day, questions=asked[day]) for day in shown])


def _day(spent: DaySpent) -> ModelDay:
    values = {name: getattr(spent, name) for name in ModelDay.model_fields}
    return ModelDay(**values | {"currency": spent.currency or None, "cost": spent.cost if spent.currency else None})

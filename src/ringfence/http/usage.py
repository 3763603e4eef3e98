"""What one uses, and how much one may."""

from collections import Counter
from datetime import date, datetime, timedelta

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

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


class UsageView(_Model):
    """What one uses. Documents count until they are gone: those that failed, and those in the bin too."""

    documents: Used
    bytes: Used
    questions: UsedToday


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
    return UsageView(
        documents=Used(used=kept.documents, limit=quota.documents or None),
        bytes=Used(used=kept.bytes, limit=quota.bytes or None),
        questions=UsedToday(used=asked.questions, limit=quota.questions or None, resets_at=asked.resets_at),
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

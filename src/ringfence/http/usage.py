"""What one uses, and how much one may."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ringfence.http.deps import Reader, ServicesDep

router = APIRouter(prefix="/api/v1/me", tags=["accounts"])

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

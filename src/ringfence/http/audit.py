"""Routes of the audit log: what happened to one's own account."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from ringfence.http.deps import IdentityDep, ServicesDep

router = APIRouter(prefix="/api/v1/audit", tags=["accounts"])


class AuditEventView(BaseModel):
    """Something that happened to the account."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    event_id: UUID
    kind: str = Field(examples=["signed_in"])
    address: str = Field(description="From where; empty where an operator did it.", examples=["203.0.113.9"])
    agent: str = Field(examples=["Mozilla/5.0 (X11; Linux x86_64)"])
    detail: dict[str, str | int] = Field(description="Ids and counts.", examples=[{"count": 3}])
    created_at: datetime


class AuditEventList(BaseModel):
    """One's own events, newest first."""

    model_config = ConfigDict(extra="forbid")

    events: list[AuditEventView]


@router.get("")
async def newest(
    identity: IdentityDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[UUID | None, Query(description="The last `event_id` of the page before this one.")] = None,
) -> AuditEventList:
    """What happened to one's own account, newest first."""
    found = await services.audit.newest(identity.user_id, limit, before)
    return AuditEventList(events=[AuditEventView.model_validate(event) for event in found])

"""Routes of those who leave: take everything along, delete the account. They need a session: no API key does either."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ringfence.accounts.audit import AuditKind
from ringfence.http.deps import DeviceDep, IdentityDep, NoteDep, ServicesDep, StoppingDep
from ringfence.http.streams import Download, started

router = APIRouter(prefix="/api/v1/me", tags=["accounts"])

_ZIP = "application/zip"


class Confirmation(BaseModel):
    """The account's password, because there is no way back."""

    model_config = ConfigDict(extra="forbid")

    password: SecretStr = Field(examples=["a long and private sentence"])


@router.delete("", status_code=202, response_class=Response)
async def leave(body: Confirmation, identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> Response:
    """Delete one's account: from now on nothing opens it and its address is free; all that it has goes soon after."""
    await services.people.leaving.leave(identity.user_id, body.password.get_secret_value(), device)
    return Response(status_code=202)


@router.get("/export", status_code=200, response_class=Download, responses={200: {"content": {_ZIP: {}}}})
async def export(
    identity: IdentityDep, services: ServicesDep, stopping: StoppingDep, device: DeviceDep, note: NoteDep
) -> Download:
    """Everything that one has, as a zip: documents as they were uploaded, and all that is kept beside them, as JSON."""
    await services.export.begin(identity.user_id, note)
    await services.audit.note(identity.user_id, AuditKind.EXPORTED, device)
    pieces = await started(services.export.zip(identity.user_id))
    return Download(pieces, _ZIP, f"ringfence-{datetime.now(UTC):%Y-%m-%d}.zip", stopping)

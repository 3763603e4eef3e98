"""Routes of API keys: make, list, revoke. They need a session: no key makes another."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

from ringfence.accounts import api_keys
from ringfence.accounts.queries import ApiKey, Scope
from ringfence.http.contract import may
from ringfence.http.deps import DeviceDep, IdentityDep, ServicesDep
from ringfence.ids import ApiKeyId

router = APIRouter(prefix="/api/v1/api-keys", tags=["accounts"])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WantedApiKey(_Model):
    """What a key is for, what it allows, and for how long."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        description="By which you know it; printable characters.", examples=["nightly upload"]
    )
    scopes: list[Scope] = Field(
        min_length=1,
        json_schema_extra={"uniqueItems": True},
        description="`read`: documents, answers, the account. `write`: upload and delete. `ask`: ask questions.",
        examples=[["read", "write"]],
    )
    expires_in_days: Annotated[int, Field(strict=True, ge=1, le=3650)] | None = Field(
        description="null: it works until it is revoked.", examples=[90]
    )
    password: SecretStr = Field(
        description="The account's: a key outlives the session that makes it.", examples=["a long and private sentence"]
    )

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("has characters that can't be printed")
        return name

    @field_validator("scopes")
    @classmethod
    def _distinct(cls, scopes: list[Scope]) -> list[Scope]:
        if len(set(scopes)) < len(scopes):
            raise ValueError("names a scope twice")
        return scopes


class ApiKeyView(_Model):
    """A key, but for its secret."""

    key_id: UUID
    name: str = Field(examples=["nightly upload"])
    prefix: str = Field(description="How the key begins.", examples=["rfk_q83vEjRW"])
    scopes: list[Scope] = Field(examples=[["read", "write"]])
    expires_at: datetime | None = Field(description="null: never.")
    used_at: datetime | None = Field(description="When it was last shown, to the minute; null: never.")
    created_at: datetime


class CreatedApiKey(ApiKeyView):
    """A key with its secret, this once."""

    key: str = Field(description="Keep it like a password: it is not shown again.", examples=["rfk_q83vEjRW…"])


class ApiKeyList(_Model):
    """One's own keys, newest first."""

    api_keys: list[ApiKeyView]


def _view(key: ApiKey) -> ApiKeyView:
    values = {name: getattr(key, name) for name in ApiKey.__slots__}
    return ApiKeyView(**{**values, "scopes": sorted(key.scopes)})


@router.post("", status_code=201, responses=may(409))
async def create(body: WantedApiKey, identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> CreatedApiKey:
    """Make a key. Its text is in this answer alone; the account's owner is told by mail that there is one more."""
    life = timedelta(days=body.expires_in_days) if body.expires_in_days else None
    wanted = api_keys.WantedApiKey(body.name, frozenset(body.scopes), life)
    password = body.password.get_secret_value()
    created = await services.people.api_keys.create(identity.user_id, password, wanted, device)
    return CreatedApiKey(**_view(created.key).model_dump(), key=created.text)


@router.get("")
async def newest(identity: IdentityDep, services: ServicesDep) -> ApiKeyList:
    """List one's keys, newest first."""
    return ApiKeyList(api_keys=[_view(key) for key in await services.people.api_keys.newest(identity.user_id)])


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: UUID, identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> None:
    """Revoke a key: it opens nothing from now on."""
    await services.people.api_keys.revoke(identity.user_id, ApiKeyId(key_id), device)

"""Routes of accounts: register, verify, sign in, me."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ringfence.errors import Invalid
from ringfence.http.deps import Principal, ServicesDep

router = APIRouter(prefix="/api/v1", tags=["accounts"])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(_Model):
    """Who wants an account."""

    email: str = Field(max_length=254, examples=["ada@example.com"])
    password: SecretStr = Field(description="12 to 256 characters.", examples=["a long and private sentence"])


class Registered(_Model):
    """Where to send the code that was mailed; the same whether or not the address is known."""

    registration_id: UUID
    detail: str = Field(examples=["A code has been sent by mail."])


class Verification(_Model):
    """The code that was mailed for one registration."""

    registration_id: UUID
    code: str = Field(max_length=32, examples=["31415926"])


class Token(_Model):
    """An access token (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 (the scheme's name)
    expires_in: int = Field(description="Seconds.", examples=[900])


class Me(_Model):
    """The account that is signed in."""

    user_id: UUID
    email: str
    created_at: datetime


@router.post("/auth/register", status_code=202)
async def register(body: Registration, services: ServicesDep) -> Registered:
    """Ask for an account. A one-time code goes to the address."""
    registration_id = await services.accounts.register(body.email, body.password.get_secret_value())
    return Registered(registration_id=registration_id, detail="A code has been sent by mail.")


@router.post("/auth/verify", status_code=204)
async def verify(body: Verification, services: ServicesDep) -> None:
    """Prove the address with the code. Afterwards one can sign in."""
    await services.accounts.verify(body.registration_id, body.code)


@router.post("/auth/token", response_model=Token)
async def token(form: Annotated[OAuth2PasswordRequestForm, Depends()], services: ServicesDep) -> JSONResponse:
    """Sign in: OAuth2's password form (RFC 6749, section 4.3). `username` is the e-mail address."""
    try:
        issued = await services.accounts.sign_in(form.username, form.password)
    except Invalid as error:
        return JSONResponse({"error": error.code, "error_description": error.message}, 400, _NO_STORE)
    body = Token(access_token=issued.token, expires_in=issued.expires_in)
    return JSONResponse(body.model_dump(), headers=_NO_STORE)


@router.get("/me")
async def me(principal: Principal, services: ServicesDep) -> Me:
    """Who is signed in."""
    account = await services.accounts.me(principal)
    return Me(user_id=account.user_id, email=account.email, created_at=account.created_at)


_NO_STORE = {"Cache-Control": "no-store"}

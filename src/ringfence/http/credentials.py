"""Routes of what proves who one is: forgot and reset, and what one changes with the password at hand."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ringfence.http.contract import may
from ringfence.http.deps import DeviceDep, IdentityDep, LimitedDevice, ServicesDep

router = APIRouter(prefix="/api/v1", tags=["accounts"])

_CODE_SENT = "If a code can be sent to this address, it has been sent by mail."


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Forgotten(_Model):
    """Whose password is forgotten."""

    email: str = Field(max_length=254, examples=["ada@example.com"])


class CodeSent(_Model):
    """The same whether or not the address is known, and whether or not a mail was sent."""

    detail: str = Field(examples=[_CODE_SENT])


class Reset(_Model):
    """The code that was mailed, and the password to have from now on."""

    email: str = Field(max_length=254, examples=["ada@example.com"])
    code: str = Field(max_length=32, examples=["31415926"])
    password: SecretStr = Field(description="12 to 256 characters.", examples=["a long and private sentence"])


class PasswordChange(_Model):
    """Today's password and tomorrow's."""

    password: SecretStr = Field(description="The present one.", examples=["a long and private sentence"])
    new_password: SecretStr = Field(description="12 to 256 characters.", examples=["another long, private sentence"])


class Move(_Model):
    """Where the account's mail shall go."""

    email: str = Field(max_length=254, examples=["ada@example.org"])
    password: SecretStr = Field(description="The account's.", examples=["a long and private sentence"])


class MoveCode(_Model):
    """The code that was mailed to the new address."""

    code: str = Field(max_length=32, examples=["31415926"])


@router.post("/auth/forgot", status_code=202, responses=may(429))
async def forgot(body: Forgotten, services: ServicesDep, device: LimitedDevice) -> CodeSent:
    """Ask for a new password. A one-time code goes to the address, if it has an account."""
    await services.people.recovery.forgot(body.email, device)
    return CodeSent(detail=_CODE_SENT)


@router.post("/auth/reset", status_code=204, responses=may(429))
async def reset(body: Reset, services: ServicesDep, device: LimitedDevice) -> None:
    """Choose a new password with the code. Every session of the account ends at once."""
    await services.people.recovery.reset(body.email, body.code, body.password.get_secret_value(), device)


@router.post("/me/password", status_code=204)
async def change_password(
    body: PasswordChange, identity: IdentityDep, services: ServicesDep, device: DeviceDep
) -> None:
    """Choose another password. One's other sessions end at once."""
    password, new = body.password.get_secret_value(), body.new_password.get_secret_value()
    await services.people.changes.change_password(identity, password, new, device)


@router.post("/me/email", status_code=202)
async def move(body: Move, identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> CodeSent:
    """Ask to change the account's address. A one-time code goes to the new one."""
    await services.people.changes.move(identity, body.email, body.password.get_secret_value(), device)
    return CodeSent(detail=_CODE_SENT)


@router.post("/me/email/confirm", status_code=204)
async def confirm_move(body: MoveCode, identity: IdentityDep, services: ServicesDep, device: DeviceDep) -> None:
    """Prove the new address with the code: it is the account's from now on, and one's other sessions end."""
    await services.people.changes.confirm_move(identity, body.code, device)

"""Routes for those who watch over the process."""

from fastapi import APIRouter
from pydantic import BaseModel

from ringfence.http.deps import ServicesDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """All is well; otherwise a problem document comes instead."""

    status: str = "ok"


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz")
async def readyz(services: ServicesDep) -> Health:
    """The process can serve: both database roles answer."""
    await services.db.check()
    return Health()


@router.get("/.well-known/jwks.json", tags=["accounts"])
async def jwks(services: ServicesDep) -> dict[str, list[dict[str, str]]]:
    """The public keys of access tokens (RFC 7517)."""
    return await services.keys.jwks()

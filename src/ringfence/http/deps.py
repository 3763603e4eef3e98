"""From a request to what a handler needs: the services, and the tenant that a verified token names."""

from typing import Annotated, cast

import structlog
from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from ringfence.errors import Unauthenticated
from ringfence.ids import UserId
from ringfence.services import Services

_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/token", auto_error=False)


def get_services(request: Request) -> Services:
    """The services of this process."""
    return cast("Services", request.app.state.services)  # Starlette's state is untyped


async def get_principal(
    services: Annotated[Services, Depends(get_services)], token: Annotated[str | None, Depends(_bearer)]
) -> UserId:
    """The tenant on whose behalf the request comes.

    Raises:
        Unauthenticated: no token, or one that does not verify.
    """
    if token is None:
        raise Unauthenticated("no_token", "Sign in first: this needs an access token.")
    user_id = services.tokens.verify(token)
    structlog.contextvars.bind_contextvars(user_id=str(user_id))
    return user_id


type ServicesDep = Annotated[Services, Depends(get_services)]
type Principal = Annotated[UserId, Depends(get_principal)]

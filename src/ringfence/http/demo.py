"""Development alone: one press signs in to an account that holds the sample documents, made at the first press.

It goes through the front door like anybody: a registration, a code by mail, a password; and it is fenced like anybody.
"""

import asyncio
import time
from pathlib import Path

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from ringfence import samples
from ringfence.accounts.devices import Device
from ringfence.accounts.sessions import Cookie
from ringfence.errors import Invalid
from ringfence.http import cookies, web
from ringfence.http.deps import DeviceDep, ServicesDep
from ringfence.http.development import require_loopback
from ringfence.ids import UserId
from ringfence.mail import mailed_code
from ringfence.services import Services

EMAIL = "demo@example.com"


def router(mail_folder: Path, password: str) -> APIRouter:
    """The route of `/dev/demo`, to which the front page's form goes.

    Args:
        mail_folder: where the code arrives.
        password: of the account.
    """
    guards = [Depends(require_loopback), Depends(cookies.require_same_origin)]
    routes = APIRouter(prefix="/dev", include_in_schema=False, dependencies=guards, route_class=web.PageRoute)

    @routes.post("/demo", name=web.DEMO_ROUTE)
    async def demo(request: Request, services: ServicesDep, device: DeviceDep) -> Response:
        cookie = await _signed_in(services, mail_folder, password, device)
        identity = await services.people.sessions.check_cookie(cookie.value, device)
        await _add_samples(services, identity.user_id)
        response = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
        cookies.give(request, response, cookie)
        return response

    return routes


async def _signed_in(services: Services, mail_folder: Path, password: str, device: Device) -> Cookie:
    accounts = services.people.accounts
    try:
        return await accounts.sign_in_browser(EMAIL, password, device)
    except Invalid:  # there is no such account yet, or somebody gave it another password: one of both mails has a code
        began = time.time()
        registration = await accounts.register(EMAIL, password, device)
        await services.people.recovery.forgot(EMAIL, device)
        code = await mailed_code(mail_folder, EMAIL, since=began)
        try:
            await accounts.verify(registration, code, device)
        except Invalid:
            await services.people.recovery.reset(EMAIL, code, password, device)
        return await accounts.sign_in_browser(EMAIL, password, device)


async def _add_samples(services: Services, user_id: UserId) -> None:
    """Upload them; those that are there already stay as they are."""
    with samples.files(samples.BAKERY) as files:
        for path in files:
            async with services.library.receive(user_id) as incoming:
                await incoming.write(await asyncio.to_thread(path.read_bytes))
                await services.library.add(user_id, path.name, incoming)

"""An engine whose clock tests move, and a client of it that comes from wherever it likes."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from ringfence.settings import Settings
from tests.contract import keeps_to_it
from tests.engine import PASSWORD, Live, running
from tests.fakes.model_server import ModelServer

ADA = "ada@example.com"


class Clock:
    """Of accounts, limits and mail; the queue has the database's."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


class Caller:
    """A client whose requests come from the network that they name, through a proxy that the engine trusts."""

    def __init__(self, http: httpx2.AsyncClient, live: Live) -> None:
        self.http = http
        self.live = live

    async def post(self, path, network="203.0.113.9", token=None, **body):
        return await self.http.post(f"/api/v1{path}", json=body, headers=_headers(network, token))

    async def get(self, path, token=None):
        return await self.http.get(f"/api/v1{path}", headers=_headers("203.0.113.9", token))

    async def token(self, network="203.0.113.9", **form):
        return await self.http.post("/api/v1/auth/token", data=form, headers=_headers(network))

    async def sign_in(self, password=PASSWORD, email=ADA, network="203.0.113.9"):
        return await self.token(network, grant_type="password", username=email, password=password)

    async def refresh(self, token):
        return await self.token(grant_type="refresh_token", refresh_token=token)

    async def register(self, email=ADA, password=PASSWORD, network="203.0.113.9"):
        """The registration's id."""
        answer = await self.post("/auth/register", network, email=email, password=password)
        assert answer.status_code == 202, answer.text
        return answer.json()["registration_id"]

    async def account(self, email=ADA, password=PASSWORD):
        """A new account's tokens."""
        registration = await self.register(email, password)
        code = await self.live.mailed_code(email)
        assert (await self.post("/auth/verify", registration_id=registration, code=code)).status_code == 204
        return (await self.sign_in(password, email)).json()


def _headers(network, token=None):
    return {"X-Forwarded-For": network} | ({"Authorization": f"Bearer {token}"} if token else {})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def engine_in_time(settings: Settings, models: ModelServer, clock: Clock) -> AsyncGenerator[Live]:
    """A running engine with that clock."""
    proxied = settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    async with running(proxied, models, now=clock) as live:
        yield live


@pytest.fixture
async def caller(engine_in_time: Live) -> AsyncGenerator[Caller]:
    """A client of it; every answer has to be one that the API describes."""
    async with httpx2.AsyncClient(
        base_url=engine_in_time.url,
        timeout=60,
        limits=httpx2.Limits(max_connections=100),
        event_hooks={"response": [keeps_to_it]},
    ) as http:
        yield Caller(http, engine_in_time)

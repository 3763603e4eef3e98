"""Proxies before the API, and scripts of other sites: whom it believes, and whom it lets in."""

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.engine import running

APP = "https://app.example.org"


async def logged_client(settings, models, **headers):
    """The client's address as the log has it of a request over loopback."""
    async with running(settings, models) as live, httpx2.AsyncClient(base_url=live.url) as http:
        with capture_logs() as logs:
            assert (await http.get("/livez", headers=headers)).status_code == 200
    return next(line["client"] for line in logs if line["event"] == "request")


FORWARDED = {"X-Forwarded-For": "203.0.113.9"}


async def test_nobody_is_believed_who_is_not_trusted(settings, models):
    assert await logged_client(settings, models, **FORWARDED) == "127.0.0.1"
    other = settings.model_copy(update={"trusted_proxies": ("10.0.0.0/8",)})
    assert await logged_client(other, models, **FORWARDED) == "127.0.0.1"


async def test_a_trusted_proxy_says_who_the_client_is(settings, models):
    trusting = settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    assert await logged_client(trusting, models, **FORWARDED) == "203.0.113.9"
    assert await logged_client(trusting, models) == "127.0.0.1"
    # What a client made up before the proxy added the true address is not believed.
    spoofed = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    assert await logged_client(trusting, models, **spoofed) == "203.0.113.9"


@pytest.fixture
async def cross(settings, models):
    listing = settings.model_copy(update={"cors_origins": (APP,)})
    async with running(listing, models) as live, httpx2.AsyncClient(base_url=live.url) as http:
        yield http


def preflight(origin):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return {"Origin": origin, **asked}


async def test_a_listed_site_may_call_and_read_even_errors(cross):
    allowed = await cross.options("/api/v1/answers", headers=preflight(APP))
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == APP
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "Authorization" in allowed.headers["access-control-allow-headers"]
    answer = await cross.post("/api/v1/answers", json={}, headers={"Origin": APP})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == APP
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "http://app.example.org", f"{APP}.evil.example", "null"]
)
async def test_no_other_site_may(cross, origin):
    assert (await cross.options("/api/v1/answers", headers=preflight(origin))).status_code == 400
    answer = await cross.get("/livez", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


async def test_without_a_list_none_may(http):
    assert (await http.options("/api/v1/answers", headers=preflight(APP))).status_code == 405
    assert "access-control-allow-origin" not in (await http.get("/livez", headers={"Origin": APP})).headers

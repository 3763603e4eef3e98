"""The demo's account on a running engine: one press, and where there is none."""

import httpx2
import pytest

from tests.engine import Live, running
from tests.http.test_web import app_of, client_of

ANOTHER = """
update users set password_hash = (select password_hash from users where email = 'ada@example.com')
where email = 'demo@example.com'
"""
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def http(live: Live):
    async with httpx2.AsyncClient(base_url=live.url, timeout=60) as http:
        yield http


async def names(http):
    return sorted(one["name"] for one in (await http.get("/api/v1/documents")).json()["documents"])


async def test_one_press_signs_in_to_an_account_with_the_sample_documents(http, admin):
    assert 'action="/dev/demo"' in (await http.get("/")).text
    for _ in range(2):  # the account is made once
        answer = await http.post("/dev/demo", headers=OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert (await http.get("/api/v1/me")).json()["email"] == "demo@example.com"
        assert await names(http) == ["bakery-handbook.pdf", "bakery-ovens.pdf", "bakery-shop.md"]
        assert "demo@example.com" in (await http.get("/")).text
    assert await admin.fetchval("select count(*) from users") == 1
    assert await admin.fetchval("select count(*) from documents") == 3


async def test_a_password_that_somebody_gave_it_locks_nobody_out(http, live, admin):
    assert (await http.post("/dev/demo", headers=OWN)).status_code == 303
    async with live.account("ada@example.com"):
        await admin.execute(ANOTHER)
    async with httpx2.AsyncClient(base_url=live.url, timeout=60) as other:
        assert (await other.post("/dev/demo", headers=OWN)).status_code == 303
        assert (await other.get("/api/v1/me")).json()["email"] == "demo@example.com"
    assert await admin.fetchval("select count(*) from users where verified_at is not null") == 2


async def test_no_other_site_presses_it(http):
    foreign = await http.post("/dev/demo", headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    assert "set-cookie" not in foreign.headers
    rebound = await http.post("/dev/demo", headers={"Host": "evil.example", **OWN})
    assert rebound.status_code == 404


async def test_there_is_none_in_production():
    async with client_of(app_of()) as client:
        assert "/dev/demo" not in (await client.get("/")).text
        assert (await client.post("/dev/demo", headers=OWN)).status_code == 404


async def test_nor_where_others_come_by_a_public_address(settings, models):
    public = settings.model_copy(update={"public_url": "https://ask.example.org"})
    async with running(public, models) as live, httpx2.AsyncClient(base_url=live.url) as http:
        assert "/dev/demo" not in (await http.get("/")).text
        assert (await http.post("/dev/demo", headers=OWN)).status_code == 404

"""Limits on requests from outside: by API key, by user, by network; and of what costs much: passwords and exports."""

import asyncio
import re
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.engine import PASSWORD, running
from tests.http.test_accounts import ADA, register

ME = "/api/v1/me"


@pytest.fixture
def engine(settings, models):
    """An engine with these settings, and a client of it."""

    @asynccontextmanager
    async def engine(**changes):
        async with (
            running(settings.model_copy(update=changes), models) as live,
            httpx2.AsyncClient(base_url=live.url, timeout=30) as http,
        ):
            yield live, http

    return engine


async def signed_in(http, live):
    """The headers of a new account's session."""
    registration, code = await register(http, live)
    await http.post("/api/v1/auth/verify", json={"registration_id": registration, "code": code})
    return await another_session(http)


async def another_session(http):
    form = {"grant_type": "password", "username": ADA["email"], "password": PASSWORD}
    token = (await http.post("/api/v1/auth/token", data=form)).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


async def key(http, headers, *scopes):
    body = {"name": "k", "scopes": list(scopes) or ["read"], "expires_in_days": None, "password": PASSWORD}
    made = await http.post("/api/v1/api-keys", json=body, headers=headers)
    return {"Authorization": f"Bearer {made.json()['key']}"}


def told(response, name="requests"):
    """What is left of a limit, and in how many seconds it is whole again, as the header says."""
    found = re.search(rf'"{name}";r=(\d+);t=(\d+)', response.headers["ratelimit"])
    return int(found[1]), int(found[2])


async def test_each_api_key_has_a_limit_of_its_own(engine):
    async with engine(requests_per_minute=4) as (live, http):
        session = await signed_in(http, live)
        first, second = await key(http, session), await key(http, session)
        answers = [await http.get(ME, headers=first) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
        for left, answer in zip((3, 2, 1, 0), answers, strict=False):
            assert answer.headers["ratelimit-policy"] == '"requests";q=4;w=60'
            remaining, reset = told(answer)
            assert remaining == left
            assert 15 * (3 - left) < reset <= 15 * (4 - left)
        refused = answers[-1]
        assert (refused.json()["code"], refused.headers["content-type"]) == (
            "too_many_requests", "application/problem+json",
        )  # fmt: skip
        assert 0 < int(refused.headers["retry-after"]) <= 15
        assert refused.headers["ratelimit-policy"] == '"requests";q=4;w=60'
        assert told(refused) == (0, int(refused.headers["retry-after"]))
        assert (await http.get(ME, headers=second)).status_code == 200


async def test_all_sessions_of_a_user_have_one_limit(engine):
    async with engine(requests_per_minute=4) as (live, http):
        here = await signed_in(http, live)
        there = await another_session(http)
        found = [await http.get(ME, headers=headers) for headers in (here, there, here, there, here, there)]
        assert [answer.status_code for answer in found] == [200] * 4 + [429] * 2


async def test_it_is_shared_by_all_processes_and_exact_at_once(engine, settings, models):
    changes = {"requests_per_minute": 10}
    async with engine(**changes) as (live, http):
        session = await signed_in(http, live)
        async with (
            running(settings.model_copy(update=changes), models) as other,
            httpx2.AsyncClient(base_url=other.url, timeout=30) as elsewhere,
        ):
            asked = [door.get(ME, headers=session) for door in (http, elsewhere) for _ in range(15)]
            found = [answer.status_code for answer in await asyncio.gather(*asked)]
        assert (found.count(200), found.count(429)) == (10, 20)


async def test_who_does_not_come_in_uses_up_nobodys_limit(engine, admin):
    async with engine(requests_per_minute=5) as (live, http):
        session = await signed_in(http, live)
        good = await key(http, session)
        text = good["Authorization"]
        wrong = {"Authorization": text[:-4] + ("A" if text[-4] != "A" else "B") + text[-3:]}
        before = await admin.fetch("select bucket, full_at from limits order by bucket")
        for headers in [wrong] * 10 + [{"Authorization": "Bearer nonsense"}] * 3 + [{}] * 3:
            refused = await http.get(ME, headers=headers)
            assert refused.status_code == 401
            assert "ratelimit" not in refused.headers
        assert await admin.fetch("select bucket, full_at from limits order by bucket") == before
        assert (await http.get(ME, headers=good)).status_code == 200


async def test_a_session_that_has_ended_is_401_however_often(engine):
    async with engine(requests_per_minute=3) as (live, http):
        session = await signed_in(http, live)
        await http.post("/api/v1/auth/sign-out", headers=session)
        assert {(await http.get(ME, headers=session)).status_code for _ in range(6)} == {401}


async def test_errors_and_streams_and_downloads_say_what_is_left_too(engine):
    async with engine(requests_per_minute=50) as (live, http):
        session = await signed_in(http, live)
        missing = await http.get("/api/v1/documents/8d1f2f0a-8a55-4b5c-9f6e-000000000000", headers=session)
        stream = await http.post("/api/v1/answers", json={"question": "Who?"}, headers=session)
        export = await http.get("/api/v1/me/export", headers=session)
        assert [missing.status_code, stream.status_code, export.status_code] == [404, 200, 200]
        assert [told(one)[0] for one in (missing, stream, export)] == [49, 48, 47]
        assert told(export, "export")[0] == 4


async def test_without_a_limit_nothing_is_counted_or_said(engine, admin):
    async with engine(requests_per_minute=0, network_requests_per_hour=0) as (live, http):
        session = await signed_in(http, live)
        program = await key(http, session)
        before = await admin.fetchval("select count(*) from limits")
        for headers in (session, program):
            answer = await http.get(ME, headers=headers)
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers
        assert await admin.fetchval("select count(*) from limits") == before
        registered = await http.post("/api/v1/auth/register", json=ADA)
        assert "ratelimit" not in registered.headers


async def test_registering_and_verifying_are_limited_by_network(engine):
    async with engine(network_requests_per_hour=4, trusted_proxies=("127.0.0.0/8",)) as (_live, http):
        verification = {"registration_id": "8d1f2f0a-8a55-4b5c-9f6e-000000000000", "code": "12345678"}

        async def both(address):
            headers = {"X-Forwarded-For": address}
            registered = await http.post("/api/v1/auth/register", json=ADA, headers=headers)
            verified = await http.post("/api/v1/auth/verify", json=verification, headers=headers)
            return registered, verified

        first = await both("2001:db8::1")
        assert [answer.status_code for answer in first] == [202, 400]
        assert [told(answer, "network")[0] for answer in first] == [3, 2]
        assert [answer.status_code for answer in await both("2001:db8::2")] == [202, 400]
        refused = await both("2001:db8::3")  # one household: the same 64 bits
        assert [answer.status_code for answer in refused] == [429, 429]
        assert refused[0].json()["code"] == "too_many_tries"
        assert refused[0].headers["ratelimit-policy"] == '"network";q=4;w=3600'
        assert 0 < int(refused[0].headers["retry-after"]) <= 900
        assert [answer.status_code for answer in await both("2001:db8:0:1::1")] == [202, 400]


async def test_wrong_passwords_at_deletion_are_limited_by_account(engine, admin):
    async with engine() as (live, http):
        session = await signed_in(http, live)
        wrong = [
            await http.request("DELETE", ME, json={"password": "wrong, but long"}, headers=session) for _ in range(11)
        ]
        assert [answer.status_code for answer in wrong] == [403] * 10 + [429]
        assert wrong[-1].headers["ratelimit-policy"].startswith('"confirmation";q=10;w=600')
        right = await http.request("DELETE", ME, json={"password": PASSWORD}, headers=session)
        assert right.status_code == 429  # whoever guesses on learns nothing
        assert await admin.fetchval("select count(*) from users where verified_at is not null and email <> ''") == 1


async def test_exports_are_limited_by_account(engine, admin):
    async with engine() as (live, http):
        session = await signed_in(http, live)
        answers = [await http.get("/api/v1/me/export", headers=session) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[-1].headers["ratelimit-policy"].startswith('"export";q=5;w=3600')
        assert '"requests";q=' in answers[-1].headers["ratelimit-policy"]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 720
        assert await admin.fetchval("select count(*) from audit_events where kind = 'exported'") == 5

"""What the token endpoint says: RFC 6749, sections 5.1 and 5.2, to the letter; and what no cache may keep."""

import asyncio
import re

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.contract import keeps_to_it
from tests.engine import PASSWORD, running
from tests.http.test_accounts import ADA, register, sign_in

TOKEN = "/api/v1/auth/token"
# Section 5.2: error is %x20-21 / %x23-5B / %x5D-7E, and so is error_description.
WORDS = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")


def oauth2s(response, status, error):
    """Whether this is an error as section 5.2 has it."""
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error", "error_description"}
    assert all(WORDS.fullmatch(value) for value in response.json().values())
    return unkept(response)


def unkept(response):
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    assert "www-authenticate" not in response.headers  # 401 would be of a client that fails to prove itself; none does
    return True


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "ada@example.com"}, "invalid_request"),
        ({"grant_type": "password", "username": "", "password": PASSWORD}, "invalid_request"),
        ({"grant_type": "password", "username": "ada@example.com", "password": "\0\ud83d"}, "invalid_request"),
        ({"grant_type": "password", "username": "nobody@example.com", "password": PASSWORD}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "rfr_"}, "invalid_grant"),
    ],
)
async def test_errors_have_oauth2s_form_and_no_cache_keeps_them(http, form, error):
    body = "&".join(
        f"{name}={value}".encode("utf-8", "surrogatepass").decode("latin-1") for name, value in form.items()
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic YTpi"}
    assert oauth2s(await http.post(TOKEN, content=body.encode("latin-1"), headers=headers), 400, error)


async def test_tokens_have_oauth2s_form_and_no_cache_keeps_them(http, live):
    registration, code = await register(http, live)
    await http.post("/api/v1/auth/verify", json={"registration_id": registration, "code": code})
    response = await sign_in(http)
    assert unkept(response)
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert response.json()["scope"] == "ask read write"


async def test_too_many_tries_have_oauth2s_form_too(http):
    """For OAuth2's clients look for `error`, whatever the status; Retry-After and RateLimit come as elsewhere."""
    for _ in range(10):
        assert oauth2s(await sign_in(http), 400, "invalid_grant")
    refused = await sign_in(http)
    assert oauth2s(refused, 429, "too_many_tries")
    assert int(refused.headers["retry-after"]) > 0
    assert "ratelimit" in refused.headers


async def test_what_every_path_says_alike_is_a_problem_here_too(http):
    response = await http.get(TOKEN)
    assert (response.headers["content-type"], response.json()["code"]) == (
        "application/problem+json",
        "method_not_allowed",
    )


@pytest.mark.parametrize("declared", [True, False])
async def test_too_large_a_form_is_said_in_oauth2s_form(http, declared):
    body = b"grant_type=password&password=" + b"x" * 70_000

    async def pieces():
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await http.post(TOKEN, content=body if declared else pieces(), headers=headers)
    assert oauth2s(response, 413, "body_too_large")


async def test_a_slow_database_is_said_in_oauth2s_form(settings, models, admin):
    async with (
        running(settings.model_copy(update={"db_command_timeout": 0.2}), models) as live,
        httpx2.AsyncClient(base_url=live.url, timeout=30, event_hooks={"response": [keeps_to_it]}) as http,
        admin.transaction(),
    ):
        await admin.execute("lock table limits")
        response = await sign_in(http)
    assert oauth2s(response, 503, "database_unavailable")
    assert response.headers["retry-after"] == "5"


async def test_no_cache_keeps_what_the_api_answers(http, live):
    registration, code = await register(http, live)
    body = {"registration_id": registration, "code": "wrong"}
    answers = [
        await http.post("/api/v1/auth/register", json=ADA),
        await http.post("/api/v1/auth/verify", json=body),
        await http.post("/api/v1/auth/verify", json=body | {"code": code}),
        await http.post("/api/v1/auth/verify", json={}),
        await http.get("/api/v1/me"),
        await http.get("/api/v1/nowhere"),
    ]
    assert [answer.status_code for answer in answers] == [202, 400, 204, 422, 401, 404]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


async def test_who_leaves_amid_a_form_is_no_defect(live):
    host, port = live.url.removeprefix("http://").split(":")
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection(host, int(port))
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 90\r\n\r\ngrant_type=pass"
        writer.write(f"POST {TOKEN} HTTP/1.1\r\nHost: {host}\r\n".encode() + form)
        await writer.drain()
        writer.close()
        async with asyncio.timeout(20):
            while not (ended := [line for line in logs if line["event"] == "request"]):
                await asyncio.sleep(0.02)  # nobody tells a client that is gone
    assert [line["status"] for line in ended] == [400]
    assert all(line["event"] != "defect" for line in logs)

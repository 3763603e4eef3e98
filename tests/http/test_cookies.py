"""A browser's session from outside: the cookie and its flags, where it counts, and what other sites get by it."""

import httpx2
import pytest

from tests.contract import keeps_to_it
from tests.engine import PASSWORD, Live, running
from tests.http.conftest import ADA

OWN = {"Sec-Fetch-Site": "same-origin"}
WRITES = [("POST", "/api/v1/chats", {}), ("DELETE", "/api/v1/sessions", None), ("PATCH", "/api/v1/documents/7", {})]


@pytest.fixture
async def http(live: Live):
    """A browser, so to say, without an account yet."""
    async with httpx2.AsyncClient(base_url=live.url, event_hooks={"response": [keeps_to_it]}) as http:
        yield http


@pytest.fixture
async def ada(http, live: Live):
    """The same, signed in by cookie."""
    asked = await http.post("/api/v1/auth/register", json={"email": ADA, "password": PASSWORD})
    proved = {"registration_id": asked.json()["registration_id"], "code": await live.mailed_code(ADA)}
    assert (await http.post("/api/v1/auth/verify", json=proved)).status_code == 204
    assert (await sign_in(http)).status_code == 204
    return http


async def sign_in(http, password=PASSWORD, email=ADA, **headers):
    """An answer of the route, to a page of our own unless `headers` say otherwise."""
    body = {"email": email, "password": password}
    return await http.post("/api/v1/auth/cookie", json=body, headers=headers or OWN)


def attributes(answer):
    """A Set-Cookie header's parts, but for the value."""
    [said] = answer.headers.get_list("set-cookie")
    name, *rest = said.split("; ")
    return [name.partition("=")[0], *rest]


async def test_the_cookie_is_for_this_host_and_for_no_script(ada):
    answer = await sign_in(ada)
    assert attributes(answer) == ["ringfence", "HttpOnly", f"Max-Age={30 * 86_400}", "Path=/", "SameSite=lax"]
    assert answer.content == b""
    assert answer.headers["cache-control"] == "no-store"


async def test_over_https_it_is_bound_to_it(settings, models):
    trusting = settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    async with running(trusting, models) as live, httpx2.AsyncClient(base_url=live.url) as http, live.account(ADA):
        https = {"X-Forwarded-Proto": "https", **OWN}
        said = attributes(await sign_in(http, **https))
        assert said == ["__Host-ringfence", "HttpOnly", f"Max-Age={30 * 86_400}", "Path=/", "SameSite=lax", "Secure"]
        behind = {"Origin": f"https://{http.base_url.netloc.decode()}"}  # a proxy that is not believed
        assert attributes(await sign_in(http, **behind)) == said
        plain = (await sign_in(http)).headers["set-cookie"].partition(";")[0]
        secure = f"__Host-{plain}"
        for cookie, scheme, status in (
            (plain, "http", 200),
            (secure, "http", 200),
            (secure, "https", 200),
            (plain, "https", 401),
        ):
            headers = {"Cookie": cookie, "X-Forwarded-Proto": scheme}
            async with httpx2.AsyncClient(base_url=live.url) as other:
                assert (await other.get("/api/v1/me", headers=headers)).status_code == status, (cookie, scheme)


async def test_it_opens_the_api_and_the_pages(ada):
    assert (await ada.get("/api/v1/me")).json()["email"] == ADA
    assert (await ada.post("/api/v1/chats", json={}, headers=OWN)).status_code == 201
    page = await ada.get("/library")
    assert page.status_code == 200
    assert ADA in page.text
    assert (await ada.get("/sign-in?next=/search")).headers["location"] == "/search"
    [session] = (await ada.get("/api/v1/sessions")).json()["sessions"]
    assert session["current"]


async def test_it_opens_no_other_protocol(ada):
    assert (await ada.get("/v1/models", headers=OWN)).status_code == 401
    assert (await ada.post("/v1/chat/completions", json={}, headers=OWN)).status_code in {401, 422}
    assert (await ada.post("/v1/embeddings", json={"input": "a", "model": "b"}, headers=OWN)).status_code == 401
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert (await ada.post("/mcp", json=asked, headers=OWN)).status_code == 401


async def test_a_token_that_is_shown_counts_alone(ada):
    for shown in ("Bearer nothing", "Basic abc", ""):
        assert (await ada.get("/api/v1/me", headers={"Authorization": shown})).status_code == 401


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},  # another port, or another name below the same domain
    {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost"},
    {"Origin": "OWN.evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Referer": "OWN/library"},
    {},
]


async def refused(http, method, path, body, headers):
    answer = await http.request(method, path, json=body, headers=headers)
    said = answer.json() if answer.content else {}
    return (answer.status_code, said.get("code")) == (403, "cross_site_request") and "set-cookie" not in answer.headers


async def test_what_another_site_causes_is_refused(ada):
    own = str(ada.base_url).rstrip("/")
    doors = [(method, "/api/v1/auth/cookie", {"email": ADA, "password": PASSWORD}) for method in ("POST", "DELETE")]
    for headers in FOREIGN:
        foreign = {name: value.replace("OWN", own) for name, value in headers.items()}
        for method, path, body in (*WRITES, *doors):  # doors: into another's account, or out of one's own
            assert await refused(ada, method, path, body, foreign), (headers, path)
        assert (await ada.get("/api/v1/me", headers=foreign)).status_code == 200  # reads change nothing
    assert (await ada.get("/api/v1/sessions")).status_code == 200


async def test_what_our_own_page_causes_is_not(ada):
    for headers in (OWN, {"Sec-Fetch-Site": "none"}, {"Origin": str(ada.base_url).rstrip("/")}):
        assert (await ada.post("/api/v1/chats", json={}, headers=headers)).status_code == 201


async def test_a_token_needs_no_origin(live, ada):
    async with live.account("bob@example.com") as bob:
        answer = await bob._http.post("/api/v1/chats", json={}, headers={"Origin": "https://app.example"})
        assert answer.status_code == 201


async def test_nothing_is_told_of_who_has_an_account(ada):
    unknown, wrong = await sign_in(ada, email="nobody@example.com"), await sign_in(ada, password="not it at all")
    assert unknown.status_code == wrong.status_code == 400
    assert unknown.json() == wrong.json()
    assert wrong.json()["code"] == "invalid_grant"
    assert "set-cookie" not in wrong.headers


async def test_failures_are_counted_and_logged_as_those_of_tokens(ada):
    for _ in range(10):
        await sign_in(ada, password="not it at all")
    refused = await sign_in(ada)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_tries")
    asked = {"grant_type": "password", "username": ADA, "password": PASSWORD}
    assert (await ada.post("/api/v1/auth/token", data=asked)).status_code == 429
    kinds = [event["kind"] for event in (await ada.get("/api/v1/audit")).json()["events"]]
    assert kinds.count("sign_in_failed") == 10
    assert {"signed_in", "throttled"} <= set(kinds)


async def test_signing_out_ends_the_session_and_takes_the_cookie_back(ada):
    cookie = ada.cookies["ringfence"]
    answer = await ada.delete("/api/v1/auth/cookie", headers=OWN)
    assert answer.status_code == 204
    said = answer.headers.get_list("set-cookie")
    assert [line.partition("=")[0] for line in said] == ["__Host-ringfence", "ringfence"]
    assert all("Max-Age=0" in line and "HttpOnly" in line for line in said)
    assert "ringfence" not in ada.cookies
    kept = {"Cookie": f"ringfence={cookie}", **OWN}
    assert (await ada.get("/api/v1/me", headers=kept)).json()["code"] == "session_ended"
    for again in (kept, OWN, {"Cookie": "ringfence=rfc_nonsense", **OWN}):
        assert (await ada.delete("/api/v1/auth/cookie", headers=again)).status_code == 204
    assert (await ada.get("/library")).status_code == 303


@pytest.mark.parametrize("by", ["everywhere", "one", "reset", "another password"])
async def test_whatever_ends_sessions_ends_it_at_once(live, ada, by):
    async with httpx2.AsyncClient(base_url=live.url) as other:
        await sign_in(other)
        if by == "everywhere":
            await other.delete("/api/v1/sessions", headers=OWN)
        elif by == "one":
            listed = (await other.get("/api/v1/sessions")).json()["sessions"]
            [session] = [one["session_id"] for one in listed if not one["current"]]
            await other.delete(f"/api/v1/sessions/{session}", headers=OWN)
        elif by == "reset":
            await other.post("/api/v1/auth/forgot", json={"email": ADA})
            mail = await live.until_mailed(ADA, "A new password for Ringfence")
            body = {"email": ADA, "code": live.code_in(mail), "password": "another sentence, as private"}
            assert (await other.post("/api/v1/auth/reset", json=body)).status_code == 204
        else:
            body = {"password": PASSWORD, "new_password": "another sentence, as private"}
            assert (await other.post("/api/v1/me/password", json=body, headers=OWN)).status_code == 204
    answer = await ada.get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    assert (await ada.get("/library")).status_code == 303


async def test_a_cookie_opens_one_account_alone(live, ada):
    document = (await ada.post("/api/v1/chats", json={}, headers=OWN)).headers["location"]
    async with live.account("bob@example.com"), httpx2.AsyncClient(base_url=live.url) as bob:
        await sign_in(bob, email="bob@example.com")
        assert (await bob.get(document)).status_code == 404
        assert ADA not in (await bob.get("/library")).text

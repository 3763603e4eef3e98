from uuid import UUID, uuid4

import jwt
import pytest

from tests.engine import PASSWORD

ADA = {"email": "ada@example.com", "password": PASSWORD}


async def register(http, live, body=ADA):
    response = await http.post("/api/v1/auth/register", json=body)
    assert response.status_code == 202
    return response.json()["registration_id"], await live.mailed_code(body["email"])


async def sign_in(http, email=ADA["email"], password=PASSWORD):
    return await http.post(
        "/api/v1/auth/token", data={"grant_type": "password", "username": email, "password": password}
    )


async def test_register_verify_sign_in_me(http, live):
    registration, code = await register(http, live)
    verified = await http.post("/api/v1/auth/verify", json={"registration_id": registration, "code": code})
    assert (verified.status_code, verified.content) == (204, b"")
    token = await sign_in(http)
    assert token.status_code == 200
    assert token.headers["cache-control"] == "no-store"
    assert token.json()["token_type"] == "bearer"
    assert token.json()["expires_in"] == 900
    me = await http.get("/api/v1/me", headers={"Authorization": f"Bearer {token.json()['access_token']}"})
    assert me.status_code == 200
    assert me.json()["email"] == "ada@example.com"
    assert UUID(me.json()["user_id"])


async def test_a_wrong_code_and_an_unknown_registration_look_alike(http, live):
    registration, code = await register(http, live)
    wrong = "00000000" if code != "00000000" else "11111111"
    answers = [
        await http.post("/api/v1/auth/verify", json={"registration_id": id_, "code": wrong})
        for id_ in (registration, str(uuid4()))
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["code"] == "wrong_code"


async def test_failures_of_sign_in_look_alike_and_are_oauth2s(http, live):
    await register(http, live)
    answers = [await sign_in(http), await sign_in(http, "nobody@example.com"), await sign_in(http, "no address")]
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["error"] == "invalid_grant"


async def test_registering_a_known_address_answers_as_an_unknown_one(http, live):
    registration, code = await register(http, live)
    await http.post("/api/v1/auth/verify", json={"registration_id": registration, "code": code})
    known = await http.post("/api/v1/auth/register", json=ADA)
    unknown = await http.post("/api/v1/auth/register", json={**ADA, "email": "eve@example.com"})
    assert known.status_code == unknown.status_code == 202
    assert known.json().keys() == unknown.json().keys()
    assert known.json()["detail"] == unknown.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({**ADA, "email": "not an address"}, 400, "invalid_email"),
        ({**ADA, "password": "short"}, 400, "weak_password"),
        ({**ADA, "password": "x" * 300}, 400, "weak_password"),
        ({"email": "a@example.com"}, 422, "bad_request"),
        ({**ADA, "admin": True}, 422, "bad_request"),
        ({**ADA, "password": 5}, 422, "bad_request"),
        ([], 422, "bad_request"),
    ],
)
async def test_bad_registrations_are_explained_without_repeating_them(http, body, status, code):
    response = await http.post("/api/v1/auth/register", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert "not an address" not in response.text
    assert "x" * 300 not in response.text


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "no_token"),
        ("Bearer", "no_token"),
        ("Basic YTpi", "no_token"),
        ("Bearer nonsense", "invalid_token"),
        ("Bearer a.b.c", "invalid_token"),
        ("bearer rfk_", "invalid_token"),
    ],
)
async def test_without_a_good_token_it_is_401(http, header, code):
    """As RFC 6750, section 3, says it: only a token that was shown is called invalid."""
    headers = {"Authorization": header} if header else {}
    for path in ("/api/v1/me", "/api/v1/documents", f"/api/v1/documents/{uuid4()}"):
        response = await http.get(path, headers=headers)
        assert response.status_code == 401
        challenge = 'Bearer realm="ringfence"' if code == "no_token" else 'Bearer error="invalid_token"'
        assert response.headers["www-authenticate"] == challenge
        assert response.json()["code"] == code


@pytest.fixture
async def signed_in(http, live):
    """Tokens of Ada's first session."""
    registration, code = await register(http, live)
    await http.post("/api/v1/auth/verify", json={"registration_id": registration, "code": code})
    return (await sign_in(http)).json()


def bearer(tokens):
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def renew(http, tokens):
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return await http.post("/api/v1/auth/token", data=form)


async def test_a_refresh_token_is_exchanged_for_new_tokens(http, signed_in):
    renewed = await renew(http, signed_in)
    assert renewed.status_code == 200
    assert renewed.headers["cache-control"] == "no-store"
    assert renewed.json()["refresh_token"] != signed_in["refresh_token"]
    assert (await http.get("/api/v1/me", headers=bearer(renewed.json()))).status_code == 200
    again = await renew(http, renewed.json())
    assert again.status_code == 200
    reused = await renew(http, signed_in)  # two steps back: somebody has a copy
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    for tokens in (signed_in, renewed.json(), again.json()):
        refused = await http.get("/api/v1/me", headers=bearer(tokens))
        assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")
        assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"username": "a@example.com"}, "invalid_request"),
        ({"grant_type": "password", "username": "a@example.com"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "nonsense"}, "invalid_grant"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": ["password", "password"]}, "invalid_request"),
    ],
)
async def test_bad_token_requests_are_oauth2s_errors(http, form, error):
    response = await http.post("/api/v1/auth/token", data=form)
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert response.json().keys() == {"error", "error_description"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"grant_type": "password"}', "application/json"),
        (b"grant_type", "application/x-www-form-urlencoded"),
        ("grant_type=pässword".encode(), "application/x-www-form-urlencoded"),
        (b"grant_type=%ff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % n for n in range(50)), "application/x-www-form-urlencoded"),
    ],
)
async def test_what_is_no_form_is_an_invalid_request(http, body, kind):
    response = await http.post("/api/v1/auth/token", content=body, headers={"Content-Type": kind})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


async def test_sessions_are_listed_and_ended_one_by_one(http, signed_in):
    other = (await sign_in(http)).json()
    listed = (await http.get("/api/v1/sessions", headers=bearer(other))).json()["sessions"]
    assert [session["current"] for session in listed].count(True) == 1
    assert {session["address"] for session in listed} == {"127.0.0.1"}
    assert all("httpx" in session["agent"] for session in listed)
    [first] = [session["session_id"] for session in listed if not session["current"]]
    assert (await http.delete(f"/api/v1/sessions/{first}", headers=bearer(other))).status_code == 204
    assert (await http.get("/api/v1/me", headers=bearer(signed_in))).status_code == 401
    assert (await renew(http, signed_in)).status_code == 400
    gone = await http.delete(f"/api/v1/sessions/{first}", headers=bearer(other))
    assert (gone.status_code, gone.json()["code"]) == (404, "session_not_found")
    assert (await http.get("/api/v1/me", headers=bearer(other))).status_code == 200


async def test_nobody_ends_anothers_session(http, live, signed_in):
    listed = (await http.get("/api/v1/sessions", headers=bearer(signed_in))).json()["sessions"]
    async with live.account("eve@example.com") as eve:
        response = await eve._http.delete(f"/api/v1/sessions/{listed[0]['session_id']}")
        assert (response.status_code, response.json()["code"]) == (404, "session_not_found")
        await eve._http.delete("/api/v1/sessions")
    assert (await http.get("/api/v1/me", headers=bearer(signed_in))).status_code == 200


@pytest.mark.parametrize("everywhere", [False, True])
async def test_signing_out_ends_this_session_or_all(http, signed_in, everywhere):
    other = (await sign_in(http)).json()
    if everywhere:
        ended = await http.delete("/api/v1/sessions", headers=bearer(other))
    else:
        ended = await http.post("/api/v1/auth/sign-out", headers=bearer(other))
    assert ended.status_code == 204
    assert (await http.get("/api/v1/me", headers=bearer(other))).status_code == 401
    assert (await http.get("/api/v1/me", headers=bearer(signed_in))).status_code == (401 if everywhere else 200)


async def test_the_public_keys_are_there_for_all(http, signed_in):
    [key] = (await http.get("/.well-known/jwks.json")).json()["keys"]
    header = jwt.get_unverified_header(signed_in["access_token"])
    assert (key["kid"], key["crv"], key.get("d")) == (header["kid"], "Ed25519", None)


async def test_too_many_tries_are_told_when_to_come_back(http, signed_in):
    for _ in range(10):
        assert (await sign_in(http, password="wrong " + PASSWORD)).status_code == 400
    refused = await sign_in(http)
    assert (refused.status_code, refused.json()["error"]) == (429, "too_many_tries")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-policy"] == '"sign-in";q=10;w=600'
    assert refused.headers["ratelimit"] == f'"sign-in";r=0;t={refused.headers["retry-after"]}'

from uuid import UUID, uuid4

import pytest

from tests.engine import PASSWORD

ADA = {"email": "ada@example.com", "password": PASSWORD}


async def register(http, live, body=ADA):
    response = await http.post("/api/v1/auth/register", json=body)
    assert response.status_code == 202
    return response.json()["registration_id"], await live.mailed_code(body["email"])


async def sign_in(http, email=ADA["email"], password=PASSWORD):
    return await http.post("/api/v1/auth/token", data={"username": email, "password": password})


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


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Bearer", "Basic YTpi", "Bearer a.b.c"])
async def test_without_a_good_token_it_is_401(http, header):
    headers = {"Authorization": header} if header else {}
    for path in ("/api/v1/me", "/api/v1/documents", f"/api/v1/documents/{uuid4()}"):
        response = await http.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["code"] in {"no_token", "invalid_token"}

"""Resend, forgot, reset, and changing the password and the address, over HTTP."""

import asyncio
from uuid import uuid4

import pytest

from tests.engine import PASSWORD
from tests.http.test_accounts import ADA, register, sign_in

OTHER = "another staple, another horse"
NEW = "ada@example.org"


@pytest.fixture
async def bearer(http, live):
    registration, code = await register(http, live)
    await http.post("/api/v1/auth/verify", json={"registration_id": registration, "code": code})
    return {"Authorization": f"Bearer {(await sign_in(http)).json()['access_token']}"}


async def post(http, path, headers=None, **body):
    return await http.post(f"/api/v1{path}", json=body, headers=headers)


def looks(answer):
    """What an answer shows, but for what is never twice the same."""
    own = {"date", "x-request-id"}
    return (
        answer.status_code,
        answer.content,
        {name: value for name, value in answer.headers.items() if name not in own},
    )


async def test_forgot_reset_sign_in_and_all_sessions_have_ended(http, live, bearer):
    assert (await post(http, "/auth/forgot", email=ADA["email"])).status_code == 202
    mail = await live.until_mailed(ADA["email"], "A new password for Ringfence")
    code = live.code_in(mail)
    done = await post(http, "/auth/reset", email=ADA["email"], code=code, password=OTHER)
    assert (done.status_code, done.content) == (204, b"")
    assert (await http.get("/api/v1/me", headers=bearer)).status_code == 401
    assert (await sign_in(http)).status_code == 400
    assert (await sign_in(http, password=OTHER)).status_code == 200
    again = await post(http, "/auth/reset", email=ADA["email"], code=code, password=OTHER)
    assert (again.status_code, again.json()["code"]) == (400, "wrong_code")
    await live.until_mailed(ADA["email"], "Your Ringfence password has changed")


async def test_forgot_resend_and_reset_look_alike_for_known_and_unknown_addresses(http, bearer):
    known, unknown = ADA["email"], "nobody@example.com"
    forgot = [looks(await post(http, "/auth/forgot", email=email)) for email in (known, unknown, known, unknown)]
    assert all(one == forgot[0] for one in forgot)
    wrong = [looks(await post(http, "/auth/reset", email=e, code="1", password=OTHER)) for e in (known, unknown)]
    assert wrong[0] == wrong[1]
    registrations = [(await post(http, "/auth/register", email=e, password=PASSWORD)).json() for e in (known, unknown)]
    ids = [registration["registration_id"] for registration in registrations] + [str(uuid4())]
    resent = [await post(http, "/auth/resend", registration_id=one) for one in ids]
    assert {answer.status_code for answer in resent} == {202}
    assert len({answer.json()["detail"] for answer in resent}) == 1


async def test_answers_are_the_same_while_mail_is_down_and_nothing_is_lost_or_sent_twice(http, live, bearer):
    """Each letter is tried again until the server is back, and arrives once."""
    live.mails.clear()
    live.smtp.message_ids.clear()
    up = looks(await post(http, "/auth/forgot", email="up@example.com"))
    await live.until_mailed("up@example.com", "A new password for Ringfence")
    live.smtp.down = True
    emails = [ADA["email"], "nobody@example.com"]
    down = [looks(await post(http, "/auth/forgot", email=email)) for email in emails]
    down += [looks(await post(http, "/auth/forgot", email=email)) for email in emails]  # within the minute: no mail
    assert all(one == up for one in down)
    async with asyncio.timeout(30):
        while live.smtp.refused < 2:
            await asyncio.sleep(0.02)
    live.smtp.down = False
    for email in emails:
        async with asyncio.timeout(60):
            while email not in {mail.to for mail in live.mails}:
                await asyncio.sleep(0.02)
    assert sorted(mail.to for mail in live.mails) == sorted([*emails, "up@example.com"])
    assert len(set(live.smtp.message_ids)) == 3


async def test_another_password_keeps_this_session_and_ends_the_others(http, bearer):
    other = {"Authorization": f"Bearer {(await sign_in(http)).json()['access_token']}"}
    done = await post(http, "/me/password", bearer, password=PASSWORD, new_password=OTHER)
    assert (done.status_code, done.content) == (204, b"")
    assert (await http.get("/api/v1/me", headers=bearer)).status_code == 200
    assert (await http.get("/api/v1/me", headers=other)).status_code == 401
    wrong = await post(http, "/me/password", bearer, password=PASSWORD, new_password=OTHER)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "password_not_confirmed")


async def test_the_address_moves_by_a_code_to_the_new_one(http, live, bearer):
    asked = await post(http, "/me/email", bearer, email=NEW, password=PASSWORD)
    assert asked.status_code == 202
    code = live.code_in(await live.until_mailed(NEW, "Your new address at Ringfence"))
    done = await post(http, "/me/email/confirm", bearer, code=code)
    assert (done.status_code, done.content) == (204, b"")
    assert (await http.get("/api/v1/me", headers=bearer)).json()["email"] == NEW
    assert (await sign_in(http, NEW)).status_code == 200
    mail = await live.until_mailed(ADA["email"], "The address of your Ringfence account has changed")
    assert NEW in mail.html


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/me/password", {"password": PASSWORD, "new_password": OTHER}),
        ("/me/email", {"password": PASSWORD, "email": NEW}),
        ("/me/email/confirm", {"code": "01234567"}),
    ],
)
async def test_an_api_key_changes_nothing_of_this(http, bearer, path, body):
    wanted = {"name": "k", "scopes": ["read", "write", "ask"], "expires_in_days": 1, "password": PASSWORD}
    key = (await post(http, "/api-keys", bearer, **wanted)).json()["key"]
    answer = await post(http, path, {"Authorization": f"Bearer {key}"}, **body)
    assert (answer.status_code, answer.json()["code"]) == (403, "session_required")
    answer = await post(http, path, **body)
    assert (answer.status_code, answer.json()["code"]) == (401, "no_token")


async def test_the_client_offers_all_of_it(live):
    email = "cleo@example.com"
    async with live.account(email) as client:
        await client.change_password(PASSWORD, OTHER)
        await client.change_email(NEW, OTHER)
        await client.confirm_email(await live.mailed_code(NEW))
        await client.forgot(NEW)
        mail = await live.until_mailed(NEW, "A new password for Ringfence")
        await client.reset(NEW, live.code_in(mail), PASSWORD)
        await client.sign_in(NEW, PASSWORD)
        await client.resend(uuid4())

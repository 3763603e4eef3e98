"""Passwords, tokens, limits and addresses from outside: over HTTP, with a real mail server and PostgreSQL."""

import asyncio
import base64
import json
from uuid import uuid4

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.accounts.test_passwords import FOXES
from tests.engine import PASSWORD, running
from tests.http.conftest import ADA, Caller

OTHER = "another staple, another horse"
NOBODY = "nobody@example.com"
BYTES_73 = PASSWORD + " and so on" * 4 + "12345"


def shown(answer):
    """What an answer shows, but for what is never twice the same."""
    own = {"date", "x-request-id", "ratelimit"}
    body = {name: value for name, value in answer.json().items() if name != "registration_id"}
    return answer.status_code, body, {name: value for name, value in answer.headers.items() if name not in own}


async def test_known_and_unknown_addresses_are_answered_alike_with_mail_up_or_down(caller, clock):
    await caller.account()
    seen = {}
    for down in (False, True):
        caller.live.smtp.down = down
        clock.advance(120)
        for email in (ADA, NOBODY):
            registration = await caller.post("/auth/register", email=email, password=OTHER)
            clock.advance(61)
            flows = {
                "register": registration,
                "resend": await caller.post("/auth/resend", registration_id=registration.json()["registration_id"]),
                "forgot": await caller.post("/auth/forgot", email=email),
                "forgot again": await caller.post("/auth/forgot", email=email),
                "reset": await caller.post("/auth/reset", email=email, code="01234567", password=OTHER),
                "sign in": await caller.sign_in(OTHER, email),
            }
            for flow, answer in flows.items():
                seen.setdefault(flow, []).append(shown(answer))
    for flow, answers in seen.items():
        assert len(answers) == 4
        assert all(answer == answers[0] for answer in answers), flow


@pytest.mark.parametrize("password", [BYTES_73, FOXES], ids=["73 bytes", "64 emoji"])
async def test_long_passwords_count_to_their_end(caller, password):
    assert len(password.encode()) > 72
    await caller.account(password=password)
    for tail in ("", "z", "🐢"):
        assert (await caller.sign_in(password[:-1] + tail)).json()["error"] == "invalid_grant"
    assert (await caller.sign_in(password)).status_code == 200


ODD = ["", "\0" * 20, "nul\0inside a password", "x" * 10_000, "a" + "\u0300\u0316" * 5000, "\uffff" * 100]


async def test_no_password_is_a_500(caller):
    for number, password in enumerate(ODD):
        email = f"user{number}@example.com"
        token = (await caller.account(email))["access_token"]
        wanted = {"name": "k", "scopes": ["read"], "expires_in_days": 1, "password": password}
        answers = [
            await caller.post("/auth/register", email="bob@example.com", password=password),
            await caller.post("/auth/reset", email=email, code="1", password=password),
            await caller.post("/me/password", token=token, password=password, new_password=OTHER),
            await caller.post("/me/email", token=token, password=password, email="new@example.org"),
            await caller.post("/api-keys", token=token, **wanted),
            await caller.sign_in(password, email),
            await caller.sign_in(email=password),
            await caller.post("/me/password", token=token, password=PASSWORD, new_password=password),
        ]
        found = [answer.status_code for answer in answers]
        assert set(found) <= {202, 204, 400, 403}
        now = password if found[-1] == 204 else PASSWORD
        assert (await caller.sign_in(now, email)).status_code == 200


async def test_a_flood_of_sign_ins_leaves_room_for_other_requests(settings, models):
    """On the event loop, each hash would hold up all other requests; one would be answered between two of them."""
    sign_ins = 8
    async with (
        running(settings.model_copy(update={"bcrypt_cost": 12}), models) as live,
        httpx2.AsyncClient(base_url=live.url, timeout=60) as http,
    ):
        caller = Caller(http, live)
        token = (await caller.account())["access_token"]
        flood = asyncio.gather(*(caller.sign_in(OTHER, f"user{number}@example.com") for number in range(sign_ins)))
        answered = 0
        while not flood.done():
            assert (await caller.get("/me", token)).status_code == 200
            answered += 1
        assert {answer.status_code for answer in await flood} == {400}
    assert answered > 2 * sign_ins


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forgeries(token, public_key):
    """Tokens that are not quite like this one, and what was done to them."""
    head, body, signature = token.split(".")
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    public = Ed25519PublicKey.from_public_bytes(public_key)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hs256, mine = jwt.get_algorithm_by_name("HS256"), Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(mine.public_key().public_bytes_raw())}

    def parts(header, claims=claims):
        return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"

    for algorithm in ("none", "None", "nOnE"):
        yield f"unsigned: {algorithm}", parts({**header, "alg": algorithm}) + "."
        yield f"{algorithm}, with the old signature", parts({**header, "alg": algorithm}) + f".{signature}"
    for secret in (public_key, pem):
        text = parts({**header, "alg": "HS256"})
        yield "an HMAC keyed with the public key", f"{text}.{b64(hs256.sign(text.encode(), secret))}"
    for change in (
        {"jwk": jwk}, {"jku": "https://evil.example.org/jwks.json"}, {"x5u": "https://evil.example.org"},
        {"kid": "../../../../dev/null"}, {"kid": "' or true --"}, {"kid": "\0"}, {"kid": ["a"]}, {"kid": {}},
        {"kid": None}, {"typ": "JWT"}, {"crit": ["exp"]}, {},
    ):  # fmt: skip
        text = parts({**header, **change})
        yield f"signed by another key: {change}", f"{text}.{b64(mine.sign(text.encode()))}"
    for claim in claims:
        less = {name: value for name, value in claims.items() if name != claim}
        yield f"without {claim}", f"{parts(header, less)}.{signature}"
    yield "another user's", f"{parts(header, {**claims, 'sub': str(uuid4())})}.{signature}"
    yield "no signature", f"{head}.{body}."
    yield "padded", token + "="
    yield "twice", f"{token}.{token}"


async def test_no_token_but_the_engines_own_opens_anything(caller):
    tokens = await caller.account()
    [key] = (await caller.http.get("/.well-known/jwks.json")).json()["keys"]
    public_key = base64.urlsafe_b64decode(key["x"] + "==")
    for what, token in forgeries(tokens["access_token"], public_key):
        answer = await caller.get("/me", token)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), what
    assert (await caller.get("/me", tokens["access_token"])).status_code == 200


async def test_a_token_of_one_sort_is_none_of_another(caller):
    tokens = await caller.account()
    wanted = {"name": "k", "scopes": ["read"], "expires_in_days": 1, "password": PASSWORD}
    key = (await caller.post("/api-keys", token=tokens["access_token"], **wanted)).json()["key"]
    access, refresh = tokens["access_token"], tokens["refresh_token"]
    for other in (
        refresh,
        "rfk_" + refresh.removeprefix("rfr_"),
        refresh.removeprefix("rfr_"),
        key[4:],
        "rfr_" + key[4:],
    ):
        assert (await caller.get("/me", other)).json()["code"] == "invalid_token"
    for other in (access, key, "rfr_" + key[4:], key[4:], refresh.removeprefix("rfr_")):
        assert (await caller.refresh(other)).json()["error"] == "invalid_grant"
    assert (await caller.get("/me", key)).status_code == (await caller.refresh(refresh)).status_code == 200


async def test_an_access_token_lives_fifteen_minutes_and_the_leeway(caller, clock):
    token = (await caller.account())["access_token"]
    clock.advance(900 + 20)
    assert (await caller.get("/me", token)).status_code == 200
    clock.advance(11)
    answer = await caller.get("/me", token)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_twenty_refreshes_at_once_leave_one_live_family(caller, clock, admin):
    first = (await caller.account())["refresh_token"]
    answers = await asyncio.gather(*(caller.refresh(first) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    [second] = {answer.json()["refresh_token"] for answer in answers}
    assert await admin.fetchval("select count(*) from refresh_tokens where used_at is null") == 1
    clock.advance(11)  # after the grace a copy is a thief's
    reused = await caller.refresh(first)
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert (await caller.refresh(second)).json()["error"] == "invalid_grant"
    for answer in answers:
        assert (await caller.get("/me", answer.json()["access_token"])).json()["code"] == "session_ended"


async def test_refreshes_and_reuse_at_once_never_leave_two_families(caller, clock, admin):
    """Old and new tokens of one session, all at once, again and again: at most one token of it is alive."""
    shown = [(await caller.account())["refresh_token"]]
    for _ in range(4):
        answers = await asyncio.gather(*(caller.refresh(token) for token in shown * 5))
        assert {answer.status_code for answer in answers} <= {200, 400}
        assert await admin.fetchval("select count(*) from refresh_tokens where used_at is null") <= 1
        shown += {answer.json()["refresh_token"] for answer in answers if answer.status_code == 200} - set(shown)
        clock.advance(11)
    assert await admin.fetchval("select count(*) from sessions") == 0


@pytest.mark.parametrize("how", ["reset", "everywhere"])
async def test_a_reset_and_signing_out_everywhere_end_every_session_at_once(caller, how):
    sessions = [await caller.account()] + [(await caller.sign_in()).json() for _ in range(2)]
    if how == "reset":
        await caller.post("/auth/forgot", email=ADA)
        code = caller.live.code_in(await caller.live.until_mailed(ADA, "A new password for Ringfence"))
        ended = await caller.post("/auth/reset", email=ADA, code=code, password=OTHER)
    else:
        headers = {"Authorization": f"Bearer {sessions[0]['access_token']}"}
        ended = await caller.http.delete("/api/v1/sessions", headers=headers)
    assert ended.status_code == 204
    for session in sessions:
        assert (await caller.get("/me", session["access_token"])).json()["code"] == "session_ended"
        assert (await caller.refresh(session["refresh_token"])).json()["error"] == "invalid_grant"


async def test_two_processes_count_sign_ins_together_and_the_owner_comes_in(caller, settings, models, clock, admin):
    await caller.account()
    proxied = settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
    async with (
        running(proxied, models, now=clock) as other,
        httpx2.AsyncClient(base_url=other.url, timeout=60) as http,
    ):
        doors = [caller, Caller(http, other)]
        guesses = [door.sign_in(OTHER, network="198.51.100.1") for door in doors for _ in range(30)]
        found = [answer.status_code for answer in await asyncio.gather(*guesses)]
        assert (found.count(400), found.count(429)) == (10, 50)
        for door in doors:
            refused = await door.sign_in(network="198.51.100.1")
            assert refused.json()["error"] == "too_many_tries"
            assert refused.headers["retry-after"]
            assert refused.headers["ratelimit-policy"] == '"sign-in";q=10;w=600'
            assert (await door.sign_in(network="203.0.113.77")).status_code == 200
    failures = "select count(*) from audit_events where kind = 'sign_in_failed'"
    assert await admin.fetchval(failures) == 10


async def test_variants_that_look_alike_make_no_second_account(caller, admin):
    await caller.account()
    for variant in (
        "ADA@EXAMPLE.COM", "Ada@Example.com", "ada@ｅxample.com", "ａda@example.com", "аda@example.com",
        "ada\u200b@example.com", "ada\u00ad@example.com", "a\u0064\u0307a@example.com", '"ada"@example.com',
        "ada@example.com.", "ada@example。com", " ada@example.com", "ada(x)@example.com", "ﬁ@example.com",
    ):  # fmt: skip
        asked = await caller.post("/auth/register", email=variant, password=OTHER)
        if asked.status_code == 202:  # it is the same address: only its mailbox is told that it has an account
            assert await admin.fetchval("select count(*) from users where email_key <> $1", ADA) == 0
            assert (await caller.sign_in(email=variant)).status_code == 200
        else:
            assert (asked.status_code, asked.json()["code"]) == (400, "invalid_email")
    assert await admin.fetchval("select count(*) from users where verified_at is not null") == 1


async def test_a_wish_for_a_key_of_somebody_elses_session_is_refused(caller):
    """With the right password of the wrong account."""
    await caller.account()
    eve = (await caller.account("eve@example.com", OTHER))["access_token"]
    wanted = {"name": "k", "scopes": ["read"], "expires_in_days": 1, "password": PASSWORD}
    assert (await caller.post("/api-keys", token=eve, **wanted)).json()["code"] == "password_not_confirmed"

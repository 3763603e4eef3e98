"""One-time codes and the mail that brings them, from outside: over HTTP, with a real mail server and PostgreSQL."""

import asyncio
import re
from uuid import UUID

import pytest

from tests.engine import PASSWORD
from tests.http.conftest import ADA

OTHER = "another staple, another horse"
RESET = "A new password for Ringfence"


def wrong(code, number=1):
    return f"{(int(code) + number) % 10**8:08}"


@pytest.fixture
def asked(caller):
    """A code that was mailed for one purpose, and a call that shows a code."""

    async def asked(purpose):
        if purpose == "verify":
            registration = await caller.register()

            async def show(code, network="203.0.113.9"):
                return await caller.post("/auth/verify", network, registration_id=registration, code=code)

            return await caller.live.mailed_code(ADA), show
        await caller.account()
        await caller.post("/auth/forgot", email=ADA)

        async def show_reset(code, network="203.0.113.9"):
            return await caller.post("/auth/reset", network, email=ADA, code=code, password=OTHER)

        return caller.live.code_in(await caller.live.until_mailed(ADA, RESET)), show_reset

    return asked


async def outcomes(calls):
    """How many calls were answered with each status; those that fail all alike."""
    answers = await asyncio.gather(*calls)
    assert len({answer.content for answer in answers if answer.status_code != 204}) <= 1
    found = [answer.status_code for answer in answers]
    return {status: found.count(status) for status in found}


async def until_mailed(live, address, count):
    async with asyncio.timeout(20):
        while [mail.to for mail in live.mails].count(address) < count:
            await asyncio.sleep(0.01)


async def idle(admin):
    """Until no mail is on its way."""
    async with asyncio.timeout(20):
        while await admin.fetchval("select count(*) from jobs where kind = 'mail' and state <> 'parked'"):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("purpose", ["verify", "reset"])
async def test_a_code_is_used_once_even_under_fifty_tries_at_once(asked, purpose):
    code, show = await asked(purpose)
    # From fifty networks, so that no limit is reached: it is the code alone that stops them.
    found = await outcomes(show(code, f"198.51.100.{number}") for number in range(50))
    assert found == {204: 1, 400: 49}
    assert (await show(code)).status_code == 400


@pytest.mark.parametrize("purpose", ["verify", "reset"])
async def test_a_hundred_wrong_guesses_at_once_are_five_and_then_the_right_one_fails(asked, purpose, admin):
    code, show = await asked(purpose)
    found = await outcomes(show(wrong(code, 1 + number), f"198.51.100.{number}") for number in range(100))
    assert found == {400: 100}
    assert await admin.fetchval("select array_agg(attempts) from one_time_codes") == [5]
    assert (await show(code)).json()["code"] == "wrong_code"


@pytest.mark.parametrize("purpose", ["verify", "reset"])
async def test_a_code_lives_ten_minutes(asked, purpose, clock):
    code, show = await asked(purpose)
    clock.advance(600)
    assert (await show(code)).json()["code"] == "wrong_code"


async def test_a_code_is_for_one_purpose(caller, admin):
    tokens = await caller.account()
    await caller.post("/auth/forgot", email=ADA)
    code = caller.live.code_in(await caller.live.until_mailed(ADA, RESET))
    moved = await caller.post("/me/email/confirm", token=tokens["access_token"], code=code)
    assert moved.json()["code"] == "wrong_code"
    for user_id in await admin.fetchval("select array_agg(user_id::text) from users"):
        answer = await caller.post("/auth/verify", registration_id=user_id, code=code)
        assert answer.json()["code"] == "wrong_code"
    assert (await caller.post("/auth/reset", email=ADA, code=code, password=OTHER)).status_code == 204


async def test_resend_sends_none_within_a_minute_and_then_the_older_code_dies(caller, clock, admin):
    registration = await caller.register()
    first = await caller.live.mailed_code(ADA)
    soon = await caller.post("/auth/resend", registration_id=registration)
    await idle(admin)
    assert len(caller.live.mails) == 1
    clock.advance(60)
    late = await caller.post("/auth/resend", registration_id=registration)
    assert (soon.status_code, soon.json()) == (late.status_code, late.json())
    await until_mailed(caller.live, ADA, 2)
    second = await caller.live.mailed_code(ADA)
    old = await caller.post("/auth/verify", registration_id=registration, code=first)
    assert old.json()["code"] == "wrong_code"
    assert (await caller.post("/auth/verify", registration_id=registration, code=second)).status_code == 204


async def test_an_account_has_a_hundred_failures_however_many_fresh_codes_are_asked_for(caller, clock, admin):
    """Each guess from elsewhere, each at a code that was mailed; in the end the right one is not looked at either."""
    await caller.account()
    guesses, quickly_judged = 0, "vqxkzj wfbghp"
    for number in range(25):
        clock.advance(181)  # the address may get one more letter
        await caller.post("/auth/forgot", f"192.0.2.{number}", email=ADA)
        for place in range(5):
            network = f"198.51.100.{(5 * number + place) % 256}"
            answer = await caller.post("/auth/reset", network, email=ADA, code="x", password=quickly_judged)
            assert (answer.status_code, answer.json()["code"]) == (400, "wrong_code")
            guesses += 1
        if await admin.fetchval("select count(*) from audit_events where kind = 'throttled'"):
            break
    assert 100 <= guesses <= 110  # with what came back meanwhile, one each 14.4 minutes
    clock.advance(181)
    await caller.post("/auth/forgot", "192.0.2.200", email=ADA)
    await idle(admin)
    code = await caller.live.mailed_code(ADA)
    right = await caller.post("/auth/reset", "192.0.2.201", email=ADA, code=code, password=OTHER)
    assert right.json()["code"] == "wrong_code"
    assert (await caller.sign_in()).status_code == 200  # who knows the password is not locked out


async def test_a_mail_server_that_is_away_for_ten_minutes_loses_nothing_and_brings_nothing_twice(caller, clock, admin):
    """Its letters' codes are dead by then: they are written anew, with codes that work; one of each."""
    live = caller.live
    await caller.account()
    live.mails.clear()
    live.smtp.message_ids.clear()
    live.smtp.down = True
    bob = await caller.register("bob@example.com")
    eve = await caller.register("eve@example.com")
    await caller.post("/auth/forgot", email=ADA)
    await caller.post("/auth/forgot", email="nobody@example.com")
    clock.advance(61)
    await caller.post("/auth/resend", registration_id=eve)
    await caller.post("/auth/forgot", email=ADA)
    while live.smtp.refused < 6:  # each was tried
        await asyncio.sleep(0.01)
    clock.advance(600)
    live.smtp.down = False
    # As the back-off would have it within a minute.
    async with asyncio.timeout(20):
        while await admin.fetchval("select count(*) from jobs where kind = 'mail'"):
            await admin.execute("update jobs set run_after = now() where state = 'ready' and run_after > now()")
            await asyncio.sleep(0.05)
    addresses = ["bob@example.com", "eve@example.com", ADA, "nobody@example.com"]
    assert sorted(mail.to for mail in live.mails) == sorted(addresses)
    assert len(set(live.smtp.message_ids)) == len(addresses)
    for registration, email in ((bob, "bob@example.com"), (eve, "eve@example.com")):
        code = await live.mailed_code(email)
        assert (await caller.post("/auth/verify", registration_id=registration, code=code)).status_code == 204
    reset = await caller.post("/auth/reset", email=ADA, code=await live.mailed_code(ADA), password=OTHER)
    assert reset.status_code == 204
    assert not re.search(r"\d{8}", next(mail.text for mail in live.mails if mail.to == "nobody@example.com"))


async def test_a_mail_that_is_refused_for_good_is_parked_with_its_reason(caller, admin):
    caller.live.smtp.never = True
    registration = await caller.register()
    async with asyncio.timeout(20):
        while not (row := await admin.fetchrow("select reason, attempts from jobs where state = 'parked'")):
            await asyncio.sleep(0.01)
    assert tuple(row) == ("mail_refused", 1)
    caller.live.smtp.never = False
    assert await admin.fetchval("select user_id from jobs") == UUID(registration)


async def test_an_account_mails_ten_strangers_a_day_and_no_more(caller, admin):
    token = (await caller.account())["access_token"]
    moves = [
        await caller.post("/me/email", token=token, email=f"stranger{number}@example.org", password=PASSWORD)
        for number in range(11)
    ]
    assert [move.status_code for move in moves] == [202] * 10 + [429]
    assert moves[-1].headers["ratelimit-policy"].startswith('"mail-account";q=10;w=86400')
    await idle(admin)
    assert len([mail for mail in caller.live.mails if mail.to.startswith("stranger")]) <= 10

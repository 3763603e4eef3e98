"""Forgot and reset; another code for a registration; and how often each of them may be tried."""

import asyncio

import pytest

from ringfence.accounts.codes import CodePurpose
from ringfence.accounts.sessions import Device
from ringfence.errors import Invalid
from ringfence.ids import new_user_id
from tests.accounts.test_service import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, outcome, verified, wrong

NOBODY = "nobody@example.com"
ELSEWHERE = Device("198.51.100.7", "another test")


@pytest.fixture
async def ann(accounts, mailbox):
    return await verified(accounts, mailbox, EMAIL, PASSWORD)


@pytest.fixture
async def code(recovery, ann, mailbox):
    """A code that was mailed to ann."""
    await recovery.forgot(EMAIL, DEVICE)
    return await mailbox.last_code(EMAIL)


async def forgotten(recovery, mailbox, device):
    await recovery.forgot(EMAIL, device)
    return await mailbox.last_code(EMAIL)


async def audited(admin):
    return [row["kind"] for row in await admin.fetch("select kind from audit_events order by created_at")]


# Forgot, reset


async def test_a_mailed_code_sets_a_new_password(accounts, recovery, ann, code, admin, mailbox):
    await recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "invalid_grant"
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "ok"
    assert {"reset_requested", "password_reset"} <= set(await audited(admin))
    assert (await mailbox.to(EMAIL))[-1].subject == "Your Ringfence password has changed"
    assert await admin.fetchval("select count(*) from users") == 1
    assert await admin.fetchval("select count(*) from one_time_codes") == 0


async def test_a_reset_ends_every_session_at_once_access_tokens_included(accounts, sessions, recovery, ann, code):
    tokens = await accounts.sign_in(EMAIL, PASSWORD, DEVICE)
    await recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)
    assert await outcome(sessions.check(tokens.access)) == "session_ended"
    assert await outcome(sessions.refresh(tokens.refresh, DEVICE)) == "invalid_grant"


async def test_the_address_is_found_however_it_is_spelt_and_mailed_as_stored(accounts, mailbox, recovery):
    await verified(accounts, mailbox, "Ann.Lee@Example.com", PASSWORD)
    await recovery.forgot("ANN.LEE@EXAMPLE.COM", DEVICE)
    [mail] = await mailbox.to("ANN.LEE@example.com")
    code = await mailbox.last_code(mail.to)
    await recovery.reset("ann.lee@example.com", code, OTHER_PASSWORD, DEVICE)
    assert [mail.subject for mail in await mailbox.to("ANN.LEE@example.com")] == ["Your Ringfence password has changed"]


async def test_a_reset_code_works_once_even_under_fifty_tries_at_once(accounts, recovery, ann, code):
    tries = [recovery.reset(EMAIL, code, f"{PASSWORD} number {number}", DEVICE) for number in range(50)]
    outcomes = await asyncio.gather(*(outcome(attempt) for attempt in tries))
    assert outcomes.count("ok") == 1
    assert set(outcomes) <= {"ok", "wrong_code", "too_many_tries"}
    winner = outcomes.index("ok")
    assert await outcome(accounts.sign_in(EMAIL, f"{PASSWORD} number {winner}", ELSEWHERE)) == "ok"


async def test_a_hundred_wrong_guesses_at_once_are_five_and_then_the_right_one_fails(recovery, ann, code, admin):
    places = [Device(f"198.51.100.{number}", "") for number in range(100)]
    guesses = [recovery.reset(EMAIL, wrong(code, 1 + n), OTHER_PASSWORD, at) for n, at in enumerate(places)]
    assert set(await asyncio.gather(*(outcome(guess) for guess in guesses))) == {"wrong_code"}
    assert await admin.fetchval("select attempts from one_time_codes") == 5
    late = await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, Device("192.0.2.1", "")))
    assert late in {"wrong_code", "too_many_tries"}


async def test_a_reset_code_lives_ten_minutes(recovery, ann, code, clock):
    clock.advance(600)
    assert await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)) == "wrong_code"


async def test_a_weak_password_costs_no_attempt(recovery, ann, code, admin):
    assert await outcome(recovery.reset(EMAIL, code, "password1234", DEVICE)) == "weak_password"
    assert await admin.fetchval("select attempts from one_time_codes") == 0
    assert await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_within_a_minute_no_other_code_is_mailed_and_the_first_one_holds(recovery, ann, code, mailbox, clock):
    clock.advance(59)
    await recovery.forgot(EMAIL, DEVICE)
    assert await mailbox.last_code(EMAIL) == code
    assert await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_after_a_minute_another_code_comes_and_the_older_one_dies(recovery, ann, code, mailbox, clock):
    clock.advance(61)
    await recovery.forgot(EMAIL, DEVICE)
    fresh = await mailbox.last_code(EMAIL)
    assert await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)) == "wrong_code"
    assert await outcome(recovery.reset(EMAIL, fresh, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_of_many_who_forget_at_once_one_mails(recovery, ann, admin):
    await asyncio.gather(*(recovery.forgot(EMAIL, DEVICE) for _ in range(20)))
    assert await admin.fetchval("select count(*) from one_time_codes") == 1


async def test_an_unknown_address_is_told_nothing_and_its_code_opens_nothing(recovery, admin, mailbox):
    await recovery.forgot(NOBODY, DEVICE)
    [mail] = await mailbox.to(NOBODY)
    assert "no account" in mail.text
    assert not any(character.isdigit() for character in mail.text)
    assert await outcome(recovery.reset(NOBODY, "01234567", OTHER_PASSWORD, DEVICE)) == "wrong_code"
    assert await admin.fetchval("select count(*) from users where verified_at is not null") == 0


async def test_the_right_code_of_an_address_without_account_opens_nothing(recovery, codes, admin, db):
    """As when the account is deleted while its code is on the way."""
    await recovery.forgot(NOBODY, DEVICE)
    row = await admin.fetchrow("select user_id from one_time_codes")
    code = codes.new(row["user_id"], CodePurpose.RESET)
    await admin.execute("update one_time_codes set digest = $1", code.digest)
    assert await outcome(recovery.reset(NOBODY, code.text, OTHER_PASSWORD, DEVICE)) == "wrong_code"


async def test_what_is_no_address_is_a_wrong_code(recovery):
    assert await outcome(recovery.forgot("ann", DEVICE)) == "invalid_email"
    assert await outcome(recovery.reset("ann", "01234567", OTHER_PASSWORD, DEVICE)) == "wrong_code"


async def test_a_registration_on_its_way_is_untouched_by_a_recovery(accounts, recovery, mailbox):
    registration = await accounts.register(NOBODY, PASSWORD, DEVICE)
    await recovery.forgot(NOBODY, DEVICE)
    assert await outcome(accounts.verify(registration, await mailbox.code(registration), DEVICE)) == "ok"
    assert await outcome(accounts.sign_in(NOBODY, PASSWORD, DEVICE)) == "ok"


async def test_a_recovery_is_no_registration(accounts, recovery, ann, code, admin):
    """Its code, shown as a registration's, opens nothing; nor does its row sign in."""
    pending = await admin.fetchval("select user_id from one_time_codes")
    assert await outcome(accounts.verify(pending, code, DEVICE)) == "wrong_code"
    await accounts.resend(pending, DEVICE)
    assert await admin.fetchval("select count(*) from jobs where user_id = $1", pending) == 1


async def test_a_reset_lets_the_owner_in_however_often_others_failed(accounts, recovery, ann, code):
    places = [Device(f"198.51.100.{number}", "") for number in range(11)]
    for place in places:
        await asyncio.gather(*(outcome(accounts.sign_in(EMAIL, "a wrong password", place)) for _ in range(10)))
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "too_many_tries"
    await recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "ok"


# Limits


async def test_twenty_wrong_codes_from_one_place_leave_the_owner_able_to_recover(recovery, ann, code, mailbox, clock):
    seen = []
    for number in range(6):
        latest = await mailbox.last_code(EMAIL)
        seen += [await outcome(recovery.reset(EMAIL, wrong(latest), OTHER_PASSWORD, ELSEWHERE)) for _ in range(5)]
        clock.advance(61)
        await recovery.forgot(EMAIL, Device(f"192.0.2.{number}", ""))
    assert seen == ["wrong_code"] * 30  # that the last ten were not looked at, nobody is told
    latest = await mailbox.last_code(EMAIL)
    assert await outcome(recovery.reset(EMAIL, latest, OTHER_PASSWORD, ELSEWHERE)) == "wrong_code"
    assert await outcome(recovery.reset(EMAIL, await mailbox.last_code(EMAIL), OTHER_PASSWORD, DEVICE)) == "ok"


async def test_an_account_has_a_hundred_failures_at_once_however_many_fresh_codes_are_asked_for(
    accounts, mailbox, clock, admin
):
    """Each registration is fresh, each guess comes from elsewhere; after a hundred even the right code is refused."""
    for number in range(20):
        place = Device(f"198.51.100.{number}", "")
        registration = await accounts.register(EMAIL, PASSWORD, place)
        for _ in range(5):
            assert await outcome(accounts.verify(registration, "x", place)) == "wrong_code"
    clock.advance(180)  # the address may get one more letter
    late = await accounts.register(EMAIL, PASSWORD, DEVICE)
    code = await mailbox.last_code(EMAIL)
    assert await outcome(accounts.verify(late, code, DEVICE)) == "wrong_code"
    [row] = await admin.fetch("select user_id, detail from audit_events where kind = 'throttled'")
    assert (row["user_id"], row["detail"]) == (late, '{"what": "verify"}')
    clock.advance(3600)
    await accounts.resend(late, DEVICE)
    assert await outcome(accounts.verify(late, await mailbox.last_code(EMAIL), DEVICE)) == "ok"  # 4 were given back


async def test_who_registers_an_address_again_and_again_does_not_keep_its_owner_from_a_new_password(
    accounts, recovery, ann, mailbox
):
    for number in range(20):
        place = Device(f"198.51.100.{number}", "")
        registration = await accounts.register(EMAIL, PASSWORD, place)
        for _ in range(6):
            await outcome(accounts.verify(registration, "x", place))
    code = await forgotten(recovery, mailbox, DEVICE)
    assert await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_nobody_can_fail_at_a_code_that_was_not_mailed(accounts, mailbox, admin):
    for _ in range(30):  # of which five are mailed
        registration = await accounts.register(EMAIL, PASSWORD, ELSEWHERE)
        await outcome(accounts.verify(registration, "x", ELSEWHERE))
    assert await admin.fetchval("select sum(attempts) from one_time_codes") == 5


async def test_a_whole_site_of_networks_leaves_the_owner_able_to_recover(recovery, ann, code, mailbox, clock):
    """Of IPv6, one customer may have 65,536 networks."""
    for number in range(20):
        latest = await mailbox.last_code(EMAIL)
        network = Device(f"2001:db8:0:{number:x}::1", "")
        for _ in range(5):
            await outcome(recovery.reset(EMAIL, wrong(latest), OTHER_PASSWORD, network))
        clock.advance(181)
        await recovery.forgot(EMAIL, Device(f"192.0.2.{number}", ""))
    latest = await mailbox.last_code(EMAIL)
    site = Device("2001:db8:0:ffff::1", "")
    assert await outcome(recovery.reset(EMAIL, latest, OTHER_PASSWORD, site)) == "wrong_code"
    assert await outcome(recovery.reset(EMAIL, latest, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_throttled_or_not_a_wrong_code_is_answered_alike(accounts, recovery, ann, admin, mailbox):
    """Of an address that has an account and one that has none, with a code on the way and without."""
    await recovery.forgot(EMAIL, DEVICE)
    registration = await accounts.register(NOBODY, PASSWORD, ELSEWHERE)
    seen = set()
    for _ in range(25):
        for call in (
            recovery.reset(EMAIL, "x", OTHER_PASSWORD, ELSEWHERE),
            recovery.reset(NOBODY, "x", OTHER_PASSWORD, ELSEWHERE),
            accounts.verify(registration, "x", ELSEWHERE),
            accounts.verify(new_user_id(), "x", ELSEWHERE),
        ):
            with pytest.raises(Invalid) as caught:
                await call
            seen.add((caught.value.code, caught.value.message))
        await admin.execute("update one_time_codes set attempts = 0")
    assert seen == {("wrong_code", caught.value.message)}
    rows = await admin.fetch("select user_id, detail->>'what' from audit_events where kind = 'throttled'")
    assert {tuple(row) for row in rows} == {(ann, "reset"), (registration, "verify")}
    assert len(rows) == 10  # five of each, and ten an hour at most


async def test_an_address_gets_five_mails_an_hour_from_one_place_and_twenty_from_all(accounts, mailbox):
    for _ in range(7):
        await accounts.register(EMAIL, PASSWORD, DEVICE)
    assert len(await mailbox.to(EMAIL)) == 5
    for number in range(20):
        await accounts.register(EMAIL, PASSWORD, Device(f"198.51.100.{number}", ""))
    assert len(await mailbox.to(EMAIL)) == 20


async def test_a_letter_that_was_not_sent_leaves_the_older_code_alone(recovery, ann, code, mailbox, clock):
    for _ in range(8):
        clock.advance(61)
        await recovery.forgot(EMAIL, DEVICE)
    assert await outcome(recovery.reset(EMAIL, await mailbox.last_code(EMAIL), OTHER_PASSWORD, DEVICE)) == "ok"


# Another code for a registration


async def test_resend_mails_another_code_and_the_older_one_dies(accounts, mailbox, clock):
    registration = await accounts.register("Ann@Example.com", PASSWORD, DEVICE)
    first = await mailbox.last_code("Ann@example.com")
    assert await outcome(accounts.verify(registration, wrong(first), DEVICE)) == "wrong_code"
    clock.advance(60)
    await accounts.resend(registration, DEVICE)
    second = await mailbox.last_code("Ann@example.com")
    assert second != first
    assert await outcome(accounts.verify(registration, first, DEVICE)) == "wrong_code"
    assert await outcome(accounts.verify(registration, second, DEVICE)) == "ok"


async def test_resend_within_a_minute_mails_nothing_and_the_code_holds(accounts, mailbox, clock):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    clock.advance(59)
    await asyncio.gather(*(accounts.resend(registration, DEVICE) for _ in range(5)))
    assert await outcome(accounts.verify(registration, await mailbox.code(registration), DEVICE)) == "ok"


async def test_of_many_who_ask_to_resend_at_once_one_mails(accounts, mailbox, clock):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    clock.advance(61)
    await asyncio.gather(*(accounts.resend(registration, DEVICE) for _ in range(10)))
    assert len(await mailbox.to(EMAIL)) == 2


async def test_resend_revives_an_expired_code_and_five_more_attempts(accounts, mailbox, clock):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    clock.advance(700)
    await accounts.resend(registration, DEVICE)
    assert await outcome(accounts.verify(registration, await mailbox.last_code(EMAIL), DEVICE)) == "ok"


async def test_resend_of_what_is_not_there_or_done_does_nothing(accounts, ann, admin):
    before = await admin.fetchval("select count(*) from jobs")
    await accounts.resend(new_user_id(), DEVICE)
    await accounts.resend(ann, DEVICE)
    assert await admin.fetchval("select count(*) from jobs") == before


async def test_resend_to_a_known_address_says_again_that_there_is_an_account(accounts, ann, mailbox, clock):
    registration = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
    clock.advance(61)
    await accounts.resend(registration, DEVICE)
    texts = [mail.text for mail in await mailbox.to(EMAIL)]
    assert ["already has an account" in text for text in texts] == [False, True, True]

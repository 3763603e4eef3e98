"""Changing the password and the address, with the password at hand."""

import asyncio

import pytest

from ringfence.accounts.sessions import Device
from ringfence.ids import Identity, new_session_id, new_user_id
from tests.accounts.test_service import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, outcome, verified, wrong

NEW = "Ann@example.org"


@pytest.fixture
async def ann(accounts, mailbox):
    return await verified(accounts, mailbox, EMAIL, PASSWORD)


@pytest.fixture
async def here(accounts, sessions, ann):
    """The session from which ann changes things."""
    return await sessions.check((await accounts.sign_in(EMAIL, PASSWORD, DEVICE)).access)


@pytest.fixture
async def other(accounts, sessions, here):
    """A session of hers somewhere else."""
    return await accounts.sign_in(EMAIL, PASSWORD, DEVICE)


async def kinds(admin):
    return [row["kind"] for row in await admin.fetch("select kind from audit_events order by created_at")]


# The password


async def test_another_password_ends_the_other_sessions_and_is_told(
    accounts, sessions, changes, here, other, mailbox, admin
):
    await changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "invalid_grant"
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "ok"
    assert await outcome(sessions.check(other.access)) == "session_ended"
    assert here.session_id in {session.session_id for session in await sessions.newest(here.user_id)}
    assert (await mailbox.to(EMAIL))[-1].subject == "Your Ringfence password has changed"
    assert "password_changed" in await kinds(admin)


async def test_a_wrong_or_weak_password_changes_nothing(accounts, changes, here, other):
    assert await outcome(changes.change_password(here, "wrong", OTHER_PASSWORD, DEVICE)) == "password_not_confirmed"
    assert await outcome(changes.change_password(here, PASSWORD, "short", DEVICE)) == "weak_password"
    assert await outcome(changes.change_password(here, PASSWORD, EMAIL, DEVICE)) == "weak_password"
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "ok"


async def test_a_code_for_a_new_password_dies_when_it_is_changed(changes, recovery, here, mailbox):
    await recovery.forgot(EMAIL, DEVICE)
    code = await mailbox.last_code(EMAIL)
    await changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)
    assert await outcome(recovery.reset(EMAIL, code, "a third password, quite long", DEVICE)) == "wrong_code"


async def test_of_two_changes_at_once_one_counts(accounts, changes, here):
    wanted = [f"{OTHER_PASSWORD} {number}" for number in range(4)]
    outcomes = await asyncio.gather(*(outcome(changes.change_password(here, PASSWORD, new, DEVICE)) for new in wanted))
    assert sorted(outcomes) == ["ok"] + ["password_not_confirmed"] * 3
    assert await outcome(accounts.sign_in(EMAIL, wanted[outcomes.index("ok")], DEVICE)) == "ok"


async def test_ten_wrong_passwords_are_enough_for_ten_minutes_whatever_they_confirm(changes, here, clock):
    for number in range(10):
        call = (
            changes.move(here, NEW, "wrong", DEVICE)
            if number % 2
            else changes.change_password(here, "wrong", OTHER_PASSWORD, DEVICE)
        )
        assert await outcome(call) == "password_not_confirmed"
    assert await outcome(changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)) == "too_many_tries"
    clock.advance(601)
    assert await outcome(changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_an_account_that_is_gone_confirms_nothing(changes):
    nobody = Identity(new_user_id(), new_session_id())
    assert await outcome(changes.change_password(nobody, PASSWORD, OTHER_PASSWORD, DEVICE)) == "password_not_confirmed"


async def test_a_sign_in_with_the_old_password_that_comes_late_begins_no_session(accounts, changes, here, passwords):
    """The password is changed after it was found right and before the session begins."""
    matches, changed = passwords.matches, asyncio.Event()

    class Slow:
        async def matches(self, password, hashed):
            right = await matches(password, hashed)
            await changed.wait()
            return right

        def is_outdated(self, _hashed):
            return False

    accounts._passwords = Slow()  # the one place where time can be held still
    late = asyncio.create_task(outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)))
    await asyncio.sleep(0)
    await changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)
    changed.set()
    assert await late == "invalid_grant"


# The address


async def test_an_address_moves_when_the_new_one_is_proved(accounts, sessions, changes, here, other, mailbox, admin):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    assert (await accounts.me(here.user_id)).email == EMAIL
    await changes.confirm_move(here, await mailbox.last_code(NEW), DEVICE)
    assert (await accounts.me(here.user_id)).email == NEW
    assert await outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) == "invalid_grant"
    assert await outcome(accounts.sign_in(NEW, PASSWORD, DEVICE)) == "ok"
    assert await outcome(sessions.check(other.access)) == "session_ended"
    told = [mail.text for mail in await mailbox.to(EMAIL)][-2:]
    assert all(NEW in text for text in told)
    assert {"email_change_requested", "email_changed"} <= set(await kinds(admin))


async def test_the_freed_address_may_register_anew(accounts, changes, here, mailbox):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    await changes.confirm_move(here, await mailbox.last_code(NEW), DEVICE)
    registration = await accounts.register(EMAIL, OTHER_PASSWORD, DEVICE)
    await accounts.verify(registration, await mailbox.last_code(EMAIL), DEVICE)
    assert await outcome(accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_an_address_that_has_an_account_is_told_and_takes_nothing(accounts, changes, here, mailbox):
    await verified(accounts, mailbox, NEW, OTHER_PASSWORD)
    await changes.move(here, NEW, PASSWORD, DEVICE)
    mail = (await mailbox.to(NEW))[-1]
    assert "already has one" in mail.text
    assert await outcome(changes.confirm_move(here, "01234567", DEVICE)) == "wrong_code"
    assert (await accounts.me(here.user_id)).email == EMAIL


async def test_an_address_that_went_to_another_account_meanwhile_does_not_move(accounts, changes, here, mailbox):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    code = await mailbox.last_code(NEW)
    await verified(accounts, mailbox, NEW, OTHER_PASSWORD)
    assert await outcome(changes.confirm_move(here, code, DEVICE)) == "wrong_code"


async def test_of_two_accounts_that_move_to_one_address_one_gets_it(accounts, sessions, changes, here, mailbox):
    bob_id = await verified(accounts, mailbox, "bob@example.com", PASSWORD)
    bob = await sessions.check((await accounts.sign_in("bob@example.com", PASSWORD, DEVICE)).access)
    pairs = []
    for who in (here, bob):
        await changes.move(who, NEW, PASSWORD, DEVICE)
        pairs.append((who, await mailbox.last_code(NEW)))
    outcomes = await asyncio.gather(*(outcome(changes.confirm_move(who, code, DEVICE)) for who, code in pairs))
    assert sorted(outcomes) == ["ok", "wrong_code"]
    emails = {(await accounts.me(user_id)).email for user_id in (here.user_id, bob_id)}
    assert emails in ({NEW, EMAIL}, {NEW, "bob@example.com"})


async def test_a_wrong_code_five_times_and_then_the_right_one_fails(changes, here, mailbox):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    code = await mailbox.last_code(NEW)
    for _ in range(5):
        assert await outcome(changes.confirm_move(here, wrong(code), DEVICE)) == "wrong_code"
    assert await outcome(changes.confirm_move(here, code, DEVICE)) == "wrong_code"


async def test_a_code_moves_once(changes, here, mailbox):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    code = await mailbox.last_code(NEW)
    outcomes = await asyncio.gather(*(outcome(changes.confirm_move(here, code, DEVICE)) for _ in range(5)))
    assert sorted(outcomes) == ["ok"] + ["wrong_code"] * 4


async def test_within_a_minute_the_same_address_gets_no_other_code_but_another_one_does(changes, here, mailbox, clock):
    await changes.move(here, "mistyped@example.org", PASSWORD, DEVICE)
    await changes.move(here, NEW, PASSWORD, DEVICE)
    await changes.move(here, NEW, PASSWORD, DEVICE)
    assert len(await mailbox.to(NEW)) == 1
    mistyped = await mailbox.last_code("mistyped@example.org")
    assert await outcome(changes.confirm_move(here, mistyped, DEVICE)) == "wrong_code"
    clock.advance(61)
    await changes.move(here, NEW, PASSWORD, DEVICE)
    assert len(await mailbox.to(NEW)) == 2


async def test_bad_addresses_are_refused(changes, here):
    assert await outcome(changes.move(here, "no address", PASSWORD, DEVICE)) == "invalid_email"


async def test_codes_of_a_move_are_throttled_by_account(changes, here, clock, mailbox):
    seen = []
    for _ in range(5):
        await changes.move(here, NEW, PASSWORD, DEVICE)
        seen += [await outcome(changes.confirm_move(here, "x", DEVICE)) for _ in range(5)]
        clock.advance(61)
    assert seen[-1] == "too_many_tries"
    assert await outcome(changes.confirm_move(here, "x", Device("192.0.2.1", ""))) == "wrong_code"


async def test_an_account_writes_to_ten_strangers_a_day_and_no_more(changes, here, mailbox, clock, admin):
    moves = [outcome(changes.move(here, f"stranger{n}@example.org", PASSWORD, DEVICE)) for n in range(20)]
    assert [await move for move in moves] == ["ok"] * 10 + ["too_many_tries"] * 10
    assert await admin.fetchval("select count(*) from jobs where kind = 'mail'") == 1 + 2 * 10
    clock.advance(8640)
    assert await outcome(changes.move(here, NEW, PASSWORD, DEVICE)) == "ok"

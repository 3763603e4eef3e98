"""Letters about codes, when their turn has come: superseded ones are withdrawn, late ones are written anew."""

import re
from datetime import timedelta

import pytest

from ringfence.accounts.codes import CodePurpose
from ringfence.accounts.post import RENEWED_FOR, Post
from tests.accounts.test_service import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, outcome, verified, wrong

NEW, NOBODY = "ann@example.org", "nobody@example.com"


@pytest.fixture
def post(db, codes, letters, clock):
    return Post(db, codes, letters, now=clock)


@pytest.fixture
async def ann(accounts, mailbox):
    return await verified(accounts, mailbox, EMAIL, PASSWORD)


@pytest.fixture
async def here(accounts, sessions, ann):
    return await sessions.check((await accounts.sign_in(EMAIL, PASSWORD, DEVICE)).access)


@pytest.fixture
def owner(admin):
    """Whose code waits at present."""

    async def owner(purpose):
        return await admin.fetchval("select user_id from one_time_codes where purpose = $1", purpose)

    return owner


async def test_a_letter_is_due_while_its_code_stands(accounts, mailbox, post, clock):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    mail = await mailbox.of(registration)
    clock.advance(599)
    assert await post.is_due(registration, mail)


async def test_a_letter_about_no_code_is_always_due(changes, here, mailbox, post, clock):
    await changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)
    clock.advance(86_400 * 2)
    assert await post.is_due(here.user_id, (await mailbox.to(EMAIL))[-1])


async def test_of_two_letters_that_waited_together_the_later_one_is_sent(accounts, mailbox, post, clock):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    clock.advance(61)
    await accounts.resend(registration, DEVICE)
    first, second = await mailbox.to(EMAIL)
    assert not await post.is_due(registration, first)
    assert await post.is_due(registration, second)
    assert len(await mailbox.to(EMAIL)) == 2


async def test_a_letter_whose_code_was_used_is_not_sent_again(accounts, mailbox, post):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    mail = await mailbox.of(registration)
    await accounts.verify(registration, await mailbox.code(registration), DEVICE)
    assert not await post.is_due(registration, mail)


async def test_a_registrations_letter_that_comes_late_is_written_anew(accounts, mailbox, post, clock):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    late = await mailbox.of(registration)
    old = await mailbox.code(registration)
    for number in range(5):
        await outcome(accounts.verify(registration, wrong(old, 1 + number), DEVICE))
    clock.advance(600)
    assert not await post.is_due(registration, late)
    fresh = (await mailbox.to(EMAIL))[-1]
    assert (fresh.subject, fresh.until) == (late.subject, clock() + timedelta(minutes=10))
    assert await outcome(accounts.verify(registration, old, DEVICE)) == "wrong_code"
    await accounts.resend(registration, DEVICE)  # within a minute of the fresh one: nothing
    assert not await post.is_due(registration, late)  # as after a worker's death: once is enough
    assert len(await mailbox.to(EMAIL)) == 2
    assert await post.is_due(registration, fresh)
    assert await outcome(accounts.verify(registration, await mailbox.last_code(EMAIL), DEVICE)) == "ok"


@pytest.mark.parametrize("address", [EMAIL, NOBODY])
async def test_a_recoverys_letter_that_comes_late_is_written_anew(recovery, ann, mailbox, post, owner, clock, address):
    """Of an address without an account, too, and without a code, as before."""
    await recovery.forgot(address, DEVICE)
    late = (await mailbox.to(address))[-1]
    clock.advance(600)
    assert not await post.is_due(await owner(CodePurpose.RESET), late)
    count = len(await mailbox.to(address))
    clock.advance(59)
    await recovery.forgot(address, DEVICE)  # within a minute of the fresh one: nothing
    assert len(await mailbox.to(address)) == count
    fresh = (await mailbox.to(address))[-1]
    without_code = [re.sub(r"\d{8}", "", mail.text) for mail in (late, fresh)]
    assert without_code[0] == without_code[1]
    assert fresh != late
    if address == EMAIL:
        code = await mailbox.last_code(EMAIL)
        assert await outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)) == "ok"


async def test_a_moves_letter_that_comes_late_is_written_anew_and_proves_the_same(
    accounts, changes, here, mailbox, post, clock
):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    [late] = await mailbox.to(NEW)
    clock.advance(600)
    assert not await post.is_due(here.user_id, late)
    await changes.confirm_move(here, await mailbox.last_code(NEW), DEVICE)
    assert (await accounts.me(here.user_id)).email == NEW


async def test_after_a_day_nothing_is_written_anew(changes, here, mailbox, post, clock):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    step = timedelta(hours=6)
    for _ in range(RENEWED_FOR // step - 1):
        clock.advance(step.total_seconds())
        assert not await post.is_due(here.user_id, (await mailbox.to(NEW))[-1])
    clock.advance(step.total_seconds())
    last = (await mailbox.to(NEW))[-1]
    assert await post.is_due(here.user_id, last)
    assert last.until < clock()  # so that it is parked, with its reason


async def test_a_letter_of_somebody_who_has_left_is_withdrawn(accounts, mailbox, post, admin):
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    mail = await mailbox.of(registration)
    await admin.execute("delete from users")
    assert not await post.is_due(registration, mail)

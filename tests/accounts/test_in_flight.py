"""What happens to an account between a password's being found right and what it was shown for."""

import asyncio

import pytest

from ringfence.accounts.admin import Administration
from ringfence.accounts.api_keys import ApiKeys, WantedApiKey
from ringfence.accounts.changes import Changes
from ringfence.accounts.confirmation import Confirmation
from ringfence.accounts.leaving import Leaving
from ringfence.accounts.passwords import Passwords
from ringfence.accounts.queries import Scope
from ringfence.accounts.service import Accounts
from ringfence.accounts.sign_in import SignInLimits
from ringfence.ids import new_user_id
from ringfence.keys import Purpose, derive
from ringfence.limits import Quota, Quotas
from tests.accounts.conftest import SECRET
from tests.accounts.test_service import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, outcome, verified
from tests.engine import waits_for_a_lock

NEW = "ann@example.org"


class Interrupted(Passwords):
    """The real thing, with time for something else after each check."""

    async def matches(self, password, hashed):
        right = await super().matches(password, hashed)
        await self.meanwhile()
        return right


@pytest.fixture
def interrupted():
    passwords = Interrupted(4)
    yield passwords
    passwords.close()


@pytest.fixture
async def ann(accounts, mailbox):
    return await verified(accounts, mailbox, EMAIL, PASSWORD)


@pytest.fixture
async def here(accounts, sessions, ann):
    return await sessions.check((await accounts.sign_in(EMAIL, PASSWORD, DEVICE)).access)


@pytest.fixture
def administration(db, clock):
    return Administration(db, Quotas(Quota()), audit_key=derive(SECRET, Purpose.AUDIT), now=clock)


@pytest.fixture
def late(db, interrupted, limits, sessions, codes, letters, clock):
    """Each act that needs the password, and how often the password is checked for it."""
    confirmation = Confirmation(db, interrupted, limits)
    changes = Changes(db, interrupted, confirmation, codes, letters=letters, now=clock)
    keys = ApiKeys(db, confirmation, letters, now=clock)
    accounts = Accounts(db, interrupted, sessions, SignInLimits(limits), codes=codes, letters=letters, now=clock)
    wanted = WantedApiKey("mine", frozenset({Scope.READ}), None)
    return {
        "leave": lambda who: Leaving(db, confirmation).leave(who.user_id, PASSWORD, DEVICE),
        "move": lambda who: changes.move(who, NEW, PASSWORD, DEVICE),
        "change": lambda who: changes.change_password(who, PASSWORD, "a third password, quite long", DEVICE),
        "key": lambda who: keys.create(who.user_id, PASSWORD, wanted, DEVICE),
        "sign in": lambda _who: accounts.sign_in(EMAIL, PASSWORD, DEVICE),
    }


async def standing(admin):
    """What acts leave behind."""
    counts = [
        await admin.fetchval(f"select count(*) from {table}") for table in ("api_keys", "one_time_codes", "sessions")
    ]
    return (
        counts,
        await admin.fetchval("select password_hash from users"),
        await admin.fetchval("select email from users"),
    )


@pytest.mark.parametrize("act", ["leave", "move", "change", "key", "sign in"])
async def test_nothing_comes_of_a_password_that_is_reset_meanwhile(
    late, interrupted, recovery, here, mailbox, admin, act
):
    after = []

    async def meanwhile():
        if not after:
            await recovery.forgot(EMAIL, DEVICE)
            await recovery.reset(EMAIL, await mailbox.last_code(EMAIL), OTHER_PASSWORD, DEVICE)
            after.append(await standing(admin))

    interrupted.meanwhile = meanwhile
    expected = "invalid_grant" if act == "sign in" else "password_not_confirmed"
    assert await outcome(late[act](here)) == expected
    assert [await standing(admin)] == after


@pytest.mark.parametrize("act", ["leave", "move", "change", "key", "sign in"])
@pytest.mark.parametrize("gone", [False, True])
async def test_nothing_comes_of_an_account_that_is_deleted_meanwhile(
    late, interrupted, administration, here, admin, act, gone
):
    """Closed, or gone with all of its rows: no row refers to it again, and its log says no more."""

    async def meanwhile():
        await administration.delete(here.user_id)
        if gone:
            await admin.execute("delete from users where user_id = $1", here.user_id)

    interrupted.meanwhile = meanwhile
    expected = "invalid_grant" if act == "sign in" else "password_not_confirmed"
    assert await outcome(late[act](here)) == expected
    assert await admin.fetchval("select count(*) from one_time_codes") == 0
    assert await admin.fetchval("select count(*) from jobs where kind = 'mail'") == 0
    kinds = [row["kind"] for row in await admin.fetch("select kind from audit_events order by created_at")]
    assert kinds[-1] == "deleted"
    assert kinds.count("deleted") == 1


async def test_an_account_is_deleted_once_and_its_log_says_so_once(administration, ann, admin):
    await administration.delete(ann)
    await admin.execute("delete from users")
    await administration.delete(ann)
    assert await admin.fetchval("select count(*) from audit_events where kind = 'deleted'") == 1


async def test_an_address_does_not_move_by_a_session_that_has_ended_meanwhile(
    accounts, sessions, changes, here, mailbox, admin
):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    code = await mailbox.last_code(NEW)
    async with admin.transaction():
        await admin.execute("delete from sessions where session_id = $1", here.session_id)
        moving = asyncio.create_task(outcome(changes.confirm_move(here, code, DEVICE)))
        await waits_for_a_lock(admin)
    assert await moving == "session_ended"
    assert (await accounts.me(here.user_id)).email == EMAIL


@pytest.mark.parametrize("how", ["change", "reset"])
async def test_another_password_ends_a_change_of_address(changes, recovery, here, mailbox, accounts, sessions, how):
    """Or whoever knew the old password would still take the account."""
    await changes.move(here, NEW, PASSWORD, DEVICE)
    code = await mailbox.last_code(NEW)
    if how == "change":
        await changes.change_password(here, PASSWORD, OTHER_PASSWORD, DEVICE)
    else:
        await recovery.forgot(EMAIL, DEVICE)
        await recovery.reset(EMAIL, await mailbox.last_code(EMAIL), OTHER_PASSWORD, DEVICE)
        here = await sessions.check((await accounts.sign_in(EMAIL, OTHER_PASSWORD, DEVICE)).access)
    assert await outcome(changes.confirm_move(here, code, DEVICE)) == "wrong_code"
    assert (await accounts.me(here.user_id)).email == EMAIL


async def test_a_reset_by_the_old_address_changes_nothing_once_the_account_has_moved(
    accounts, recovery, ann, mailbox, admin
):
    """The reset has found the account by then, and waits for its row."""
    await recovery.forgot(EMAIL, DEVICE)
    code = await mailbox.last_code(EMAIL)
    async with admin.transaction():
        await admin.execute("update users set email = $1, email_key = $1 where user_id = $2", NEW, ann)
        resetting = asyncio.create_task(outcome(recovery.reset(EMAIL, code, OTHER_PASSWORD, DEVICE)))
        await waits_for_a_lock(admin)
    assert await resetting == "wrong_code"
    assert await outcome(accounts.sign_in(NEW, PASSWORD, DEVICE)) == "ok"


async def test_a_recovery_of_the_old_address_ends_with_the_move(changes, recovery, here, mailbox, admin):
    await recovery.forgot(EMAIL, DEVICE)
    await changes.move(here, NEW, PASSWORD, DEVICE)
    await changes.confirm_move(here, await mailbox.last_code(NEW), DEVICE)
    assert await admin.fetchval("select count(*) from users") == 1


async def test_many_who_sign_in_at_once_after_the_cost_has_changed_come_in(accounts, ann, admin):
    five = Passwords(5)
    await admin.execute("update users set password_hash = $1", await five.hash(PASSWORD))
    five.close()
    assert await asyncio.gather(*(outcome(accounts.sign_in(EMAIL, PASSWORD, DEVICE)) for _ in range(8))) == ["ok"] * 8
    assert (await admin.fetchval("select password_hash from users")).startswith("$2b$04$")


async def test_who_finds_the_hash_changed_once_by_another_sign_in_is_let_in(late, interrupted, here, passwords, admin):
    changed = []

    async def meanwhile():
        if not changed:
            changed.append(await passwords.hash(PASSWORD))
            await admin.execute("update users set password_hash = $1", changed[0])

    interrupted.meanwhile = meanwhile
    assert await outcome(late["sign in"](here)) == "ok"
    assert await admin.fetchval("select password_hash from users") == changed[0]
    assert await admin.fetchval("select count(*) from sessions") == 2


async def test_who_finds_the_hash_changed_again_and_again_is_refused(late, interrupted, here, passwords, admin):
    async def meanwhile():
        await admin.execute("update users set password_hash = $1", await passwords.hash(PASSWORD))

    interrupted.meanwhile = meanwhile
    assert await outcome(late["sign in"](here)) == "invalid_grant"


async def test_a_registration_that_is_removed_while_it_asks_for_another_code_ends_in_no_deadlock(
    accounts, admin, clock
):
    """Whoever removes it has its row, and wants its code; who asks takes them in the same order."""
    registration = await accounts.register(EMAIL, PASSWORD, DEVICE)
    clock.advance(61)
    async with admin.transaction():
        await admin.execute("select from users where user_id = $1 for update", registration)
        asking = asyncio.create_task(outcome(accounts.resend(registration, DEVICE)))
        await waits_for_a_lock(admin)
        await admin.execute("set local lock_timeout = '5s'; delete from one_time_codes")
        await admin.execute("delete from users where user_id = $1", registration)
    assert await asking == "ok"
    assert await admin.fetchval("select count(*) from jobs") == 0


# What the log says


async def test_what_failed_is_in_the_owners_log(changes, here, admin):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    await outcome(changes.confirm_move(here, "x", DEVICE))
    await outcome(changes.change_password(here, "wrong", OTHER_PASSWORD, DEVICE))
    rows = await admin.fetch("select user_id, kind, detail->>'what' from audit_events order by created_at desc limit 2")
    assert [tuple(row) for row in rows] == [
        (here.user_id, "confirmation_failed", None),
        (here.user_id, "code_failed", "change_email"),
    ]


async def test_what_was_refused_is_in_the_owners_log_and_does_not_fill_it(accounts, changes, here, admin, clock):
    await changes.move(here, NEW, PASSWORD, DEVICE)
    for _ in range(15):
        await outcome(accounts.sign_in(EMAIL, "wrong", DEVICE))
        await outcome(changes.change_password(here, "wrong", OTHER_PASSWORD, DEVICE))
    for _ in range(25):
        await admin.execute("update one_time_codes set attempts = 0")
        await outcome(changes.confirm_move(here, "x", DEVICE))
    for _ in range(20):
        await outcome(accounts.sign_in(EMAIL, "wrong", DEVICE))
        await outcome(accounts.sign_in("nobody@example.com", "wrong", DEVICE))
    rows = await admin.fetch(
        "select user_id, detail->>'what' as what, count(*) from audit_events where kind = 'throttled' group by 1, 2"
    )
    found = {(row["user_id"] == here.user_id, row["what"]): row["count"] for row in rows}
    assert found == {
        (True, "sign_in"): 10,
        (True, "confirmation"): 5,
        (True, "change_email"): 5,
        (False, "sign_in"): 10,
    }


async def test_an_account_has_a_hundred_wrong_confirmations_at_once_however_long_it_takes(changes, here, clock):
    seen = []
    for _ in range(12):
        seen += [await outcome(changes.change_password(here, "wrong", OTHER_PASSWORD, DEVICE)) for _ in range(10)]
        clock.advance(600)
    assert seen.count("password_not_confirmed") in range(100, 110)  # and one more each quarter of an hour
    assert seen[-1] == "too_many_tries"


async def test_nothing_is_said_of_who_is_not_there(sessions, admin):
    assert await sessions.end_all(new_user_id(), DEVICE) == 0
    assert await admin.fetchval("select count(*) from audit_events") == 0

"""Register, resend, forgot, reset and sign in do the same for an address that has an account and one that has none.

The same statements in the same order, the same hashes, the same rows: nothing is left that could show in an answer or
in the time that it takes. `bench/enumeration` measures that time.
"""

from contextlib import suppress

import pytest

from ringfence.accounts.recovery import Recovery
from ringfence.accounts.service import Accounts
from ringfence.accounts.sign_in import SignInLimits
from ringfence.errors import Invalid
from tests.accounts.test_service import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, verified

WAITING = "waiting@example.com"
UNKNOWN = ["nobody@example.com", "nobody-else@example.com"]
TABLES = ("users", "one_time_codes", "jobs", "sessions", "audit_events")


@pytest.fixture
async def ann(accounts, mailbox):
    await verified(accounts, mailbox, EMAIL, PASSWORD)
    await accounts.register(WAITING, PASSWORD, DEVICE)


@pytest.fixture
def watched_accounts(watched, passwords, sessions, limits, codes, letters, clock):
    return Accounts(watched, passwords, sessions, SignInLimits(limits), codes=codes, letters=letters, now=clock)


@pytest.fixture
def watched_recovery(watched, passwords, limits, codes, letters, clock):
    return Recovery(watched, passwords, codes, letters=letters, sign_in_limits=SignInLimits(limits), now=clock)


@pytest.fixture
def work(watched, passwords, admin):
    """What a call does: its statements, hashes made and checked, and rows added to each table."""

    async def counts():
        return [await admin.fetchval(f"select count(*) from {table}") for table in TABLES]

    async def work(call):
        watched.said.clear()
        before, hashes = await counts(), (passwords.hashed, passwords.checked)
        with suppress(Invalid):
            await call
        rows = [now - then for now, then in zip(await counts(), before, strict=True)]
        return list(watched.said), (passwords.hashed - hashes[0], passwords.checked - hashes[1]), rows

    return work


async def test_register(work, watched_accounts, ann):
    done = [
        await work(watched_accounts.register(email, OTHER_PASSWORD, DEVICE)) for email in [EMAIL, WAITING, *UNKNOWN]
    ]
    assert all(one == done[0] for one in done)
    assert done[0][1:] == ((1, 0), [1, 1, 1, 0, 1])


async def test_resend(work, watched_accounts, ann, clock):
    emails = [EMAIL, WAITING, *UNKNOWN]
    registrations = [await watched_accounts.register(email, OTHER_PASSWORD, DEVICE) for email in emails]
    clock.advance(61)
    done = [await work(watched_accounts.resend(registration, DEVICE)) for registration in registrations]
    assert all(one == done[0] for one in done)
    assert done[0][1:] == ((0, 0), [0, 0, 1, 0, 0])


async def test_sign_in(work, watched_accounts, ann):
    emails = [EMAIL, WAITING, *UNKNOWN, "no address"]
    done = [await work(watched_accounts.sign_in(email, OTHER_PASSWORD, DEVICE)) for email in emails]
    assert all(one == done[0] for one in done)
    assert done[0][1:] == ((0, 1), [0, 0, 0, 0, 1])


async def test_forgot(work, watched_recovery, ann, clock):
    emails = [EMAIL, WAITING, *UNKNOWN]
    first = [await work(watched_recovery.forgot(email, DEVICE)) for email in emails]
    soon = [await work(watched_recovery.forgot(email, DEVICE)) for email in emails]
    clock.advance(61)
    later = [await work(watched_recovery.forgot(email, DEVICE)) for email in emails]
    for done in (first, soon, later):
        assert all(one == done[0] for one in done)
    assert [done[0][1:] for done in (first, soon, later)] == [
        ((0, 0), [1, 1, 1, 0, 1]),
        ((0, 0), [0, 0, 0, 0, 1]),
        ((0, 0), [0, 0, 0, 0, 1]),
    ]


async def test_reset_with_a_wrong_code(work, watched_recovery, ann):
    for _ in range(2):
        done = [await work(watched_recovery.reset(email, "x", OTHER_PASSWORD, DEVICE)) for email in (EMAIL, *UNKNOWN)]
        assert all(one == done[0] for one in done)
        assert done[0][1:] == ((0, 0), [0, 0, 0, 0, 1])
        for email in (EMAIL, *UNKNOWN):
            await watched_recovery.forgot(email, DEVICE)

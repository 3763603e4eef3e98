"""Limits on tries: how many at once, how soon again, shared by all who count, and nothing said of whom they concern."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ringfence import limits as module
from ringfence.errors import NotFound, QuotaExceeded, RateLimited
from ringfence.ids import new_user_id
from ringfence.limits import Gate, OwnQuota, Quota, Quotas, Rate, RateLimits, Requests, rate, require_room

RATE = Rate("test", 3, 30)
KEY = bytes(range(32))


class Clock:
    def __init__(self):
        self.time = datetime(2030, 1, 2, tzinfo=UTC)

    def __call__(self):
        return self.time

    def advance(self, seconds):
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return RateLimits(KEY, clock)


@pytest.fixture
def take(db, limits):
    async def take(*subject, rate=RATE):
        """Whether a try is granted; otherwise for how many seconds it is not."""
        try:
            async with db.system() as tx:
                await limits.take(tx, rate, *subject)
        except RateLimited as error:
            return error.retry_after
        return True

    return take


async def test_so_many_at_once_then_one_each_interval(take, clock):
    assert [await take("ann") for _ in range(5)] == [True, True, True, 10, 10]
    clock.advance(9.5)
    assert await take("ann") == 0.5
    clock.advance(0.5)
    assert [await take("ann"), await take("ann")] == [True, 10]
    clock.advance(25)
    assert [await take("ann") for _ in range(3)] == [True, True, 5]
    clock.advance(3600)
    assert [await take("ann") for _ in range(4)] == [True, True, True, 10]


async def test_each_subject_and_each_rate_has_its_own(take):
    for _ in range(4):
        await take("ann", "here")
    assert await take("ann", "here") == 10
    assert await take("ann", "there") is True
    assert await take("annhere") is True
    assert await take("ann", "here", rate=Rate("other", 3, 30)) is True


async def test_of_many_at_once_no_more_are_granted(db, clock, take):
    granted = await asyncio.gather(*(take("ann") for _ in range(40)))
    assert granted.count(True) == 3


async def test_what_was_in_order_is_given_back(db, limits, take):
    for _ in range(10):
        assert await take("ann") is True
        async with db.system() as tx:
            await limits.give_back(tx, RATE, "ann")


async def test_the_error_says_the_policy(db, limits):
    async with db.system() as tx:
        for _ in range(3):
            await limits.take(tx, RATE, "ann")
        with pytest.raises(RateLimited, match="too_many_tries") as caught:
            await limits.take(tx, RATE, "ann")
    assert caught.value.policy == '"test";q=3;w=30'


async def test_the_table_names_nobody_and_a_try_clears_nothing_away(admin, take, clock):
    for name in ("ann@example.com", "bob@example.com"):
        await take(name)
    rows = await admin.fetch("select * from limits")
    assert len(rows) == 2
    assert "example" not in repr(rows)
    clock.advance(36_000)
    await take("eve@example.com")
    assert await admin.fetchval("select count(*) from limits") == 3


async def test_buckets_that_have_been_empty_for_long_are_forgotten(db, admin, take, clock):
    await take("ann@example.com")
    clock.advance(3600)
    await take("bob@example.com")
    async with db.system() as tx:
        assert await module.forget_buckets(tx, clock() - timedelta(seconds=3590)) == 0
        assert await module.forget_buckets(tx, clock() - timedelta(seconds=3589)) == 1
    assert [await take("bob@example.com") for _ in range(3)] == [True, True, 10]


async def test_tries_of_many_buckets_at_once_end_in_no_deadlock(db, admin, limits, clock):
    """Who clears away what others hold, and holds what they want, waits for ever: so no try clears anything away."""
    async with db.system() as tx:
        await limits.take(tx, RATE, "old")
    clock.advance(36_000)

    async def tries(first, second):
        async with db.system() as tx:
            await limits.take(tx, RATE, first)
            await asyncio.sleep(0)
            await limits.take(tx, RATE, second)

    await asyncio.gather(*(tries(f"new {number}", "old") for number in range(20)), return_exceptions=True)
    assert await admin.fetchval("select count(*) from limits") == 4  # "old" and who were let through with it


async def test_what_is_left_is_said(db, limits, clock):
    async def left():
        async with db.system() as tx:
            standing = await limits.take(tx, RATE, "ann")
        return standing.remaining, standing.reset

    assert [await left() for _ in range(3)] == [(2, 10), (1, 20), (0, 30)]
    clock.advance(10)
    assert await left() == (0, 30)
    clock.advance(25)
    assert await left() == (1, 15)


def test_whole_numbers_stay_whole():
    limits = RateLimits(KEY, Clock())
    for count in (1, 3, 7, 599, 600, 1_000_000):
        bucket = limits.bucket(Rate("test", count, 60), "ann")
        assert [bucket.standing(60 * used / count).remaining for used in {1, count}] == [
            count - used for used in {1, count}
        ]


async def test_a_gate_without_a_rate_is_open(db, limits, admin):
    told = []
    for _ in range(5):
        await Gate(db, limits, None).admit("ann", note=told.append)
    assert told == []
    assert await admin.fetchval("select count(*) from limits") == 0
    assert rate("test", 0, 60) is None
    assert Requests(limits, None).bucket("ann") is None


async def test_a_gate_lets_so_many_through_and_says_how_many_more(db, limits):
    gate, told = Gate(db, limits, rate("test", 2, 60)), []
    await gate.admit("ann", note=told.append)
    await gate.admit("ann")
    await gate.admit("bob")
    assert [standing.remaining for standing in told] == [1]
    with pytest.raises(RateLimited, match="too_many_tries"):
        await gate.admit("ann")


# Quotas


@pytest.fixture
async def ann(admin):
    user_id = new_user_id()
    await admin.execute("insert into users (user_id, email, email_key, password_hash) values ($1, '', '', '')", user_id)
    return user_id


async def test_a_users_own_quota_goes_before_the_default_item_by_item(db, ann):
    quotas = Quotas(Quota(1, 2, 3))

    async def of(**own):
        async with db.system() as tx:
            await module.set_quota(tx, ann, OwnQuota(**own))
        async with db.tenant(ann) as tx:
            return await quotas.of(tx)

    async with db.tenant(ann) as tx:
        assert await quotas.of(tx) == Quota(1, 2, 3)
    assert await of(documents=10) == Quota(10, 2, 3)
    assert await of(bytes=0) == Quota(10, 0, 3)
    assert await of(documents=11, questions=0) == Quota(11, 0, 0)
    async with db.system() as tx:
        assert await module.own_quota(tx, ann) == OwnQuota(11, 0, 0)
        assert await module.clear_quota(tx, ann) is True
        assert await module.clear_quota(tx, ann) is False
        assert await module.own_quota(tx, ann) == OwnQuota()


async def test_nobody_has_no_quota(db):
    async with db.system() as tx:
        with pytest.raises(NotFound, match="user_not_found"):
            await module.set_quota(tx, new_user_id(), OwnQuota(documents=1))


@pytest.mark.parametrize(
    ("quota", "kept", "refused"),
    [
        (Quota(), (10**9, 10**15, 10**15), None),
        (Quota(documents=3), (2, 10**15, 1), None),
        (Quota(documents=3), (3, 0, 1), ("documents", 3, 3)),
        (Quota(documents=3), (5, 0, 1), ("documents", 3, 5)),
        (Quota(bytes=100), (10**9, 60, 40), None),
        (Quota(bytes=100), (1, 60, 41), ("bytes", 100, 60)),
        (Quota(bytes=100), (1, 120, 0), ("bytes", 100, 120)),
        (Quota(3, 100), (3, 100, 1), ("documents", 3, 3)),
    ],
)
def test_room_is_required(quota, kept, refused):
    documents, size, more = kept
    if refused is None:
        require_room(quota, documents=documents, size=size, more=more)
        return
    with pytest.raises(QuotaExceeded, match="quota_exceeded") as caught:
        require_room(quota, documents=documents, size=size, more=more)
    assert (caught.value.quota, caught.value.limit, caught.value.used) == refused

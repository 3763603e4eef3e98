"""What is removed by its age, and what stays."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from ringfence.accounts import audit
from ringfence.ids import new_user_id
from ringfence.upkeep import EMPTY_BUCKET, NOBODYS_EVENTS, PARKED_MAIL, UNVERIFIED, Upkeep

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def upkeep(db):
    return Upkeep(db, lambda: NOW, pause=0.02)


async def add_user(admin, *, age, verified=False):
    user_id = new_user_id()
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash, verified_at, created_at)"
        " values ($1, 'a@b.c', $2, 'x', $3, $4)",
        user_id,
        str(user_id),
        NOW if verified else None,
        NOW - age,
    )
    return user_id


async def add_job(admin, user_id, *, kind, state, age):
    await admin.execute(
        "insert into jobs (user_id, kind, payload, state, tag, created_at) values ($1, $2, '{}', $3, 1, $4)",
        user_id,
        kind,
        state,
        NOW - age,
    )


async def test_registrations_that_nobody_completed_go_after_a_day_with_codes_and_mail(upkeep, admin):
    moment = timedelta(seconds=1)
    gone = await add_user(admin, age=UNVERIFIED + moment)
    await add_job(admin, gone, kind="mail", state="parked", age=UNVERIFIED)
    stays = {await add_user(admin, age=UNVERIFIED), await add_user(admin, age=9 * UNVERIFIED, verified=True)}
    with capture_logs() as logs:
        await upkeep.round()
    assert {row["user_id"] for row in await admin.fetch("select user_id from users")} == stays
    assert await admin.fetchval("select count(*) from jobs") == 0
    assert [line["registrations"] for line in logs] == [1]


async def test_thousands_go_in_one_round(upkeep, admin):
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash, created_at)"
        " select gen_random_uuid(), 'a@b.c', n::text, 'x', $1 from generate_series(1, 1200) n",
        NOW - 2 * UNVERIFIED,
    )
    await upkeep.round()
    assert await admin.fetchval("select count(*) from users") == 0


async def test_sessions_that_have_ended_go_with_their_tokens(upkeep, admin):
    user_id = await add_user(admin, age=UNVERIFIED, verified=True)
    for seconds in (-1, 1):
        await admin.execute(
            "insert into sessions (user_id, session_id, address, agent, expires_at)"
            " values ($1, gen_random_uuid(), '', '', $2)",
            user_id,
            NOW + timedelta(seconds=seconds),
        )
    await admin.execute("insert into refresh_tokens select user_id, session_id, sha256('') from sessions")
    await upkeep.round()
    assert await admin.fetchval("select count(*) from sessions where expires_at > $1", NOW) == 1
    assert await admin.fetchval("select count(*) from sessions") == 1
    assert await admin.fetchval("select count(*) from refresh_tokens") == 1


async def test_mail_that_could_not_be_sent_goes_after_a_month_and_no_other_job(upkeep, admin):
    user_id = await add_user(admin, age=UNVERIFIED, verified=True)
    old, young = PARKED_MAIL + timedelta(seconds=1), PARKED_MAIL - timedelta(seconds=1)
    for kind, state, age in [
        ("mail", "parked", old),
        ("mail", "parked", young),
        ("mail", "ready", old),
        ("delete_account", "parked", old),
    ]:
        await add_job(admin, user_id, kind=kind, state=state, age=age)
    await upkeep.round()
    rows = await admin.fetch("select kind, state from jobs order by kind, state")
    assert [tuple(row) for row in rows] == [("delete_account", "parked"), ("mail", "parked"), ("mail", "ready")]


async def test_buckets_that_are_empty_go_after_an_hour(upkeep, admin):
    for seconds in (-1, 1):
        await admin.execute(
            "insert into limits select sha256(convert_to($1::text, 'utf8')), $2",
            str(seconds),
            NOW - EMPTY_BUCKET + timedelta(seconds=seconds),
        )
    await upkeep.round()
    assert await admin.fetchval("select array_agg(full_at) from limits") == [NOW - EMPTY_BUCKET + timedelta(seconds=1)]


async def test_events_of_nobody_go_after_three_months_and_no_others_ever(db, admin):
    now = datetime.now(UTC)
    user_id = await add_user(admin, age=UNVERIFIED, verified=True)
    for whose, age in (
        (audit.NOBODY, NOBODYS_EVENTS + timedelta(minutes=1)),
        (audit.NOBODY, NOBODYS_EVENTS - timedelta(minutes=1)),
        (user_id, 9 * NOBODYS_EVENTS),
    ):
        await admin.execute(
            "insert into audit_events values ($1, gen_random_uuid(), 'sign_in_failed', '', '', '{}', $2)",
            whose,
            now - age,
        )
    await Upkeep(db, lambda: now).round()
    left = await admin.fetch("select user_id, created_at from audit_events")
    assert {(row["user_id"], now - row["created_at"]) for row in left} == {
        (audit.NOBODY, NOBODYS_EVENTS - timedelta(minutes=1)),
        (user_id, 9 * NOBODYS_EVENTS),
    }


async def test_what_somebody_is_changing_is_left_for_later(upkeep, admin):
    user_id = await add_user(admin, age=2 * UNVERIFIED)
    async with admin.transaction():
        await admin.execute("select from users where user_id = $1 for update", user_id)
        await upkeep.round()
    assert await admin.fetchval("select count(*) from users") == 1
    await upkeep.round()
    assert await admin.fetchval("select count(*) from users") == 0


async def test_rounds_come_again_and_outlive_an_outage(admin, db):
    upkeep = Upkeep(db, lambda: NOW, pause=0.02)
    with capture_logs() as logs:
        running = asyncio.create_task(upkeep.run())
        try:
            for _ in range(2):
                await add_user(admin, age=2 * UNVERIFIED)
                async with asyncio.timeout(15):
                    while await admin.fetchval("select count(*) from users"):
                        await asyncio.sleep(0.01)
            await admin.execute("alter table sessions rename to away")
            async with asyncio.timeout(15):
                while "upkeep_failed" not in {line["event"] for line in logs}:
                    await asyncio.sleep(0.01)
            await admin.execute("alter table away rename to sessions")
            await add_user(admin, age=2 * UNVERIFIED)
            async with asyncio.timeout(15):
                while await admin.fetchval("select count(*) from users"):
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

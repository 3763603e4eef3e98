"""The audit log: what is in it, that it only grows, and what it tells nobody."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from ringfence.accounts import audit_queries
from ringfence.accounts.audit import NOBODY, AuditKind, AuditLog, pseudonym, record
from ringfence.accounts.sessions import REUSE_SECONDS, Device
from ringfence.errors import Invalid, NotFound
from ringfence.ids import new_session_id, new_user_id
from ringfence.keys import Purpose, derive
from tests.accounts.conftest import SECRET
from tests.engine import waits_for_a_lock

HERE = Device("203.0.113.9", "Browser on a laptop")
THERE = Device("198.51.100.7", "Browser on a phone\0")
EMAIL = "ann@example.com"
PASSWORD = "correct horse battery staple"
WRONG = "another staple, another horse"


@pytest.fixture
def log(db):
    return AuditLog(db)


@pytest.fixture
async def ann(accounts, mailbox):
    registration = await accounts.register(EMAIL, PASSWORD, HERE)
    await accounts.verify(registration, await mailbox.code(registration), THERE)
    return registration


async def kinds(log, user_id):
    return [event.kind for event in await log.newest(user_id, 100)]


# What is in it


async def test_registration_and_verification_are_in_the_log(log, ann):
    verified, registered = await log.newest(ann, 10)
    assert (verified.kind, verified.address, verified.agent) == ("verified", THERE.address, "Browser on a phone")
    assert (registered.kind, registered.address, registered.agent) == ("registered", HERE.address, HERE.agent)
    assert registered.created_at < verified.created_at
    assert registered.detail == {}


async def test_sign_ins_good_and_bad_are_in_the_log(log, ann, accounts, sessions):
    with pytest.raises(Invalid):
        await accounts.sign_in(EMAIL, WRONG, THERE)
    identity = await sessions.check((await accounts.sign_in(EMAIL, PASSWORD, HERE)).access)
    signed_in, failed = (await log.newest(ann, 10))[:2]
    assert (failed.kind, failed.address) == ("sign_in_failed", THERE.address)
    assert (signed_in.kind, signed_in.address) == ("signed_in", HERE.address)
    assert signed_in.detail == {"session_id": str(identity.session_id)}


async def test_a_disabled_accounts_sign_in_is_a_failed_one(log, ann, accounts, admin):
    await admin.execute("update users set disabled_at = now()")
    with pytest.raises(Invalid):
        await accounts.sign_in(EMAIL, PASSWORD, HERE)
    assert (await kinds(log, ann))[0] == "sign_in_failed"


async def test_the_end_of_sessions_is_in_the_log(log, ann, accounts, sessions):
    first, second, _ = [await sessions.check((await accounts.sign_in(EMAIL, PASSWORD, HERE)).access) for _ in range(3)]
    await sessions.end(first, THERE)
    with pytest.raises(NotFound):
        await sessions.end(first, THERE)
    await sessions.end_all(ann, HERE, but=second.session_id)
    all_but_one, one = (await log.newest(ann, 10))[:2]
    assert (one.kind, one.detail, one.address) == (
        "session_ended", {"session_id": str(first.session_id)}, THERE.address,
    )  # fmt: skip
    assert (all_but_one.kind, all_but_one.detail) == ("sessions_ended", {"count": 1})
    assert (await kinds(log, ann)).count("session_ended") == 1


async def test_a_token_that_was_used_before_is_in_the_log_of_its_owner(log, ann, accounts, sessions, clock):
    stolen = await accounts.sign_in(EMAIL, PASSWORD, HERE)
    session_id = (await sessions.check(stolen.access)).session_id
    await sessions.refresh(stolen.refresh, HERE)
    clock.advance(REUSE_SECONDS + 1)
    with pytest.raises(Invalid):
        await sessions.refresh(stolen.refresh, THERE)
    newest = (await log.newest(ann, 1))[0]
    assert (newest.kind, newest.address) == ("refresh_token_reused", THERE.address)
    assert newest.detail == {"session_id": str(session_id)}


async def test_an_event_is_not_there_without_its_cause(log, db, ann):
    before = await kinds(log, ann)
    with pytest.raises(ZeroDivisionError):
        async with db.tenant(ann) as tx:
            await record(tx, ann, AuditKind.EXPORTED, HERE)
            raise ZeroDivisionError
    assert await kinds(log, ann) == before
    async with db.tenant(ann) as tx:
        await record(tx, ann, AuditKind.EXPORTED, HERE)
    assert await kinds(log, ann) == ["exported", *before]


# Who reads it


async def test_it_is_read_page_by_page(log, db, ann):
    async with db.system() as tx:
        for count in range(8):
            await record(tx, ann, AuditKind.SESSIONS_ENDED, HERE, count=count)
    everything = await log.newest(ann, 100)
    assert [event.detail.get("count") for event in everything] == [7, 6, 5, 4, 3, 2, 1, 0, None, None]
    first = await log.newest(ann, 4)
    second = await log.newest(ann, 4, first[-1].event_id)
    third = await log.newest(ann, 4, second[-1].event_id)
    assert [*first, *second, *third] == everything
    assert await log.newest(ann, 4, third[-1].event_id) == []


async def test_all_of_it_comes_page_by_page(log, db, ann, accounts):
    await accounts.register("bob@example.com", PASSWORD, THERE)
    async with db.system() as tx:
        for count in range(600):
            await record(tx, ann, AuditKind.SESSIONS_ENDED, HERE, count=count)
    pages = [page async for page in log.all(ann)]
    assert [len(page) for page in pages] == [500, 102]
    assert [event for page in pages for event in page] == await log.newest(ann, 1000)


async def test_nobody_reads_anothers(log, ann, accounts):
    other = await accounts.register("bob@example.com", PASSWORD, THERE)
    [theirs] = await log.newest(other, 10)
    assert theirs.event_id not in {event.event_id for event in await log.newest(ann, 10)}
    assert await log.newest(ann, 10, theirs.event_id) == []
    assert await log.newest(ann, 10, uuid.uuid4()) == []


# It only grows


@pytest.mark.parametrize(
    "statement",
    [
        "delete from audit_events",
        "update audit_events set kind = 'verified'",
        "update audit_events set address = ''",
        "update audit_events set created_at = now()",
        "truncate audit_events",
        "insert into audit_events select user_id, gen_random_uuid(), kind, '', '', '{}', now() from audit_events",
    ],
)
async def test_the_apps_role_can_only_add(db, ann, statement):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.tenant(ann) as tx:
            await tx.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_events set kind = 'verified'",
        "update audit_events set detail = '{}'",
        "update audit_events set created_at = now()",
        "truncate audit_events",
    ],
)
async def test_the_system_role_can_not_say_that_it_was_otherwise(db, ann, statement):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.system() as tx:
            await tx.execute(statement)


async def test_the_system_role_removes_old_events_of_nobody_alone(db, ann, admin):
    await admin.execute("update audit_events set created_at = created_at - interval '10 years'")
    for days in (89, 91):
        await admin.execute(
            "insert into audit_events values ($1, gen_random_uuid(), 'verified', '', '', '{}', now() - $2::interval)",
            NOBODY,
            timedelta(days=days),
        )
    async with db.system() as tx:
        assert await tx.execute("delete from audit_events") == 1
    assert await admin.fetchval("select count(*) from audit_events") == 3


# After the account


async def test_nothing_is_added_about_an_account_that_is_gone(db, log, ann, admin):
    await admin.execute("delete from users")
    async with db.system() as tx:
        await record(tx, ann, AuditKind.SIGN_IN_FAILED, HERE)
        await record(tx, NOBODY, AuditKind.SIGN_IN_FAILED, HERE)
    await log.note(ann, AuditKind.EXPORTED, HERE)
    rows = await admin.fetch("select user_id, kind from audit_events where kind not in ('registered', 'verified')")
    assert [tuple(row) for row in rows] == [(NOBODY, "sign_in_failed")]


async def test_an_event_waits_for_a_deletion_under_way_and_is_left_out(db, ann, admin):
    async with admin.transaction():
        await admin.execute("select from users for update")

        async def add():
            async with db.system() as tx:
                await record(tx, ann, AuditKind.SIGN_IN_FAILED, HERE)

        adding = asyncio.create_task(add())
        await waits_for_a_lock(admin)
        await admin.execute("delete from users")
    await adding
    assert await admin.fetchval("select count(*) from audit_events where kind = 'sign_in_failed'") == 0


async def test_it_outlives_the_account_under_a_pseudonym(db, ann, admin, log):
    key = derive(SECRET, Purpose.AUDIT)
    before = [event.kind for event in await log.newest(ann, 10)]
    async with db.system() as tx:
        await audit_queries.pseudonymise(tx, ann, pseudonym(key, ann))
    await admin.execute("delete from users")
    rows = await admin.fetch("select * from audit_events order by created_at desc")
    assert [row["kind"] for row in rows] == before
    assert {(row["user_id"], row["address"], row["agent"]) for row in rows} == {(pseudonym(key, ann), "", "")}
    assert await log.newest(ann, 10) == []
    assert str(ann) not in repr(rows)


def test_a_pseudonym_is_the_same_for_the_same_user_and_key_alone():
    key, user_id = derive(SECRET, Purpose.AUDIT), new_user_id()
    assert pseudonym(key, user_id) == pseudonym(key, user_id)
    others = {user_id, pseudonym(key, new_user_id()), pseudonym(derive(SECRET + "!", Purpose.AUDIT), user_id)}
    assert pseudonym(key, user_id) not in others


async def test_a_registration_that_lost_its_address_leaves_none_behind(accounts, mailbox, admin):
    eves = await accounts.register(EMAIL, WRONG, THERE)
    anns = await accounts.register(EMAIL, PASSWORD, HERE)
    await accounts.verify(anns, await mailbox.code(anns), HERE)
    rows = await admin.fetch("select user_id, address, agent from audit_events")
    assert {tuple(row) for row in rows} == {(eves, "", ""), (anns, HERE.address, HERE.agent)}


# What it tells nobody


async def test_registering_adds_one_event_for_known_and_unknown_alike(accounts, ann, admin):
    for email in (EMAIL, "new@example.com"):
        registration = await accounts.register(email, WRONG, HERE)
        kinds = await admin.fetch("select kind from audit_events where user_id = $1", registration)
        assert [row["kind"] for row in kinds] == ["registered"]
    assert await admin.fetchval("select count(*) from audit_events where user_id = $1", ann) == 2


async def test_ids_of_events_count_nothing(log, ann):
    """A counter would tell an owner whether others' sign-ins were found worth an event."""
    assert {event.event_id.version for event in await log.newest(ann, 10)} == {4}


async def test_it_holds_no_password_code_or_token(accounts, mailbox, sessions, ann, admin):
    code = await mailbox.code(ann)
    with pytest.raises(Invalid):
        await accounts.sign_in(EMAIL, WRONG, HERE)
    tokens = await accounts.sign_in(EMAIL, PASSWORD, HERE)
    await sessions.end(await sessions.check(tokens.access), HERE)
    with pytest.raises(Invalid):
        await accounts.verify(ann, code, replace(HERE, agent="x"))
    dump = repr(await admin.fetch("select * from audit_events"))
    for secret in (code, PASSWORD, WRONG, tokens.access, tokens.refresh, EMAIL):
        assert secret not in dump


async def test_details_say_ids_as_text(db, log, ann):
    session_id = new_session_id()
    async with db.system() as tx:
        await record(tx, ann, AuditKind.SESSION_ENDED, HERE, session_id=session_id, who="operator")
    assert (await log.newest(ann, 1))[0].detail == {"session_id": str(session_id), "who": "operator"}

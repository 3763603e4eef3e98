"""Sessions: tokens that rotate, copies that are found out, and an end that holds at once."""

import asyncio
import base64
import uuid
from datetime import timedelta

import pytest

from ringfence.accounts import opaque
from ringfence.accounts.sessions import REUSE_SECONDS, Device
from ringfence.errors import Invalid, NotFound, RateLimited, Unauthenticated
from ringfence.ids import new_user_id

HERE = Device("203.0.113.9", "Browser on a laptop")
THERE = Device("198.51.100.7", "Browser on a phone")


@pytest.fixture
async def user(admin):
    user_id = new_user_id()
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, 'a', 'a', '', now())",
        user_id,
    )
    return user_id


@pytest.fixture
def begin(db, sessions, user):
    async def begin(device=HERE, user_id=user):
        async with db.system() as tx:
            begun = await sessions.begin(tx, user_id, device)
        return await sessions.tokens(begun)

    return begin


async def dead(sessions, tokens):
    """Whether neither of the tokens opens anything."""
    with pytest.raises(Unauthenticated, match="session_ended"):
        await sessions.check(tokens.access)
    with pytest.raises(Invalid, match="invalid_grant"):
        await sessions.refresh(tokens.refresh, HERE)
    return True


async def test_a_session_names_its_user_and_goes_on(sessions, begin, user):
    first = await begin()
    identity = await sessions.check(first.access)
    assert identity.user_id == user
    second = await sessions.refresh(first.refresh, HERE)
    assert second.refresh != first.refresh
    assert await sessions.check(second.access) == identity
    assert await sessions.check(first.access) == identity  # it lives its 15 minutes
    third = await sessions.refresh(second.refresh, HERE)
    assert await sessions.check(third.access) == identity
    assert first.refresh not in repr(first)


async def test_a_token_that_comes_back_later_ends_the_session_for_both(sessions, begin, clock, admin):
    stolen = await begin()
    owners = await sessions.refresh(stolen.refresh, HERE)
    clock.advance(REUSE_SECONDS + 1)
    with pytest.raises(Invalid, match="invalid_grant"):
        await sessions.refresh(stolen.refresh, THERE)
    assert await dead(sessions, owners)
    assert await dead(sessions, stolen)
    assert await admin.fetchval("select count(*) from sessions") == 0


async def test_a_token_two_steps_back_ends_the_session_even_within_the_grace(sessions, begin):
    first = await begin()
    second = await sessions.refresh(first.refresh, HERE)
    third = await sessions.refresh(second.refresh, HERE)
    with pytest.raises(Invalid, match="invalid_grant"):
        await sessions.refresh(first.refresh, THERE)
    assert await dead(sessions, third)


async def test_twenty_refreshes_at_once_give_one_and_the_same_token(sessions, begin, admin):
    first = await begin()
    answers = await asyncio.gather(*(sessions.refresh(first.refresh, HERE) for _ in range(20)))
    assert len({answer.refresh for answer in answers}) == 1
    assert await admin.fetchval("select count(*) from refresh_tokens where used_at is null") == 1
    assert await admin.fetchval("select count(*) from sessions") == 1


async def test_a_thief_within_the_grace_is_found_out_at_the_next_turn(sessions, begin, clock):
    first = await begin()
    owners, thiefs = await sessions.refresh(first.refresh, HERE), await sessions.refresh(first.refresh, THERE)
    clock.advance(REUSE_SECONDS + 1)
    later = await sessions.refresh(thiefs.refresh, THERE)
    clock.advance(REUSE_SECONDS + 1)
    with pytest.raises(Invalid):
        await sessions.refresh(owners.refresh, HERE)
    assert await dead(sessions, later)


async def test_a_guess_ends_nothing(sessions, begin):
    tokens = await begin()
    data = bytearray(base64.urlsafe_b64decode(tokens.refresh.removeprefix("rfr_")))
    data[-1] ^= 1
    with pytest.raises(Invalid, match="invalid_grant"):
        await sessions.refresh("rfr_" + base64.urlsafe_b64encode(data).decode(), THERE)
    assert await sessions.refresh(tokens.refresh, HERE)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "rfr_",
        lambda token: token.removeprefix("rfr_"),
        lambda token: token + "=",
        lambda token: token[:-8],
        lambda token: token + "AAAA",
        lambda token: token + " ",
        lambda token: "ü" + token,
        lambda token: "\ud800" + token,
        lambda _: "rfr_" + base64.urlsafe_b64encode(uuid.uuid4().bytes * 4).decode(),
    ],
)
async def test_what_is_no_token_of_ours_is_refused(sessions, begin, change):
    tokens = await begin()
    with pytest.raises(Invalid, match="invalid_grant"):
        await sessions.refresh(change(tokens.refresh), HERE)
    assert await sessions.check(tokens.access)


async def test_a_session_ends_by_itself(sessions, begin, clock):
    tokens = await begin()
    clock.advance(30 * 86400 - 600)
    tokens = await sessions.refresh(tokens.refresh, HERE)
    clock.advance(600)
    assert await dead(sessions, tokens)


async def test_one_session_ends_at_once_and_no_other(sessions, begin):
    here, there = await begin(HERE), await begin(THERE)
    await sessions.end(await sessions.check(here.access), HERE)
    assert await dead(sessions, here)
    assert await sessions.check(there.access)
    with pytest.raises(NotFound, match="session_not_found"):
        await sessions.end((await sessions.check(there.access)).__class__(new_user_id(), uuid.uuid4()), HERE)


async def test_all_sessions_end_at_once_or_all_but_one(sessions, begin, user, admin):
    one, two, three = [await begin() for _ in range(3)]
    other = new_user_id()
    await admin.execute("insert into users (user_id, email, email_key, password_hash) values ($1, 'b', 'b', '')", other)
    others = await begin(user_id=other)
    assert await sessions.end_all(user, HERE, but=(await sessions.check(one.access)).session_id) == 2
    assert await dead(sessions, two)
    assert await dead(sessions, three)
    assert await sessions.check(one.access)
    assert await sessions.end_all(user, HERE) == 1
    assert await dead(sessions, one)
    assert (await sessions.check(others.access)).user_id == other


async def test_a_disabled_users_tokens_open_nothing(sessions, begin, user, admin):
    tokens = await begin()
    await admin.execute("update users set disabled_at = now() where user_id = $1", user)
    assert await dead(sessions, tokens)
    await admin.execute("update users set disabled_at = null")
    assert await sessions.check(tokens.access)


async def test_sessions_are_listed_with_where_they_were_used_last(sessions, begin, user, clock):
    first = await begin(HERE)
    clock.advance(60)
    await begin(Device("2001:db8::1", "x" * 500 + "\0"))
    clock.advance(60)
    await sessions.refresh(first.refresh, THERE)
    newest, older = await sessions.newest(user)
    assert (newest.address, newest.agent) == (THERE.address, THERE.agent)
    assert newest.used_at > newest.created_at
    assert (older.address, older.agent) == ("2001:db8::1", "x" * 200)
    assert await sessions.newest(new_user_id()) == []


async def test_the_database_holds_no_token(begin, sessions, admin):
    tokens = await begin()
    tokens = await sessions.refresh(tokens.refresh, HERE)
    dump = repr(await admin.fetch("select * from refresh_tokens")) + repr(await admin.fetch("select * from sessions"))
    secret = base64.urlsafe_b64decode(tokens.refresh.removeprefix("rfr_"))[32:]
    for sign in (tokens.access, tokens.refresh, repr(secret)[2:-1], secret.hex()):
        assert sign not in dump


async def test_a_session_of_an_account_that_was_deleted_meanwhile_does_not_begin(db, sessions):
    with pytest.raises(Invalid, match="invalid_grant"):
        async with db.system() as tx:
            await sessions.begin(tx, new_user_id(), HERE)


async def test_who_shows_what_is_no_token_again_and_again_is_limited_and_who_renews_is_not(sessions, begin, user):
    tokens = await begin()
    for _ in range(110):
        tokens = await sessions.refresh(tokens.refresh, HERE)
    session_id = opaque.parse("rfr_", tokens.refresh).record_id
    wrong = opaque.Opaque(session_id, new_user_id(), b"x" * 32).text("rfr_")
    for _ in range(100):
        with pytest.raises(Invalid, match="invalid_grant"):
            await sessions.refresh(wrong, HERE)
    with pytest.raises(RateLimited, match="too_many_tries"):
        await sessions.refresh(wrong, HERE)
    assert await sessions.refresh(tokens.refresh, THERE)


async def test_a_session_is_renewed_again_and_again_but_not_without_end(sessions, begin, clock, admin):
    tokens = await begin()
    for _ in range(120):
        tokens = await sessions.refresh(tokens.refresh, HERE)
    with pytest.raises(RateLimited, match="too_many_tries"):
        await sessions.refresh(tokens.refresh, THERE)
    assert await admin.fetchval("select count(*) from refresh_tokens") == 121
    clock.advance(30)
    assert await sessions.refresh(tokens.refresh, HERE)


@pytest.fixture
def begin_in_browser(db, sessions, user):
    async def begin(device=HERE):
        async with db.system() as tx:
            begun = await sessions.begin(tx, user, device, browser=True)
        return begun.identity, sessions.cookie(begun)

    return begin


async def test_a_browsers_cookie_is_its_session_and_has_its_life(sessions, begin_in_browser, clock):
    identity, cookie = await begin_in_browser()
    assert await sessions.check_cookie(cookie.value, THERE) == identity
    assert cookie.value not in repr(cookie)
    clock.advance(cookie.seconds - 1)
    assert await sessions.check_cookie(cookie.value, THERE) == identity
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="session_ended"):
        await sessions.check_cookie(cookie.value, THERE)


async def test_a_cookie_is_of_the_database_as_a_digest_alone(begin_in_browser, admin):
    _, cookie = await begin_in_browser()
    secret = base64.urlsafe_b64decode(cookie.value.removeprefix("rfc_"))[32:]
    [row] = await admin.fetch("select * from sessions")
    assert row["cookie_digest"] == opaque.parse("rfc_", cookie.value).digest
    assert secret not in row["cookie_digest"]
    assert await admin.fetchval("select count(*) from refresh_tokens") == 0


async def test_a_cookies_session_ends_like_any_other(sessions, begin_in_browser, user, admin):
    for end in (
        lambda identity: sessions.end(identity, HERE),
        lambda identity: sessions.end_all(identity.user_id, HERE),
        lambda _: admin.execute("update users set disabled_at = now()"),
    ):
        identity, cookie = await begin_in_browser()
        assert await sessions.check_cookie(cookie.value, HERE) == identity
        await end(identity)
        with pytest.raises(Unauthenticated, match="session_ended"):
            await sessions.check_cookie(cookie.value, HERE)


async def test_nothing_but_the_very_cookie_opens_a_session(sessions, begin, begin_in_browser):
    identity, cookie = await begin_in_browser()
    other, _ = await begin_in_browser()
    shown = opaque.parse("rfc_", cookie.value)
    elsewhere = opaque.Opaque(other.session_id, shown.user_id, shown.secret).text("rfc_")
    forged = opaque.Opaque(shown.record_id, shown.user_id, bytes(32)).text("rfc_")
    tokens = await begin()
    as_refresh = shown.text("rfr_")
    as_cookie = opaque.parse("rfr_", tokens.refresh).text("rfc_")
    for value in (
        elsewhere,
        forged,
        as_refresh,
        as_cookie,
        tokens.access,
        tokens.refresh,
        "",
        "rfc_",
        cookie.value + "=",
    ):
        with pytest.raises(Unauthenticated, match="session_ended"):
            await sessions.check_cookie(value, HERE)
    for value in (as_refresh, cookie.value):
        with pytest.raises(Invalid, match="invalid_grant"):
            await sessions.refresh(value, HERE)
    assert await sessions.check_cookie(cookie.value, HERE) == identity  # none of that has ended it


async def test_now_and_then_it_is_noted_from_where_a_cookie_is_shown(sessions, begin_in_browser, clock, user):
    _, cookie = await begin_in_browser()
    began = clock()

    async def noted(seconds, device):
        clock.advance(seconds)
        await sessions.check_cookie(cookie.value, device)
        [session] = await sessions.newest(user)
        return session.used_at, session.address, session.agent

    assert await noted(60, THERE) == (began, HERE.address, HERE.agent)
    assert await noted(14 * 60, THERE) == (clock(), THERE.address, THERE.agent)
    assert await noted(60, HERE) == (began + timedelta(minutes=15), THERE.address, THERE.agent)

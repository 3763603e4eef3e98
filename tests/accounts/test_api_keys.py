"""API keys: what opens, what does not, and what the database knows of them."""

import asyncio
import base64
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from ringfence.accounts import opaque, queries
from ringfence.accounts.api_keys import MAX_KEYS, PREFIX, ApiKeys, WantedApiKey
from ringfence.accounts.devices import Device
from ringfence.accounts.opaque import Opaque
from ringfence.accounts.queries import Scope
from ringfence.errors import Conflict, Forbidden, NotFound, Unauthenticated
from ringfence.ids import new_api_key_id, new_user_id

ALL = frozenset(Scope)
DEVICE = Device("203.0.113.9", "a test")
DAY = timedelta(days=1)
PASSWORD = "correct horse battery staple"


class Keys(ApiKeys):
    """The real thing; who makes a key knows the password."""

    async def create(self, user_id, name, scopes, life, device, password=PASSWORD):
        return await super().create(user_id, password, WantedApiKey(name, scopes, life), device)


@pytest.fixture
def api_keys(db, confirmation, letters, clock):
    return Keys(db, confirmation, letters, now=clock)


@pytest.fixture
async def add_user(admin, passwords):
    hashed = await passwords.hash(PASSWORD)

    async def add(name):
        user_id = new_user_id()
        await admin.execute(
            "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, $3, now())",
            user_id,
            f"{name}@example.com",
            hashed,
        )
        return user_id

    return add


@pytest.fixture
async def user(add_user):
    return await add_user("a")


async def opens_nothing(api_keys, text):
    with pytest.raises(Unauthenticated, match="invalid_token"):
        await api_keys.authenticate(text)
    return True


@pytest.mark.parametrize("scopes", [frozenset({Scope.READ}), frozenset({Scope.WRITE, Scope.ASK}), ALL])
async def test_a_key_names_its_user_and_what_it_allows(api_keys, user, scopes):
    made = await api_keys.create(user, "nightly", scopes, None, DEVICE)
    grant = await api_keys.authenticate(made.text)
    assert (grant.user_id, grant.key_id, grant.scopes) == (user, made.key.key_id, scopes)
    assert made.text not in repr(made)


async def test_keys_are_listed_newest_first_and_without_their_secret(api_keys, user, add_user, clock):
    first = await api_keys.create(user, "first", ALL, DAY, DEVICE)
    clock.advance(1)
    second = await api_keys.create(user, "second", frozenset({Scope.ASK}), None, DEVICE)
    assert await api_keys.newest(user) == [second.key, first.key]
    assert (second.key.expires_at, second.key.used_at) == (None, None)
    assert first.key.expires_at - first.key.created_at == DAY
    assert first.text.startswith(first.key.prefix)
    assert len({first.key.prefix, second.key.prefix}) == 2
    assert len(first.key.prefix) == 12
    assert await api_keys.newest(await add_user("b")) == []


async def test_a_revoked_key_opens_nothing(api_keys, user):
    gone, other = [await api_keys.create(user, name, ALL, None, DEVICE) for name in ("gone", "other")]
    await api_keys.revoke(user, gone.key.key_id, DEVICE)
    assert await opens_nothing(api_keys, gone.text)
    assert await api_keys.authenticate(other.text)
    with pytest.raises(NotFound, match="api_key_not_found"):
        await api_keys.revoke(user, gone.key.key_id, DEVICE)


async def test_nobody_revokes_anothers_key(api_keys, user, add_user):
    made = await api_keys.create(user, "mine", ALL, None, DEVICE)
    with pytest.raises(NotFound, match="api_key_not_found"):
        await api_keys.revoke(await add_user("b"), made.key.key_id, DEVICE)
    assert await api_keys.authenticate(made.text)


async def test_a_key_opens_until_it_expires(api_keys, user, clock):
    made = await api_keys.create(user, "short", ALL, DAY, DEVICE)
    clock.advance(86399)
    assert await api_keys.authenticate(made.text)
    clock.advance(1)
    assert await opens_nothing(api_keys, made.text)
    assert [key.key_id for key in await api_keys.newest(user)] == [made.key.key_id]


@pytest.mark.parametrize("change", ["disabled_at = now()", "verified_at = null"])
async def test_a_disabled_or_unverified_users_key_opens_nothing_and_none_is_made(api_keys, user, admin, change):
    made = await api_keys.create(user, "mine", ALL, None, DEVICE)
    await admin.execute("update users set " + change)
    assert await opens_nothing(api_keys, made.text)
    with pytest.raises(Forbidden, match="password_not_confirmed"):
        await api_keys.create(user, "more", ALL, None, DEVICE)
    await admin.execute("update users set disabled_at = null, verified_at = now()")
    assert await api_keys.authenticate(made.text)


async def test_without_the_password_there_is_no_key_and_no_letter(api_keys, user, mailbox):
    with pytest.raises(Forbidden, match="password_not_confirmed"):
        await api_keys.create(user, "a thief's", ALL, None, DEVICE, password="another one, long enough")
    assert await api_keys.newest(user) == []
    assert await mailbox.to("a@example.com") == []
    made = await api_keys.create(user, "mine", frozenset({Scope.READ}), None, DEVICE)
    [mail] = await mailbox.to("a@example.com")
    assert f"begins with {made.key.prefix} and may read." in mail.text


async def test_a_key_goes_with_its_user(api_keys, user, admin):
    made = await api_keys.create(user, "mine", ALL, None, DEVICE)
    await admin.execute("delete from users where user_id = $1", user)
    assert await opens_nothing(api_keys, made.text)
    with pytest.raises(Forbidden, match="password_not_confirmed"):
        await api_keys.create(user, "more", ALL, None, DEVICE)


async def test_no_bit_of_a_key_may_differ(api_keys, user, add_user):
    made = await api_keys.create(user, "mine", ALL, None, DEVICE)
    token = opaque.parse(PREFIX, made.text)
    wrong = token.secret[:-1] + bytes([token.secret[-1] ^ 1])
    for other in (
        Opaque(token.record_id, token.user_id, wrong),
        Opaque(new_api_key_id(), token.user_id, token.secret),
        Opaque(token.record_id, await add_user("b"), token.secret),
    ):
        assert await opens_nothing(api_keys, other.text(PREFIX))
    for text in (PREFIX, "rfr_" + made.text.removeprefix(PREFIX), made.text.rstrip("="), made.text + " "):
        assert await opens_nothing(api_keys, text)
    assert await api_keys.authenticate(made.text)


async def test_use_is_noted_at_most_once_a_minute(api_keys, user, clock):
    made = await api_keys.create(user, "mine", ALL, None, DEVICE)
    await asyncio.gather(*(api_keys.authenticate(made.text) for _ in range(20)))
    [noted] = await api_keys.newest(user)
    assert noted.used_at == clock()
    clock.advance(59)
    await api_keys.authenticate(made.text)
    assert await api_keys.newest(user) == [noted]
    clock.advance(1)
    await api_keys.authenticate(made.text)
    assert (await api_keys.newest(user))[0].used_at == clock()


async def test_of_those_who_find_a_key_unused_at_once_one_notes_it(api_keys, user, clock, db, admin):
    grant = await api_keys.authenticate((await api_keys.create(user, "mine", ALL, None, DEVICE)).text)
    before = clock()
    clock.advance(60)

    async def note():
        async with db.system() as tx:
            await queries.touch_api_key(tx, grant, clock(), before)

    version = await admin.fetchval("select ctid from api_keys")
    await asyncio.gather(*(note() for _ in range(5)))
    assert (await api_keys.newest(user))[0].used_at == clock()
    # Rows are never changed in place: each write puts another one behind those before.
    assert await admin.fetchval("select ctid from api_keys") == (version[0], version[1] + 1)


async def test_a_user_has_no_more_than_the_limit_however_many_come_at_once(api_keys, user, add_user):
    for _ in range(MAX_KEYS - 4):
        await api_keys.create(user, "one of many", ALL, None, DEVICE)
    made = await asyncio.gather(
        *(api_keys.create(user, "one of many", ALL, None, DEVICE) for _ in range(10)), return_exceptions=True
    )
    refused = [result for result in made if isinstance(result, Conflict)]
    assert {error.code for error in refused} == {"too_many_api_keys"}
    assert len(refused) == 6
    assert len(await api_keys.newest(user)) == MAX_KEYS
    assert await api_keys.create(await add_user("b"), "not concerned", ALL, None, DEVICE)
    await api_keys.revoke(user, (await api_keys.newest(user))[0].key_id, DEVICE)
    assert await api_keys.create(user, "again", ALL, None, DEVICE)


async def test_neither_database_nor_log_holds_a_key(api_keys, user, admin):
    with capture_logs() as logs:
        made = await api_keys.create(user, "mine", ALL, None, DEVICE)
        await api_keys.authenticate(made.text)
        await api_keys.revoke(user, (await api_keys.create(user, "gone", ALL, None, DEVICE)).key.key_id, DEVICE)
    assert [line["event"] for line in logs] == ["api_key_created", "api_key_created", "api_key_revoked"]
    secret = opaque.parse(PREFIX, made.text).secret
    dump = repr(logs) + repr(await admin.fetch("select k.*, k::text from api_keys k"))
    assert made.key.prefix in dump
    for sign in (made.text, base64.urlsafe_b64encode(secret).decode()[:-4], repr(secret)[2:-1], secret.hex()):
        assert sign not in dump


async def test_making_and_revoking_are_in_the_audit_log(api_keys, user, admin):
    made = await api_keys.create(user, "mine", ALL, None, DEVICE)
    await api_keys.revoke(user, made.key.key_id, DEVICE)
    rows = await admin.fetch("select kind, address, detail->>'key_id' from audit_events order by created_at")
    key_id = str(made.key.key_id)
    assert [tuple(row) for row in rows] == [
        ("api_key_created", DEVICE.address, key_id),
        ("api_key_revoked", DEVICE.address, key_id),
    ]

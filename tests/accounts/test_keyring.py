"""Signing keys: made once, shared, sealed, replaced by age or command, and accepted as long as their tokens live."""

import asyncio
import json
from datetime import timedelta

import jwt
import pytest

from ringfence.accounts.keyring import KeyRing
from ringfence.accounts.tokens import AccessTokens
from ringfence.errors import SetupError, Unauthenticated
from ringfence.ids import Identity, new_session_id, new_user_id
from ringfence.keys import Purpose, derive

ME = Identity(new_user_id(), new_session_id())
KEEP = timedelta(seconds=930)


def ring(db, clock, secret="a secret for tests of accounts alone, 0123456789"):
    return KeyRing(db, derive(secret, Purpose.SIGNING_KEYS), max_age=timedelta(days=90), keep=KEEP, now=clock)


def tokens_of(keys, clock):
    return AccessTokens(keys, "https://rag.example.org", 900, clock)


async def test_many_processes_that_start_at_once_make_one_key(db, clock, admin):
    rings = [ring(db, clock) for _ in range(8)]
    keys = await asyncio.gather(*(keys.signing() for keys in rings))
    assert len({key.key_id for key in keys}) == 1
    assert await admin.fetchval("select count(*) from signing_keys") == 1


async def test_what_one_process_signs_another_accepts_at_once(db, clock):
    one, other = ring(db, clock), ring(db, clock)
    await other.jwks()
    await one.rotate()
    token = await tokens_of(one, clock).issue(ME)
    clock.advance(2)  # it had looked just before
    assert await tokens_of(other, clock).verify(token.token) == ME


async def test_a_key_is_replaced_when_it_is_old(db, clock):
    keys = ring(db, clock)
    first = (await keys.signing()).key_id
    clock.advance(90 * 86400 - 1)
    assert (await keys.signing()).key_id == first
    clock.advance(1)
    second = (await keys.signing()).key_id
    assert second != first
    assert {key["kid"] for key in (await keys.jwks())["keys"]} == {first, second}


async def test_tokens_of_a_replaced_key_live_to_their_end_and_the_key_no_longer(db, clock, admin):
    keys = ring(db, clock)
    token = (await tokens_of(keys, clock).issue(ME)).token
    old = jwt.get_unverified_header(token)["kid"]
    new = await keys.rotate()
    assert new != old
    clock.advance(925)
    assert await tokens_of(keys, clock).verify(token) == ME
    clock.advance(5)
    with pytest.raises(Unauthenticated):
        await tokens_of(keys, clock).verify(token)
    clock.advance(200)
    assert [key["kid"] for key in (await keys.jwks())["keys"]] == [new]
    assert await keys.public(old) is None
    await keys.rotate()
    assert await admin.fetchval("select count(*) from signing_keys where key_id = $1", old) == 0


async def test_another_process_signs_with_the_new_key_within_a_minute(db, clock):
    one, other = ring(db, clock), ring(db, clock)
    old = (await other.signing()).key_id
    new = await one.rotate()
    assert (await other.signing()).key_id == old
    clock.advance(60)
    assert (await other.signing()).key_id == new


async def test_another_process_that_checked_a_token_of_the_new_key_signs_with_it(db, clock):
    one, other = ring(db, clock), ring(db, clock)
    await other.signing()
    new = await one.rotate()
    clock.advance(1)
    assert await other.public(new)
    assert (await other.signing()).key_id == new


async def test_made_up_names_do_not_reach_the_database_each_time(db, clock, admin):
    keys = ring(db, clock)
    await keys.signing()
    clock.advance(1)
    assert await keys.public("made up") is None
    await admin.execute("alter table signing_keys rename to gone")
    assert await keys.public("made up too") is None  # within a second nobody asks again
    await admin.execute("alter table gone rename to signing_keys")


async def test_the_set_is_what_other_libraries_read(db, clock):
    keys = ring(db, clock)
    token = (await tokens_of(keys, clock).issue(ME)).token
    jwks = jwt.PyJWKSet.from_dict(json.loads(json.dumps(await keys.jwks())))
    key = jwks[jwt.get_unverified_header(token)["kid"]]
    options = {
        "audience": "https://rag.example.org",
        "options": {"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    }
    claims = jwt.decode(token, key, algorithms=["EdDSA"], **options)
    assert claims["sub"] == str(ME.user_id)
    assert "d" not in (await keys.jwks())["keys"][0]


async def test_the_database_holds_no_private_key(db, clock, admin):
    signing = await ring(db, clock).signing()
    row = await admin.fetchrow("select * from signing_keys")
    assert row["public_key"] == signing.private.public_key().public_bytes_raw()
    assert signing.private.private_bytes_raw() not in row["sealed"]
    assert signing.private.private_bytes_raw().hex() not in repr(row)


async def test_another_installations_secret_opens_nothing_and_rotation_helps(db, clock):
    await ring(db, clock).signing()
    other = ring(db, clock, "another secret, as long as it has to be 0123456")
    with pytest.raises(SetupError, match="signing_key_sealed"):
        await other.signing()
    new = await other.rotate()
    assert (await other.signing()).key_id == new


async def test_a_key_under_another_name_opens_nothing(db, clock, admin):
    await ring(db, clock).signing()
    await admin.execute("update signing_keys set key_id = 'another'")
    with pytest.raises(SetupError, match="signing_key_sealed"):
        await ring(db, clock).signing()

"""Scratch tenants: filled, searched, kept or removed, and entered by nobody."""

from datetime import UTC, datetime

import pytest

from ringfence.accounts import emails
from ringfence.documents.texts import Texts
from ringfence.errors import Invalid, Unavailable
from ringfence.evaluation.scratch import ScratchTenants


async def rows(admin):
    tables = ("users", "documents", "chunks", "embeddings")
    return [await admin.fetchval(f"select count(*) from {table}") for table in tables]


async def test_a_scratch_tenant_comes_and_goes(admin, tenants, collection):
    said = []
    async with tenants.filled(collection, keep=False, say=said.append) as scratch:
        assert scratch.documents == 4
        assert scratch.chunks > 4
        assert (await rows(admin))[:2] == [1, 4]
        assert await admin.fetchval("select count(*) from lexical_blocks") > 0
        assert await admin.fetchval("select count(*) from lexical_fresh") == 0
        address = await admin.fetchval("select email_key from users")
    assert await rows(admin) == [0] * 4
    assert said == ["small: 4 of 4 documents"]
    with pytest.raises(Invalid):
        emails.parse(address)  # so that nobody registers it, signs in with it or has a code sent to it


async def test_one_that_fails_leaves_nothing(admin, tenants, collection, models):
    models.script_embeddings(status=500)
    with pytest.raises(Unavailable):
        async with tenants.filled(collection, keep=False, say=str):
            pass
    assert await rows(admin) == [0] * 4


async def test_a_kept_one_is_filled_once(db, admin, tenants, collection, models, embedder):
    async with tenants.filled(collection, keep=True, say=str) as first:
        pass
    asked = len(models.embeddings)
    async with tenants.filled(collection, keep=True, say=str) as second:
        assert second == first
    assert len(models.embeddings) == asked
    await admin.execute("delete from documents where user_id = $1 and name = 'Notice'", first.user_id)
    async with tenants.filled(collection, keep=True, say=str) as third:
        assert third == first  # what was missing is there again
    texts = Texts(db, embedder, chunk_tokens=64, chunk_overlap_tokens=8)
    other = ScratchTenants(db, texts, settings="another model", now=lambda: datetime.now(UTC))
    async with other.filled(collection, keep=True, say=str) as fourth:
        assert fourth.user_id != first.user_id
    for one in (first, fourth):
        await tenants.remove(one.user_id)
    assert await rows(admin) == [0] * 4


async def test_what_a_killed_evaluation_left_is_swept_and_nothing_else(admin, tenants, collection):
    async with tenants.filled(collection, keep=True, say=str) as kept:
        pass
    await admin.execute(
        """insert into users (user_id, email, email_key, password_hash, created_at)
           select gen_random_uuid(), k, k, '!', t::timestamptz from (values
             ('run-1@evaluation.invalid', now() - interval '25 hours'),
             ('run-2@evaluation.invalid', now() - interval '23 hours'),
             ('kept-1@evaluation.invalid', now() - interval '9 days'),
             ('run-3@example.org', now() - interval '9 days')) v(k, t)"""
    )
    async with tenants.filled(collection, keep=False, say=str):
        pass
    left = {row[0] for row in await admin.fetch("select email_key from users where user_id <> $1", kept.user_id)}
    assert left == {"run-2@evaluation.invalid", "kept-1@evaluation.invalid", "run-3@example.org"}

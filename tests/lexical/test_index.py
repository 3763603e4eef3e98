"""The index against plain Python: stored, merged, deleted, replaced, cleaned, filled, by several at once."""

import asyncio
import random
import re

import pytest

from ringfence.filters import Filter
from ringfence.lexical import queries
from ringfence.lexical.postings import SEGMENT_CHUNKS
from ringfence.lexical.service import KIND, IndexPayload
from ringfence.lexical.terms import query_terms
from ringfence.migrations import scripts
from ringfence.search import queries as search
from ringfence.search.queries import Words
from tests.lexical.conftest import Shelf
from tests.search.stored import tenant

_ROWS = "select count(*) from TABLE where user_id = $1"
_OTHERS = (
    """
insert into lexical_segments (user_id, document_id, first, width, length, analysis)
select $1, gen_random_uuid(), 0, 1, 1, 0 from generate_series(1, 3000)
""",
    """
insert into documents (user_id, document_id, name, media_type, size, sha256)
select $1, gen_random_uuid(), 'n', 'text/plain', 1, sha256(n::text::bytea) from generate_series(1, 3000) n
""",
    """
insert into lexical_blocks (user_id, term, first, postings) select $1, n, n, array[n] from generate_series(1, 9000) n
""",
    """
insert into lexical_fresh (user_id, part, segment, terms, ends, postings)
select $1, 1 + n % 127, n, array[n], array[1], array[n] from generate_series(1, 9000) n
""",
)
WORDS = [f"w{n}" for n in range(300)] + ["oven", "notices", "running", "AB-12"]
ENGLISH = "The notice period is six weeks and the oven is repaired by somebody who lives in the red house."
GERMAN = "Die Kündigungsfrist beträgt sechs Wochen und der Ofen wird von jemandem im roten Haus repariert."


def texts(seed: int, count: int, language: str = "") -> list[str]:
    rnd = random.Random(seed)
    several = [
        " ".join(rnd.choices(WORDS, weights=range(len(WORDS), 0, -1), k=rnd.randint(1, 40))) for _ in range(count)
    ]
    return [f"{language} {text}" for text in several] if language else several


async def counted(admin, shelf):
    tables = ("lexical_segments", "lexical_fresh", "lexical_blocks")
    return [await admin.fetchval(_ROWS.replace("TABLE", table), shelf.user_id) for table in tables]


QUERIES = ["w1 w2 w50", "AB-12 oven", "notices notices w7", "nothing", "Kündigungsfristen notice"]


async def all_agree(shelf):
    return [await shelf.agrees(query) for query in QUERIES]


async def test_stored_merged_deleted_and_replaced_it_is_bm25_of_what_is_live(admin, shelf, index):
    assert await shelf.search("oven") == []
    documents = [await shelf.put(texts(n, count, ENGLISH)) for n, count in enumerate([1, 3, 40, 70])]
    documents += [await shelf.put(texts(9, 5, GERMAN), name="Ofen.txt"), await shelf.put(["東京", "oven 東京"])]
    fresh = await all_agree(shelf)
    assert all(fresh[n] for n in (0, 1, 2, 4))
    await index.merge(shelf.user_id, rows=7)  # in many transactions
    assert await all_agree(shelf) == fresh  # to the last bit
    assert (await counted(admin, shelf))[1] == 0

    await shelf.remove(documents[2])
    await shelf.replace(documents[3], texts(5, 35, ENGLISH))
    changed = await all_agree(shelf)
    assert changed != fresh
    await index.merge(shelf.user_id)
    assert await all_agree(shelf) == changed
    before = await counted(admin, shelf)
    await index.clean(shelf.user_id, rows=50)
    assert await all_agree(shelf) == changed
    after = await counted(admin, shelf)
    assert after[0] < before[0]
    assert after[2] < before[2]
    for document_id in list({key for key, _ in shelf.live}):
        await shelf.remove(document_id)
    await index.clean(shelf.user_id)
    assert await counted(admin, shelf) == [0, 0, 0]


async def test_scores_are_the_same_to_the_last_bit_half_merged_and_whatever_is_dead(db, admin, index):
    """The same documents in another order, merged in part, with others between them that are gone."""
    one, other = Shelf(db, admin, await tenant(admin)), Shelf(db, admin, await tenant(admin))
    several = [texts(seed, 20) for seed in range(4)]
    for part in several:
        await one.put(part)
    for part in reversed(several):
        gone = await other.put(texts(99, 20))
        await other.put(part)
        if part is several[2]:
            await index.merge(other.user_id, rows=10)
        await other.remove(gone)
    async with db.tenant(other.user_id) as tx:
        await queries.merge(tx, 30)
    for query in QUERIES:
        mine, theirs = await one.search(query), await other.search(query)
        assert sorted(score for *_, score in mine) == sorted(score for *_, score in theirs)


async def test_blocks_have_128_postings_at_most_and_are_filled_up(admin, shelf, index):
    for seed in range(9):
        await shelf.put([f"common {text}" for text in texts(seed, 33)])
        await index.merge(shelf.user_id)
    [common] = [term for term, mask, _ in query_terms("common") if mask & 1]
    rows = await admin.fetch("select postings from lexical_blocks where term = $1 order by first", common)
    assert [len(row[0]) for row in rows] == [128, 128, 9 * 33 - 256]
    await shelf.agrees("common w3")


async def test_what_is_being_ingested_or_deleted_for_now_is_not_found_and_counts_for_nothing(db, admin, shelf, index):
    await shelf.put(texts(1, 10))
    before = await all_agree(shelf)
    other = await shelf.put(texts(2, 40))
    await admin.execute("update documents set state = 'processing' where document_id = $1", other)
    shelf_live = dict(shelf.live)
    shelf.forget(other)
    assert await all_agree(shelf) == before
    await index.run(shelf.user_id, IndexPayload(step="clean").model_dump_json())
    assert (await counted(admin, shelf))[1] > 0  # it waits for its end
    await admin.execute("update documents set state = 'ready', deleted_at = now() where document_id = $1", other)
    assert await all_agree(shelf) == before
    await index.run(shelf.user_id, IndexPayload(step="clean").model_dump_json())
    assert (await counted(admin, shelf))[:2] == [3, 0]  # it may come back
    await admin.execute("update documents set deleted_at = null where document_id = $1", other)
    shelf.live = shelf_live
    assert await all_agree(shelf) != before


async def test_what_was_cleared_is_not_found_though_the_same_chunks_come_again(db, shelf, index):
    document_id = await shelf.put(texts(1, 40))
    await index.merge(shelf.user_id)
    async with db.tenant(shelf.user_id) as tx:
        assert await queries.forget(tx, document_id)
        assert not await queries.forget(tx, document_id)
        await shelf.index(tx, document_id, texts(3, 40), "n.txt", 0)
    shelf.note(document_id, texts(3, 40), "n.txt", 0)
    found = await all_agree(shelf)
    await index.run(shelf.user_id, IndexPayload(step="clean").model_dump_json())
    assert await all_agree(shelf) == found


async def test_what_lies_behind_the_live_version_can_be_cleared_alone(db, shelf):
    document_id = await shelf.put(texts(1, 5))
    async with db.tenant(shelf.user_id) as tx:
        await shelf.index(tx, document_id, ["behind"], "n.txt", 5)
        assert await queries.forget(tx, document_id, 5)
    await all_agree(shelf)


async def test_a_filter_leaves_out_documents_but_not_their_frequencies(shelf, index):
    documents = [await shelf.put(texts(seed, 20)) for seed in range(3)]
    for _ in range(2):
        everything = await shelf.search("w1 w50")
        one = await shelf.search("w1 w50", chosen=Filter(documents=(documents[1],)))
        assert one == [hit for hit in everything if hit[0] == documents[1]]
        assert await shelf.search("w1 w50", chosen=Filter(languages=("xx",))) == []
        assert await shelf.search("w1 w50", limit=3) == everything[:3]
        await index.merge(shelf.user_id)


async def test_neighbours_change_nothing(db, admin, shelf, index):
    await shelf.put(texts(1, 30))
    before = await all_agree(shelf)
    other = Shelf(db, admin, await tenant(admin))
    for seed in range(3):
        await other.put(texts(seed, 40))
        await index.merge(other.user_id)
    await other.put(texts(8, 40))
    assert await all_agree(shelf) == before
    mine = {key for key, _ in shelf.live}
    assert not any(document in mine for found in await all_agree(other) for document, *_ in found)


async def test_chunks_of_before_are_filled_in(db, admin, shelf, index):
    documents = [await shelf.put(texts(seed, count, ENGLISH), indexed=False) for seed, count in enumerate([300, 290])]
    async with db.tenant(shelf.user_id) as tx:  # some are there already
        await shelf.index(tx, documents[0], texts(0, 300, ENGLISH)[32:64], "n.txt", 32)
    await index.run(shelf.user_id, IndexPayload(step="fill").model_dump_json())
    await all_agree(shelf)
    assert await admin.fetchval("select sum(width) from lexical_segments") == 590
    await index.fill(shelf.user_id)
    assert await admin.fetchval("select sum(width) from lexical_segments") == 590


async def test_six_write_while_one_merges_and_one_deletes(db, admin, shelf, index):
    """Any deadlock would be `Unavailable`."""
    old = [await shelf.put(texts(seed, 10)) for seed in range(6)]
    writing = True

    async def write(seed):
        for turn in range(3):
            await shelf.put(texts(100 * seed + turn, SEGMENT_CHUNKS + 8))

    async def merge():
        while writing:
            await index.merge(shelf.user_id, rows=40)
            await index.clean(shelf.user_id, rows=200)

    async def delete():
        for document_id in old:
            await shelf.remove(document_id)

    merging = [asyncio.create_task(merge()) for _ in range(2)]
    await asyncio.gather(*(write(seed) for seed in range(6)), delete())
    writing = False
    await asyncio.gather(*merging)
    await all_agree(shelf)
    await index.run(shelf.user_id, IndexPayload(step="clean").model_dump_json())
    await all_agree(shelf)
    assert (await counted(admin, shelf))[1] == 0


async def test_a_merge_that_is_broken_off_leaves_nothing_half_done(db, shelf, index):
    await shelf.put(texts(1, 64))
    found = await all_agree(shelf)
    with pytest.raises(ZeroDivisionError):
        async with db.tenant(shelf.user_id) as tx:
            assert await queries.merge(tx, 9) == 9
            raise ZeroDivisionError
    assert await all_agree(shelf) == found
    await index.merge(shelf.user_id)
    assert await all_agree(shelf) == found


async def test_it_is_known_when_merging_is_worth_it(db, shelf, index):
    for number in range(3):
        await shelf.put([f"x{number}"])
    async with db.tenant(shelf.user_id) as tx:
        assert [await queries.waiting(tx, most) for most in (2, 3)] == [True, False]
    await index.merge(shelf.user_id)
    async with db.tenant(shelf.user_id) as tx:
        assert not await queries.waiting(tx, 0)


async def test_a_tenant_who_leaves_is_emptied(db, admin, shelf, index):
    await shelf.put(texts(1, 40))
    await index.merge(shelf.user_id)
    await shelf.put(texts(2, 40))
    async with db.tenant(shelf.user_id) as tx:
        while await queries.empty(tx):
            pass
    assert (await counted(admin, shelf))[1:] == [0, 0]


async def test_the_search_reads_one_tenants_rows_through_the_primary_keys(db, admin, shelf, index):
    await shelf.put(texts(1, 40))
    await index.merge(shelf.user_id)
    await shelf.put(texts(2, 40))
    other = await tenant(admin)
    for sql in _OTHERS:
        await admin.execute(sql, other)
    await admin.execute("vacuum analyze")
    words = Words(query_terms("w1 w50"), 1.2, 0.75, 100, None)
    async with db.tenant(shelf.user_id) as tx:
        plan = "\n".join(await search.plan(tx, await search.adopt(tx, "lexical"), words))
    for table in ("lexical_blocks", "lexical_fresh", "lexical_segments", "documents"):
        assert f"Seq Scan on {table}" not in plan
    assert "lexical_blocks_pkey" in plan
    assert "lexical_fresh_pkey" in plan
    # Sums without a sort of all postings, and one pass over the segments, not one for each chunk that was found.
    assert re.search(r"HashAggregate.*\n +Group Key.*\n +-> +Subquery Scan on posted", plan)
    assert re.search(r"CTE Scan on live l \(.*loops=1\)", plan)


async def test_merging_and_cleaning_take_time_in_proportion_also_of_a_tenant_whom_no_statistics_know(db, admin, shelf):
    """A plan that expects one row would go through all that a tenant has for each row of it."""
    other = await tenant(admin)
    for sql in _OTHERS:
        await admin.execute(sql, other)
    await admin.execute("vacuum analyze")
    await shelf.put(texts(1, 40))
    modes = []
    async with db.tenant(shelf.user_id) as tx:
        assert await queries.merge(tx, 500)
        for sql, rest in ((queries._MERGE, [500]), (queries._SWEEP, [(0, 0), [1], 500])):
            plan = "\n".join(row[0] for row in await tx.fetch(f"explain {sql}", shelf.user_id, *rest))
            assert "Seq Scan" not in plan
            for joined in re.findall(r"Join Filter: (.*)", plan):
                assert "segment" not in joined
                assert "document_id" not in joined
                assert "term" not in joined
        modes.append(await tx.fetchval("show enable_nestloop"))
    async with db.tenant(shelf.user_id) as tx:
        modes.append(await tx.fetchval("show enable_nestloop"))
    assert modes == ["off", "on"]


async def test_a_search_takes_time_in_proportion_also_of_a_tenant_whom_no_statistics_know(db, admin, shelf):
    other = await tenant(admin)
    for sql in _OTHERS:
        await admin.execute(sql, other)
    await admin.execute("vacuum analyze")
    await shelf.put(texts(1, 40))
    words = Words(query_terms("w1 w50"), 1.2, 0.75, 100, None)
    async with db.tenant(shelf.user_id) as tx:
        plan = "\n".join(await search.plan(tx, await search.adopt(tx, "lexical"), words))
    assert "Hash Cond: (s.document_id = d.document_id)" in plan
    assert not re.search(r"Join Filter: .*document_id", plan)


async def test_an_upgrade_has_each_tenant_with_chunks_filled_in_once(db, admin, shelf, index):
    sql = dict(scripts())["0046_lexical_fill.tenant.sql"]
    other = await tenant(admin)
    await shelf.put(texts(1, 3), indexed=False)
    for _ in range(2):
        for user_id in (shelf.user_id, other):
            async with db.tenant(user_id) as tx:
                await tx.execute(sql, user_id)
    [job] = await admin.fetch("select user_id, kind, payload, run_after > now() as later from jobs")
    assert (job["user_id"], job["kind"], job["later"]) == (shelf.user_id, KIND, True)
    await index.run(shelf.user_id, job["payload"])
    await shelf.agrees("w1 oven")
    await admin.execute("delete from jobs")
    async with db.tenant(shelf.user_id) as tx:
        assert await tx.execute(sql, shelf.user_id) == 0

"""SQL of the lexical index: postings in, merged, out. Searches read it in `search.queries`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from asyncpg import Record

from ringfence.db import TenantTx
from ringfence.ids import DocumentId
from ringfence.lexical.postings import SEGMENT_BITS, Segment

_ADD_SEGMENT = """
insert into lexical_segments (user_id, document_id, first, width, length, analysis) values ($1, $2, $3, $4, $5, $6)
returning segment
"""
_ADD_PART = """
insert into lexical_fresh (user_id, part, segment, terms, ends, postings) values ($1, $2, $3, $4, $5, $6)
"""
_FORGET = """
update lexical_segments set document_id = null where user_id = $1 and document_id = $2 and first >= $3
"""
# A statement that does not see a replacement does not see its chunks.
_FORGET_UNUSED = """
update lexical_segments s set document_id = null from documents d
where s.user_id = $1 and s.document_id = $2 and d.user_id = $1 and d.document_id = $2 and d.state = 'ready'
  and (s.first < d.first_chunk or (s.first >= d.first_chunk + d.chunks and not exists (
    select from replacements r where r.user_id = $1 and r.document_id = $2 and r.state <> 'failed')))
"""
# Of each segment the part of the lowest number is there.
_WAITING = "select user_id from lexical_fresh where user_id = $1 and part in (1, 8, 64) offset $2 limit 1"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('lexical ' || $1::text, 0))"
# For what goes through much of an index. Tables grow by orders of magnitude in one run, and of a tenant who has come
# since they were analyzed, the planner expects one row: a plan must not read all that a tenant has for each row of it.
_LINEAR = """
select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true),
  set_config('enable_nestloop', 'off', true)
"""

# Of a document that is there and ready, in the version that searches see, or would see if it were restored.
_STAYS = """
join documents d on d.user_id = $1 and d.document_id = s.document_id and d.state = 'ready'
  and s.first >= d.first_chunk and s.first < d.first_chunk + d.chunks
"""
_MERGE = f"""
with taken as (
  delete from lexical_fresh f using (
    select f.part, f.segment from lexical_fresh f
    join lexical_segments s on s.user_id = $1 and s.segment = f.segment {_STAYS}
    where f.user_id = $1 order by f.part, f.segment limit $2) t
  where f.user_id = $1 and f.part = t.part and f.segment = t.segment
  returning f.segment, f.terms, f.ends, f.postings),
marked as (
  update lexical_segments set merged = true
  where user_id = $1 and not merged and segment in (select segment from taken)),
added as (
  select e.term, array_agg(p.posting order by p.posting) as postings
  from taken t, unnest(t.terms, t.ends) with ordinality e (term, last, place),
    unnest(t.postings[coalesce(t.ends[e.place - 1], 0) + 1 : e.last]) p (posting)
  group by e.term),
placed as (
  select a.term, a.postings, b.first, coalesce(b.had, 128) as had from added a left join lateral (
    select b.first, cardinality(b.postings) as had from lexical_blocks b
    where b.user_id = $1 and b.term = a.term order by b.first desc limit 1) b on true),
filled as (
  update lexical_blocks b set postings = b.postings || p.postings[: 128 - p.had]
  from placed p where b.user_id = $1 and b.term = p.term and b.first = p.first and p.had < 128),
made as (
  insert into lexical_blocks (user_id, term, first, postings)
  select $1, p.term, p.postings[at], p.postings[at : at + 127]
  from placed p, generate_series(129 - p.had, cardinality(p.postings), 128) at)
select count(*)::int as taken from taken
"""  # noqa: S608  # constants, as below
# Its document is gone, or was cleared, or has a later version.
_DEAD = """
select s.user_id, s.segment, s.merged from lexical_segments s
left join documents d on d.user_id = $1 and d.document_id = s.document_id
where s.user_id = $1 and (d.document_id is null or (d.state = 'ready' and s.first < d.first_chunk))
order by s.segment limit $2
"""
_DROP_FRESH = "delete from lexical_fresh where user_id = $1 and segment = any($2::bigint[])"
_DROP_SEGMENTS = "delete from lexical_segments where user_id = $1 and segment = any($2::bigint[])"
_SWEEP = f"""
with page as materialized (
  select term, first, postings from lexical_blocks
  where user_id = $1 and (term, first) > (($2::bigint[])[1], ($2::bigint[])[2]) order by term, first limit $4),
hit as materialized (
  select term, first, array(
    select y from unnest(postings) with ordinality p (y, place) where y >> {SEGMENT_BITS} <> all($3::bigint[])
    order by place) as kept
  from page where exists (select from unnest(postings) y where y >> {SEGMENT_BITS} = any($3::bigint[]))),
emptied as (
  delete from lexical_blocks b using hit h
  where b.user_id = $1 and b.term = h.term and b.first = h.first and cardinality(h.kept) = 0),
thinned as (
  update lexical_blocks b set postings = h.kept from hit h
  where b.user_id = $1 and b.term = h.term and b.first = h.first and cardinality(h.kept) > 0)
select term, first from page order by term desc, first desc limit 1
"""  # noqa: S608
_UNINDEXED = """
select c.user_id, c.document_id, d.name, c.number, c.text, c.context from documents d
join chunks c on c.user_id = $1 and c.document_id = d.document_id
  and c.number >= d.first_chunk and c.number < d.first_chunk + d.chunks
where d.user_id = $1 and d.state = 'ready' and not exists (
  select from lexical_segments s
  where s.user_id = $1 and s.document_id = c.document_id and c.number between s.first and s.first + s.width - 1)
order by c.document_id, c.number limit $2
"""
_SEGMENTS = """
select user_id, segment from lexical_segments where user_id = $1 and document_id = $2 order by segment
"""
_TITLED = """
select c.user_id, s.segment, s.analysis, d.name, c.number, c.text, c.context from lexical_segments s
join documents d on d.user_id = $1 and d.document_id = $2
join chunks c on c.user_id = $1 and c.document_id = $2 and c.number >= s.first and c.number < s.first + s.width
where s.user_id = $1 and s.document_id = $2 and s.segment = any($3::bigint[]) order by s.segment, c.number
"""
_HOLD = "select user_id from documents where user_id = $1 and document_id = $2 for no key update"
_FORGET_SEGMENTS = """
update lexical_segments set document_id = null where user_id = $1 and segment = any($2::bigint[])
"""
_FORGET_BLOCKS = """
delete from lexical_blocks where user_id = $1 and (term, first) in (
  select term, first from lexical_blocks where user_id = $1 limit 5000)
"""
_FORGET_FRESH = """
delete from lexical_fresh where user_id = $1 and (part, segment) in (
  select part, segment from lexical_fresh where user_id = $1 limit 5000)
"""

_DEAD_AT_ONCE = 1000
_FIRST_TERM = -(2**63)


@dataclass(frozen=True, slots=True)
class Unindexed:
    """Chunks of one document that the index lacks: (number, text under its headings), in order."""

    document_id: DocumentId
    name: str
    chunks: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Titled:
    """A segment, its document's name as it is now, and its chunks: (number, text under its headings), in order."""

    segment: int
    analysis: int
    name: str
    chunks: list[tuple[int, str]]


async def add(tx: TenantTx, document_id: DocumentId, segments: Sequence[Segment]) -> None:
    """Store segments of a document. Searches find what is in them when they find the chunks."""
    rows = []
    for one in segments:
        values = (one.first, one.chunks, one.length, one.analysis)
        segment = await tx.fetchval(_ADD_SEGMENT, tx.user_id, document_id, *values)
        base = segment << SEGMENT_BITS
        rows += [
            (tx.user_id, part.part, segment, part.terms, part.ends, [base | posting for posting in part.postings])
            for part in one.parts
        ]
    await tx.executemany(_ADD_PART, rows)


async def forget(tx: TenantTx, document_id: DocumentId, first: int = 0) -> bool:
    """Let searches find the document's chunks no more, from a number on; whether there were any. No lock but theirs.

    What the index still holds of them goes when it is cleaned. A document that is deleted needs no call.
    """
    return bool(await tx.execute(_FORGET, tx.user_id, document_id, first))


async def forget_unused(tx: TenantTx, document_id: DocumentId) -> bool:
    """The same of chunks that are neither live nor on their way to take the place of those that are."""
    return bool(await tx.execute(_FORGET_UNUSED, tx.user_id, document_id))


async def waiting(tx: TenantTx, most: int) -> bool:
    """Whether more segments than that are not merged."""
    return await tx.fetchval(_WAITING, tx.user_id, most) is not None


async def lock(tx: TenantTx) -> None:
    """Until the transaction's end, nobody else merges, cleans or fills this tenant's index."""
    await tx.execute(_LOCK, str(tx.user_id))


async def merge(tx: TenantTx, rows: int) -> int:
    """Merge up to that many rows of stored postings into blocks, under the lock; how many there were."""
    await tx.execute(_LINEAR)
    return int(await tx.fetchval(_MERGE, tx.user_id, rows))


async def dead(tx: TenantTx) -> tuple[list[int], list[int]]:
    """Segments that no search will ever see: those of which blocks may hold something, and the others."""
    rows = await tx.fetch(_DEAD, tx.user_id, _DEAD_AT_ONCE)
    return [row["segment"] for row in rows if row["merged"]], [row["segment"] for row in rows if not row["merged"]]


async def sweep(
    tx: TenantTx, segments: Sequence[int], rows: int, after: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Take segments' postings out of the next blocks, under the lock; where it came to, None at the end."""
    await tx.execute(_LINEAR)
    row = await tx.fetchrow(_SWEEP, tx.user_id, after or (_FIRST_TERM, _FIRST_TERM), segments, rows)
    return (row["term"], row["first"]) if row else None


async def drop(tx: TenantTx, segments: Sequence[int]) -> None:
    """Remove segments of which blocks hold nothing."""
    await tx.execute(_DROP_FRESH, tx.user_id, segments)
    await tx.execute(_DROP_SEGMENTS, tx.user_id, segments)


async def unindexed(tx: TenantTx, most: int) -> list[Unindexed]:
    """Some live chunks that the index lacks, by document; none where it lacks none."""
    rows = await tx.fetch(_UNINDEXED, tx.user_id, most)
    return [
        Unindexed(DocumentId(document_id), name, [_chunk(row) for row in found])
        for (document_id, name), found in groupby(rows, key=lambda row: (row["document_id"], row["name"]))
    ]


async def segments(tx: TenantTx, document_id: DocumentId) -> list[int]:
    """The document's segments, in order."""
    return [row["segment"] for row in await tx.fetch(_SEGMENTS, tx.user_id, document_id)]


async def hold(tx: TenantTx, document_id: DocumentId) -> None:
    """Until the transaction's end, nobody changes the document or begins to ingest it. Taken after `lock`."""
    await tx.execute(_HOLD, tx.user_id, document_id)


async def titled(tx: TenantTx, document_id: DocumentId, segments: Sequence[int]) -> list[Titled]:
    """What these segments hold, those that still belong to the document, in order."""
    rows = await tx.fetch(_TITLED, tx.user_id, document_id, segments)
    return [
        Titled(segment, analysis, name, [_chunk(row) for row in found])
        for (segment, analysis, name), found in groupby(
            rows, key=lambda row: (row["segment"], row["analysis"], row["name"])
        )
    ]


async def forget_segments(tx: TenantTx, segments: Sequence[int]) -> None:
    """Let searches find nothing by these segments; the index is cleaned of them later."""
    await tx.execute(_FORGET_SEGMENTS, tx.user_id, segments)


def _chunk(row: Record) -> tuple[int, str]:
    return row["number"], f"{row['context']}\n{row['text']}"


async def empty(tx: TenantTx) -> bool:
    """Remove some rows of a tenant who leaves; whether there were any."""
    return bool(await tx.execute(_FORGET_BLOCKS, tx.user_id) or await tx.execute(_FORGET_FRESH, tx.user_id))

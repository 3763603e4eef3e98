"""SQL of tiers: the tables and indexes that large tenants have of their own, and the moving of rows in and out.

A tenant's table is `embeddings_<its id in hex>`, an index in it `…_m<the model's number>`. One that is being built, or
was broken off, is called `…_building`: what has its name is whole, and what is there is all that need be known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence.db import APP_ROLE, OwnerTx, SystemTx, TenantTx
from ringfence.ids import DocumentId, UserId, user_id_from_record

SHARED, OWN = 0, 1

_BUILDING = "_building"
_INDEX = re.compile(r"embeddings_[0-9a-f]{32}_m(\d+)")

_TABLES = """
select c.relname::text as name, array(
  select i.relname::text from pg_index x join pg_class i on i.oid = x.indexrelid
  where x.indrelid = c.oid and not x.indisprimary order by 1) as indexes
from pg_inherits h join pg_class c on c.oid = h.inhrelid
where h.inhparent = 'public.embeddings_own'::regclass order by 1
"""
_TENANTS = "select user_id from users where user_id > $1 order by user_id limit 1000"
_SIZES = """
select e.user_id, e.model_id, m.dimensions, count(*) filter (where e.part = 0) as shared,
  count(*) filter (where e.part = 1) as own
from embeddings e join embedding_models m on m.model_id = e.model_id
where e.user_id = $1 group by e.user_id, e.model_id, m.dimensions order by e.model_id
"""
# Whoever changes a document, or deletes it, waits until its rows have been moved; so none of them is changed meanwhile.
# What is being ingested stays where it is until it is ready.
_HOLD = """
select d.document_id from documents d
where d.user_id = $1 and d.document_id > $2 and (d.state = 'ready' or $3::smallint = 1) and exists (
  select from embeddings e where e.user_id = $1 and e.document_id = d.document_id and e.part = $3)
order by d.document_id limit $4 for no key update skip locked
"""
# In the order of the key: the copy is clustered.
_MOVE = """
update embeddings e set part = $3
from (
  select x.document_id, x.number, x.model_id from embeddings x
  where x.user_id = $1 and x.part = $2 and x.document_id = any($4::uuid[])
  order by x.document_id, x.number, x.model_id limit $5) s
where e.user_id = $1 and e.part = $2
  and e.document_id = s.document_id and e.number = s.number and e.model_id = s.model_id
"""
_CREATE = """
create table {table} (
  like embeddings including defaults including storage,
  constraint embeddings_own check (user_id = '{user_id}' and part = 1));
alter table {table} enable row level security;
alter table {table} force row level security;
create policy tenant on {table} to {app}
  using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
  with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
alter table embeddings_own attach partition {table} for values in ('{user_id}')
"""
# m is twice pgvector's, ef_construction four times: with less, queries off a tenant's topics lose too much.
_BUILD = """
create index concurrently {index} on {table} using hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops)
with (m = 32, ef_construction = 256) where model_id = {model_id}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How many vectors of a model a tenant has, in the shared part and in its own."""

    model_id: int
    dimensions: int
    shared: int
    own: int

    @property
    def total(self) -> int:
        """In both."""
        return self.shared + self.own


@dataclass(frozen=True, slots=True)
class OwnTable:
    """A table of one tenant's own.

    Attributes:
        user_id: whose.
        models: those for whose vectors it has an index.
        remains: indexes that were broken off while they were built.
    """

    user_id: UserId
    models: frozenset[int]
    remains: tuple[str, ...]


def _table(user_id: UserId) -> str:
    return f"embeddings_{user_id.hex}"


def _index(user_id: UserId, model_id: int) -> str:
    return f"{_table(user_id)}_m{model_id}"


async def own_tables(tx: OwnerTx) -> list[OwnTable]:
    """All tables that tenants have of their own."""
    found = []
    for row in await tx.fetch(_TABLES):
        whole = frozenset(int(match[1]) for name in row["indexes"] if (match := _INDEX.fullmatch(name)))
        remains = tuple(name for name in row["indexes"] if name.endswith(_BUILDING))
        user_id = user_id_from_record(UUID(row["name"].removeprefix("embeddings_")))
        found.append(OwnTable(user_id, whole, remains))
    return found


async def tenants_after(tx: SystemTx, user_id: UserId) -> list[UserId]:
    """The next tenants in the order of their ids."""
    return [user_id_from_record(row["user_id"]) for row in await tx.fetch(_TENANTS, user_id)]


async def sizes(tx: TenantTx) -> list[Size]:
    """How many vectors the tenant has, by model."""
    rows = await tx.fetch(_SIZES, tx.user_id)
    return [Size(row["model_id"], row["dimensions"], row["shared"], row["own"]) for row in rows]


async def hold_documents(tx: TenantTx, part: int, after: DocumentId, limit: int) -> list[DocumentId]:
    """The tenant's next documents with vectors in a part, by their ids, held until the transaction's end."""
    return [DocumentId(row["document_id"]) for row in await tx.fetch(_HOLD, tx.user_id, after, part, limit)]


async def move(tx: TenantTx, source: int, target: int, documents: Sequence[DocumentId], limit: int) -> int:
    """Move vectors of documents, which are held, from a part to the other; how many there were, at most `limit`."""
    return await tx.execute(_MOVE, tx.user_id, source, target, documents, limit)


async def create_table(tx: OwnerTx, user_id: UserId) -> None:
    """Give a tenant a table of its own, with the fence that every table has."""
    await tx.execute(_CREATE.format(table=_table(user_id), user_id=user_id, app=APP_ROLE))


async def keep_writers_out(tx: OwnerTx, user_id: UserId) -> None:
    """Until the transaction's end, no row comes into the tenant's table."""
    await tx.execute(f"lock table {_table(user_id)} in share mode")


async def drop_table(tx: OwnerTx, user_id: UserId) -> None:
    """Take the tenant's table away."""
    await tx.execute(f"drop table {_table(user_id)}")


async def name_index(tx: OwnerTx, user_id: UserId, model_id: int) -> None:
    """Give an index that is whole its name, by which searches find it."""
    index = _index(user_id, model_id)
    await tx.execute(f"alter index {index}{_BUILDING} rename to {index}")


def build_index(user_id: UserId, size: Size) -> str:
    """The statement that builds an index, under the name of one that is not whole."""
    return _BUILD.format(
        index=_index(user_id, size.model_id) + _BUILDING,
        table=_table(user_id),
        dimensions=size.dimensions,
        model_id=size.model_id,
    )


def remove_index(name: str) -> str:
    """The statement that removes an index."""
    return f"drop index concurrently if exists {name}"


def index_name(user_id: UserId, model_id: int) -> str:
    """The name of an index that is whole."""
    return _index(user_id, model_id)

"""SQL of embedding models: their numbers, which belong to no tenant, and which of them each tenant is searched with."""

from dataclasses import dataclass

from ringfence.db import SystemTx, TenantTx

_FIND = "select model_id, dimensions from embedding_models where name = $1"
_ADD = "insert into embedding_models (name, dimensions) values ($1, $2) on conflict (name) do nothing"
_ALL = "select model_id, dimensions, name from embedding_models order by model_id"
_CHOSEN = """
select l.user_id, m.model_id, m.dimensions, m.name, m.model_id is not distinct from l.next_model_id as coming
from live_models l join embedding_models m on m.model_id in (l.model_id, l.next_model_id)
where l.user_id = $1
"""
# Of a tenant whose first vectors were stored by a version of the engine that chose no models.
_FOUND = """
select distinct on (e.user_id) e.user_id, m.model_id, m.dimensions, m.name, false as coming
from embeddings e join embedding_models m on m.model_id = e.model_id
where e.user_id = $1 order by e.user_id
"""
_ADOPT = "insert into live_models (user_id, model_id) values ($1, $2) on conflict (user_id) do nothing"
_HOLD = "select user_id from live_models where user_id = $1 for share"
_LOCK = "select user_id from live_models where user_id = $1 for update"
_AIM = "update live_models set next_model_id = nullif($2, model_id) where user_id = $1"
_SWAP = "update live_models set model_id = next_model_id, next_model_id = null where user_id = $1"


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model as the database knows it."""

    model_id: int
    dimensions: int
    name: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The models of one tenant.

    Attributes:
        live: with which it is searched; every passage that is found has a vector of it.
        coming: which is being filled in to take its place.
    """

    live: EmbeddingModel
    coming: EmbeddingModel | None = None

    @property
    def all(self) -> tuple[EmbeddingModel, ...]:
        """Of which new passages need vectors."""
        return (self.live, self.coming) if self.coming else (self.live,)


async def find(tx: TenantTx | SystemTx, name: str) -> EmbeddingModel | None:
    """The model of this name, if anything was ever embedded with it."""
    row = await tx.fetchrow(_FIND, name)
    return EmbeddingModel(row["model_id"], row["dimensions"], name) if row else None


async def find_or_add(tx: SystemTx, name: str, dimensions: int) -> EmbeddingModel:
    """The model of this name, numbered now if it was not; a known one keeps its number and its dimensions."""
    await tx.execute(_ADD, name, dimensions)
    [row] = await tx.fetch(_FIND, name)
    return EmbeddingModel(row["model_id"], row["dimensions"], name)


async def known(tx: SystemTx) -> list[EmbeddingModel]:
    """All models that anything was ever embedded with."""
    return [EmbeddingModel(*row) for row in await tx.fetch(_ALL)]


async def chosen(tx: TenantTx) -> Chosen | None:
    """The tenant's models; None where nothing of it was embedded yet."""
    rows = await tx.fetch(_CHOSEN, tx.user_id) or await tx.fetch(_FOUND, tx.user_id)
    found = {row["coming"]: EmbeddingModel(row["model_id"], row["dimensions"], row["name"]) for row in rows}
    return Chosen(found[False], found.get(True)) if found else None


async def live(tx: TenantTx) -> EmbeddingModel | None:
    """The model that the tenant is searched with; None where nothing of it was embedded yet."""
    found = await chosen(tx)
    return found.live if found else None


async def adopt(tx: TenantTx, model_id: int) -> None:
    """Search the tenant with this model from now on, unless another was chosen."""
    await tx.execute(_ADOPT, tx.user_id, model_id)


async def hold(tx: TenantTx) -> Chosen | None:
    """As `chosen`, and they stay these until the transaction's end."""
    await tx.execute(_HOLD, tx.user_id)
    return await chosen(tx)  # a statement of its own, so that it sees what those committed who had the lock before


async def lock(tx: TenantTx) -> Chosen | None:
    """As `hold`, and nobody else holds them: no document becomes ready until the transaction's end."""
    await tx.execute(_LOCK, tx.user_id)
    return await chosen(tx)


async def aim(tx: TenantTx, model_id: int) -> None:
    """Let a model be filled in beside the live one; if it is the live one, let none be."""
    await tx.execute(_AIM, tx.user_id, model_id)


async def swap(tx: TenantTx) -> None:
    """Search the tenant with the model that was filled in."""
    await tx.execute(_SWAP, tx.user_id)

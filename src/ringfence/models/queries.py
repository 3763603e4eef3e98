"""SQL of the table that numbers embedding models. It holds names alone, so it belongs to no tenant."""

from dataclasses import dataclass

from ringfence.db import SystemTx, TenantTx

_FIND = "select model_id, dimensions from embedding_models where name = $1"
_ADD = "insert into embedding_models (name, dimensions) values ($1, $2) on conflict (name) do nothing"


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model as the database knows it."""

    model_id: int
    dimensions: int


async def find(tx: TenantTx | SystemTx, name: str) -> EmbeddingModel | None:
    """The model of this name, if anything was ever embedded with it."""
    row = await tx.fetchrow(_FIND, name)
    return EmbeddingModel(*row) if row else None


async def find_or_add(tx: SystemTx, name: str, dimensions: int) -> EmbeddingModel:
    """The model of this name, numbered now if it was not; a known one keeps its number and its dimensions."""
    await tx.execute(_ADD, name, dimensions)
    [row] = await tx.fetch(_FIND, name)
    return EmbeddingModel(*row)

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


async def add(tx: SystemTx, name: str, dimensions: int) -> None:
    """Number a model; one that has its number keeps it."""
    await tx.execute(_ADD, name, dimensions)

"""The numbers by which the database knows embedding models, and the embedder of each model that is set up."""

from collections.abc import Sequence

from ringfence.db import Database
from ringfence.errors import SetupError
from ringfence.models import queries
from ringfence.models.base import Embedder
from ringfence.models.queries import EmbeddingModel

_PROBE = "?"


class EmbeddingModels:
    """Numbers models at their first use, and refuses a name that suddenly means other dimensions.

    Args:
        db: where models are numbered, and where it is kept which of them a tenant is searched with.
        embedders: those that are set up: the installation's, and the one that is to take its place, if there is one.
    """

    def __init__(self, db: Database, embedders: Sequence[Embedder] = ()) -> None:
        self._db = db
        self._embedders = {embedder.name: embedder for embedder in embedders}
        self._known: dict[str, EmbeddingModel] = {}

    @property
    def newest(self) -> Embedder:
        """With which a tenant begins that has no vectors yet."""
        return list(self._embedders.values())[-1]

    @property
    def several(self) -> bool:
        """Whether tenants are on their way from one model to another."""
        return len(self._embedders) > 1

    def named(self, name: str) -> Embedder:
        """The embedder of a model.

        Raises:
            SetupError: `model_not_configured`.
        """
        if name not in self._embedders:
            raise SetupError(
                "model_not_configured",
                f"Vectors were made by {name}, which is not set up. Set RINGFENCE_EMBEDDING_* or "
                "RINGFENCE_EMBEDDING_NEXT_* to it, or move the users to another model: `ringfence admin reembed`.",
            )
        return self._embedders[name]

    async def number(self, name: str, dimensions: int) -> int:
        """The model's number, made if it has none.

        Raises:
            SetupError: the name is known with other dimensions.
        """
        known = self._known.get(name)
        if known is None or known.dimensions != dimensions:
            known = self._known[name] = await self._look_up(name, dimensions)
        return known.model_id

    async def find(self, name: str) -> EmbeddingModel | None:
        """The model of this name, if anything was ever embedded with it."""
        if name not in self._known:
            async with self._db.system() as tx:
                found = await queries.find(tx, name)
            if found is None:
                return None
            self._known[name] = found
        return self._known[name]

    async def of(self, embedder: Embedder) -> EmbeddingModel:
        """The model behind an embedder; one that was never used is asked for a vector, to see its dimensions.

        Raises:
            Unavailable, Invalid, SetupError: as of `Embedder.embed` and `number`.
        """
        found = await self.find(embedder.name)
        if found is None:
            dimensions = (await embedder.embed([_PROBE])).shape[1]
            found = EmbeddingModel(await self.number(embedder.name, dimensions), dimensions, embedder.name)
        return found

    async def _look_up(self, name: str, dimensions: int) -> EmbeddingModel:
        async with self._db.system() as tx:
            found = await queries.find(tx, name) or await queries.find_or_add(tx, name, dimensions)
        if found.dimensions != dimensions:
            raise SetupError(
                "model_dimensions",
                f"The embedding model {name} now has {dimensions} dimensions, but its stored vectors have "
                f"{found.dimensions}. Give the new model a name of its own.",
            )
        return found

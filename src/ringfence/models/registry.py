"""The numbers by which the database knows embedding models."""

from ringfence.db import Database
from ringfence.errors import SetupError
from ringfence.models import queries


class EmbeddingModels:
    """Numbers models at their first use and refuses a name that suddenly means other dimensions."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[tuple[str, int], int] = {}

    async def number(self, name: str, dimensions: int) -> int:
        """The model's number, made if it has none.

        Raises:
            SetupError: the name is known with other dimensions.
        """
        key = (name, dimensions)
        if key not in self._known:
            self._known[key] = await self._look_up(name, dimensions)
        return self._known[key]

    async def _look_up(self, name: str, dimensions: int) -> int:
        async with self._db.system() as tx:
            found = await queries.find_or_add(tx, name, dimensions)
        if found.dimensions != dimensions:
            raise SetupError(
                "model_dimensions",
                f"The embedding model {name} now has {dimensions} dimensions, but its stored vectors have "
                f"{found.dimensions}. Give the new model a name of its own.",
            )
        return found.model_id

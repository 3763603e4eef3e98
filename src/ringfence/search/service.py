"""Search: a question → the passages of one tenant that are nearest to it."""

from ringfence.db import Database
from ringfence.errors import SetupError
from ringfence.ids import UserId
from ringfence.models import queries as models
from ringfence.models.base import Embedder
from ringfence.search import queries
from ringfence.search.queries import Passage


class Search:
    """Exact search by meaning, inside one tenant."""

    def __init__(self, db: Database, embedder: Embedder) -> None:
        self._db = db
        self._embedder = embedder

    async def passages(self, user_id: UserId, question: str, limit: int) -> list[Passage]:
        """The tenant's best passages, best first; none where nothing was embedded yet.

        Raises:
            Unavailable: the embedding model or the database does not answer.
            SetupError: the model now gives vectors of another length than the stored ones.
        """
        vectors = await self._embedder.embed([question])
        async with self._db.tenant(user_id) as tx:
            model = await models.find(tx, self._embedder.name)
            if model is None:
                return []
            if model.dimensions != vectors.shape[1]:
                raise SetupError("model_dimensions", f"The stored vectors have {model.dimensions} dimensions.")
            return await queries.nearest(tx, model.model_id, vectors[0], limit)

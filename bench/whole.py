"""BM25 alone over whole documents: what the collections' READMEs measure, by the engine's own index and statement."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ringfence.cli.evaluation import evaluated
from ringfence.cli.local import with_database
from ringfence.db import Database
from ringfence.documents.texts import Texts
from ringfence.evaluation.collection import Collection
from ringfence.evaluation.finding import SearchWays
from ringfence.evaluation.measures import NDCG, means
from ringfence.evaluation.scratch import ScratchTenants
from ringfence.models.base import Vectors
from ringfence.models.tokens import Estimate, Ruler
from ringfence.search.service import Search, Tuning
from ringfence.services import Evaluating
from ringfence.services.parts import open_database, utc_now
from ringfence.settings import Settings

README, DEFAULT = "k1 0.9, b 0.4", "k1 1.2, b 0.75"
TUNINGS = {README: Tuning(k1=0.9, b=0.4), DEFAULT: Tuning()}
_TOKENS = 1_000_000  # a chunk is a document


class Blind:
    """Embeds nothing: every text has the same vector."""

    name = "none"
    max_tokens = None
    languages = None
    batch_texts = 32
    ruler: Ruler = Estimate()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of one dimension."""
        return np.ones((len(texts), 1), np.float32)

    async def close(self) -> None:
        """There is nothing to let go of."""


@asynccontextmanager
async def opened() -> AsyncGenerator[Database]:
    """A database of its own that is thrown away."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ringfence-eval-")))
        settings = await with_database(Settings(_env_file=None, data_dir=folder, database_url=None), stack)
        yield await open_database(settings, stack, request=False)


async def run(db: Database, collection: Collection) -> dict[str, float]:
    """nDCG@10 of a collection, by the parameters of BM25."""
    blind, found = Blind(), {}
    texts = Texts(db, blind, chunk_tokens=_TOKENS, chunk_overlap_tokens=0)
    for name, tuning in TUNINGS.items():
        ways = SearchWays(Search(db, blind, tuning=tuning))
        tenants = ScratchTenants(db, texts, settings="whole documents", now=utc_now)
        parts = Evaluating(tenants, ways, blind.name, "whole documents")
        result = await evaluated(parts, collection, ["lexical"], keep=True)  # once for all parameters
        found[name] = means(query.scores for query in result.modes[0].queries)[NDCG]
    return found

"""What the evaluation of collections needs: a database to make scratch tenants in, and models; no mail, no files."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ringfence.documents.texts import Texts
from ringfence.evaluation.cache import CachedEmbedder
from ringfence.evaluation.finding import SearchWays
from ringfence.evaluation.scratch import ScratchTenants
from ringfence.models.base import Embedder
from ringfence.search.service import Search
from ringfence.services.parts import open_database, open_embedders, open_reranking, utc_now
from ringfence.settings import Settings


@dataclass(frozen=True, slots=True)
class Evaluating:
    """What an evaluation of a collection needs.

    Attributes:
        tenants: makes and fills scratch tenants.
        ways: how one can search.
        embedding_model: its name.
        settings: what else the figures depend on, in words.
    """

    tenants: ScratchTenants
    ways: SearchWays
    embedding_model: str
    settings: str


@asynccontextmanager
async def open_evaluating(settings: Settings, *, cache: Path | None = None) -> AsyncGenerator[Evaluating]:
    """All that the evaluation of collections needs.

    Args:
        settings: which database and which models, and how documents are cut.
        cache: where vectors are kept between evaluations; unset: nowhere.

    Raises:
        SetupError: something has to be set up first.
        Unavailable: the database can't be reached.
    """
    async with AsyncExitStack() as stack:
        db = await open_database(settings, stack, request=False)
        embedder: Embedder = open_embedders(settings, stack).main
        if cache is not None:
            embedder = CachedEmbedder(embedder, cache)
        size, overlap = settings.chunk_tokens, settings.chunk_overlap_tokens
        texts = Texts(db, embedder, chunk_tokens=size, chunk_overlap_tokens=overlap)
        said = f"chunks of {size} tokens, {overlap} overlap"
        yield Evaluating(
            ScratchTenants(db, texts, settings=f"{embedder.name}, {said}", now=utc_now),
            SearchWays(Search(db, embedder, open_reranking(settings, stack))),
            embedder.name,
            said,
        )

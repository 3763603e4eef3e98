"""`hybrid`: search by words and by meaning together, beside what LangChain calls so, on the same server."""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench import tenants
from bench.harness import Goal, Series, find, ratio
from bench.tenants import PER_DOCUMENT, Store, Tenant, document_id, text_of
from bench.vectors import DIMENSIONS, Vectors
from ringfence.ids import DocumentId
from ringfence.lexical import queries as lexical
from ringfence.lexical.postings import Writer
from ringfence.lexical.service import LexicalIndex
from ringfence.lexical.terms import analysis_of, query_terms, words
from ringfence.search import queries
from ringfence.search.queries import Wanted, Words

ALONE = "Ringfence, the dense part alone"
OURS = "Ringfence, hybrid"
LANGCHAIN = "LangChain PGVectorStore, hybrid"
TERMS = 10
_CANDIDATES = 100
_TABLE = "langchain_hybrid"
_NAME = "a.txt"
_INDEXED = 5  # tenants of a class that have a lexical index
_FILL = f"""
insert into {_TABLE} (langchain_id, content, embedding, user_id, content_tsv)
select gen_random_uuid(), text, embedding::vector({DIMENSIONS}), user_id, to_tsvector('pg_catalog.english', text)
from everybody join chunks using (user_id, document_id, number)
"""  # noqa: S608  # constants

type Ask = Callable[[Tenant, Vectors, str], Awaitable[object]]


def _langchain(store: Store, *, filled: bool) -> Any:
    """LangChain's store, with the column and the index for words that its pages tell to make."""
    from langchain_core.embeddings import Embeddings  # noqa: PLC0415 (of the peers' environment alone)
    from langchain_postgres import Column, PGEngine, PGVectorStore  # noqa: PLC0415

    class Given(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise NotImplementedError

        def embed_query(self, text: str) -> list[float]:
            raise NotImplementedError

    engine = PGEngine.from_connection_string(urlunsplit(urlsplit(store.url)._replace(scheme="postgresql+psycopg")))
    if not filled:
        column = Column("user_id", "UUID", nullable=False)
        engine.init_vectorstore_table(
            _TABLE, DIMENSIONS, metadata_columns=[column], overwrite_existing=True, hybrid_search_config=_config("")
        )
    return PGVectorStore.create_sync(
        engine, Given(), _TABLE, metadata_columns=["user_id"], hybrid_search_config=_config("")
    )


def _config(query: str) -> Any:
    from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig  # noqa: PLC0415

    return HybridSearchConfig(
        tsv_column="content_tsv", fts_query=query, primary_top_k=_CANDIDATES, secondary_top_k=_CANDIDATES
    )


async def _theirs(store: Store) -> Ask:
    """LangChain's store, filled if it is not."""
    filled = await store.admin.fetchval("select to_regclass('langchain_tsv_index') is not null")
    found = await asyncio.to_thread(_langchain, store, filled=filled)
    if not filled:
        print("  LangChain's rows for hybrid search ...", flush=True)
        await store.admin.execute(_FILL)
        await asyncio.to_thread(found.apply_hybrid_search_index)
        await store.admin.execute(f"vacuum analyze {_TABLE}")

    async def ask(who: Tenant, query: Vectors, text: str) -> object:
        return await found.asimilarity_search_with_score_by_vector(
            query.tolist(), k=10, filter={"user_id": {"$eq": str(who.user_id)}}, hybrid_search_config=_config(text)
        )

    return ask


async def _index(store: Store, chosen: list[Tenant]) -> None:
    """Make the lexical index of tenants, as ingestion and its maintenance do."""
    for who in chosen:
        if await store.admin.fetchval("select 1 from lexical_segments where user_id = $1 limit 1", who.user_id):
            continue
        for at in range(0, who.count, PER_DOCUMENT):
            last = min(at + PER_DOCUMENT, who.count)
            segments = Writer(_NAME).segments([(n % PER_DOCUMENT, text_of(who, n)) for n in range(at, last)])
            async with store.db.tenant(who.user_id) as tx:
                await lexical.add(tx, DocumentId(document_id(who, at)), segments)
        await LexicalIndex(store.db).merge(who.user_id)
    await store.admin.execute("vacuum analyze lexical_segments, lexical_blocks, lexical_fresh")


def _asked(who: Tenant, count: int) -> list[str]:
    """Queries of ten different words of one of the tenant's chunks."""
    rnd, found = random.Random(who.first), list[str]()
    while len(found) < count:
        several = sorted(set(words(text_of(who, rnd.randrange(who.count)), analysis_of("en"))))
        if len(several) >= TERMS:
            found.append(" ".join(rnd.sample(several, TERMS)))
    return found


def _alone(store: Store) -> Ask:
    async def ask(who: Tenant, query: Vectors, _text: str) -> object:
        async with store.db.call(who.user_id) as call:
            return await queries.nearest(call, Wanted(1, query, _CANDIDATES, None), store.shape.tiers)

    return ask


def _ours(store: Store) -> Ask:
    async def ask(who: Tenant, query: Vectors, text: str) -> object:
        wanted, sought = Wanted(1, query, _CANDIDATES, None), Words(query_terms(text), 1.2, 0.75, _CANDIDATES, None)
        async with store.db.call(who.user_id) as call:
            return await queries.hybrid(call, wanted, sought, store.shape.tiers, limit=10, alpha=0.25)

    return ask


async def _rounds(
    group: str, contestants: dict[str, tuple[Ask, int]], chosen: list[Tenant], vectors: Vectors, rounds: int
) -> list[Series]:
    values: dict[str, list[float]] = {name: [] for name in contestants}
    asked = {who: _asked(who, 20) for who in chosen}
    for number in range(-1, rounds):  # the first one warms up
        for name, (ask, count) in contestants.items():
            taken = []
            for n in range(count):
                who = chosen[n % len(chosen)]
                vector, text = vectors[(17 * number + n) % len(vectors)], asked[who][(n + number) % 20]
                began = time.perf_counter()
                await ask(who, vector, text)
                taken.append((time.perf_counter() - began) * 1000)
            if number >= 0:
                values[name].append(statistics.median(taken))
    return [Series(group, name, "ms", tuple(found)) for name, found in values.items()]


async def _run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    async with tenants.store(quick=quick) as store:
        theirs = await _theirs(store)
        series, goals = [], []
        for kind in [one for one in store.kinds() if one != "tiny"]:
            chosen = store.of(kind)[:_INDEXED]
            await _index(store, chosen)
            contestants = {ALONE: (_alone(store), 40), OURS: (_ours(store), 40), LANGCHAIN: (theirs, 5)}
            group = f"tenants of {kind}, p50"
            several = await _rounds(group, contestants, chosen, store.real.on_topic, 3 if quick else 7)
            series += several
            over = ratio(find(several, group, OURS), find(several, group, LANGCHAIN))
            goals.append(Goal(f"{group}: hybrid over LangChain's", 1 / 20, least=False, got=over))
            if kind == "10k":  # the largest whose dense half is exact
                over = ratio(find(several, group, OURS), find(several, group, ALONE))
                goals.append(Goal(f"{group}: hybrid over its dense part", 1.6, least=False, got=over))
        return series, goals, [f"{len(store.vectors):,} chunks of {len(store.tenants):,} tenants.", *_NOTES]


_NOTES = [
    (
        f"{TERMS} words of one of the tenant's chunks, and a vector of a real query; {_CANDIDATES} candidates of each "
        f"half, ten passages with their texts. Chunks are those of two books; up to {_INDEXED} tenants of a class."
    ),
    (
        "LangChain: `user_id` as a column of metadata, `tsvector` column and GIN index, weighted sum, as its pages "
        "advise; its words must all be in a chunk. Where a tenant has an index of its own, our dense half uses it."
    ),
]


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: a tenth of everything, and fewer rounds."""
    return asyncio.run(_run(quick=quick))

from datetime import timedelta

import pytest

from ringfence import jobs
from ringfence.documents.chunker import Chunk
from ringfence.documents.queries import add, add_chunks, progress, ready, start
from ringfence.documents.service import IngestPayload
from ringfence.errors import Invalid, SetupError
from ringfence.ids import new_document_id, new_user_id
from ringfence.models.openai import OpenAIEmbedder
from ringfence.models.registry import EmbeddingModels
from ringfence.search.service import Search

FACTS = [
    "The notice period is six weeks to the end of a quarter.",
    "The oven is repaired by Anders, who lives in the red house.",
    "Holidays are thirty days a year for everybody.",
]


@pytest.fixture
async def embedder(models):
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    yield embedder
    await embedder.close()


async def tenant(db, admin):
    user_id = new_user_id()
    await admin.execute("insert into users values ($1, 'a@b.c', $2, 'x')", user_id, str(user_id))
    return user_id


async def store(db, embedder, user_id, texts, *, publish=True):
    document_id = new_document_id()
    vectors = await embedder.embed(texts)
    model_id = await EmbeddingModels(db).number(embedder.name, vectors.shape[1])
    chunks = [Chunk(n, text, ((n + 1, 0, len(text)),)) for n, text in enumerate(texts)]
    async with db.tenant(user_id) as tx:
        await jobs.enqueue(tx, user_id, "ingest", IngestPayload(document_id=document_id))
    async with db.system() as tx:
        [job] = await jobs.claim(tx, 1, timedelta(minutes=1))
    async with db.tenant(user_id) as tx:
        await add(tx, document_id, name="a.txt", media_type="text/plain", size=1, sha256=document_id.bytes * 2)
        assert await start(tx, document_id, job.token)
        await add_chunks(tx, document_id, chunks, {model_id: vectors})
        await progress(tx, document_id, job.token, pages=1, done=1, chunks=len(texts))
        if publish:
            await ready(tx, document_id, job.token)
    return document_id


async def test_the_nearest_passage_comes_first_with_its_place(db, admin, embedder):
    user_id = await tenant(db, admin)
    document_id = await store(db, embedder, user_id, FACTS)
    found = await Search(db, embedder).passages(user_id, "Who repairs the oven?", 2)
    assert len(found) == 2
    assert found[0].text == FACTS[1]
    assert found[0].document_id == document_id
    assert found[0].document == "a.txt"
    assert found[0].spans == ((2, 0, len(FACTS[1])),)
    assert 1 >= found[0].score > found[1].score


async def test_nothing_of_another_tenant_is_found(db, admin, embedder):
    ada, bob = await tenant(db, admin), await tenant(db, admin)
    await store(db, embedder, ada, FACTS)
    assert await Search(db, embedder).passages(bob, "Who repairs the oven?", 8) == []
    await store(db, embedder, bob, ["The telescope is repaired by Ines."])
    [only] = await Search(db, embedder).passages(bob, "Who repairs the oven?", 8)
    assert "telescope" in only.text


async def test_a_search_may_be_kept_to_some_documents(db, admin, embedder):
    ada, bob = await tenant(db, admin), await tenant(db, admin)
    first, second = [await store(db, embedder, ada, [fact]) for fact in FACTS[:2]]
    foreign = await store(db, embedder, bob, FACTS)
    search = Search(db, embedder)
    assert {hit.document_id for hit in (await search.find(ada, "oven", 8)).passages} == {first, second}
    assert [hit.document_id for hit in (await search.find(ada, " oven ", 8, [first])).passages] == [first]
    assert (await search.find(ada, "oven", 8, [foreign])).passages == ()


@pytest.mark.parametrize("query", ["", " \n", "x" * 4001, "a\0b", "\ud800"])
async def test_what_is_no_query_is_refused(db, embedder, query):
    with pytest.raises(Invalid, match="bad_query"):
        await Search(db, embedder).find(new_user_id(), query, 8)


async def test_a_document_is_found_only_once_it_is_ready(db, admin, embedder):
    user_id = await tenant(db, admin)
    await store(db, embedder, user_id, FACTS, publish=False)
    assert await Search(db, embedder).passages(user_id, "oven", 8) == []


async def test_before_anything_was_embedded_nothing_is_found(db, embedder):
    assert await Search(db, embedder).passages(new_user_id(), "oven", 8) == []


async def test_a_model_with_other_dimensions_is_refused(db, admin, embedder, models):
    user_id = await tenant(db, admin)
    await store(db, embedder, user_id, FACTS)
    models.script_embeddings(vectors=[[1.0, 0.0]])
    with pytest.raises(SetupError, match="model_dimensions"):
        await Search(db, embedder).passages(user_id, "oven", 8)


async def test_a_models_number_stays(db):
    first = await EmbeddingModels(db).number("one", 3)
    registry = EmbeddingModels(db)
    assert await registry.number("one", 3) == await registry.number("one", 3) == first
    assert await registry.number("two", 3) != first
    with pytest.raises(SetupError, match="model_dimensions"):
        await registry.number("one", 4)

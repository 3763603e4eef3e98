"""Names: a document is found by the words of the one that it has, and not by those of a former one."""

import asyncio

import pytest

from ringfence import jobs
from ringfence.lexical.service import RETITLE, LexicalIndex
from ringfence.search.service import How, Search
from tests.documents.shelf import claimed, put, work


@pytest.fixture
def found(db, embedder, user):
    """The names of the documents in which words are found."""
    search = Search(db, embedder)

    async def find(words):
        ranked = await search.find(user, words, 10, how=How(mode="lexical"))
        return {passage.document for passage in ranked.passages}

    return find


async def test_a_document_is_found_by_its_new_name(db, library, ingestion, user, found):
    document = await put(library, user, b"Nobody swims here.", "harbour.txt")
    await work(db, library, ingestion)
    assert await found("harbour") == {"harbour.txt"}
    await library.change(user, document.document_id, name="lighthouse.txt")
    assert await work(db, library, ingestion) == [RETITLE]
    assert await found("lighthouse") == {"lighthouse.txt"}
    assert await found("harbour") == set()


async def test_the_same_name_again_makes_no_work(db, library, ingestion, user):
    document = await put(library, user, b"Nobody swims here.", "harbour.txt")
    await work(db, library, ingestion)
    await library.change(user, document.document_id, name="harbour.txt")
    assert await work(db, library, ingestion) == []


async def test_a_name_that_comes_while_it_is_read_counts_too(db, library, ingestion, user, models, found):
    document = await put(library, user, b"Nobody swims here.", "harbour.txt")
    [job] = await claimed(db)
    models.script_embeddings(delay=0.3)
    run = asyncio.create_task(ingestion.run(job))
    await models.wait_for(lambda: bool(models.embeddings))
    await library.change(user, document.document_id, name="lighthouse.txt")
    [early] = await claimed(db)
    assert early.kind == RETITLE
    await LexicalIndex(db).retitle(user, early.payload)  # nothing is there yet that it could change
    await run
    async with db.system() as tx:
        for ended in (job, early):
            await jobs.finish(tx, ended)
    assert await work(db, library, ingestion) == [RETITLE]
    assert await found("lighthouse") == {"lighthouse.txt"}
    assert await found("harbour") == set()

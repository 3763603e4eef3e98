"""Names: a document is found by the words of the one that it has, and not by those of a former one."""

import asyncio

import pytest

from ringfence import jobs
from ringfence.documents.ingest import Ingestion
from ringfence.documents.renaming import RETITLE, Retitling
from ringfence.models.openai import OpenAIEmbedder
from ringfence.search.service import How, Search
from tests.documents.shelf import claimed, due, put, work
from tests.parsers import parser

TEXT = b"Nobody swims here."


@pytest.fixture
def found(db, embedder, user):
    """The names of the documents in which words are found."""
    search = Search(db, embedder)

    async def find(words):
        ranked = await search.find(user, words, 10, how=How(mode="lexical"))
        return {passage.document for passage in ranked.passages}

    return find


async def ready(db, library, ingestion, user, name):
    document = await put(library, user, TEXT, name)
    await work(db, library, ingestion)
    return document.document_id


async def worked(db, admin, library, ingestion):
    await due(admin)
    return await work(db, library, ingestion)


async def test_a_document_is_found_by_its_new_name(db, admin, library, ingestion, user, found):
    document_id = await ready(db, library, ingestion, user, "harbour.txt")
    assert await found("harbour") == {"harbour.txt"}
    for name in ("pier.txt", "lighthouse.txt"):
        await library.change(user, document_id, name=name)
    assert await work(db, library, ingestion) == []  # it waits for what else there may be
    assert await worked(db, admin, library, ingestion) == [RETITLE]
    assert await found("lighthouse") == {"lighthouse.txt"}
    assert await found("harbour pier") == set()
    dead = "select count(*) from lexical_segments where document_id is null"
    assert await admin.fetchval(dead) == 1
    await worked(db, admin, library, ingestion)
    assert await admin.fetchval(dead) == 0


@pytest.mark.parametrize("name", ["harbour.txt", "harbour.md"])
async def test_the_same_words_make_no_work(db, admin, library, ingestion, user, name):
    document_id = await ready(db, library, ingestion, user, "harbour.txt")
    await library.change(user, document_id, name=name)
    assert await worked(db, admin, library, ingestion) == []


class Held(OpenAIEmbedder):
    """An embedder that answers when a test says so."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts):
        self.reached.set()
        await self.go_on.wait()
        return await super().embed(texts)


async def test_a_name_that_comes_while_it_is_read_counts_too(
    db, admin, library, storage, ingestion, user, models, found
):
    held = Held(models.openai_url, "hash")
    document = await put(library, user, TEXT, "harbour.txt")
    [job] = await claimed(db)
    async with parser() as sandbox:
        slow = Ingestion(db, storage, sandbox, held, chunk_tokens=68, chunk_overlap_tokens=13)
        run = asyncio.create_task(slow.run(job))
        await held.reached.wait()
        await library.change(user, document.document_id, name="lighthouse.txt")
        await due(admin)
        [early] = await claimed(db)
        await Retitling(db).run(user, early.payload)  # nothing is there yet that it could change
        held.go_on.set()
        await run
    await held.close()
    async with db.system() as tx:
        for ended in (job, early):
            await jobs.finish(tx, ended)
    assert await worked(db, admin, library, ingestion) == [RETITLE]
    assert await found("lighthouse") == {"lighthouse.txt"}
    assert await found("harbour") == set()

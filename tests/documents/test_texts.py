"""Texts that become documents at once: cut and stored as an upload's are."""

import pytest

from ringfence.documents.texts import Text, Texts
from ringfence.errors import Invalid
from ringfence.ids import new_document_id
from ringfence.search.service import Search
from tests.search.test_search import FACTS, tenant
from tests.search.test_search import embedder as embedder  # noqa: PLC0414  # a fixture


def text(body, title="", name="a.txt"):
    return Text(new_document_id(), name, title, body)


@pytest.fixture
def texts(db, embedder):
    return Texts(db, embedder, chunk_tokens=64, chunk_overlap_tokens=8)


async def test_texts_are_found_at_once_under_their_title(db, admin, texts, embedder):
    ada, bob = await tenant(db, admin), await tenant(db, admin)
    long = " ".join(f"Sentence {n} is about the oven." for n in range(60))
    documents = [text(long, "Ovens"), text(FACTS[0]), text(FACTS[0], name="b" * 300)]  # equal texts are two documents
    chunks = await texts.add(ada, documents)
    rows = await admin.fetch("select * from documents where user_id = $1 order by chunks desc", ada)
    assert [(row["state"], row["pages"], row["pages_done"]) for row in rows] == [("ready", 1, 1)] * 3
    assert [row["chunks"] for row in rows] == [chunks - 2, 1, 1]
    assert len(rows[2]["name"]) in {5, 255}
    found = (await Search(db, embedder).find(ada, "oven", 50)).passages
    oven = sorted((one for one in found if one.document_id == documents[0].document_id), key=lambda one: one.spans)
    assert oven[0].text.startswith("Ovens\nSentence 0")
    assert {one.context for one in oven[1:]} == {"Ovens"}
    for one in oven:
        [(page, start, end)] = one.spans
        assert (page, documents[0].page[start:end]) == (1, one.text)
    assert (await Search(db, embedder).find(bob, "oven", 5)).passages == ()


async def test_many_are_stored_in_batches_and_what_no_database_takes_is_blanked(db, admin, texts, models):
    ada = await tenant(db, admin)
    assert await texts.add(ada, [text(f"Fact {n}.\0\ud800x") for n in range(150)]) == 150
    assert await admin.fetchval("select text from chunks where text like 'Fact 7.%'") == "Fact 7.  x"
    assert len(models.embeddings) == 5  # 128 in four requests, 22 in one
    assert await texts.add(ada, []) == 0


async def test_a_text_without_a_letter_is_refused(db, admin, texts):
    with pytest.raises(Invalid, match="no_text"):
        await texts.add(await tenant(db, admin), [text(" \n")])
    assert await admin.fetchval("select count(*) from documents") == 0

"""Searches that a conversation has led to, on a real database."""

import pytest

from ringfence.errors import Invalid
from ringfence.models.openai import OpenAIChat
from ringfence.models.rerank import CohereReranker
from ringfence.search.followups import FollowUps
from ringfence.search.rerank import Reranking
from ringfence.search.rewrite import Turn
from ringfence.search.service import Search
from tests.search.test_search import FACTS, store, tenant
from tests.search.test_search import embedder as embedder  # noqa: PLC0414  # a fixture

HISTORY = [Turn("user", "Who repairs the oven?"), Turn("assistant", "Anders does.")]


@pytest.fixture
async def chat(models):
    chat = OpenAIChat(models.openai_url, "m")
    yield chat
    await chat.close()


async def test_what_the_model_makes_of_a_follow_up_is_looked_for(db, admin, embedder, chat, models):
    ada, bob = await tenant(db, admin), await tenant(db, admin)
    await store(db, embedder, ada, FACTS)
    await store(db, embedder, bob, ["The oven of Bob lives in a blue house."])
    follow_ups = FollowUps(Search(db, embedder), timeout=2)
    models.script(answer="In which house does the repairer of the oven live?")
    asked = await follow_ups.find(ada, "Where does he live?", 1, history=HISTORY, chat=chat)
    assert (asked.query, asked.reason) == ("In which house does the repairer of the oven live?", None)
    assert [one.text for one in asked.ranked.passages] == [FACTS[1]]
    assert (await follow_ups.find(ada, " oven ", 1)).query == "oven"


async def test_wordings_are_fused_and_reranked_by_the_question(db, admin, embedder, chat, models):
    ada = await tenant(db, admin)
    document_id = await store(db, embedder, ada, FACTS)
    reranker = CohereReranker(models.openai_url, "rr")
    search = Search(db, embedder, Reranking(reranker))
    models.script(answer="thirty days for everybody, holidays\nholidays a year")
    follow_ups = FollowUps(search, timeout=2)
    asked = await follow_ups.find(ada, "How many holidays?", 2, [document_id], paraphrases=2, chat=chat)
    assert asked.wordings == ("thirty days for everybody, holidays", "holidays a year")
    assert asked.ranked.passages[0].text == FACTS[2]
    assert asked.ranked.scores[0] == 1.0
    [request] = models.reranks
    assert request.body["query"] == "How many holidays?"
    assert len(request.body["documents"]) == 3
    assert search.reranks
    assert (await search.find(ada, "the oven", 1)).passages[0].text == FACTS[1]
    await reranker.close()


@pytest.mark.parametrize(
    ("question", "more"),
    [
        (" ", {}),
        ("q", {"history": [Turn("user", "x")] * 21}),
        ("q", {"history": [Turn("user", "a\0b")]}),
        ("q", {"paraphrases": 5}),
    ],
)
async def test_what_is_no_query_is_refused(question, more, db, admin, embedder, chat, models):
    follow_ups = FollowUps(Search(db, embedder), timeout=2)
    with pytest.raises(Invalid, match="bad_query"):
        await follow_ups.find(await tenant(db, admin), question, 1, **more)
    assert models.requests == []

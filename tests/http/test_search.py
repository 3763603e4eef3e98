"""Passages alone, over HTTP."""

import json
from uuid import uuid4

import httpx2
import pytest
from pydantic import ValidationError

from ringfence.client import SearchOptions
from ringfence.filters import Filter
from ringfence.http.search import SearchQuery
from ringfence.search.service import How, within
from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload

SEARCH = "/api/v1/search"


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        http = client._http
        document = await finished(http, (await upload(http)).json()["document_id"])
        yield http, document["document_id"]


async def test_a_passage_has_its_place_and_its_words_emphasised(ada):
    http, document_id = ada
    response = await http.post(SEARCH, json={"query": "notice period"})
    assert response.status_code == 200
    hit = response.json()["results"][0]
    assert (hit["document_id"], hit["document"], hit["context"]) == (document_id, "handbook.txt", None)
    assert {hit["text"][one["start"] : one["end"]] for one in hit["highlights"]} == {"notice", "period"}
    assert hit["places"] == [{"page": 1, "start": 0, "end": len(hit["text"])}]
    assert (hit["page"], hit["number"], hit["score"]) == (1, 0, 1)
    assert 0 < hit["scores"]["dense"] <= 1
    assert hit["scores"]["lexical"] > 0
    assert hit["scores"]["fused"] == 1


async def test_nobody_finds_anothers_passages_by_their_documents_id(ada, live):
    _, document_id = ada
    async with live.account("bob@example.com") as bob:
        assert await bob.search("notice period") == []
        assert await bob.search("notice period", documents=[document_id]) == []


async def test_a_search_is_no_question(ada):
    http, _ = ada
    await http.post(SEARCH, json={"query": "notice period"})
    assert (await http.get("/api/v1/answers")).json() == {"answers": []}
    assert (await http.get("/api/v1/me/usage")).json()["questions"]["used"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        *({"query": "a", **more} for more in (
            {"limit": 0},
            {"limit": 101},
            {"document_ids": []},
            {"mode": "sparse"},
            {"fusion": "borda"},
            {"diversity": -0.1},
            {"diversity": 1.1},
            {"expand": -1},
            {"expand": 6},
            {"filter": {"owner": "a"}},
            {"filter": {"documents": []}},
            {"filter": {"languages": ["English"]}},
            {"document_ids": [str(uuid4())], "filter": {"documents": [str(uuid4())]}},
        )),
    ],
)  # fmt: skip
def test_what_is_no_query_is_refused(body):
    with pytest.raises(ValidationError):
        SearchQuery.model_validate_json(json.dumps(body))


def test_what_is_asked_reaches_the_service():
    one = uuid4()
    body = {"query": "a", "limit": 3, "document_ids": [str(one)], "mode": "dense", "fusion": "rrf", "diversity": 0.5,
        "expand": 2, "filter": {"tags": ["A"]}}  # fmt: skip
    chosen = Filter(documents=(one,), tags=("a",))
    query = SearchQuery.model_validate(body)
    assert within(query.how(), query.document_ids) == How("dense", "rrf", chosen, 0.5, 2)
    assert within(SearchQuery(query="a").how(), None) == How()


async def test_options_and_several_queries(ada):
    http, document_id = ada
    assert (await http.post(SEARCH, json={"query": "a", "expand": 6})).status_code == 422
    queries = [
        {"query": "notice period"},
        {"query": "notice period", "mode": "dense"},
        {"query": "notice", "mode": "lexical", "expand": 1, "diversity": 0.5},
        {"query": "notice", "filter": {"documents": [document_id], "metadata": {"year": 2020}}},
        {"query": "notice", "fusion": "rrf", "filter": {"documents": [document_id]}},
    ]
    response = await http.post(f"{SEARCH}/batch", json={"queries": queries})
    assert response.status_code == 200
    both, dense, lexical, none, ranks = [one["results"] for one in response.json()["results"]]
    for query, hits in zip(queries, (both, dense, lexical, none, ranks), strict=True):
        assert hits == (await http.post(SEARCH, json=query)).json()["results"]
    assert both[0]["scores"] == {**both[0]["scores"], "dense": dense[0]["score"], "fused": both[0]["score"]}
    assert dense[0]["scores"] == {"dense": dense[0]["score"], "lexical": None, "fused": None}
    assert lexical[0]["scores"] == {"dense": None, "lexical": lexical[0]["score"], "fused": None}
    assert none == []
    assert ranks[0]["score"] == pytest.approx(2 / 61, abs=1e-4)


@pytest.mark.parametrize("queries", [[], [{"query": "a"}] * 33, [{"query": ""}]])
async def test_a_batch_has_a_size(ada, queries):
    assert (await ada[0].post(f"{SEARCH}/batch", json={"queries": queries})).status_code == 422


async def test_a_client_may_ask_several_things_at_once(live, ada):
    _, document_id = ada
    async with live.account("eve@example.com") as eve:
        assert await eve.search_all(["notice", "period"]) == [[], []]
        eve._auth.access = ada[0].auth.access
        options = SearchOptions(mode="lexical", filter={"documents": [document_id]})
        [[hit], nothing] = await eve.search_all(["notice", "zebra"], limit=1, options=options)
        assert (hit.page, hit.scores.lexical, nothing) == (1, hit.score, [])


async def test_a_query_of_spaces_finds_nothing_and_says_so(ada):
    response = await ada[0].post(SEARCH, json={"query": " ", "document_ids": [str(uuid4())]})
    assert (response.status_code, response.json()["code"]) == (400, "bad_query")


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("write", 403), ("ask", 403), (None, 401)])
async def test_a_key_that_may_read_may_search(ada, live, scope, status):
    http, document_id = ada
    body = {"name": "search", "scopes": [scope], "expires_in_days": 1, "password": PASSWORD}
    key = (await http.post("/api/v1/api-keys", json=body)).json()["key"] if scope else "rfk_nothing"
    async with httpx2.AsyncClient(base_url=live.url, headers={"Authorization": f"Bearer {key}"}) as bare:
        query = {"query": "notice", "limit": 1, "document_ids": [document_id]}
        assert (await bare.post(SEARCH, json=query)).status_code == status


async def test_a_follow_up_is_rewritten_and_counts_as_a_question(ada, live):
    http, _ = ada
    live.models.script(answer="What is the notice period?", times=1)
    history = [{"role": "user", "text": "What is the notice period?"}, {"role": "assistant", "text": "Six weeks."}]
    body = {"query": "How long is it again?", "history": history}
    found = (await http.post(SEARCH, json=body)).json()
    assert (found["query"], found["rewritten"], found["not_rewritten"]) == ("What is the notice period?", True, None)
    assert (found["reranked"], found["not_reranked"]) == (False, "rerank_off")
    assert found["results"][0]["rerank_score"] is None
    assert (await http.get("/api/v1/me/usage")).json()["questions"]["used"] == 1
    assert (await http.post(SEARCH, json={**body, "query": " "})).json()["code"] == "bad_query"
    live.models.script(answer="notice period length", times=1)
    found = (await http.post(SEARCH, json={"query": "notice period", "paraphrases": 1})).json()
    assert (found["wordings"], found["not_rewritten"]) == (["notice period length"], "rewrite_off")
    assert (await http.get("/api/v1/me/usage")).json()["questions"]["used"] == 2


async def test_a_key_that_may_not_ask_has_nothing_rewritten(ada, live):
    http, _ = ada
    body = {"name": "search", "scopes": ["read"], "expires_in_days": 1, "password": PASSWORD}
    key = (await http.post("/api/v1/api-keys", json=body)).json()["key"]
    async with httpx2.AsyncClient(base_url=live.url, headers={"Authorization": f"Bearer {key}"}) as bare:
        assert (await bare.post(SEARCH, json={"query": "notice"})).status_code == 200
        refused = await bare.post(SEARCH, json={"query": "notice", "paraphrases": 1})
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert live.models.chats == []


async def test_a_search_is_explained(ada):
    http, document_id = ada
    response = await http.post(f"{SEARCH}/explain", json={"query": "notice period", "document_ids": [document_id]})
    assert response.status_code == 200
    found = response.json()
    assert (found["way"], found["vectors"], found["passages"]) == ("small", 1, 1)
    assert "1 vectors are fewer than 20000" in found["reason"]
    assert set(found["milliseconds"]) == {"embed", "search"}
    assert any("Index Scan using embeddings_shared_pkey" in line for line in found["plan"])
    assert (await http.post(f"{SEARCH}/explain", json={"query": " "})).json()["code"] == "bad_query"


async def test_before_anything_was_embedded_words_alone_are_looked_for(live):
    async with live.account("bob@example.com") as bob:
        found = await bob.explain_search("notice period")
        assert (found.way, found.vectors, found.passages) == ("small", 0, 0)
        assert "lexical_segments" in "".join(found.plan)
        dense = await bob.explain_search("notice period", options=SearchOptions("dense"))
        assert (dense.way, dense.plan, dense.passages) == ("small", [], 0)

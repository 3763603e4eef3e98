"""Evaluations over HTTP, by a worker, and in the account's export."""

import io
import json
import zipfile
from uuid import uuid4

import httpx2
import pytest

from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload

URL = "/api/v1/evaluations"


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        document = await finished(client._http, (await upload(client._http)).json()["document_id"])
        yield client, document["document_id"]


def body(document_id, question="notice period", **more):
    return {"name": " mine ", "questions": [{"question": question, "expected": [{"document_id": document_id, **more}]}]}


async def test_an_evaluation_from_its_questions_to_the_export(ada, live):
    client, document_id = ada
    http = client._http
    response = await http.post(URL, json=body(document_id, page=1))
    assert response.status_code == 202
    begun = response.json()
    assert (begun["name"], begun["state"], begun["question_count"]) == ("mine", "queued", 1)
    done = await client.evaluation(begun["evaluation_id"])
    while not done.final:
        done = await client.evaluation(done.evaluation_id)
    assert (done.state, done.questions_done) == ("done", 1)
    assert done.modes[0].scores["ndcg@10"] == 1.0
    assert await client.evaluations() == [done]
    async with live.account("bob@example.com") as bob:
        assert await bob.evaluations() == []
        for path in (f"{URL}/{done.evaluation_id}", f"{URL}/{uuid4()}"):
            for method in ("GET", "DELETE"):
                response = await bob._http.request(method, path)
                assert (response.status_code, response.json()["code"]) == (404, "evaluation_not_found")
        response = await bob._http.post(URL, json=body(document_id))
        assert (response.status_code, response.json()["code"]) == (400, "bad_evaluation")
    zipped = zipfile.ZipFile(io.BytesIO((await http.get("/api/v1/me/export")).content))
    [exported] = json.loads(zipped.read("evaluations.json"))
    assert exported["questions"] == [{"text": "notice period", "expected": [{"document_id": document_id, "page": 1}]}]
    assert exported["modes"][0]["scores"]["mrr"] == 1.0
    await client.delete_evaluation(done.evaluation_id)
    assert await client.evaluations() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"name": " "},
        {"name": "a" * 101},
        {"questions": []},
        {"questions": [{"question": "a", "expected": []}]},
        {"x": 1},
    ],
)
async def test_what_is_no_evaluation_is_refused(ada, changes):
    client, document_id = ada
    assert (await client._http.post(URL, json={**body(document_id), **changes})).status_code == 422


@pytest.mark.parametrize(("scope", "statuses"), [("read", (403, 200)), ("write", (202, 403)), ("ask", (403, 403))])
async def test_who_may_what_with_a_key(ada, live, scope, statuses):
    client, document_id = ada
    wanted = {"name": "k", "scopes": [scope], "expires_in_days": 1, "password": PASSWORD}
    key = (await client._http.post("/api/v1/api-keys", json=wanted)).json()["key"]
    async with httpx2.AsyncClient(base_url=live.url, headers={"Authorization": f"Bearer {key}"}) as bare:
        assert (await bare.post(URL, json=body(document_id))).status_code == statuses[0]
        assert (await bare.get(URL)).status_code == statuses[1]

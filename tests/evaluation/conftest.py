"""A small collection, and what it is evaluated in."""

import json
from datetime import UTC, datetime

import pytest

from ringfence.documents.texts import Texts
from ringfence.evaluation.collection import load
from ringfence.evaluation.finding import SearchWays
from ringfence.evaluation.scratch import ScratchTenants
from ringfence.models.openai import OpenAIEmbedder
from ringfence.search.service import Search

CORPUS = {
    "d-notice": ("Notice", "The notice period is six weeks to the end of a quarter."),
    "d-oven": ("", "The oven is repaired by Anders, who lives in the red house."),
    "d-holidays": ("", "Holidays are thirty days a year for everybody."),
    "d-long": ("<b>Long</b>", " ".join(f"Part {n} of the telescope manual." for n in range(80))),
}
QUERIES = {
    "q1": ("Who repairs the oven?", {"d-oven": 2}),
    "q2": ("thirty holidays a year", {"d-holidays": 1, "d-notice": 1}),
    "q3": ("<script>telescope</script> manual", {"d-holidays": 1}),
    "q4": ("notice period", {"d-notice": 1}),
}


def write_collection(folder, corpus=CORPUS, queries=QUERIES):
    folder.mkdir(parents=True, exist_ok=True)
    entries = [json.dumps({"_id": one, "title": title, "text": text}) for one, (title, text) in corpus.items()]
    asked = [json.dumps({"_id": one, "text": text}) for one, (text, _) in queries.items()]
    judged = [f"{one}\t{entry}\t{n}" for one, (_, found) in queries.items() for entry, n in found.items()]
    for name, lines in (("corpus.jsonl", entries), ("queries.jsonl", asked), ("qrels.tsv", judged)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_collection(tmp_path / "small")


@pytest.fixture
def collection(folder):
    return load(folder)


@pytest.fixture
async def embedder(models):
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    yield embedder
    await embedder.close()


@pytest.fixture
def tenants(db, embedder):
    texts = Texts(db, embedder, chunk_tokens=64, chunk_overlap_tokens=8)
    return ScratchTenants(db, texts, settings="hash 64", now=lambda: datetime.now(UTC))


@pytest.fixture
def ways(db, embedder):
    return SearchWays(Search(db, embedder))

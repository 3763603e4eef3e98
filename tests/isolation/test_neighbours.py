"""What others keep changes no byte of what the search API answers, where search is exact."""

import io
import random

import pytest

from tests.http.test_documents import finished

SEARCH = "/api/v1/search/batch"
WAYS = [
    {"mode": mode, "fusion": fusion, "diversity": diversity, "expand": expand}
    for mode, fusion in (("dense", "convex"), ("lexical", "convex"), ("hybrid", "convex"), ("hybrid", "rrf"))
    for diversity, expand in ((0.0, 0), (0.4, 1))
]
SYLLABLES = ["ka", "lo", "mi", "ren", "tus", "ova", "schrä", "日本", "ed", "ing", "12", "é"]


class Author:
    """Writes documents and queries of the same few words, so that everybody's resemble each other's."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = ["".join(self._random.choices(SYLLABLES, k=self._random.randint(1, 3))) for _ in range(40)]

    def words(self, most: int) -> str:
        return " ".join(self._random.choices(self._words, k=self._random.randint(1, most)))

    def document(self) -> str:
        return "\n\n".join(f"# {self.words(3)}\n\n{self.words(120)}." for _ in range(self._random.randint(1, 6)))

    def queries(self, count: int) -> list[dict[str, object]]:
        return [{"query": self.words(6), "limit": self._random.choice([1, 10, 100])} for _ in range(count)]


async def keep(client, documents):
    for number, text in enumerate(documents):
        document, _ = await client.upload(f"{number}.md", io.BytesIO(text.encode()))
        await finished(client._http, str(document.document_id))


async def answers(client, queries):
    """The API's answers to all queries in all ways, as they came."""
    found = []
    for way in WAYS:
        response = await client._http.post(SEARCH, json={"queries": [query | way for query in queries]})
        assert response.status_code == 200, response.text
        found.append(response.content)
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_no_byte_of_an_answer_depends_on_the_neighbours(live, admin, seed):
    author = Author(seed)
    mine = [author.document() for _ in range(3)]
    queries = author.queries(8)
    async with live.account("ada@example.com") as ada:
        await keep(ada, mine)
        before = await answers(ada, queries)
        assert any(b'"text"' in answer for answer in before)
        async with live.account("bob@example.com") as bob:
            await keep(bob, [*mine, *(author.document() for _ in range(3))])
            assert await answers(ada, queries) == before
            assert await answers(bob, queries) != before
            for document in await bob.documents():
                await bob._http.delete(f"/api/v1/documents/{document.document_id}")
        await admin.execute("vacuum analyze")
        assert await answers(ada, queries) == before

"""A tenant's lexical index, and BM25 as plain Python over the same chunks."""

import math
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from asyncpg import Connection

from ringfence.db import Database
from ringfence.filters import Filter
from ringfence.ids import DocumentId, UserId, new_document_id
from ringfence.lexical import queries
from ringfence.lexical.postings import Writer
from ringfence.lexical.service import LexicalIndex
from ringfence.lexical.terms import query_terms, terms
from ringfence.search import queries as search
from ringfence.search.queries import Words
from tests.search.stored import tenant

K1, B = 1.2, 0.75
_DOCUMENT = """
insert into documents (user_id, document_id, name, media_type, size, sha256, state, chunks)
values ($1, $2, $3, 'text/plain', 1, $4, 'ready', $5)
"""
_CHUNK = "insert into chunks (user_id, document_id, number, spans, text) values ($1, $2, $3, '{1,0,1}', $4)"

type Ranking = list[tuple[UUID, int, float]]


@dataclass
class Shelf:
    """A tenant's documents, in the database and here: live texts by (document, number), with their analysis."""

    db: Database
    admin: Connection
    user_id: UserId
    live: dict[tuple[UUID, int], tuple[str, int]] = field(default_factory=dict)

    async def put(self, texts: list[str], name: str = "n.txt", first: int = 0, *, indexed: bool = True) -> DocumentId:
        """Store a document in the state `ready`; its segments come first, as in an ingestion that has not ended."""
        document_id = new_document_id()
        async with self.db.tenant(self.user_id) as tx:
            if indexed:
                await self.index(tx, document_id, texts, name, first)
            values = (self.user_id, document_id, name, document_id.bytes * 2, len(texts))
            await tx.execute(_DOCUMENT, *values)
            rows = [(self.user_id, document_id, n, text) for n, text in enumerate(texts, first)]
            await tx.executemany(_CHUNK, rows)
        self.note(document_id, texts, name, first)
        return document_id

    async def index(self, tx, document_id: DocumentId, texts: list[str], name: str, first: int) -> None:
        segments = Writer(name).segments(list(enumerate(texts, first)))
        await queries.add(tx, document_id, segments)

    def note(self, document_id: DocumentId, texts: list[str], name: str, first: int) -> None:
        [analysis] = {one.analysis for one in Writer(name).segments(list(enumerate(texts, first)))}
        title = name.rpartition(".")[0]
        self.live |= {(document_id, n): (f"{title}\n{text}", analysis) for n, text in enumerate(texts, first)}

    async def rename(self, document_id: DocumentId, name: str) -> None:
        """Let the document have another name, which the index does not know yet."""
        async with self.db.tenant(self.user_id) as tx:
            sql = "update documents set name = $3 where user_id = $1 and document_id = $2"
            await tx.execute(sql, self.user_id, document_id, name)
        title = name.rpartition(".")[0]
        for key, (text, analysis) in self.live.items():
            if key[0] == document_id:
                self.live[key] = f"{title}\n{text.partition('\n')[2]}", analysis

    def forget(self, document_id: DocumentId) -> None:
        self.live = {key: value for key, value in self.live.items() if key[0] != document_id}

    async def remove(self, document_id: DocumentId) -> None:
        async with self.db.tenant(self.user_id) as tx:
            await tx.execute("delete from documents where user_id = $1 and document_id = $2", self.user_id, document_id)
        self.forget(document_id)

    async def replace(self, document_id: DocumentId, texts: list[str], name: str = "n.txt") -> None:
        """Write another version behind the live one, and swap it in."""
        first = max(n for key, n in self.live if key == document_id) + 1
        async with self.db.tenant(self.user_id) as tx:
            await self.index(tx, document_id, texts, name, first)
            rows = [(self.user_id, document_id, n, text) for n, text in enumerate(texts, first)]
            await tx.executemany(_CHUNK, rows)
            sql = "update documents set first_chunk = $3, chunks = $4 where user_id = $1 and document_id = $2"
            await tx.execute(sql, self.user_id, document_id, first, len(texts))
        self.forget(document_id)
        self.note(document_id, texts, name, first)

    async def search(self, query: str, limit: int = 1000, chosen: Filter | None = None) -> Ranking:
        documents = None
        if chosen:
            async with self.db.tenant(self.user_id) as tx:
                documents = await search.chosen(tx, chosen)
        async with self.db.call(self.user_id) as call:
            found = await search.lexical(call, Words(query_terms(query), K1, B, limit, documents))
        return [(one.document_id, one.number, one.lexical) for one in found]

    def expected(self, query: str) -> dict[tuple[UUID, int], float]:
        """BM25 of every live chunk that has a term of the query (Robertson, Zaragoza 2009; idf as Lucene's)."""
        bags = {key: Counter(terms(text, analysis)) for key, (text, analysis) in self.live.items()}
        average = sum(bag.total() for bag in bags.values()) / max(len(bags), 1)
        frequency = Counter(term for bag in bags.values() for term in bag)
        scores = {}
        for key, bag in bags.items():
            score = 0.0
            for term, weight in Counter(terms(query, self.live[key][1])).items():
                if tf := bag[term]:
                    idf = math.log(1 + (len(bags) - frequency[term] + 0.5) / (frequency[term] + 0.5))
                    norm = K1 * (1 - B + B * bag.total() / average)
                    score += weight * idf * tf * (K1 + 1) / (tf + norm)
            if score:
                scores[key] = score
        return scores

    async def agrees(self, query: str) -> Ranking:
        """Check a search against plain Python; what it found."""
        found, expected = await self.search(query), self.expected(query)
        assert {(document, number) for document, number, _ in found} == set(expected)
        for document, number, score in found:
            assert score == pytest.approx(expected[document, number], abs=1e-5)
        assert found == sorted(found, key=lambda one: (-one[2], str(one[0]), one[1]))
        return found


@pytest.fixture
async def shelf(db, admin):
    return Shelf(db, admin, await tenant(admin))


@pytest.fixture
def index(db):
    return LexicalIndex(db)

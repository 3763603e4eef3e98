"""Calls that ask one's documents."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from ringfence.answers.events import Event
from ringfence.client.models import AllHits, Hit, Hits, SearchExplanation, SearchOptions
from ringfence.client.transport import Connection

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class QuestionCalls(Connection):
    """Search, and answers."""

    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        documents: Sequence[UUID] | None = None,
        options: SearchOptions | None = None,
    ) -> list[Hit]:
        """The best passages for a query, best first; in these documents only, where any are named."""
        body = _body(query, limit, documents, options)
        return Hits.model_validate_json((await self._call("POST", "/api/v1/search", json=body)).content).results

    async def search_all(
        self, queries: Sequence[str], *, limit: int = 10, options: SearchOptions | None = None
    ) -> list[list[Hit]]:
        """The best passages for each of up to 32 queries, in one request."""
        body = {"queries": [_body(query, limit, None, options) for query in queries]}
        response = await self._call("POST", "/api/v1/search/batch", json=body)
        return [one.results for one in AllHits.model_validate_json(response.content).results]

    async def explain_search(
        self,
        query: str,
        *,
        limit: int = 10,
        documents: Sequence[UUID] | None = None,
        options: SearchOptions | None = None,
    ) -> SearchExplanation:
        """How the same search goes, why, and how long it takes."""
        body = _body(query, limit, documents, options)
        response = await self._call("POST", "/api/v1/search/explain", json=body)
        return SearchExplanation.model_validate_json(response.content)

    async def ask(
        self, question: str, *, strict: bool | None = None, model: str | None = None
    ) -> AsyncGenerator[Event]:
        """Ask a question; the answer's events as they come.

        Strict: each sentence comes once it is checked, behind its `citation` event; unset: as the server has it.
        Model: the one that answers, as of `models`; unset: the one that is chosen.
        """
        more = {"strict": strict, "model": model}
        body = {"question": question} | {name: value for name, value in more.items() if value is not None}
        async with self._open("POST", "/api/v1/answers", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield _EVENT.validate_json(line.removeprefix("data:"))


def _body(query: str, limit: int, documents: Sequence[UUID] | None, options: SearchOptions | None) -> dict[str, Any]:
    within = None if documents is None else [str(document_id) for document_id in documents]
    return {"query": query, "limit": limit, "document_ids": within, **asdict(options or SearchOptions())}

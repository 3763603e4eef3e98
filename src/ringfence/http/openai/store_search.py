"""Search in a vector store: passages of a collection's documents."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, ValidationError, model_validator

from ringfence.documents.listing import Listing
from ringfence.errors import Invalid
from ringfence.filters import MAX_KEY_CHARS, Comparison, Condition, Filter, is_text
from ringfence.http.deps import Reader, ServicesDep
from ringfence.http.openai.forms import Form, View, only
from ringfence.http.openai.store_forms import Attributes, attributes
from ringfence.http.openai.stores import NamedStore
from ringfence.ids import DocumentId, UserId
from ringfence.search.queries import Passage
from ringfence.search.service import MAX_QUERIES, MAX_QUERY_CHARS, How, checked
from ringfence.services import Services

router = APIRouter(prefix="/v1/vector_stores", tags=["openai"])

_MAX_CONDITIONS = 20

_Scalar = str | bool | int | float
_Query = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)]


class ComparisonFilter(Form):
    """What a document's metadata must have under a key."""

    type: Literal["eq", "gt", "gte", "lt", "lte", "in"]
    key: str = Field(min_length=1, max_length=MAX_KEY_CHARS)
    value: _Scalar | list[_Scalar] = Field(description="A list of `in`, and of no other.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            sound = bool(list(self.conditions())) and is_text(self.key)
        except ValidationError:
            sound = False
        if not sound:  # without the cause: it quotes what was sent
            raise ValueError("nothing can be compared like that")
        return self

    def conditions(self) -> Iterator[Condition]:
        """The same, as search knows it."""
        yield from Comparison.model_validate({self.type: self.value}).conditions(self.key)


class CompoundFilter(Form):
    """Several conditions, all of which must hold."""

    type: Literal["and"]
    filters: "list[_Filter]" = Field(min_length=1, max_length=_MAX_CONDITIONS)

    def conditions(self) -> Iterator[Condition]:
        """The same, as search knows it."""
        for one in self.filters:
            yield from one.conditions()


_Filter = Annotated[ComparisonFilter | CompoundFilter, Field(discriminator="type")]


class Ranking(Form):
    """How passages are ordered, and which are good enough."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = Field(
        default=None, description="`none`: without the reranker, where there is one."
    )
    score_threshold: float | None = Field(default=None, ge=0, le=1, description="The lowest score that is shown.")


class StoreQuery(Form):
    """What to look for in a collection's documents."""

    query: _Query | Annotated[list[_Query], Field(min_length=1, max_length=MAX_QUERIES)] = Field(
        examples=["notice period"]
    )
    filters: _Filter | None = Field(
        default=None,
        description="By the documents' metadata: a comparison, or several with `and`.",
        examples=[{"type": "gte", "key": "year", "value": 2020}],
    )
    max_num_results: int = Field(default=10, ge=1, le=50, examples=[10])
    ranking_options: Ranking | None = Field(default=None, examples=[{"ranker": "auto", "score_threshold": 0.2}])
    rewrite_query: Annotated[Literal[False] | None, only("false")] = Field(
        default=None, description="Not served: there is no conversation here.", examples=[False]
    )

    @property
    def queries(self) -> list[str]:
        """What is looked for."""
        return [self.query] if isinstance(self.query, str) else self.query


class PassageText(View):
    """The text of a passage."""

    type: Literal["text"]
    text: str


class PassagePlace(View):
    """Where a passage stands."""

    page: int = Field(description="Where it begins, from 1.", examples=[3])
    number: int = Field(description="Of the chunk in its document.", examples=[12])
    context: str | None = Field(description="The headings above it.", examples=["Handbook \u203a Leaving"])


class StoreHit(View):
    """A passage that bears on the query."""

    file_id: UUID = Field(description="The document's id.")
    filename: str = Field(examples=["handbook.pdf"])
    score: float = Field(description="At most 1.", examples=[0.93])
    attributes: Attributes
    content: list[PassageText] = Field(description="One.")
    ringfence: PassagePlace


class StoreHits(View):
    """The best passages, best first."""

    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[StoreHit]
    has_more: Literal[False]
    next_page: None


@router.post("/{vector_store_id}/search")
async def search(store: NamedStore, body: StoreQuery, user_id: Reader, services: ServicesDep) -> StoreHits:
    """Find the passages of a collection's documents that bear on a query, or on one of several."""
    await services.collections.get(user_id, store)
    conditions = tuple(body.filters.conditions()) if body.filters else ()
    if len(conditions) > _MAX_CONDITIONS:
        raise Invalid("bad_query", f"A filter has at most {_MAX_CONDITIONS} conditions.", param="filters")
    found = await _found(services, user_id, body, How(chosen=Filter(collections=(store,), metadata=conditions)))
    known = await _metadata(services, user_id, {one.document_id for one in found})
    return StoreHits(
        object="vector_store.search_results.page",
        search_query=body.queries,
        data=[_hit(one, known.get(one.document_id, {})) for one in found],
        has_more=False,
        next_page=None,
    )


async def _found(services: Services, user_id: UserId, body: StoreQuery, how: How) -> Sequence[Passage]:
    """The passages in their order; of several queries, by their scores, each once."""
    ranking, limit = body.ranking_options or Ranking(), body.max_num_results
    if ranking.ranker == "none":
        queries = [checked(query) for query in body.queries]
        several = [await services.search.passages(user_id, query, limit, how=how) for query in queries]
    else:
        ranked = await services.search.find_all(user_id, [(query, limit, how) for query in body.queries])
        several = [list(one.passages) for one in ranked]
    found = [one for passages in several for one in passages if one.score >= (ranking.score_threshold or 0.0)]
    if len(several) > 1:
        found.sort(key=lambda one: -one.score)
    once: dict[tuple[UUID, int], Passage] = {}
    for one in found:
        once.setdefault((one.document_id, one.number), one)
    return list(once.values())[:limit]


async def _metadata(services: Services, user_id: UserId, ids: set[DocumentId]) -> dict[DocumentId, Attributes]:
    page = await services.library.listed(user_id, Listing(filter=Filter(documents=tuple(ids))), len(ids) + 1)
    return {document.document_id: attributes(document.metadata) for document in page.documents}


def _hit(passage: Passage, known: Attributes) -> StoreHit:
    return StoreHit(
        file_id=passage.document_id,
        filename=passage.document,
        score=round(passage.score, 4),
        attributes=known,
        content=[PassageText(type="text", text=passage.text)],
        ringfence=PassagePlace(page=passage.spans[0][0], number=passage.number, context=passage.context or None),
    )

"""Which of a tenant's documents are meant: by id, collection, tag, metadata, time and language.

Lists and search narrow with the same filter, inside their own statement and exactly:

    _FOUND = f"select d.name from documents d where d.user_id = $1 and {predicate(2)} limit $9"
    rows = await tx.fetch(_FOUND, tx.user_id, *arguments(chosen), limit)

`predicate(n)` takes `PARAMETERS` places from `$n` on; `arguments` fills them, for no filter with nulls, which let
everything pass. It needs the alias `d` of `documents`, and the tenant as `$1`. It says nothing about states or deleted
documents. What a caller sent is a value in it, and never a part of its text: metadata's conditions become one jsonpath,
whose keys and values are quoted as JSON.

Doors take a `FilterForm`, and hand on its `chosen()`.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

MAX_TAGS = 50
MAX_TAG_CHARS = 64
MAX_KEY_CHARS = 100
PARAMETERS = 7
"""How many places `predicate` takes."""

MAX_IDS = 1000
MAX_LANGUAGES = 50
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff]")
"""What nobody sees: control and direction marks, joiners, lone surrogates."""

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")  # and no number of seconds
_FOLDINGS = 2  # composing may bring letters together that fold once more

# jsonpath's lax mode looks into arrays, and what can't be compared is not true.
_COMPARISONS = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

type Scalar = str | int | float | bool | None
type Operator = Literal["eq", "in", "gt", "gte", "lt", "lte", "exists"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a document's metadata must have under a key. Of an array, one element is enough.

    Attributes:
        key: of the metadata's top level.
        operator: how it is compared. Numbers are ordered with numbers, strings with strings, by code points; what is
            of another type is neither equal nor in any order.
        value: with what; several of `in`, true or false of `exists`.
    """

    key: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Documents that satisfy all of it; None, or no condition, narrows nothing.

    Attributes:
        documents: one of these. Of ids that are not the tenant's, nothing is found; so it is of collections.
        collections: in one of these.
        tags: with all of these, folded (`fold`).
        metadata: all of these hold.
        created_from: created then or later.
        created_to: created earlier.
        languages: in one of these (ISO 639-1), as found in the text.
    """

    documents: tuple[UUID, ...] | None = None
    collections: tuple[UUID, ...] | None = None
    tags: tuple[str, ...] | None = None
    metadata: tuple[Condition, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    languages: tuple[str, ...] | None = None


def predicate(first: int) -> str:
    """The filter as SQL over the alias `d` of `documents`, with `PARAMETERS` places from `$first` on, `$1` the tenant.

    A collection that is gone is in nobody's filter any more, though documents still name it.
    """
    documents, collections, tags, metadata, start, end, languages = (f"${first + i}" for i in range(PARAMETERS))
    return f"""(
  ({documents}::uuid[] is null or d.document_id = any({documents}))
  and ({collections}::uuid[] is null or d.collections && array(
    select k.collection_id from collections k where k.user_id = $1 and k.collection_id = any({collections})))
  and ({tags}::text[] is null or d.tags @> {tags})
  and ({metadata}::jsonpath is null or d.metadata @@ {metadata})
  and ({start}::timestamptz is null or d.created_at >= {start})
  and ({end}::timestamptz is null or d.created_at < {end})
  and ({languages}::text[] is null or d.language = any({languages})))"""  # noqa: S608  # numbers of places alone


def arguments(chosen: Filter | None) -> tuple[object, ...]:
    """What fills the places of `predicate`, in their order."""
    if chosen is None:
        return (None,) * PARAMETERS
    path = " && ".join(_path(condition) for condition in chosen.metadata)
    narrowing = (chosen.documents, chosen.collections, chosen.tags, path or None)
    return (*narrowing, chosen.created_from, chosen.created_to, chosen.languages)


def _path(condition: Condition) -> str:
    """A condition as a predicate of jsonpath."""
    found, value = f"$.{json.dumps(condition.key)}", condition.value
    if condition.operator == "exists":
        return f"exists({found})" if value else f"!exists({found})"
    if condition.operator == "in":
        several = value if isinstance(value, tuple) else (value,)
        return "(" + " || ".join(f"{found} == {json.dumps(one)}" for one in several) + ")"
    return f"{found} {_COMPARISONS[condition.operator]} {json.dumps(value)}"


def is_text(value: str) -> bool:
    """Whether it is text to Unicode and to PostgreSQL: no lone surrogates, no NUL."""
    return not _NO_TEXT.search(value)


def fold(tag: str) -> str:
    """A tag as it is kept and compared: without case, variants of letters, or spaces too many.

    Raises:
        ValueError: it is empty, too long, or has what nobody sees.
    """
    folded = tag
    for _ in range(_FOLDINGS):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())
    folded = " ".join(folded.split())
    if not 1 <= len(folded) <= MAX_TAG_CHARS or UNSEEN.search(folded):
        raise ValueError(f"a tag has 1 to {MAX_TAG_CHARS} characters that can be seen")
    return folded


def _text(value: str) -> str:
    if not is_text(value):
        raise ValueError("it is no text: NUL or a lone surrogate")
    return value


def _ordered(value: list[str]) -> list[str]:
    return sorted(set(value))


def _moment(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_TIME.match(value)):
        return value
    raise ValueError("it is no time of RFC 3339")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("it lies outside the calendar") from None


# No `type` statements: their names would be in the API's description.
_Text = Annotated[str, Field(strict=True, max_length=1000), AfterValidator(_text)]
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Ordered = StrictInt | _Real | _Text
_Value = StrictBool | StrictInt | _Real | _Text | None
_Key = Annotated[str, Field(strict=True, min_length=1, max_length=MAX_KEY_CHARS), AfterValidator(_text)]
Tags = Annotated[list[Annotated[str, AfterValidator(fold)]], AfterValidator(_ordered)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), AfterValidator(_in_utc)]
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]


class Comparison(BaseModel):
    """What a value of the metadata must be, all of it; of an array, each comparison needs one element."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    eq: _Value = Field(default=None, description="Equal to it.", examples=["report"])
    any_of: list[_Value] | None = Field(
        default=None, alias="in", min_length=1, max_length=100, description="Equal to one of them.", examples=[["a"]]
    )
    gt: _Ordered | None = Field(default=None, description="Greater.", examples=[2020])
    gte: _Ordered | None = Field(default=None, description="Greater or equal.", examples=[2020])
    lt: _Ordered | None = Field(default=None, description="Less.", examples=[2030])
    lte: _Ordered | None = Field(default=None, description="Less or equal.", examples=[2030])
    exists: StrictBool | None = Field(default=None, description="Whether there is one at all.", examples=[True])

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        given = self.model_fields_set
        if not given or any(getattr(self, name) is None for name in given - {"eq"}):
            raise ValueError("it takes one or more of eq, in, gt, gte, lt, lte and exists")
        return self

    def conditions(self, key: str) -> Iterator[Condition]:
        """The same, one by one."""
        if "eq" in self.model_fields_set:
            yield Condition(key, "eq", self.eq)
        if self.any_of is not None:
            yield Condition(key, "in", tuple(self.any_of))
        ranges: tuple[tuple[Operator, Scalar], ...] = (
            ("gt", self.gt),
            ("gte", self.gte),
            ("lt", self.lt),
            ("lte", self.lte),
            ("exists", self.exists),
        )
        yield from (Condition(key, operator, value) for operator, value in ranges if value is not None)


class FilterForm(BaseModel):
    """Which documents are meant: those that satisfy all that is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    documents: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IDS,
        description="One of these.",
        examples=[["7f8ff6ec-4c1c-4b21-9d5a-0a5f3a6c2f11"]],
    )
    collections: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IDS,
        description="In one of these.",
        examples=[["0b9f4f2e-64f0-4b0c-8c7e-2f5d0b6a9e33"]],
    )
    tags: Tags | None = Field(
        default=None, min_length=1, max_length=MAX_TAGS, description="With all of these.", examples=[["contract"]]
    )
    metadata: dict[_Key, _Value | Comparison] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="By key: the value, or what it must be; all of these hold.",
        examples=[{"year": {"gte": 2020}, "kind": "report"}],
    )
    created_from: Moment | None = Field(
        default=None, description="Uploaded then or later.", examples=["2026-01-01T00:00:00Z"]
    )
    created_to: Moment | None = Field(default=None, description="Uploaded earlier.", examples=["2027-01-01T00:00:00Z"])
    languages: list[Language] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_LANGUAGES,
        description="In one of these (ISO 639-1).",
        examples=[["en"]],
    )

    def chosen(self) -> Filter:
        """The filter that it describes."""
        conditions: list[Condition] = []
        for key, wanted in (self.metadata or {}).items():
            comparison = wanted if isinstance(wanted, Comparison) else Comparison(eq=wanted)
            conditions += comparison.conditions(key)
        return Filter(
            documents=_some(self.documents),
            collections=_some(self.collections),
            tags=_some(self.tags),
            metadata=tuple(conditions),
            created_from=self.created_from,
            created_to=self.created_to,
            languages=_some(self.languages),
        )


def _some[T](values: list[T] | None) -> tuple[T, ...] | None:
    return None if values is None else tuple(values)

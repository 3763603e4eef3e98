"""Filters find exactly what a reference in Python finds, whatever they hold, and only in the tenant."""

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from ringfence.filters import (
    MAX_TAG_CHARS,
    PARAMETERS,
    Comparison,
    Condition,
    Filter,
    FilterForm,
    arguments,
    fold,
    is_text,
    predicate,
)
from ringfence.ids import new_user_id

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = ["year", "kind", 'qu"ote', "back\\slash", "$.a", "näme", "x || true", "*", "'; drop table documents; --"]
VALUES = [
    *(0, 1, -1, 2020, 2**53 + 1, -(10**40), 0.5, -0.0, 1e22, 1e-7, 2020.0),
    *("", "a", "b", "Z", "ä", "\U0001f600", "\ufffd", '" || true || "', "\\", "\t\n\x01", "2020", "null", "true"),
    *(True, False, None),
]
OPERATORS = ["eq", "in", "gt", "gte", "lt", "lte", "exists"]
FOUND = f"select d.document_id from documents d where d.user_id = $1 and {predicate(2)}"


def comparable(value):
    """What orders a scalar as jsonpath does, and tells types apart."""
    if isinstance(value, bool) or value is None:
        return type(value).__name__, value is True
    return ("str", value) if isinstance(value, str) else ("number", Decimal(repr(value)))


def compare(operator, stored, wanted):
    (kind, left), (other, right) = comparable(stored), comparable(wanted)
    if kind != other:
        return False
    return {"eq": left == right, "gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[
        operator
    ]


def holds(condition, metadata):
    if condition.operator == "exists":
        return (condition.key in metadata) == condition.value
    stored = metadata.get(condition.key, [])
    several = stored if isinstance(stored, list) else [stored]
    if condition.operator == "in":
        return any(compare("eq", one, wanted) for one in several for wanted in condition.value)
    return any(compare(condition.operator, one, condition.value) for one in several)


def matches(chosen, document, collections):
    return (
        (chosen.documents is None or document["document_id"] in chosen.documents)
        and (chosen.collections is None or bool(set(chosen.collections) & set(document["collections"]) & collections))
        and (chosen.tags is None or set(chosen.tags) <= set(document["tags"]))
        and all(holds(condition, document["metadata"]) for condition in chosen.metadata)
        and (chosen.created_from is None or document["created_at"] >= chosen.created_from)
        and (chosen.created_to is None or document["created_at"] < chosen.created_to)
        and (chosen.languages is None or document["language"] in chosen.languages)
    )


class Maker:
    """Random documents and filters that often meet."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.collections = [uuid4() for _ in range(4)]
        self.gone = [uuid4()]
        self.documents = []

    def some(self, values, most):
        return self.random.sample(values, self.random.randint(0, most))

    def scalars(self):
        return self.random.choices(VALUES, k=self.random.randint(0, 3))

    def value(self):
        return self.scalars() if self.random.random() < 0.3 else self.random.choice(VALUES)

    def document(self):
        return {
            "document_id": uuid4(),
            "collections": self.some(self.collections + self.gone, 3),
            "tags": sorted(self.some(["a", "b", "ä b", "%"], 3)),
            "metadata": {key: self.value() for key in self.some(KEYS, 5)},
            "created_at": BEGAN + timedelta(hours=self.random.randint(0, 5)),
            "language": self.random.choice(["en", "de", None]),
        }

    def condition(self):
        operator = self.random.choice(OPERATORS)
        value = self.random.choice(VALUES)
        if operator == "exists":
            value = self.random.random() < 0.7
        elif operator == "in":
            value = tuple(self.random.choices(VALUES, k=3))
        elif operator != "eq":
            value = self.random.choice([one for one in VALUES if isinstance(one, str | int | float)])
        return Condition(self.random.choice(KEYS), operator, value)

    def maybe(self, make):
        return make() if self.random.random() < 0.2 else None

    def filter(self):
        ids = [document["document_id"] for document in self.documents] + [uuid4()]
        return Filter(
            documents=self.maybe(lambda: tuple(self.some(ids, 60))),
            collections=self.maybe(lambda: tuple(self.some(self.collections + self.gone, 3))),
            tags=self.maybe(lambda: tuple(self.some(["a", "b", "ä b", "none"], 2))),
            metadata=tuple(self.condition() for _ in range(self.random.choice([0, 1, 1, 1, 2]))),
            created_from=self.maybe(lambda: BEGAN + timedelta(hours=self.random.randint(0, 4))),
            created_to=self.maybe(lambda: BEGAN + timedelta(hours=self.random.randint(1, 6))),
            languages=self.maybe(lambda: tuple(self.some(["en", "de", "fr"], 2))),
        )


async def keep(admin, user_id, made):
    await admin.execute(
        "insert into users (user_id, email, email_key, password_hash) values ($1, 'a@b.c', 'a@b.c', 'x')", user_id
    )
    for number, collection_id in enumerate(made.collections):
        await admin.execute("insert into collections values ($1, $2, $3)", user_id, collection_id, str(number))
    await admin.executemany(
        "insert into documents (user_id, document_id, collections, tags, metadata, created_at, language, name,"
        " media_type, size, sha256) values ($1, $2, $3, $4, $5, $6, $7, 'a', 'text/plain', 1, $8)",
        [
            (user_id, *(json.dumps(value) if name == "metadata" else value for name, value in document.items()),
             document["document_id"].bytes * 2)
            for document in made.documents
        ],
    )  # fmt: skip


async def test_a_filter_finds_what_the_reference_finds_in_the_tenant_alone(db, admin):
    made, others = Maker(1), Maker(2)
    for maker in (made, others):
        maker.documents = [maker.document() for _ in range(120)]
    mine = new_user_id()
    await keep(admin, mine, made)
    await keep(admin, new_user_id(), others)
    collections, sizes = set(made.collections), []
    async with db.tenant(mine) as tx:
        for _ in range(500):
            chosen = made.filter()
            found = {row[0] for row in await tx.fetch(FOUND, mine, *arguments(chosen))}
            expected = {one["document_id"] for one in made.documents if matches(chosen, one, collections)}
            assert found == expected, chosen
            sizes.append(len(found))
        assert len(await tx.fetch(FOUND, mine, *arguments(None))) == 120
        theirs = Filter(documents=tuple(one["document_id"] for one in others.documents))
        assert await tx.fetch(FOUND, mine, *arguments(theirs)) == []
        assert await tx.fetch(FOUND, mine, *arguments(Filter(collections=tuple(others.collections)))) == []
    assert sum(0 < size < 120 for size in sizes) > 200  # so it could have failed


async def test_each_operator_finds_something_of_every_key(db, admin):
    """Every key and value, quoted, is found again: no path is ever broken by what it quotes."""
    made = Maker(3)
    made.documents = [made.document() | {"metadata": {key: value}} for key in KEYS for value in VALUES]
    mine = new_user_id()
    await keep(admin, mine, made)
    async with db.tenant(mine) as tx:
        for document in made.documents:
            [(key, value)] = document["metadata"].items()
            chosen = Filter(metadata=(Condition(key, "eq", value), Condition(key, "in", (value,))))
            found = {row[0] for row in await tx.fetch(FOUND, mine, *arguments(chosen))}
            assert document["document_id"] in found
            assert len(found) <= 2  # 2020 and 2020.0 are one number, and so is nothing else


def test_the_places_are_those_that_were_asked_for():
    text = predicate(5)
    assert {f"${n}" for n in (1, *range(5, 5 + PARAMETERS))} == {
        word.strip("()") for word in text.replace("::", " ").split() if word.strip("()").startswith("$")
    }
    assert len(arguments(Filter())) == len(arguments(None)) == PARAMETERS


@pytest.mark.parametrize(
    ("tag", "folded"),
    [
        ("Contract", "contract"),
        ("  two\t words ", "two words"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("\ufb01ne \uff21", "fine a"),
        ("A\u0308", "\u00e4"),
        ("\u0345\u0399", "\u03b9\u03b9"),
        ("x" * MAX_TAG_CHARS, "x" * MAX_TAG_CHARS),
    ],
)
def test_tags_are_folded(tag, folded):
    assert fold(tag) == folded
    assert fold(folded) == folded


@pytest.mark.parametrize(
    "tag", ["", " \t", "x" * (MAX_TAG_CHARS + 1), "a\0b", "a\x1bb", "\u202ea", "\ud800", "a\u200b"]
)
def test_what_is_no_tag_is_refused(tag):
    with pytest.raises(ValueError, match="a tag has 1 to 64"):
        fold(tag)


def test_folding_again_changes_nothing():
    for point in range(0x110000):
        try:
            folded = fold(f"a{chr(point)}b")
        except ValueError:
            continue
        assert fold(folded) == folded, hex(point)


def test_a_form_says_what_is_meant():
    one, two = uuid4(), uuid4()
    form = FilterForm.model_validate_json(
        json.dumps({
            "documents": [str(one)],
            "collections": [str(two)],
            "tags": ["B", "a", "b"],
            "metadata": {
                "kind": "report",
                "draft": False,
                "none": None,
                "eq": {"eq": None},
                "year": {"gte": 2020, "lt": 2030.5, "gt": "a", "lte": "b"},
                "who": {"in": ["ada", 1, None], "exists": True},
                "gone": {"exists": False},
            },
            "created_from": "2026-01-01T01:00:00+01:00",
            "created_to": "2027-01-01T00:00:00Z",
            "languages": ["en"],
        })
    )  # fmt: skip
    assert form.chosen() == Filter(
        documents=(one,),
        collections=(two,),
        tags=("a", "b"),
        metadata=(
            Condition("kind", "eq", "report"),
            Condition("draft", "eq", False),
            Condition("none", "eq", None),
            Condition("eq", "eq", None),
            Condition("year", "gt", "a"),
            Condition("year", "gte", 2020),
            Condition("year", "lt", 2030.5),
            Condition("year", "lte", "b"),
            Condition("who", "in", ("ada", 1, None)),
            Condition("who", "exists", True),
            Condition("gone", "exists", False),
        ),
        created_from=BEGAN,
        created_to=datetime(2027, 1, 1, tzinfo=UTC),
        languages=("en",),
    )
    assert FilterForm().chosen() == Filter()
    assert isinstance(form.chosen().documents[0], UUID)


@pytest.mark.parametrize(
    "body",
    [
        {"unknown": 1},
        {"documents": []},
        {"documents": ["nothing"]},
        {"documents": [str(uuid4())] * 1001},
        {"tags": [""]},
        {"tags": ["a\0"]},
        {"tags": [str(n) for n in range(51)]},
        {"metadata": {}},
        {"metadata": {"": 1}},
        {"metadata": {"k" * 101: 1}},
        {"metadata": {"k\0": 1}},
        {"metadata": {"k": [1]}},
        {"metadata": {"k": {}}},
        {"metadata": {"k": {"gt": None}}},
        {"metadata": {"k": {"gt": True}}},
        {"metadata": {"k": {"in": []}}},
        {"metadata": {"k": {"in": None}}},
        {"metadata": {"k": {"exists": 1}}},
        {"metadata": {"k": {"any_of": [1]}}},
        {"metadata": {"k": {"eq": {"a": 1}}}},
        {"metadata": {"k": "a\0b"}},
        {"metadata": {"k": "x" * 1001}},
        {"metadata": {"k": float("nan")}},
        {"metadata": {"k": float("inf")}},
        {"metadata": {"k": "\ud800"}},
        {"metadata": {str(n): 1 for n in range(21)}},
        {"created_from": "2026-01-01T00:00:00"},
        {"created_from": 0.5},
        {"created_to": "1767225600"},
        {"created_from": "9999-12-31T23:59:59-14:00"},
        {"languages": ["english"]},
        {"languages": ["e'"]},
    ],
)
def test_what_is_no_filter_is_refused(body):
    with pytest.raises(ValidationError):
        FilterForm.model_validate(body)


def test_what_is_text():
    assert is_text("Größe \U0001f600")
    assert not is_text("a\0")
    assert not is_text("a\udfff")
    assert list(Comparison(eq=1).conditions("k")) == [Condition("k", "eq", 1)]

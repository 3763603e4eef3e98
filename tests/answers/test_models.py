"""Which model answers whom, and what is kept of what it took."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from ringfence.answers.models import Ledger, Models
from ringfence.errors import NotFound, Unauthenticated
from ringfence.ids import new_user_id
from ringfence.models.base import Usage
from ringfence.models.desk import Desk, Price, Spending
from ringfence.models.openai import OpenAIChat
from tests.fakes.desk import offer
from tests.search.stored import tenant

PRICE = Price(Decimal(2), Decimal(4), "EUR")


@pytest.fixture
async def offers(models):
    """Two models, of which one has a price."""
    ones = [OpenAIChat(models.openai_url, name) for name in ("big", "small")]
    yield [offer(ones[0], price=PRICE), offer(ones[1])]
    for one in ones:
        await one.close()


@pytest.fixture
def clock():
    return [datetime(2026, 11, 30, 23, 59, tzinfo=UTC)]


@pytest.fixture
async def ledger(db, clock):
    ledger = Ledger(db, now=lambda: clock[0])
    yield ledger
    await ledger.close()


async def test_a_user_chooses_for_themselves(db, admin, offers):
    ann, bob = await tenant(admin), await tenant(admin)
    models = Models(db, Desk(offers))
    await models.choose(ann, "small")
    assert [(await models.of(user)).name for user in (ann, bob)] == ["small", "big"]
    assert (await models.of(ann, "big")).name == "big"
    assert (await models.chosen(ann), await models.chosen(bob)) == ("small", None)
    await models.choose(ann, "big")
    await models.choose(ann, None)
    assert await models.chosen(ann) is None
    for call in (models.choose(ann, "huge"), models.of(ann, "huge")):
        with pytest.raises(NotFound, match="model_not_found"):
            await call


async def test_what_is_no_longer_offered_is_not_chosen(db, admin, offers):
    ann = await tenant(admin)
    await Models(db, Desk(offers)).choose(ann, "small")
    fewer = Models(db, Desk(offers[:1]))
    assert (await fewer.chosen(ann), (await fewer.of(ann)).name) == (None, "big")
    nobody = Models(db, Desk([]))
    assert (await nobody.of(ann), await nobody.aside(ann)) == (None, None)


async def test_nobody_who_is_gone_chooses(db, offers):
    models = Models(db, Desk(offers))
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await models.choose(new_user_id(), "small")


async def test_what_is_spent_adds_up_by_day_and_model(db, admin, offers, ledger, clock):
    ann, bob = await tenant(admin), await tenant(admin)
    big, small = offers
    for one in (
        Spending(ann, big, Usage(1000, 50), question=True),
        Spending(ann, big, Usage(500, 25, reported=False), question=False),
        Spending(ann, small, Usage(7, 3), question=True),
        Spending(bob, small, Usage(9, 9), question=True),
    ):
        ledger.enter(one)
    clock[0] += timedelta(minutes=2)
    ledger.enter(Spending(ann, big, Usage(1, 1), question=True))
    await ledger.close()
    [[*everything]] = [page async for page in ledger.all(ann)]
    assert [(str(one.day), one.model, one.currency) for one in everything] == [
        ("2026-11-30", "big", "EUR"),
        ("2026-11-30", "small", ""),
        ("2026-12-01", "big", "EUR"),
    ]
    first, second, _ = everything
    assert (first.requests, first.questions, first.estimated) == (2, 1, 1)
    assert (first.prompt_tokens, first.completion_tokens, first.cost) == (1500, 75, Decimal("0.0033"))
    assert second.cost == 0
    assert await ledger.newest(ann, 30) == everything
    assert await ledger.newest(ann, 1) == everything[2:]
    assert [one.prompt_tokens for one in await ledger.newest(bob, 30)] == [9]


async def test_what_many_spend_at_once_is_all_counted(db, admin, offers, ledger):
    ann = await tenant(admin)
    for _ in range(50):
        ledger.enter(Spending(ann, offers[0], Usage(2, 1), question=True))
    await ledger.close()
    [day] = await ledger.newest(ann, 1)
    assert (day.requests, day.prompt_tokens, day.cost) == (50, 100, Decimal("0.0004"))


async def test_what_cant_be_kept_is_lost_with_a_line_in_the_log(offers, ledger, monkeypatch):
    with capture_logs() as logs:
        ledger.enter(Spending(new_user_id(), offers[0], Usage(2, 1), question=True))
        await ledger.close()
    assert [(line["event"], line["code"]) for line in logs] == [("spending_unsaved", "unknown_account")]


async def test_a_defect_is_told_and_breaks_nothing(offers, db):
    ledger = Ledger(db, now=lambda: datetime(2026, 11, 30, tzinfo=UTC))
    with capture_logs() as logs:
        ledger.enter(Spending(new_user_id(), offers[0], Usage("many", 1), question=True))
        async with asyncio.timeout(30):
            await ledger.close()
    assert [(line["event"], line["log_level"]) for line in logs] == [("spending_unsaved", "error")]

"""Reranking: its order where it comes in time, the old one and a reason where it does not."""

import asyncio
from uuid import UUID

import pytest

from ringfence.errors import Invalid, Unavailable
from ringfence.ids import DocumentId
from ringfence.models.rerank import CohereReranker
from ringfence.search.queries import Passage
from ringfence.search.rerank import Reranking
from ringfence.telemetry.metrics import REGISTRY


def passage(text, score=0.5, context=""):
    return Passage(DocumentId(UUID(int=1)), "a.txt", text, ((1, 0, len(text)),), score, context)


PASSAGES = [passage("one"), passage("two words here"), passage("three notice"), passage("four notice period")]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Scripted:
    """A `Reranker` that does what it is told, at the protocol's edge."""

    name = "scripted"

    def __init__(self, *steps):
        self.steps = list(steps)
        self.asked = []

    async def scores(self, query, texts):
        self.asked.append((query, list(texts)))
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if step is None:
            await asyncio.Event().wait()
        return step

    async def close(self):
        """Nothing is held."""


def counted(outcome):
    return REGISTRY.get_sample_value("ringfence_reranks_total", {"outcome": outcome}) or 0


async def test_the_rerankers_order_counts_and_the_rest_follows(models):
    reranker = CohereReranker(models.openai_url, "rr")
    before = counted("reranked")
    ranked = await Reranking(reranker, candidates=3).apply("notice period", PASSAGES, 10)
    await reranker.close()
    assert [one.text for one in ranked.passages] == ["three notice", "one", "two words here", "four notice period"]
    assert (ranked.scores, ranked.reranked, ranked.reason) == ((1.0, 0.0, 0.0), True, None)
    assert counted("reranked") == before + 1
    [request] = models.reranks
    assert request.body["documents"] == ["one", "two words here", "three notice"]


async def test_a_heading_is_read_with_its_passage_and_the_limit_holds():
    reranker = Scripted([1.0, 2.0])
    ranked = await Reranking(reranker).apply("q", [passage("a", context="H"), passage("b")], 1)
    assert reranker.asked == [("q", ["H\na", "b"])]
    assert ([one.text for one in ranked.passages], ranked.scores) == (["b"], (2.0,))


@pytest.mark.parametrize(("found", "reranker"), [(PASSAGES, None), (PASSAGES[:1], Scripted()), ([], Scripted())])
async def test_nobody_is_asked_where_there_is_nobody_or_nothing_to_order(found, reranker):
    reranking = Reranking(reranker, candidates=20)
    ranked = await reranking.apply("q", found, 2)
    assert (ranked.passages, ranked.reason, ranked.reranked) == (tuple(found[:2]), "rerank_off", False)
    assert (reranking.on, reranking.wanted(5), reranking.wanted(30)) == (
        (False, 5, 30) if reranker is None else (True, 20, 30)
    )


async def test_a_slow_reranker_costs_its_time_box_and_nothing_else():
    before = counted("slow")
    ranked = await Reranking(Scripted(None), timeout=0.01).apply("q", PASSAGES, 2)
    assert (ranked.passages, ranked.reason, ranked.scores) == (tuple(PASSAGES[:2]), "rerank_slow", ())
    assert counted("slow") == before + 1


async def test_one_that_keeps_failing_is_left_alone_then_tried_by_one():
    clock, down = Clock(), Unavailable("model_unreachable", "It is down.")
    reranker = Scripted(down, down, down, down, [1.0, 0.0], [1.0, 0.0])
    reranking = Reranking(reranker, pause=30, clock=clock)

    async def reason():
        return (await reranking.apply("q", PASSAGES[:2], 2)).reason

    assert [await reason() for _ in range(4)] == ["model_unreachable"] * 3 + ["rerank_paused"]
    clock.now += 29.9
    assert await reason() == "rerank_paused"
    clock.now += 0.2
    assert [await reason(), await reason()] == ["model_unreachable", "rerank_paused"]
    clock.now += 30.1
    assert [await reason(), await reason()] == [None, None]
    assert len(reranker.asked) == 6


async def test_while_one_search_tries_again_the_others_do_not_wait():
    clock, down = Clock(), Unavailable("model_silent", "It is down.")
    reranking = Reranking(Scripted(down, down, down, None), timeout=0.05, pause=1, clock=clock)
    for _ in range(3):
        await reranking.apply("q", PASSAGES, 2)
    clock.now += 2
    first, second = await asyncio.gather(*(reranking.apply("q", PASSAGES, 2) for _ in range(2)))
    assert (first.reason, second.reason) == ("rerank_slow", "rerank_paused")


async def test_what_one_tenant_sends_does_not_switch_it_off_for_others():
    refused, down = Invalid("model_rejected", "Too long."), Unavailable("model_busy", "Busy.")
    reranker = Scripted(down, down, *[refused] * 5, down, down, [1.0, 2.0])
    reranking = Reranking(reranker)
    reasons = [(await reranking.apply("q", PASSAGES[:2], 2)).reason for _ in range(10)]
    assert reasons == ["model_busy"] * 2 + ["model_rejected"] * 5 + ["model_busy"] * 2 + [None]


async def test_a_client_that_leaves_is_no_failure():
    reranking = Reranking(Scripted(*[None] * 5, [2.0, 1.0]), timeout=5)
    for _ in range(5):
        task = asyncio.create_task(reranking.apply("q", PASSAGES[:2], 2))
        await asyncio.sleep(0)  # it begins
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await reranking.apply("q", PASSAGES[:2], 2)).reranked

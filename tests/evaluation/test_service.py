"""Evaluations of users' own questions: asked for, run, kept; by one tenant for itself."""

import asyncio
import sys
from datetime import timedelta
from uuid import uuid4

import pytest

from ringfence import jobs
from ringfence.errors import Conflict, Invalid, NotFound, RateLimited, Unauthenticated, Unavailable
from ringfence.evaluation import queries
from ringfence.evaluation.queries import Expected, Question
from ringfence.evaluation.service import KIND, MAX_KEPT, Evaluations, Evaluator
from ringfence.ids import new_evaluation_id, new_user_id
from ringfence.limits import Gate, Rate, RateLimits
from ringfence.services.parts import utc_now
from tests.search.test_search import FACTS, store, tenant


@pytest.fixture
def evaluations(db):
    return Evaluations(db, Gate(db, None, None), max_questions=3)


@pytest.fixture
def evaluator(db, ways):
    return Evaluator(db, ways, embedding_model="hash")


async def claimed(db):
    async with db.system() as tx:
        return [job for job in await jobs.claim(tx, 9, timedelta(minutes=1)) if job.kind == KIND]


def ask(text, *expected):
    return Question(text, tuple(Expected(*one) if isinstance(one, tuple) else Expected(one) for one in expected))


@pytest.fixture
async def ada(db, admin, embedder):
    """A tenant, and two documents of theirs, of which the first has a page for each fact."""
    user_id = await tenant(db, admin)
    return (
        user_id,
        await store(db, embedder, user_id, FACTS),
        await store(db, embedder, user_id, ["Telescopes are far."]),
    )


async def test_questions_are_measured_by_document_and_by_page(db, evaluations, evaluator, ada):
    user_id, facts, other = ada
    questions = [
        ask("telescopes", other),
        ask("Who repairs the oven?", (facts, 2), (facts, 3)),
        ask("Who repairs the oven?", other),
    ]
    begun = await evaluations.begin(user_id, "first", questions)
    assert (begun.state, begun.question_count, begun.modes, begun.worst) == ("queued", 3, (), ())
    [job] = await claimed(db)
    await evaluator.run(job)
    done = await evaluations.get(user_id, begun.evaluation_id)
    assert (done.state, done.questions_done, done.embedding_model, done.reason) == ("done", 3, "hash", None)
    mode, *others = done.modes
    assert [one.mode for one in others] == ["lexical", "hybrid"]
    assert mode.mode == "dense"
    assert mode.scores["recall@10"] == 1.0
    assert 0 < mode.p50_ms <= mode.p99_ms
    assert {one.question for one in done.worst if one.mode == "dense"} == {"Who repairs the oven?"}
    worst = done.worst[0]
    assert worst.expected == (Expected(other),)
    assert (worst.hits[0].document_id, worst.hits[0].page, worst.hits[0].expected) == (facts, 2, False)
    assert worst.scores["mrr"] == 0.5
    [[(exported, asked)]] = [page async for page in evaluations.all(user_id)]
    assert (exported, asked) == (done, tuple(questions))
    await evaluator.run(job)  # delivered twice
    assert await evaluations.get(user_id, begun.evaluation_id) == done


async def test_another_tenants_evaluation_is_nobodys(db, admin, evaluations, ada):
    user_id, facts, _ = ada
    begun = await evaluations.begin(user_id, "mine", [ask("oven", facts)])
    bob = await tenant(db, admin)
    for stranger in (begun.evaluation_id, new_evaluation_id()):
        with pytest.raises(NotFound, match="evaluation_not_found"):
            await evaluations.get(bob, stranger)
        with pytest.raises(NotFound, match="evaluation_not_found"):
            await evaluations.delete(bob, stranger)
    assert await evaluations.newest(bob, 10) == []
    said = []
    for document in (facts, uuid4()):
        with pytest.raises(Invalid, match="bad_evaluation") as caught:
            await evaluations.begin(bob, "theirs", [ask("oven", document)])
        said.append(caught.value.message.replace(str(document), "?"))
    assert said[0] == said[1]
    assert len(await evaluations.newest(user_id, 10)) == 1


async def test_what_is_no_evaluation_is_refused(evaluations, ada):
    user_id, facts, _ = ada
    good = ask("oven", facts)
    for name, questions in (
        (" ", [good]),
        ("a\0b", [good]),
        ("n", []),
        ("n", [good] * 4),
        ("n", [ask(" ", facts)]),
        ("n", [ask("a" * 4001, facts)]),
        ("n", [ask("a\ud800", facts)]),
        ("n", [good, ask("oven")]),
        ("n", [ask("oven", *[(facts, page) for page in range(1, 22)])]),
    ):
        with pytest.raises(Invalid, match="bad_evaluation"):
            await evaluations.begin(user_id, name, questions)


async def test_a_user_keeps_so_many_also_when_they_come_at_once(db, admin, evaluations, ada):
    user_id, facts, _ = ada
    await admin.execute(
        """insert into evaluations (user_id, evaluation_id, name, questions, question_count)
           select $1, gen_random_uuid(), 'n', '[]', 1 from generate_series(2, $2)""",
        user_id, MAX_KEPT,
    )  # fmt: skip
    tries = [evaluations.begin(user_id, "n", [ask("oven", facts)]) for _ in range(4)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in results) == ["Conflict"] * 3 + ["Evaluation"]
    assert await admin.fetchval("select count(*) from evaluations") == MAX_KEPT
    assert sum([len(page) async for page in evaluations.all(user_id)]) == MAX_KEPT
    [made] = [one for one in results if not isinstance(one, Conflict)]
    await evaluations.delete(user_id, made.evaluation_id)
    assert await evaluations.begin(user_id, "n", [ask("oven", facts)])


async def test_a_user_begins_so_many_an_hour(db, ada):
    user_id, facts, _ = ada
    limits = RateLimits(b"k" * 32, utc_now)
    evaluations = Evaluations(db, Gate(db, limits, Rate("evaluations", 1, 3600)), max_questions=1)
    noted = []
    await evaluations.begin(user_id, "n", [ask("oven", facts)], noted.append)
    assert noted[0].remaining == 0
    with pytest.raises(RateLimited, match="too_many_tries"):
        await evaluations.begin(user_id, "n", [ask("oven", facts)])


async def test_an_account_that_is_gone_begins_nothing(db, admin, evaluations, ada):
    async with db.tenant(new_user_id()) as tx:
        with pytest.raises(Unauthenticated):
            await queries.add(tx, new_evaluation_id(), "n", [ask("oven", uuid4())])


async def test_one_that_is_deleted_stops(db, evaluations, evaluator, ada, models):
    user_id, facts, _ = ada
    begun = await evaluations.begin(user_id, "n", [ask("oven", facts)])
    [job] = await claimed(db)
    await evaluations.delete(user_id, begun.evaluation_id)
    asked = len(models.embeddings)
    await evaluator.run(job)
    assert len(models.embeddings) == asked
    again = await evaluations.begin(user_id, "n", [ask("oven", facts)] * 3)
    [job] = await claimed(db)
    models.script_embeddings(stall_after=0, times=1)
    running = asyncio.create_task(evaluator.run(job))
    await models.wait_for(lambda: len(models.embeddings) > asked)
    assert (await evaluations.get(user_id, again.evaluation_id)).state == "running"
    await evaluations.delete(user_id, again.evaluation_id)
    models.release()
    with pytest.raises(Unavailable):  # a stalled request has no vectors; the next try finds nothing to do
        await running
    await evaluator.run(job)
    assert await evaluations.newest(user_id, 9) == []


async def test_one_that_is_deleted_between_two_steps_stops_there(db, admin, evaluations, ways, ada, models):
    user_id, facts, _ = ada
    evaluations = Evaluations(db, Gate(db, None, None), max_questions=50)
    begun = await evaluations.begin(user_id, "n", [ask(f"oven {n}", facts) for n in range(25)])
    asked = []

    class Deleting:
        modes = ways.modes

        async def passages(self, user_id, query, mode, limit):
            asked.append(query)
            if len(asked) == 3:
                await evaluations.delete(user_id, begun.evaluation_id)
            return []

    [job] = await claimed(db)
    await Evaluator(db, Deleting(), embedding_model="m").run(job)
    assert len(asked) == 10 * len(ways.modes)


async def test_what_can_not_be_measured_fails_with_its_reason(db, evaluations, evaluator, ada, monkeypatch, models):
    user_id, facts, _ = ada
    begun = await evaluations.begin(user_id, "n", [ask("oven", facts)])
    [job] = await claimed(db)
    models.script_embeddings(status=503, times=1)
    with pytest.raises(Unavailable):  # to be tried again
        await evaluator.run(job)
    assert (await evaluations.get(user_id, begun.evaluation_id)).state == "running"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ir_measures", None)
        await evaluator.run(job)
    failed = await evaluations.get(user_id, begun.evaluation_id)
    assert (failed.state, failed.reason_code) == ("failed", "eval_missing")
    assert failed.finished_at
    await evaluator.give_up(job, "worker_died", "It was given up.")
    assert (await evaluations.get(user_id, begun.evaluation_id)).reason_code == "eval_missing"

"""Evaluations of users' own questions to their own documents: asked for, run as jobs, kept to be compared."""

from collections.abc import AsyncGenerator, Sequence
from time import perf_counter

import numpy as np
from pydantic import BaseModel, ConfigDict

from ringfence import jobs
from ringfence.db import Database
from ringfence.errors import Conflict, Invalid, NotFound, RingfenceError, Unavailable
from ringfence.evaluation import measures, queries
from ringfence.evaluation.finding import Ways
from ringfence.evaluation.measures import DEPTH, NDCG, Scores
from ringfence.evaluation.queries import Evaluation, ModeFigures, PlaceFound, Question, WorstQuestion
from ringfence.ids import EvaluationId, UserId, new_evaluation_id
from ringfence.jobs import Job
from ringfence.limits import Gate, Note, unsaid
from ringfence.search.queries import Passage
from ringfence.search.service import MAX_QUERY_CHARS
from ringfence.search.terms import is_text

KIND = "evaluate"
MAX_KEPT = 100
"""Evaluations that a user may keep."""

MAX_EXPECTED = 20
"""Documents or pages that a question may expect."""

_PAGE = 50
_WORST = 10  # of each way of searching
_HITS = 5
_STEP = 10  # questions between two looks whether the evaluation is still wanted


class EvaluatePayload(BaseModel):
    """Which evaluation to run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluation_id: EvaluationId


class Evaluations:
    """A tenant's evaluations. Every method acts for one tenant; another's evaluation does not exist for it.

    Args:
        db: where they are kept.
        gate: lets each user begin one now and then.
        max_questions: that one evaluation may have.
    """

    def __init__(self, db: Database, gate: Gate, *, max_questions: int) -> None:
        self._db = db
        self._gate = gate
        self._max_questions = max_questions

    async def begin(self, user_id: UserId, name: str, questions: Sequence[Question], note: Note = unsaid) -> Evaluation:
        """Queue an evaluation.

        Raises:
            Invalid: `bad_evaluation`: it has no name, no or too many questions, or one that is no question or expects
                nothing, too much, or what the tenant does not have.
            Conflict: `too_many_evaluations`.
            RateLimited: `too_many_tries`.
        """
        _check(name, questions, self._max_questions)
        await self._gate.admit(str(user_id), note=note)
        wanted = {expected.document_id for question in questions for expected in question.expected}
        evaluation_id = new_evaluation_id()
        async with self._db.tenant(user_id) as tx:
            if unknown := wanted - await queries.known_documents(tx, wanted):
                raise Invalid("bad_evaluation", f"You have no document {min(unknown)}, which a question expects.")
            if await queries.count(tx) >= MAX_KEPT:
                raise Conflict("too_many_evaluations", f"You keep {MAX_KEPT} evaluations. Delete some first.")
            await queries.add(tx, evaluation_id, name, questions)
            await jobs.enqueue(tx, user_id, KIND, EvaluatePayload(evaluation_id=evaluation_id))
            added = await queries.get(tx, evaluation_id)
        return _existing(added)

    async def newest(self, user_id: UserId, limit: int) -> list[Evaluation]:
        """The tenant's evaluations, newest first."""
        async with self._db.tenant(user_id) as tx:
            return await queries.page(tx, None, limit)

    async def all(self, user_id: UserId) -> AsyncGenerator[list[tuple[Evaluation, tuple[Question, ...]]]]:
        """All of them with what they ask, newest first, in pages, with no connection held between two."""
        after = None
        while True:
            async with self._db.tenant(user_id) as tx:
                page = await queries.page(tx, after, _PAGE)
                asked = [await queries.questions(tx, evaluation.evaluation_id) for evaluation in page]
            if not page:
                return
            yield list(zip(page, asked, strict=True))
            after = page[-1]

    async def get(self, user_id: UserId, evaluation_id: EvaluationId) -> Evaluation:
        """One evaluation.

        Raises:
            NotFound: there is no such evaluation, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            return _existing(await queries.get(tx, evaluation_id))

    async def delete(self, user_id: UserId, evaluation_id: EvaluationId) -> None:
        """Forget an evaluation; one that runs stops at its next step.

        Raises:
            NotFound: there is no such evaluation, or it is somebody else's.
        """
        async with self._db.tenant(user_id) as tx:
            if not await queries.delete(tx, evaluation_id):
                raise _not_found()


def _check(name: str, questions: Sequence[Question], most: int) -> None:
    if not name.strip() or not is_text(name):
        raise Invalid("bad_evaluation", "An evaluation has a name.")
    if not 1 <= len(questions) <= most:
        raise Invalid("bad_evaluation", f"An evaluation has 1 to {most} questions.")
    for number, question in enumerate(questions, 1):
        if not question.text.strip() or len(question.text) > MAX_QUERY_CHARS or not is_text(question.text):
            raise Invalid("bad_evaluation", f"Question {number} does not have 1 to {MAX_QUERY_CHARS} characters.")
        if not 1 <= len(set(question.expected)) <= MAX_EXPECTED:
            raise Invalid("bad_evaluation", f"Question {number} does not expect 1 to {MAX_EXPECTED} places.")


def _existing(evaluation: Evaluation | None) -> Evaluation:
    if evaluation is None:
        raise _not_found()
    return evaluation


def _not_found() -> NotFound:
    return NotFound("evaluation_not_found", "There is no such evaluation.")


class Evaluator:
    """Runs evaluations' jobs. Safe to run again at any point: what was found is kept once, at the end.

    Args:
        db: where they are kept.
        ways: how one can search; each is evaluated.
        embedding_model: its name.
    """

    def __init__(self, db: Database, ways: Ways, *, embedding_model: str) -> None:
        self._db = db
        self._ways = ways
        self._embedding_model = embedding_model

    async def run(self, job: Job) -> None:
        """Ask all questions in each way. What can't be measured ends as `failed`; that is no error here.

        Raises:
            Unavailable: something that may pass; run it again.
        """
        evaluation_id = EvaluatePayload.model_validate_json(job.payload).evaluation_id
        async with self._db.tenant(job.user_id) as tx:
            questions = await queries.start(tx, evaluation_id)
        if questions is None:
            return
        try:
            measures.library()
            await self._measure(job.user_id, evaluation_id, questions)
        except Unavailable:
            raise
        except RingfenceError as error:
            await self.give_up(job, error.code, error.message)

    async def give_up(self, job: Job, code: str, reason: str) -> None:
        """Mark the evaluation of a job that failed too often."""
        evaluation_id = EvaluatePayload.model_validate_json(job.payload).evaluation_id
        async with self._db.tenant(job.user_id) as tx:
            await queries.fail(tx, evaluation_id, code, reason)

    async def _measure(self, user_id: UserId, evaluation_id: EvaluationId, questions: Sequence[Question]) -> None:
        found: dict[str, list[_Answer]] = {mode: [] for mode in self._ways.modes}
        for number, question in enumerate(questions):
            if number % _STEP == 0:
                async with self._db.tenant(user_id) as tx:
                    if not await queries.progress(tx, evaluation_id, number):
                        return
            for mode, answers in found.items():
                begun = perf_counter()
                passages = await self._ways.passages(user_id, question.text.strip(), mode, DEPTH)
                answers.append(_Answer(question, passages, perf_counter() - begun))
        modes, worst = list[ModeFigures](), list[WorstQuestion]()
        for mode, answers in found.items():
            scores = _scored(answers)
            modes.append(_figures(mode, answers, scores))
            worst += _worst(mode, answers, scores)
        async with self._db.tenant(user_id) as tx:
            await queries.finish(tx, evaluation_id, self._embedding_model, modes, worst)


class _Answer:
    """What one way of searching found for a question."""

    def __init__(self, question: Question, passages: Sequence[Passage], seconds: float) -> None:
        self.question = question
        self.seconds = seconds
        self.hits = tuple(self._hit(passage) for passage in passages[:_HITS])
        self.ranking = self._ranking(passages)

    def _matches(self, passage: Passage) -> list[int]:
        """Which of the expected places a passage is at."""
        pages = {page for page, _, _ in passage.spans}
        return [
            number
            for number, one in enumerate(self.question.expected)
            if one.document_id == passage.document_id and (one.page is None or one.page in pages)
        ]

    def _ranking(self, passages: Sequence[Passage]) -> list[str]:
        """Expected places as they were first met, and between them the other documents or pages, each once."""
        by_page = any(one.page is not None for one in self.question.expected)
        ranking: dict[str, None] = {}
        for passage in passages:
            page = passage.spans[0][0] if by_page else 0
            met = [f"expected {number}" for number in self._matches(passage)]
            ranking.update(dict.fromkeys(met or [f"{passage.document_id} {page}"]))
        return list(ranking)

    def _hit(self, passage: Passage) -> PlaceFound:
        page, start, end = passage.spans[0]
        expected = bool(self._matches(passage))
        return PlaceFound(passage.document_id, page, start, end, round(passage.score, 4), expected)


def _scored(answers: Sequence[_Answer]) -> list[Scores]:
    """Each question's scores, in order."""
    names = [str(number) for number in range(len(answers))]
    qrels = {
        name: {f"expected {number}": 1 for number in range(len(answer.question.expected))}
        for name, answer in zip(names, answers, strict=True)
    }
    found = measures.per_query(qrels, {name: answer.ranking for name, answer in zip(names, answers, strict=True)})
    return [found[name] for name in names]


def _figures(mode: str, answers: Sequence[_Answer], scores: Sequence[Scores]) -> ModeFigures:
    p50, p99 = np.percentile([answer.seconds for answer in answers], [50, 99])
    return ModeFigures(mode, _rounded(measures.means(scores)), round(float(p50) * 1000, 2), round(float(p99) * 1000, 2))


def _worst(mode: str, answers: Sequence[_Answer], scores: Sequence[Scores]) -> list[WorstQuestion]:
    ordered = sorted(range(len(answers)), key=lambda n: scores[n][NDCG])
    return [
        WorstQuestion(
            mode, answers[n].question.text, _rounded(scores[n]), answers[n].question.expected, answers[n].hits
        )
        for n in ordered[:_WORST]
        if scores[n][NDCG] < 1
    ]


def _rounded(scores: Scores) -> Scores:
    return {name: round(value, 4) for name, value in scores.items()}

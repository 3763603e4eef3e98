"""Routes of evaluations: have the search tried on one's own questions, and keep how it did."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ringfence.evaluation.queries import Evaluation, EvaluationState, Expected, Question
from ringfence.evaluation.service import MAX_EXPECTED, MAX_KEPT
from ringfence.http.contract import may
from ringfence.http.deps import NoteDep, Reader, ServicesDep, Writer
from ringfence.ids import EvaluationId
from ringfence.search.service import MAX_QUERY_CHARS

router = APIRouter(prefix="/api/v1/evaluations", tags=["evaluations"])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", from_attributes=True)


class ExpectedPlace(_Model):
    """Where an answer is: in a document, or on a page of it."""

    document_id: UUID
    page: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1, examples=[3])] | None = Field(
        default=None, description="From 1; null: anywhere in the document."
    )


class EvaluationQuestion(_Model):
    """A question, and where its answer is; several places count each."""

    question: str = Field(min_length=1, max_length=MAX_QUERY_CHARS, examples=["How long is the notice period?"])
    expected: list[ExpectedPlace] = Field(min_length=1, max_length=MAX_EXPECTED)


class WantedEvaluation(_Model):
    """Questions to one's own documents."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        description="By which you know it.", examples=["handbook, second edition"]
    )
    questions: list[EvaluationQuestion] = Field(
        min_length=1,
        description="As many as this installation allows (`evaluation_max_questions`).",
        examples=[
            [
                {
                    "question": "How long is the notice period?",
                    "expected": [{"document_id": "5b2f3c1e-7a54-4d7c-9a43-0f3f9d1f2a10", "page": 3}],
                }
            ]
        ],
    )


class ModeFiguresView(_Model):
    """How one way of searching did: means over the questions, and times of a search."""

    mode: str = Field(examples=["dense"])
    scores: dict[str, float] = Field(description="From 0 to 1.", examples=[{"ndcg@10": 0.81, "recall@10": 0.92}])
    p50_ms: float
    p99_ms: float


class FoundPlace(_Model):
    """A hit, and whether it was expected."""

    document_id: UUID
    page: int = Field(description="From 1.")
    start: int = Field(description="Offset of the first character in that page's text.")
    end: int = Field(description="Offset behind the last character.")
    score: float
    expected: bool


class WorstQuestionView(_Model):
    """A question on which one way of searching did badly."""

    mode: str = Field(examples=["dense"])
    question: str
    scores: dict[str, float]
    expected: list[ExpectedPlace]
    hits: list[FoundPlace] = Field(description="The first ones.")


class EvaluationSummary(_Model):
    """An evaluation, but for its questions."""

    evaluation_id: UUID
    name: str
    state: EvaluationState = Field(description="`done` and `failed` are final.")
    question_count: int
    questions_done: int
    embedding_model: str | None = Field(description="With which it was done.")
    modes: list[ModeFiguresView] = Field(description="Each way of searching, once it is done.")
    reason_code: str | None = Field(description="Why it failed, for programs.")
    reason: str | None = Field(description="Why it failed, for people.")
    created_at: datetime
    finished_at: datetime | None


class EvaluationView(EvaluationSummary):
    """An evaluation with the questions that went worst."""

    worst: list[WorstQuestionView]


class EvaluationList(_Model):
    """One's evaluations, newest first."""

    evaluations: list[EvaluationSummary]


def _view(evaluation: Evaluation) -> EvaluationView:
    return EvaluationView.model_validate(evaluation)


@router.post("", status_code=202, responses=may(409))
async def begin(body: WantedEvaluation, user_id: Writer, services: ServicesDep, note: NoteDep) -> EvaluationView:
    """Have each question searched for in every way, as a job; the figures are there once it is `done`."""
    questions = [
        Question(one.question, tuple(Expected(place.document_id, place.page) for place in one.expected))
        for one in body.questions
    ]
    return _view(await services.evaluations.begin(user_id, body.name, questions, note))


@router.get("")
async def newest(
    user_id: Reader, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=MAX_KEPT)] = MAX_KEPT
) -> EvaluationList:
    """List one's evaluations with their figures, newest first."""
    found = await services.evaluations.newest(user_id, limit)
    return EvaluationList(evaluations=[EvaluationSummary.model_validate(one) for one in found])


@router.get("/{evaluation_id}")
async def read(evaluation_id: UUID, user_id: Reader, services: ServicesDep) -> EvaluationView:
    """An evaluation: how far it has come, its figures, and the questions that went worst."""
    return _view(await services.evaluations.get(user_id, EvaluationId(evaluation_id)))


@router.delete("/{evaluation_id}", status_code=204)
async def delete(evaluation_id: UUID, user_id: Writer, services: ServicesDep) -> None:
    """Forget an evaluation; one that runs stops."""
    await services.evaluations.delete(user_id, EvaluationId(evaluation_id))

"""Calls that try the search on one's own questions."""

from collections.abc import Sequence
from uuid import UUID

from ringfence.client.models import EvaluationInfo, Evaluations
from ringfence.client.transport import Connection


class EvaluationCalls(Connection):
    """Evaluations: begun, looked at, forgotten."""

    async def evaluate(
        self, name: str, questions: Sequence[tuple[str, Sequence[tuple[UUID, int | None]]]]
    ) -> EvaluationInfo:
        """Have the search tried on questions, each with the documents, or pages of them, where its answer is."""
        asked = [
            {"question": text, "expected": [{"document_id": str(place), "page": page} for place, page in expected]}
            for text, expected in questions
        ]
        response = await self._call("POST", "/api/v1/evaluations", json={"name": name, "questions": asked})
        return EvaluationInfo.model_validate_json(response.content)

    async def evaluation(self, evaluation_id: UUID) -> EvaluationInfo:
        """An evaluation's state and figures."""
        response = await self._call("GET", f"/api/v1/evaluations/{evaluation_id}")
        return EvaluationInfo.model_validate_json(response.content)

    async def evaluations(self) -> list[EvaluationInfo]:
        """All evaluations, newest first."""
        response = await self._call("GET", "/api/v1/evaluations")
        return Evaluations.model_validate_json(response.content).evaluations

    async def delete_evaluation(self, evaluation_id: UUID) -> None:
        """Forget an evaluation."""
        await self._call("DELETE", f"/api/v1/evaluations/{evaluation_id}")

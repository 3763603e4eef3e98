"""`ringfence eval-remote`: how a server's search does on one's own questions to one's own documents."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ringfence.cli.logs import quiet_logging
from ringfence.cli.remote import LOCAL, EmailOption, UrlOption, signed_in
from ringfence.client import EvaluationInfo
from ringfence.errors import Invalid, Unavailable
from ringfence.evaluation.measures import MEASURES

_POLL_SECONDS = 0.3


class _Place(BaseModel):
    """A document by its id or its name, and a page of it."""

    model_config = ConfigDict(extra="forbid")

    document: str
    page: int | None = None


class _Line(BaseModel):
    """A question and where its answer is."""

    model_config = ConfigDict(extra="forbid")

    question: str
    expected: list[_Place] = Field(min_length=1)


def evaluate_own(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help='A line of JSON for each question: {"question": "…", "expected": [{"document": "a.pdf", "page": 3}]}; '
            "documents by name or id, pages if you like.",
        ),
    ],
    *,
    name: Annotated[str | None, typer.Option(help="By which you know it; unset: the file's.")] = None,
    url: UrlOption = LOCAL,
    email: EmailOption = None,
) -> None:
    """Measure how well the search finds answers that you know in your own documents. The server keeps the figures."""
    with quiet_logging():
        asyncio.run(_evaluate(_read(file), name or file.stem, url, email))


async def _evaluate(lines: Sequence[_Line], name: str, url: str, email: str | None) -> None:
    async with AsyncExitStack() as stack:
        client = await signed_in(stack, url, email)
        documents = {document.name: document.document_id for document in await client.documents()}
        questions = [
            (line.question, [(_document(place.document, documents), place.page) for place in line.expected])
            for line in lines
        ]
        evaluation = await client.evaluate(name, questions)
        while not evaluation.final:
            await asyncio.sleep(_POLL_SECONDS)
            evaluation = await client.evaluation(evaluation.evaluation_id)
    _print(evaluation)


def _read(file: Path) -> list[_Line]:
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        return [_Line.model_validate_json(line) for line in lines if line.strip()]
    except ValidationError as error:
        raise Invalid(
            "bad_evaluation", f"{file} is not of the form that is wanted: {error.errors()[0]['msg']}."
        ) from None


def _document(wanted: str, documents: Mapping[str, UUID]) -> UUID:
    if wanted in documents:
        return documents[wanted]
    try:
        return UUID(wanted)
    except ValueError:
        raise Invalid("bad_evaluation", f"You have no document {wanted!r}.") from None


def _print(evaluation: EvaluationInfo) -> None:
    if evaluation.state == "failed":
        raise Unavailable("evaluation_failed", f"The evaluation failed: {evaluation.reason}")
    typer.echo(f"{evaluation.name}: {evaluation.question_count} questions ({evaluation.evaluation_id})")
    for mode in evaluation.modes:
        scores = ", ".join(f"{name} {mode.scores[name]:.3f}" for name in MEASURES if name in mode.scores)
        typer.echo(f"{mode.mode}: {scores}; p50 {mode.p50_ms:.1f} ms, p99 {mode.p99_ms:.1f} ms")

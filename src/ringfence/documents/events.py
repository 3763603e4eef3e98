"""How far documents have come, as the API says it, and what a stream of that consists of."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

type Stage = Literal["queued", "parsing", "embedding", "storing", "ready", "failed"]
"""What is done to a document. Parsing, embedding and storing overlap: it is the first of them that is not done."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DocumentProgress(_Model):
    """How far a document has come; of one whose content is being replaced, how far the other content has."""

    document_id: UUID
    name: str = Field(examples=["handbook.pdf"])
    size: int = Field(description="Bytes.", examples=[48213])
    stage: Stage = Field(
        description="What is done to it; of what overlaps, the first that is not done. `ready` and `failed` are final."
    )
    pages: int | None = Field(description="Known once its parser has opened it.", examples=[12])
    pages_done: int = Field(description="Pages parsed so far.", examples=[7])
    chunks: int = Field(description="Passages cut so far; all of them once it is embedding.", examples=[31])
    chunks_done: int = Field(description="Of them, those that are stored.", examples=[16])
    eta_seconds: float | None = Field(
        description="Until it is ready, if it goes on as fast as so far; none where that can't be told.", examples=[3.5]
    )
    reason_code: str | None = Field(
        description="Why it failed, for programs; of one that is `ready`: why other content did not take its place.",
        examples=["document_encrypted"],
    )
    reason: str | None = Field(description="The same, for people.")

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.stage in {"ready", "failed"}


class BatchProgress(_Model):
    """How far the documents have come that one request brought."""

    batch_id: UUID
    stages: dict[Stage, int] = Field(description="How many of its documents are at each stage.")
    gone: int = Field(description="Of its documents, those that were deleted since.", examples=[0])
    pages: int = Field(description="Of all documents whose pages are known.", examples=[120])
    pages_done: int = Field(examples=[70])
    chunks: int = Field(description="Passages cut so far.", examples=[310])
    chunks_done: int = Field(description="Of them, those that are stored.", examples=[160])
    eta_seconds: float | None = Field(
        description="Until all are ready, if it goes on as fast as so far, by bytes; none where that can't be told.",
        examples=[12.5],
    )


class ProgressEvent(_Model):
    """A document has come further."""

    type: Literal["progress"] = "progress"
    document: DocumentProgress


class GoneEvent(_Model):
    """A document was deleted, or never was."""

    type: Literal["gone"] = "gone"
    document_id: UUID


class CountsEvent(_Model):
    """How many documents wait, and how many are worked on."""

    type: Literal["counts"] = "counts"
    queued: int = Field(description="Wait for a worker.", examples=[40])
    working: int = Field(description="A worker has them in hand.", examples=[4])


class BatchEvent(_Model):
    """A batch has come further."""

    type: Literal["batch"] = "batch"
    batch: BatchProgress


class EndEvent(_Model):
    """The last event."""

    type: Literal["end"] = "end"
    reason: Literal["finished", "again", "stopping"] = Field(
        description="`finished`: nothing more will come of these documents. `again`: the stream has lasted for as long "
        "as one may; ask again. `stopping`: the server stops; ask again in a moment."
    )


type Event = Annotated[ProgressEvent | GoneEvent | CountsEvent | BatchEvent | EndEvent, Field(discriminator="type")]

"""What an answer's stream consists of: typed events: sources, then tokens and citations, then done or error."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Model):
    """A part of a page's text."""

    page: int = Field(description="From 1.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character.", examples=[204])


class Quote(_Model):
    """Words of a document, and where they stand."""

    text: str = Field(description="The words, as they stand in the document.")
    page: int = Field(description="The page, from 1, on which they begin.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character, or the page's end if they run on.", examples=[204])
    places: list[Place] = Field(
        default=[],
        description="The same of every page that they touch, in order; `…/pages/{page}/rects` has the boxes.",
    )


class Source(_Model):
    """A passage that the answer may cite as `[n]`."""

    n: int = Field(description="The number by which the answer cites it.", examples=[1])
    document_id: UUID
    document: str = Field(description="The document's name.", examples=["handbook.pdf"])
    pages: list[int] = Field(description="The pages that the passage touches, from 1.", examples=[[3, 4]])
    score: float = Field(description="Cosine similarity with the question.", examples=[0.71])
    context: str | None = Field(
        default=None, description="The headings above the passage.", examples=["Guide \u203a Installation \u203a Linux"]
    )
    quote: Quote = Field(description="The passage's sentence that bears most on the question.")


class SourcesEvent(_Model):
    """The evidence, before the answer's first word."""

    type: Literal["sources"] = "sources"
    answer_id: UUID = Field(description="Under which the answer is kept, however it ends.")
    sources: list[Source]


class TokenEvent(_Model):
    """The next piece of the answer."""

    type: Literal["token"] = "token"
    text: str


class Citation(_Model):
    """A source that the answer did cite."""

    n: int
    document_id: UUID
    document: str
    quote: Quote


type Verdict = Literal["supported", "partly", "unsupported"]


class ClaimScores(_Model):
    """How much of a sentence stands in the passages that it was checked against, part by part."""

    overlap: float = Field(description="Share of its words, the rare ones counting more.", examples=[0.83])
    nearest: float = Field(description="The same of the two sentences in a row nearest to it.", examples=[0.71])
    numbers: float | None = Field(description="Share of its numbers; none where it has none.", examples=[1.0])
    names: float | None = Field(description="Share of its names; none where it has none.", examples=[1.0])
    negation: bool = Field(description="Whether it denies something just where what is nearest to it does.")
    similarity: float | None = Field(
        description="Cosine with what is nearest to it; none where words decide, or no vector could be had.",
        examples=[0.78],
    )
    entailment: float | None = Field(
        description="Probability that the passages entail it; none where no model is set up for that.", examples=[0.93]
    )
    contradiction: float | None = Field(description="That they contradict it; likewise.", examples=[0.02])
    disputed: int | None = Field(
        default=None,
        description="Number of another source that says the same with another figure; none where none does.",
        examples=[3],
    )


class CitationEvent(_Model):
    """A sentence of the answer, checked against the passages that it cites.

    It follows the sentence's tokens as soon as it is known; in strict mode it comes before them.
    """

    type: Literal["citation"] = "citation"
    start: int = Field(description="The sentence's first character in the answer, in Unicode's.", examples=[0])
    end: int = Field(description="Behind its last.", examples=[31])
    text: str = Field(description="The sentence, without markers.", examples=["The notice period is six weeks."])
    verdict: Verdict = Field(description="`unsupported`: do not show it as something that the documents say.")
    scores: ClaimScores
    citations: list[Citation] = Field(
        description="What it cites, with the words that bear most on it; none where it cites nothing, and was checked "
        "against all passages."
    )


class Nearest(_Model):
    """A document that came nearest to a question which it does not answer."""

    document_id: UUID
    document: str = Field(description="Its name.", examples=["handbook.pdf"])
    score: float = Field(description="Cosine similarity of its best passage with the question.", examples=[0.21])


class Disputed(_Model):
    """A sentence of the answer that another source says with another figure."""

    text: str = Field(description="The sentence, without markers.", examples=["The notice period is six weeks."])
    n: int = Field(description="The source's number.", examples=[3])
    document: str = Field(description="Its document's name.", examples=["corrections.pdf"])


class DoneEvent(_Model):
    """The answer is complete."""

    type: Literal["done"] = "done"
    refused: bool = Field(description="True where the documents do not answer the question.")
    model: str | None = Field(description="Who wrote the answer; none where evidence alone was given.")
    citations: list[Citation] = Field(description="Each source that it cites, once, in order.")
    nearest: list[Nearest] = Field(
        default=[], description="Of a refusal: the documents that came nearest, up to three, best first."
    )
    unsupported: list[str] = Field(default=[], description="The sentences whose verdict is `unsupported`, in order.")
    disputed: list[Disputed] = Field(default=[], description="What another source says with another figure, in order.")


class ErrorEvent(_Model):
    """The answer broke off; what came before is all there is."""

    type: Literal["error"] = "error"
    code: str = Field(examples=["model_silent"])
    message: str


type Event = Annotated[SourcesEvent | TokenEvent | CitationEvent | DoneEvent | ErrorEvent, Field(discriminator="type")]

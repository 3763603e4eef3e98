"""What an answer's stream consists of: typed events, in this order: sources, token …, then done or error."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quote(_Model):
    """Words of a document, and where they stand."""

    text: str = Field(description="The words, as they stand in the document.")
    page: int = Field(description="The page, from 1, on which they begin.", examples=[3])
    start: int = Field(description="Offset of the first character in that page's text.", examples=[118])
    end: int = Field(description="Offset behind the last character, or the page's end if they run on.", examples=[204])


class Source(_Model):
    """A passage that the answer may cite as `[n]`."""

    n: int = Field(description="The number by which the answer cites it.", examples=[1])
    document_id: UUID
    document: str = Field(description="The document's name.", examples=["handbook.pdf"])
    pages: list[int] = Field(description="The pages that the passage touches, from 1.", examples=[[3, 4]])
    score: float = Field(description="Cosine similarity with the question.", examples=[0.71])
    quote: Quote = Field(description="The passage's sentence that bears most on the question.")


class SourcesEvent(_Model):
    """The evidence, before the answer's first word."""

    type: Literal["sources"] = "sources"
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


class DoneEvent(_Model):
    """The answer is complete."""

    type: Literal["done"] = "done"
    refused: bool = Field(description="True where the documents do not answer the question.")
    model: str | None = Field(description="Who wrote the answer; none where evidence alone was given.")
    citations: list[Citation]


class ErrorEvent(_Model):
    """The answer broke off; what came before is all there is."""

    type: Literal["error"] = "error"
    code: str = Field(examples=["model_silent"])
    message: str


type Event = Annotated[SourcesEvent | TokenEvent | DoneEvent | ErrorEvent, Field(discriminator="type")]

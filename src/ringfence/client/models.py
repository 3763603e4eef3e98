"""What a server answers, as the client hands it on. What it does not know of, it leaves out."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from ringfence.documents.events import BatchProgress, DocumentProgress


class ReplacementInfo(BaseModel):
    """What is to take the place of a document's content; once it has, or nothing is to, there is none."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: str
    reason: str | None
    pages: int | None
    pages_done: int
    chunks: int


class DocumentInfo(BaseModel):
    """A document and how far it has come; `ready` and `failed` are final states."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    document_id: UUID
    name: str
    size: int
    state: str
    reason: str | None
    pages: int | None
    pages_done: int
    chunks: int
    collections: list[UUID] = []
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    version: int = 1
    deleted_at: datetime | None = None
    replacement: ReplacementInfo | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in {"ready", "failed"}


class Used(BaseModel):
    """How much there is of something, and how much there may be; None: there is no limit."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    used: int
    limit: int | None


class ModelDay(BaseModel):
    """What a chat model took on one day; the cost is None where nobody knew a price."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    day: date
    model: str
    requests: int
    questions: int
    estimated: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal | None
    currency: str | None


class UsageInfo(BaseModel):
    """What the account uses: documents, their bytes, questions today (UTC), and models in the last 30 days."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    documents: Used
    bytes: Used
    questions: Used
    models: list[ModelDay] = []


class ModelPrice(BaseModel):
    """For a million tokens of what a model reads, and of what it writes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: Decimal
    completion: Decimal
    currency: str


class ChatModelInfo(BaseModel):
    """A chat model that may be chosen; one that is not `answering` has failed again and again just now."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    context_tokens: int
    price: ModelPrice | None
    answering: bool
    fall_back: list[str]


class ChatModels(BaseModel):
    """The chat models, the first of which answers where none is `chosen`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    models: list[ChatModelInfo]
    chosen: str | None


class Documents(BaseModel):
    """A page of documents, as it is sent."""

    documents: list[DocumentInfo]
    next_cursor: str | None = None


class CollectionInfo(BaseModel):
    """A named set of documents, and how many are in it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    collection_id: UUID
    name: str
    documents: int


class Collections(BaseModel):
    """A list of collections, as it is sent."""

    collections: list[CollectionInfo]


class Deleted(BaseModel):
    """What became of a document that was to be deleted, as it is sent."""

    document_id: UUID
    outcome: str


class DeletedDocuments(BaseModel):
    """The same of several."""

    documents: list[Deleted]


class Place(BaseModel):
    """A part of a page: characters from `start` to `end` (exclusive) of its text."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    page: int
    start: int
    end: int


class Rect(BaseModel):
    """Where words of one line stand, in points (1/72 inch) from the page's upper left corner."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    x0: float
    y0: float
    x1: float
    y1: float


class PageRects(BaseModel):
    """Where words stand on a page, whose size is in points too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    page: int
    width: float
    height: float
    text: str
    rects: list[Rect]


class Highlight(BaseModel):
    """Characters from `start` to `end` (exclusive) of a passage's text."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    start: int
    end: int


# No `type` statements: Typer reads these.
SearchMode = Literal["hybrid", "dense", "lexical"]
Fusion = Literal["convex", "rrf"]


class Scores(BaseModel):
    """What a hit has of each half of search, and of both together; None where a half was not asked."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dense: float | None
    lexical: float | None
    fused: float | None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search; the API's description says what each of them means."""

    mode: SearchMode = "hybrid"
    fusion: Fusion = "convex"
    filter: dict[str, Any] | None = None
    diversity: float = 0.0
    expand: int = 0


class Hit(BaseModel):
    """A passage that search found."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    document_id: UUID
    document: str
    text: str
    context: str | None
    places: list[Place]
    highlights: list[Highlight]
    score: float
    scores: Scores
    page: int
    number: int


class SearchExplanation(BaseModel):
    """How a search went: `small`, `both`, `few` or `index`, why, the database's plan, and milliseconds by stage."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    way: str
    reason: str
    vectors: int
    passages: int
    milliseconds: dict[str, float]
    plan: list[str]


class Hits(BaseModel):
    """What a search found, as it is sent."""

    results: list[Hit]


class AllHits(BaseModel):
    """What several searches found, as it is sent."""

    results: list[Hits]


class KnownContent(BaseModel):
    """A content that the account has, and its document."""

    sha256: str
    document: DocumentProgress


class KnownContents(BaseModel):
    """Contents that the account has, as it is sent."""

    known: list[KnownContent]


class BatchInfo(BaseModel):
    """How far the documents have come that one request brought."""

    batch: BatchProgress
    documents: list[DocumentProgress]


class EvaluatedMode(BaseModel):
    """How one way of searching did: means over all questions, from 0 to 1, and times of a search."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: str
    scores: dict[str, float]
    p50_ms: float
    p99_ms: float


class EvaluationInfo(BaseModel):
    """An evaluation and how far it has come; `done` and `failed` are final states."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    evaluation_id: UUID
    name: str
    state: str
    question_count: int
    questions_done: int
    modes: list[EvaluatedMode]
    reason: str | None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in {"done", "failed"}


class Evaluations(BaseModel):
    """A list of them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    evaluations: list[EvaluationInfo]


class ChatInfo(BaseModel):
    """A conversation; of a search, also the newest message that has the text, and what stands around it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    chat_id: UUID
    title: str | None
    leaf_id: UUID | None
    updated_at: datetime
    message_id: UUID | None = None
    excerpt: str | None = None


class Chats(BaseModel):
    """A page of chats, as it is sent."""

    chats: list[ChatInfo]
    next_cursor: str | None = None


class CitationInfo(BaseModel):
    """What an answer cited; the words are None where the document was deleted."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    n: int
    document_id: UUID
    page: int
    document: str | None
    quote: str | None


class MessageInfo(BaseModel):
    """A question or an answer; `siblings` stand in the same place."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message_id: UUID
    parent_id: UUID | None
    siblings: list[UUID]
    role: str
    text: str
    state: str
    error_code: str | None
    model: str | None
    citations: list[CitationInfo]
    rating: str | None
    comment: str | None
    created_at: datetime


class ChatBranch(BaseModel):
    """A chat, and the last messages of one of its branches, oldest first."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    chat: ChatInfo
    messages: list[MessageInfo]


class PromptPart(BaseModel):
    """A part of what a model was sent."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: str
    content: str


class TracedPassage(BaseModel):
    """A passage that an answer rests on; the words are None where the document was deleted."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    n: int
    document_id: UUID
    version: int | None
    score: float
    document: str | None
    text: str | None


class AnswerTrace(BaseModel):
    """How an answer came about: what was looked for and found, and what the model was sent."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    query: str
    rewritten: bool
    not_rewritten: str | None
    model: str | None
    parameters: dict[str, Any]
    prompt: list[PromptPart]
    passages: list[TracedPassage]

"""The Python client: what the HTTP API offers, as typed calls, to await (`Client`) or to block on (`SyncClient`)."""

from ringfence.client.blocking import SyncClient
from ringfence.client.calls import Client
from ringfence.client.models import (
    AnswerTrace,
    BatchInfo,
    ChatBranch,
    ChatInfo,
    CollectionInfo,
    DocumentInfo,
    EvaluatedMode,
    EvaluationInfo,
    Highlight,
    Hit,
    MessageInfo,
    PageRects,
    Place,
    Rect,
    ReplacementInfo,
    SearchExplanation,
    SearchOptions,
    UsageInfo,
    Used,
)

__all__ = [
    "AnswerTrace",
    "BatchInfo",
    "ChatBranch",
    "ChatInfo",
    "Client",
    "CollectionInfo",
    "DocumentInfo",
    "EvaluatedMode",
    "EvaluationInfo",
    "Highlight",
    "Hit",
    "MessageInfo",
    "PageRects",
    "Place",
    "Rect",
    "ReplacementInfo",
    "SearchExplanation",
    "SearchOptions",
    "SyncClient",
    "UsageInfo",
    "Used",
]

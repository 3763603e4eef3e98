"""Vectors of texts, by the embedding model that the engine searches with."""

import asyncio
import base64
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BeforeValidator, Field

from ringfence.errors import Invalid
from ringfence.http.contract import may
from ringfence.http.deps import Asker, NoteDep, ServicesDep
from ringfence.http.openai.forms import Form, View, unserved
from ringfence.http.openai.models import require_model
from ringfence.models.base import Embedder, Vectors

router = APIRouter(prefix="/v1/embeddings", tags=["openai"])

MAX_TEXTS = 256
MAX_CHARS = 8192
"""Of one text; models read less."""


def _texts(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(one, int | list) for one in value):
        unserved("send text, not tokens (LangChain: check_embedding_ctx_length=False)")
    return value


_Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]


class EmbeddingsRequest(Form):
    """Which texts shall become vectors."""

    input: Annotated[
        _Text | Annotated[list[_Text], Field(min_length=1, max_length=MAX_TEXTS)], BeforeValidator(_texts)
    ] = Field(description="A text, or several.", examples=[["The notice period is six weeks."]])
    model: str = Field(description="As `/v1/models` names it.", examples=["all-minilm-l6-v2"])
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="`base64`: of 32-bit floats, least significant byte first.", examples=["float"]
    )
    dimensions: int | None = Field(
        default=None, ge=1, description="Those that the model has: vectors are not cut.", examples=[384]
    )
    user: str | None = Field(default=None, description="Ignored.", examples=["ada"])


class EmbeddingView(View):
    """The vector of one text, of length 1."""

    object: Literal["embedding"]
    index: int = Field(description="Of the text.", examples=[0])
    embedding: list[float] | str


class EmbeddingsUsage(View):
    """Tokens that the model read, by its own tokenizer, or an estimate where that is not set up."""

    prompt_tokens: int = Field(examples=[9])
    total_tokens: int = Field(examples=[9])


class Embeddings(View):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingView]
    model: str
    usage: EmbeddingsUsage


@router.post("", responses=may(404))
async def embed(body: EmbeddingsRequest, user_id: Asker, services: ServicesDep, note: NoteDep) -> Embeddings:
    """Make vectors of texts. Each request counts as a question."""
    embedder = services.embedder
    require_model(body.model, embedder.name)
    texts = [body.input] if isinstance(body.input, str) else body.input
    await services.questions.spend(user_id, note)
    vectors = await embedder.embed(texts)
    if body.dimensions not in (None, vectors.shape[1]):
        raise Invalid("unsupported_parameter", f"The vectors have {vectors.shape[1]} dimensions.", param="dimensions")
    tokens = await asyncio.to_thread(_tokens, embedder, texts)
    views = _in_base64(vectors) if body.encoding_format == "base64" else vectors.tolist()
    return Embeddings(
        object="list",
        data=[EmbeddingView(object="embedding", index=n, embedding=one) for n, one in enumerate(views)],
        model=embedder.name,
        usage=EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _in_base64(vectors: Vectors) -> list[str]:
    return [base64.b64encode(row.tobytes()).decode() for row in vectors.astype(np.dtype("<f4"))]


def _tokens(embedder: Embedder, texts: Sequence[str]) -> int:
    """What the model reads of the texts: of a long one only the beginning."""
    ruler, most = embedder.ruler, embedder.max_tokens
    counts = [math.ceil(ruler.count(text) / ruler.units) + ruler.specials for text in texts]
    return sum(min(count, most) if most else count for count in counts)

"""The protocols behind which every model hides, and what passes through them."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

type Vectors = NDArray[np.float32]
"""Shape (texts, dimensions), each row of Euclidean length 1."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation as chat models take it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how alike they are."""

    @property
    def name(self) -> str:
        """What the vectors are keyed by in the database, e.g. `all-minilm-l6-v2` or `ollama/nomic-embed-text`."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed any number of texts (the embedder batches as suits it), in order.

        Raises:
            Unavailable: the model can't be reached, is too slow, or answered with an error that may pass.
            Invalid: the model rejects these texts, or answers with the wrong number or shape of vectors.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


class ChatModel(Protocol):
    """Continues a conversation, token by token."""

    @property
    def name(self) -> str:
        """The model's name as shown to people."""
        ...

    @property
    def context_tokens(self) -> int:
        """How many tokens the prompt and the answer may have together."""
        ...

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> AsyncGenerator[str]:
        """Yield the answer's pieces as they come. Closing the generator closes the connection to the model.

        Raises (from the iteration):
            Unavailable: the model is down, silent beyond its time limits, or broke off.
            Invalid: the model rejects the request.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

"""The protocols behind which every model hides, and what passes through them."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ringfence.models.tokens import Ruler

type Vectors = NDArray[np.float32]
"""Shape (texts, dimensions), each row of Euclidean length 1."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation as chat models take it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took.

    Attributes:
        prompt: of what the model was sent.
        completion: of what it wrote.
        reported: whether its server counted them; else they are estimated.
    """

    prompt: int
    completion: int
    reported: bool = True


type Spent = Callable[[Usage], None]
"""Is told what an answer took; of several times, the last one counts."""


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how alike they are."""

    @property
    def name(self) -> str:
        """What the vectors are keyed by in the database, e.g. `all-minilm-l6-v2` or `ollama/nomic-embed-text`."""
        ...

    @property
    def ruler(self) -> Ruler:
        """Measures texts as the model reads them."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a text that count, with the special ones; None where nobody knows."""
        ...

    @property
    def languages(self) -> frozenset[str] | None:
        """Languages (ISO 639-1) in which its vectors mean something; None: all, or nobody knows."""
        ...

    @property
    def batch_texts(self) -> int:
        """Texts that are best embedded in one call, since what is stored of them is stored together."""
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

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int, spent: Spent | None = None
    ) -> AsyncGenerator[str]:
        """Yield the answer's pieces as they come. Closing the generator closes the connection to the model.

        `spent` hears of the tokens before the generator ends, if the model's server counts them.

        Raises (from the iteration):
            Unavailable: the model is down, silent beyond its time limits, or broke off.
            Invalid: the model rejects the request.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Inference:
    """What follows from a text for a sentence: probabilities, of which the rest is that neither is so."""

    entailment: float
    contradiction: float


class Entailment(Protocol):
    """Reads a text beside a sentence, and says whether the sentence follows from it (natural language inference)."""

    @property
    def name(self) -> str:
        """The model's name as shown to people."""
        ...

    async def infer(self, pairs: Sequence[tuple[str, str]]) -> list[Inference]:
        """What each (text, sentence) comes to, in their order.

        Raises:
            Unavailable: the model can't be reached, is too slow, or answered with an error that may pass.
            Invalid: the model rejects these texts.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Reranker(Protocol):
    """Reads a query beside each of some texts, and says how well they fit."""

    @property
    def name(self) -> str:
        """The model's name as shown to people."""
        ...

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in their order; a higher one is better, and only those of one call compare.

        Raises:
            Unavailable: the model can't be reached, is too slow, or answered with an error that may pass.
            Invalid: the model rejects these texts.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

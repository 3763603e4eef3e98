"""The embedded default embedder: all-MiniLM-L6-v2 in float32 on onnxruntime, one text per run.

Why this form and not an int8 one: docs/decisions/0003-embedding-model-form.md.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ringfence.errors import SetupError
from ringfence.models import minilm_graph
from ringfence.models.base import Vectors
from ringfence.models.tokens import Tokens

NAME = "all-minilm-l6-v2"
DIMENSIONS = minilm_graph.DIMENSIONS

MAX_TOKENS = 256
"""What the model was trained for; the rest of a text does not count (`max_seq_length` of the model's card)."""

MAX_CHARACTERS = 8_192
"""Cut before tokenising, so that a text of megabytes costs milliseconds: 256 tokens of prose are about 1,200."""

BATCH_TEXTS = 32
"""Each is a run of its own, so this is how many are stored together."""


class MiniLM:
    """`ringfence.models.base.Embedder` in this process.

    Every text is a run of its own on one thread, so its vector is the same to the last bit whatever else is embedded
    beside it. A call has at most as many texts under way as there are threads, so calls take turns: a question waits
    for a few chunks of a document, never for the whole of it. The event loop only waits.

    Args:
        weights: the official `model.safetensors`, verified.
        tokenizer: the official `tokenizer.json`, verified.
        threads: texts embedded at once; unset: one per CPU.

    Raises:
        SetupError: `weights_corrupt`: the files are not what they should be.
    """

    def __init__(self, weights: Path, tokenizer: Path, *, threads: int | None = None) -> None:
        try:
            # The session reads the mapped file for as long as it lives, so the map has to live as long.
            self._weights = minilm_graph.read_safetensors(weights)
            self._session = _session(self._weights)
            self._tokenizer = _tokenizer(tokenizer)
            self._ruler = Tokens(tokenizer)
        except Exception as error:  # tokenizers and onnxruntime raise bare Exceptions
            message = f"The embedding model in {weights.parent} can't be loaded ({error}). Run `ringfence model pull`."
            raise SetupError("weights_corrupt", message) from error
        self._lanes = threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._lanes, thread_name_prefix="minilm")

    @property
    def name(self) -> str:
        """What the vectors are keyed by in the database."""
        return NAME

    @property
    def ruler(self) -> Tokens:
        """Measures texts by the model's own tokenizer."""
        return self._ruler

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count."""
        return MAX_TOKENS

    @property
    def languages(self) -> frozenset[str]:
        """English alone."""
        return frozenset({"en"})

    @property
    def batch_texts(self) -> int:
        """Texts that are best embedded in one call."""
        return BATCH_TEXTS

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed any number of texts: shape (texts, 384), rows of length 1, in order.

        Only the first 256 tokens of a text count. Any string will do: empty, with NUL, with lone surrogates.
        """
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        remaining = iter(range(len(texts)))

        async def lane() -> None:
            for index in remaining:
                vectors[index] = await loop.run_in_executor(self._threads, self._vector, texts[index])

        await asyncio.gather(*(lane() for _ in range(min(self._lanes, len(texts)))))
        return vectors

    async def close(self) -> None:
        """Let the threads end, after the texts that they are at."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _vector(self, text: str) -> NDArray[np.float32]:
        # Lone surrogates (PDFs hold them) have no UTF-8, which the tokenizer needs.
        clean = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
        ids = np.array(self._tokenizer.encode(clean).ids, np.int64)
        vector: NDArray[np.float32] = self._session.run(None, {"ids": ids})[0]
        return vector


def _session(weights: dict[str, NDArray[np.float32]]) -> Any:
    import onnxruntime as ort  # noqa: PLC0415  # it starts a thread, and takes 0.1 s: for those who use this model

    graph, names = minilm_graph.build(weights)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # several texts at once use the CPUs better than several threads per text
    options.log_severity_level = 3
    options.add_external_initializers(names, [ort.OrtValue.ortvalue_from_numpy(weights[name]) for name in names])
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer

"""The embedded embedder on the real weights of `all-minilm-l6-v2`, which `make test` pulls."""

import asyncio
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from tokenizers import Tokenizer

from ringfence.embedded.weights import Weights
from ringfence.errors import SetupError
from ringfence.models.minilm import DIMENSIONS, MAX_CHARACTERS, MiniLM
from ringfence.models.minilm_graph import build, read_safetensors

TEXTS = [
    "How do I reset my password?",
    "Steps to recover a forgotten login credential",
    "The cafeteria opens at eight",
    "",
    "Die Kündigungsfrist beträgt drei Monate zum Quartalsende.",
    "A chunk of a document is longer than a question, and has many more words to be embedded. " * 12,
]


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    folder = os.environ.get("RINGFENCE_TEST_MODELS_DIR") or platformdirs.user_cache_path("ringfence") / "models"
    return Weights(Path(folder)).paths("all-minilm-l6-v2")


@pytest.fixture
async def embedder(files: dict[str, Path]) -> AsyncIterator[MiniLM]:
    embedder = MiniLM(files["model.safetensors"], files["tokenizer.json"], threads=2)
    yield embedder
    await embedder.close()


def by_hand(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """BERT's encoder in float64 as its paper describes it (arXiv:1810.04805), mean-pooled, length 1."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-12)
        return (x - x.mean(axis=-1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{name}.attention.self.{part}").reshape(len(ids), 12, 32) for part in ("query", "key", "value")
        )
        scores = np.exp(np.einsum("ihd,jhd->hij", q, k) / np.sqrt(32))
        mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(axis=-1, keepdims=True), v).reshape(len(ids), 384)
        x = norm(x + linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        wide = linear(x, f"{name}.intermediate.dense")
        wide = wide * (1 + np.vectorize(math.erf)(wide / np.sqrt(2))) / 2
        x = norm(x + linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


async def test_agrees_with_a_plain_computation(embedder: MiniLM, files: dict[str, Path]) -> None:
    tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)  # the file itself says 128
    weights = read_safetensors(files["model.safetensors"])
    vectors = await embedder.embed(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, by_hand(weights, tokenizer.encode(text).ids), atol=2e-6)


async def test_gives_unit_vectors_in_order(embedder: MiniLM) -> None:
    vectors = await embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.5
    assert alike[0, 2] < 0.2
    assert embedder.name == "all-minilm-l6-v2"


async def test_a_vector_does_not_depend_on_its_company(embedder: MiniLM, files: dict[str, Path]) -> None:
    together = await embedder.embed(TEXTS)
    backwards = await embedder.embed(TEXTS[::-1])
    alone = np.concatenate([await embedder.embed([text]) for text in TEXTS])
    other = MiniLM(files["model.safetensors"], files["tokenizer.json"], threads=1)
    crowd = await asyncio.gather(*(other.embed(TEXTS) for _ in range(3)))
    await other.close()
    for vectors in (alone, backwards[::-1], *crowd):
        np.testing.assert_array_equal(vectors, together)


async def test_no_texts_no_vectors(embedder: MiniLM) -> None:
    assert (await embedder.embed([])).shape == (0, DIMENSIONS)


@pytest.mark.parametrize(
    "text",
    ["\0", "a\0b", "\ud800 lone", "\u202e", "x" * 1_000_000, " " * 1_000_000, "a b " * 250_000, "日本語" * 300_000],
)
async def test_any_string_has_a_vector(embedder: MiniLM, text: str) -> None:
    async with asyncio.timeout(30):
        vectors = await embedder.embed([text])
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)


async def test_what_is_beyond_the_limit_does_not_count(embedder: MiniLM) -> None:
    words = "word " * 300
    vectors = await embedder.embed([words + "one ending", words + "another", "word " * 253, "word " * 200])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[3])
    spaces = " " * MAX_CHARACTERS
    vectors = await embedder.embed([spaces + "one", spaces + "other", ""])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_array_equal(vectors[1], vectors[2])


async def test_a_question_does_not_wait_for_a_whole_document(embedder: MiniLM) -> None:
    chunks = [TEXTS[-1]] * 60
    document = asyncio.create_task(embedder.embed(chunks))
    await asyncio.sleep(0)  # it has submitted its first chunks
    await embedder.embed(["How long is the notice period?"])
    assert not document.done()
    document.cancel()
    with pytest.raises(asyncio.CancelledError):
        await document


async def test_the_loop_stays_free(embedder: MiniLM) -> None:
    turns = 0
    document = asyncio.create_task(embedder.embed([TEXTS[-1]] * 8))
    while not document.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 8


@pytest.mark.parametrize(
    ("weights", "tokenizer"),
    [(b"", None), (b"\x02\0\0\0\0\0\0\0{}", None), (b"\xff" * 100, None), (None, b"{}"), (None, b"\xff")],
)
async def test_files_that_are_not_the_model(
    files: dict[str, Path], tmp_path: Path, weights: bytes | None, tokenizer: bytes | None
) -> None:
    paths = {"weights": files["model.safetensors"], "tokenizer": files["tokenizer.json"]}
    for name, content in (("weights", weights), ("tokenizer", tokenizer)):
        if content is not None:
            paths[name] = tmp_path / name
            paths[name].write_bytes(content)
    with pytest.raises(SetupError, match="ringfence model pull") as caught:
        MiniLM(paths["weights"], paths["tokenizer"])
    assert caught.value.code == "weights_corrupt"


async def test_one_thread_per_cpu_by_default(files: dict[str, Path]) -> None:
    embedder = MiniLM(files["model.safetensors"], files["tokenizer.json"])
    assert (await embedder.embed(["Hello"])).shape == (1, DIMENSIONS)
    await embedder.close()


def test_the_graph_needs_all_weights() -> None:
    with pytest.raises(KeyError, match=r"embeddings\.word_embeddings\.weight"):
        build({})


async def test_it_says_how_it_reads(embedder: MiniLM) -> None:
    assert (embedder.max_tokens, embedder.ruler.specials, embedder.batch_texts) == (256, 2, 32)
    assert embedder.ruler.count("How high is the fence?") == 6

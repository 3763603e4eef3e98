"""The cache of vectors: nothing is embedded twice, whoever asks."""

import asyncio
import os

import numpy as np
import pytest

from ringfence.errors import SetupError, Unavailable
from ringfence.evaluation.cache import CachedEmbedder
from ringfence.models.base import Embedder
from ringfence.models.openai import OpenAIEmbedder


@pytest.fixture
async def embedder(models):
    embedder = OpenAIEmbedder(models.openai_url, "hash")
    yield embedder
    await embedder.close()


def asked(models):
    return [text for request in models.embeddings for text in request.body["input"]]


async def test_only_what_is_new_is_embedded(embedder, models, tmp_path):
    cached: Embedder = CachedEmbedder(embedder, tmp_path / "deep" / "cache")
    assert (cached.name, cached.ruler, cached.max_tokens) == (embedder.name, embedder.ruler, embedder.max_tokens)
    assert (cached.languages, cached.batch_texts) == (embedder.languages, embedder.batch_texts)
    first = await cached.embed(["a", "b", "a", "\ud800"])
    assert sorted(asked(models)) == ["a", "b", "\ud800"]
    again = await CachedEmbedder(embedder, tmp_path / "deep" / "cache").embed(["b", "c", "a"])
    assert asked(models)[3:] == ["c"]
    assert again.dtype == np.float32
    assert np.array_equal(again[[2, 0]], first[:2])
    assert np.array_equal(first, await embedder.embed(["a", "b", "a", "\ud800"]))
    assert (await cached.embed([])).shape == (0, 0)
    await cached.close()


async def test_what_came_before_a_failure_is_kept(embedder, models, tmp_path):
    cached = CachedEmbedder(embedder, tmp_path)
    models.script_embeddings(times=2)
    models.script_embeddings(status=500)
    texts = [f"text {n}" for n in range(100)]  # two batches of ours; three requests, of which the last fails
    with pytest.raises(Unavailable):
        await cached.embed(texts)
    models.script_embeddings()
    before = len(asked(models))
    await cached.embed(texts)
    assert len(asked(models)) - before == 36


async def test_two_at_once_do_not_disturb_each_other(embedder, tmp_path):
    both = [CachedEmbedder(embedder, tmp_path) for _ in range(2)]
    one, two = await asyncio.gather(*(cached.embed([f"t{n}" for n in range(70)]) for cached in both))
    assert np.array_equal(one, two)


async def test_half_a_record_of_a_killed_process_does_not_count(embedder, models, tmp_path):
    first = await CachedEmbedder(embedder, tmp_path).embed(["a", "b"])
    [file] = tmp_path.glob("*.vectors")
    for cut in (1, file.stat().st_size - 3):  # of the second record, of the head
        os.truncate(file, file.stat().st_size - cut)
        asked_before = len(asked(models))
        again = await CachedEmbedder(embedder, tmp_path).embed(["a", "b"])
        assert np.array_equal(again, first)
        assert len(asked(models)) > asked_before
        assert np.array_equal(await CachedEmbedder(embedder, tmp_path).embed(["b", "a"]), first[::-1])


async def test_a_folder_that_is_none_is_refused(embedder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SetupError, match="cache_unusable"):
        CachedEmbedder(embedder, tmp_path / "file")

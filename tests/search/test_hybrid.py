"""Both halves and their fusion, against numpy and plain Python."""

import dataclasses
import json

import numpy as np
import pytest

from ringfence.filters import Condition, Filter
from ringfence.lexical.service import LexicalIndex
from ringfence.models.openai import OpenAIEmbedder
from ringfence.search.service import How, Search, Tuning
from tests.search.stored import chunks_of, store, tenant

FACTS = [
    "The notice period is six weeks to the end of a quarter.",
    "The oven is repaired by Anders, who lives in the red house.",
    "Holidays are thirty days a year for everybody.",
    "Anders repairs the oven in the red house, and the other oven as well.",
    "Forms AB-12.3 and AB-12.4 are kept for ten years.",
    "A quarter has three months.",
]
QUERY = "Which oven does Anders repair in the house?"


@pytest.fixture
async def ada(db, admin, embedder):
    user_id = await tenant(admin)
    await store(db, embedder, user_id, FACTS[:3])
    await store(db, embedder, user_id, FACTS[3:])
    return user_id


@pytest.fixture
def search(db, embedder):
    return Search(db, embedder)


async def find(search, user_id, query, limit=10, **how):
    return list((await search.find(user_id, query, limit, how=How(**how))).passages)


async def parts(search, user_id, query):
    """Cosine and BM25 by text, each by its half alone."""
    dense = await find(search, user_id, query, mode="dense")
    lexical = await find(search, user_id, query, mode="lexical")
    return {hit.text: hit.similarity for hit in dense}, {hit.text: hit.lexical for hit in lexical}


async def test_scores_are_fused_by_the_formula(search, ada):
    cosine, bm25 = await parts(search, ada, QUERY)
    assert len(cosine) == 6 > len(bm25) > 1
    best, nearest = max(bm25.values()), max(cosine.values())
    expected = {text: 0.25 * bm25.get(text, 0.0) / best + 0.75 * (cosine[text] + 1) / (nearest + 1) for text in FACTS}
    found = await find(search, ada, QUERY)
    assert {hit.text for hit in found} == set(FACTS)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    for hit in found:
        assert hit.score == pytest.approx(expected[hit.text], abs=1e-9)
        assert hit.similarity == pytest.approx(cosine[hit.text], abs=1e-12)
        assert hit.lexical == bm25.get(hit.text, 0.0)


async def test_ranks_are_fused_by_theirs(search, ada):
    cosine, bm25 = await parts(search, ada, QUERY)
    ranks = [{text: place for place, text in enumerate(half, 1)} for half in (cosine, bm25)]
    expected = {text: sum(1 / (60 + half[text]) for half in ranks if text in half) for text in FACTS}
    found = await find(search, ada, QUERY, fusion="rrf")
    assert {hit.text: pytest.approx(hit.score, abs=1e-12) for hit in found} == expected
    assert [hit.score for hit in found] == sorted(expected.values(), reverse=True)


async def test_each_half_orders_by_its_own_score(search, ada):
    for mode, name in (("dense", "similarity"), ("lexical", "lexical")):
        found = await find(search, ada, QUERY, mode=mode, limit=3)
        assert [hit.score for hit in found] == [getattr(hit, name) for hit in found]
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert {hit.similarity for hit in found} == {None}


async def test_what_only_words_find_has_its_cosine_too(db, embedder, ada):
    """With one candidate of each half, the others' cosines are not at hand."""
    query = "red red red oven oven quarter AB-12.3"
    cosine, bm25 = await parts(Search(db, embedder), ada, query)
    found = await find(Search(db, embedder, tuning=Tuning(depth=1)), ada, query, limit=1)
    pair = {max(cosine, key=cosine.get), max(bm25, key=bm25.get)}
    assert len(pair) == 2
    everything = await find(Search(db, embedder, tuning=Tuning(depth=2)), ada, query, limit=2)
    assert {hit.text for hit in everything} >= {found[0].text}
    for hit in everything:
        assert hit.similarity == pytest.approx(cosine[hit.text], abs=1e-12)


async def test_lexical_search_needs_no_model(search, ada, models):
    models.script_embeddings(status=503)
    before = len(models.embeddings)
    [hit] = await find(search, ada, "AB-12.3", mode="lexical")
    assert hit.text == FACTS[4]
    assert len(models.embeddings) == before


async def test_words_are_found_though_nothing_was_embedded(db, admin, models, ada):
    await admin.execute("delete from embeddings; delete from live_models")
    other = OpenAIEmbedder(models.openai_url, "another")
    found = await find(Search(db, other), ada, "oven AB-12.3", limit=2, diversity=0.5)
    assert found[0].score == 1.0 >= found[1].score > 0
    assert (found[0].text, found[0].similarity) == (FACTS[4], None)
    assert await find(Search(db, other), ada, "oven", mode="dense") == []
    await other.close()


async def test_chunks_that_are_not_indexed_are_found_by_meaning(db, admin, embedder, search):
    user_id = await tenant(admin)
    await store(db, embedder, user_id, FACTS, indexed=False)
    assert (await find(search, user_id, QUERY))[0].lexical == 0
    assert await find(search, user_id, QUERY, mode="lexical") == []
    await LexicalIndex(db).fill(user_id)
    assert (await find(search, user_id, QUERY))[0].lexical > 0


async def test_words_weigh_more_where_the_model_does_not_speak_the_language(db, models, ada):
    english = OpenAIEmbedder(models.openai_url, "hash", languages=frozenset({"en"}))
    search = Search(db, english)
    german = "Wer repariert den Ofen im roten Haus von Anders und wie lange dauert das?"
    for query, alpha in ((QUERY, 0.25), (german, 0.5), ("AB-12.3", 0.25), ("123", 0.25)):
        cosine, bm25 = await parts(search, ada, query)
        for hit in await find(search, ada, query):
            words = alpha * hit.lexical / max(bm25.values()) if bm25 else 0.0
            meaning = (1 - alpha) * (cosine[hit.text] + 1) / (max(cosine.values()) + 1)
            assert hit.score == pytest.approx(words + meaning, abs=1e-9)
    await english.close()


async def test_headings_and_names_are_words_too(db, admin, embedder, search):
    user_id = await tenant(admin)
    await store(db, embedder, user_id, chunks_of(FACTS[:1], "Handbook > Leaving"), name="Staff rules.txt")
    for word in ("leaving", "rules"):
        [hit] = await find(search, user_id, word, mode="lexical")
        assert hit.text == FACTS[0]
    assert await find(search, user_id, "txt", mode="lexical") == []


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_filters_hold_in_each_mode(db, admin, embedder, search, ada, mode):
    other = await store(db, embedder, ada, ["Der Ofen und das Haus: oven, Anders, house.", "Ein Haus, oven."])
    sql = "update documents set tags = '{a}', metadata = $2::jsonb where document_id = $1"
    await admin.execute(sql, other, json.dumps({"year": 2020}))
    for chosen in (
        Filter(documents=(other,)),
        Filter(tags=("a",)),
        Filter(metadata=(Condition("year", "gte", 2020),)),
        Filter(languages=("de",)),
    ):
        found = await find(search, ada, "oven", mode=mode, chosen=chosen)
        assert [hit.document_id for hit in found] == [other, other]
    assert await find(search, ada, "oven", mode=mode, chosen=Filter(tags=("b",))) == []


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_deleted_documents_and_other_versions_are_not_found(db, admin, embedder, search, ada, mode):
    options = {"mode": mode, "limit": 100}
    before = await find(search, ada, QUERY, **options)
    one = before[0].document_id
    await admin.execute("update documents set deleted_at = now() where document_id = $1", one)
    assert one not in {hit.document_id for hit in await find(search, ada, QUERY, **options)}
    await admin.execute("update documents set deleted_at = null, first_chunk = 1 where document_id = $1", one)
    numbers = {hit.number for hit in await find(search, ada, QUERY, **options) if hit.document_id == one}
    assert numbers <= {1, 2}


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_diversity_leaves_out_what_was_said(db, admin, embedder, search, mode):
    user_id = await tenant(admin)
    texts = [FACTS[1]] * 3 + ["Anders has an oven of his own, at home in town.", FACTS[0]]
    await store(db, embedder, user_id, texts)
    alike = await find(search, user_id, "Anders oven red house", mode=mode, limit=2)
    assert {hit.text for hit in alike} == {FACTS[1]}
    apart = await find(search, user_id, "Anders oven red house", mode=mode, limit=2, diversity=0.6)
    assert [hit.text == FACTS[1] for hit in apart] == [True, False]
    assert len(await find(search, user_id, "nothing of it", mode="lexical", diversity=0.5)) == 0


async def test_passages_grow_to_their_neighbours(search, ada):
    [hit] = await find(search, ada, "AB-12.3", mode="lexical", expand=1)
    assert hit.text == "\n".join(FACTS[3:])
    assert [page for page, *_ in hit.spans] == [1, 2, 3]
    assert (hit.number, hit.lexical > 0) == (1, True)
    grown = await find(search, ada, QUERY, limit=6, expand=5)
    assert sorted(hit.text for hit in grown) == sorted(["\n".join(FACTS[:3]), "\n".join(FACTS[3:])])
    assert await find(search, ada, "zebra", mode="lexical", expand=2) == []


async def test_several_queries_are_embedded_at_once(search, ada, models):
    before = len(models.embeddings)
    asked = [(QUERY, 10, How()), ("oven", 10, How("lexical")), ("quarter", 1, How("dense"))]
    found = await search.find_all(ada, asked)
    assert len(models.embeddings) == before + 1
    assert found == [await search.find(ada, query, limit, how=how) for query, limit, how in asked]


async def test_an_answer_is_the_same_byte_for_byte_whatever_neighbours_keep(db, admin, embedder, search, ada):
    rnd = np.random.default_rng(1)
    words = " ".join(FACTS).split()

    async def answers():
        ways = [How(mode, fusion, None, diversity, expand)
                for mode in ("hybrid", "dense", "lexical") for fusion in ("convex", "rrf")
                for diversity, expand in ((0.0, 0), (0.3, 1))]  # fmt: skip
        found = await search.find_all(ada, [(query, 50, way) for way in ways for query in (QUERY, "quarter AB-12.4")])
        return json.dumps([dataclasses.asdict(ranked) for ranked in found], default=str)

    before = await answers()
    for _ in range(2):
        other = await tenant(admin)
        await store(db, embedder, other, [" ".join(rnd.choice(words, 12)) for _ in range(40)])
    assert await answers() == before
    await LexicalIndex(db).merge(other)
    await LexicalIndex(db).merge(ada)
    assert await answers() == before

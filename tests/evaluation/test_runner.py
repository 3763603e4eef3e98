"""Running a collection, finding its entries, and the report."""

import json
import re

import pytest

from ringfence.errors import Invalid, Unavailable
from ringfence.evaluation import report, runner
from ringfence.evaluation.finding import Finder, SearchWays
from ringfence.evaluation.measures import MEASURES
from ringfence.evaluation.plots import bars, curves
from ringfence.models.rerank import CohereReranker
from ringfence.search.rerank import Reranking
from ringfence.search.service import Search


@pytest.fixture
async def finder(tenants, collection, ways):
    async with tenants.filled(collection, keep=False, say=str) as scratch:
        yield Finder(ways, scratch.user_id, collection.ids)


async def test_each_entry_is_found_once_by_its_best_passage(finder):
    ranking = await finder.find("telescope manual", "dense", 4)
    assert ranking.entries[0].entry == "d-long"
    assert sorted(one.entry for one in ranking.entries) == ["d-holidays", "d-long", "d-notice", "d-oven"]
    assert ranking.seconds > 0
    [only] = (await finder.find("telescope manual", "dense", 1)).entries
    assert only.passage.score == max(one.passage.score for one in ranking.entries)


async def test_ways_that_are_not_there_are_refused(finder, ways):
    assert ways.modes == ("dense", "lexical", "hybrid")
    with pytest.raises(Invalid, match="unknown_mode"):
        await finder.find("q", "dense+rerank", 1)


async def test_a_reranker_is_a_way_of_its_own_and_a_failing_one_has_no_figures(
    db, embedder, models, tenants, collection
):
    reranker = CohereReranker(models.openai_url, "rr")
    ways = SearchWays(Search(db, embedder, Reranking(reranker)))
    assert ways.modes == ("dense", "lexical", "hybrid", "dense+rerank", "lexical+rerank", "hybrid+rerank")
    async with tenants.filled(collection, keep=False, say=str) as scratch:
        finder = Finder(ways, scratch.user_id, collection.ids)
        assert (await finder.find("thirty days", "dense+rerank", 2)).entries[0].entry == "d-holidays"
        assert len(models.reranks) == 1
        models.script_reranks(status=500)
        with pytest.raises(Unavailable, match="rerank_failed"):
            await finder.find("thirty days", "dense+rerank", 2)
    await reranker.close()


async def test_a_run_has_its_figures(finder, collection, tmp_path):
    mode = await runner.run(collection, finder, "dense", say=str)
    by_id = {query.query: query for query in mode.queries}
    assert by_id["q1"].scores == dict.fromkeys(MEASURES, 1.0)
    assert by_id["q1"].hits[0].relevance == 2
    assert 0 < by_id["q3"].scores["ndcg@10"] < 1
    assert mode.all["mrr"] == pytest.approx(sum(mode_query.scores["mrr"] for mode_query in mode.queries) / 4)
    assert 0 < mode.p50_ms <= mode.p99_ms
    result = made(collection, mode, mode.model_copy(update={"mode": "other"}), mode.model_copy(update={"mode": "3"}))
    assert [(one.first, one.second, one.p) for one in result.comparisons] == [
        ("dense", "other", 1.0), ("other", "3", 1.0), ("dense", "3", 1.0)
    ]  # fmt: skip
    runner.write(result, tmp_path / "result.json")
    assert runner.Result.model_validate_json((tmp_path / "result.json").read_bytes()) == result
    assert json.loads((tmp_path / "result.json").read_text())["form"] == 1


def made(collection, *modes):
    return runner.result_of(collection, modes, engine="0", embedding_model="<m>", settings="s", documents=4, chunks=9)


async def test_the_report_is_one_file_whose_texts_are_escaped(finder, collection, tmp_path):
    mode = await runner.run(collection, finder, "dense", say=str)
    report.write(made(collection, mode), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;telescope" in page
    assert "<script" not in page
    assert "&lt;b&gt;Long" in page
    assert not re.search(r"(?:src|href)=|url\(", page)
    assert page.count("<svg") == 2
    assert "The notice period is six weeks" in page
    assert report.worst(mode)[0].query == "q3"
    assert "q1" not in [query.query for query in report.worst(mode)]
    perfect = mode.model_copy(update={"queries": [query for query in mode.queries if query.query == "q1"]})
    nothing = mode.queries[0].model_copy(update={"hits": [], "scores": dict.fromkeys(MEASURES, 0.0)})
    both = [perfect, mode.model_copy(update={"mode": "lost", "queries": [nothing]})]
    page = report.html(made(collection, *both[:1]))
    assert "Every query has a perfect ranking." in page
    assert "against" not in page
    page = report.html(made(collection, *both))
    assert "Nothing was found." in page
    assert "lost against dense" in page


async def test_progress_is_said_now_and_then(collection, finder):
    many = type(collection)(collection.name, collection.corpus, collection.queries * 125, collection.qrels)

    class Instant:
        async def find(self, query, mode, k):
            return type(await finder.find("oven", "dense", 1))((), 0.001)

    said = []
    await runner.run(many, Instant(), "dense", say=said.append)
    assert said == ["small: dense, 500 of 500 queries"]


def test_plots_keep_to_their_frame_and_escape():
    svg = bars("<t>", ["a&b"], [("<s>", [1.5]), ("other", [-1.0])])
    assert "&lt;t&gt;" in svg
    assert "a&amp;b" in svg
    assert "<s>" not in svg
    heights = [float(one) for one in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', svg)]
    assert heights[:2] == [180.0, 0.0]
    assert "polyline" in curves("t", [("s", [0.5])], bottom="q")
    assert bars("t", [], []).count("<svg") == 1

"""`ringfence eval` on a database of its own or a set one, and `ringfence eval-remote` against a running engine."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from ringfence.cli import build_app
from ringfence.errors import Invalid, Unavailable
from tests.cli.test_remote import EMAIL, ringfence
from tests.evaluation.conftest import write_collection


@pytest.fixture
def environment(settings, models):
    return {
        "RINGFENCE_SECRET_KEY": settings.secret_key.get_secret_value(),
        "RINGFENCE_APP_DATABASE_URL": settings.app_database_url.get_secret_value(),
        "RINGFENCE_SYSTEM_DATABASE_URL": settings.system_database_url.get_secret_value(),
        "RINGFENCE_DATA_DIR": str(settings.data_dir),
        "RINGFENCE_EMBEDDING_PROVIDER": "openai",
        "RINGFENCE_EMBEDDING_URL": models.openai_url,
        "RINGFENCE_EMBEDDING_MODEL": "hash",
        "RINGFENCE_RERANK_PROVIDER": "tei",
        "RINGFENCE_RERANK_URL": models.url,
        "RINGFENCE_RERANK_TIMEOUT": "30",
    }


async def run(environment, *arguments):
    return await asyncio.to_thread(CliRunner().invoke, build_app(), ["eval", *arguments], None, environment)


async def test_a_collection_has_its_figures_and_its_report(environment, admin, tmp_path, models):
    folder = write_collection(tmp_path / "small")
    files = {name: str(tmp_path / name) for name in ("r.html", "r.json", "cache")}
    result = await run(
        environment, str(folder), "--html", files["r.html"], "--json", files["r.json"], "--cache", files["cache"]
    )
    assert result.exit_code == 0, result.output
    assert "small: 4 queries, 4 documents" in result.stdout
    assert "hybrid+rerank against dense: nDCG@10" in result.stdout
    assert "<!doctype html>" in (tmp_path / "r.html").read_text()
    written = json.loads((tmp_path / "r.json").read_text())
    assert [mode["mode"] for mode in written["modes"]] == [
        *("dense", "lexical", "hybrid", "dense+rerank", "lexical+rerank", "hybrid+rerank"),
    ]
    assert await admin.fetchval("select count(*) from users") == 0
    asked = len(models.embeddings)
    result = await run(environment, str(folder), "--mode", "dense", "--keep", "--cache", files["cache"])
    assert result.exit_code == 0, result.output
    assert "rerank" not in result.stdout
    assert len(models.embeddings) == asked
    assert await admin.fetchval("select count(*) from users") == 1


async def test_what_is_no_collection_or_no_mode_is_said(environment, tmp_path):
    result = await run(environment, str(tmp_path))
    assert isinstance(result.exception, Invalid)
    assert result.exception.code == "bad_collection"
    result = await run(environment, str(write_collection(tmp_path / "small")), "--mode", "magic")
    assert result.exception.code == "unknown_mode"


async def test_the_embedded_database_is_started_where_none_is_set(environment, tmp_path, models_dir):
    embedded = {name: value for name, value in environment.items() if "DATABASE" not in name and "SECRET" not in name}
    embedded |= {"RINGFENCE_EMBEDDING_PROVIDER": "embedded", "RINGFENCE_MODELS_DIR": str(models_dir)}
    result = await run(
        embedded | {"RINGFENCE_DATA_DIR": str(tmp_path / "data")},
        str(write_collection(tmp_path / "s")),
        "--mode",
        "dense",
    )
    assert result.exit_code == 0, result.output
    assert "s: 4 queries, 4 documents" in result.stdout


@pytest.fixture
async def account(live, tmp_path):
    async with live.account(EMAIL):
        (tmp_path / "handbook.txt").write_text("The notice period is six weeks.")
        assert (await ringfence(live, "ingest", str(tmp_path / "handbook.txt"))).exit_code == 0
        yield live


async def test_ones_own_questions_are_evaluated_by_the_server(account, tmp_path, models):
    file = tmp_path / "questions.jsonl"
    lines = [{"question": "notice period", "expected": [{"document": "handbook.txt", "page": 1}]}]
    file.write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    result = await ringfence(account, "eval-remote", str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("questions: 1 questions (")
    assert "dense: ndcg@10 1.000, recall@10 1.000" in result.stdout
    models.script_embeddings(status=400)
    result = await ringfence(account, "eval-remote", str(file), "--name", "again")
    assert isinstance(result.exception, Unavailable)
    assert result.exception.code == "evaluation_failed"


async def test_what_is_wrong_with_the_questions_is_said(account, tmp_path):
    for text, said in (
        ('{"question": "q"}', "not of the form"),
        ('{"question": "q", "expected": []}', "not of the form"),
        ('{"question": "q", "expected": [{"document": "nothing.txt"}]}', "no document 'nothing.txt'"),
        (
            '{"question": "q", "expected": [{"document": "7f7b6c9e-51f5-4f0c-9f5e-6f2f3f6d8f10"}]}',
            "no document 7f7b6c9e",
        ),
    ):
        (tmp_path / "q.jsonl").write_text(text)
        result = await ringfence(account, "eval-remote", str(tmp_path / "q.jsonl"))
        assert isinstance(result.exception, Invalid)
        assert said in result.exception.message

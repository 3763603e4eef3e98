"""`ringfence ingest` and `ringfence ask` against a running engine."""

import asyncio

import pytest
from typer.testing import CliRunner

from ringfence.cli import build_app
from ringfence.errors import Invalid, Unauthenticated, Unavailable
from tests.engine import PASSWORD

EMAIL = "ada@example.com"


@pytest.fixture
async def account(live):
    async with live.account(EMAIL):
        yield live


async def ringfence(live, *arguments, **environment):
    """Run a command as a terminal would, while the engine runs on this loop."""
    env = {"RINGFENCE_URL": live.url, "RINGFENCE_EMAIL": EMAIL, "RINGFENCE_PASSWORD": PASSWORD, **environment}
    return await asyncio.to_thread(CliRunner().invoke, build_app(), list(arguments), None, env)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "papers"
    (folder / "deep").mkdir(parents=True)
    (folder / "handbook.txt").write_text("The notice period is six weeks.\n\nAnders repairs the oven.")
    (folder / "deep" / "notes.md").write_text("# Notes\n\nHolidays are thirty days a year.")
    return folder


async def test_a_folder_is_ingested_and_asked(account, folder):
    result = await ringfence(account, "ingest", str(folder))
    assert result.exit_code == 0, result.output
    assert "handbook.txt" in result.stderr
    assert "notes.md" in result.stderr
    result = await ringfence(account, "ask", "How long is the notice period?")
    assert result.exit_code == 0
    assert "six weeks" in result.stdout
    assert "[1] handbook.txt, page 1: “The notice period is six weeks.”" in result.stdout
    assert "[1] handbook.txt, page 1: “The notice period is six weeks.”" in result.stderr


async def test_what_can_not_be_used_is_said_and_the_rest_goes_on(account, folder):
    (folder / "a.zip").write_bytes(b"PK\x03\x04")
    (folder / "b.pdf").write_bytes(b"%PDF-1.7 [nothing]")
    (folder / "empty.txt").touch()
    result = await ringfence(account, "ingest", str(folder))
    assert isinstance(result.exception, Invalid)
    assert "3 of the files" in result.exception.message
    again = await ringfence(account, "ingest", str(folder / "handbook.txt"))
    assert again.exit_code == 0


async def test_a_refusal_exits_with_1(account):
    result = await ringfence(account, "ask", "Why?")
    assert result.exit_code == 1
    assert "do not answer" in result.stdout


async def test_an_answer_that_breaks_off_is_an_error(account, folder):
    await ringfence(account, "ingest", str(folder))
    account.models.script(answer="It is six", break_after=1)
    result = await ringfence(account, "ask", "How long is the notice period?")
    assert isinstance(result.exception, Unavailable)
    assert result.exception.code == "model_broke_off"


async def test_who_one_is_has_to_be_said(account):
    result = await ringfence(account, "ask", "Why?", RINGFENCE_EMAIL="")
    assert "--email" in str(result.exception)
    result = await ringfence(account, "ask", "Why?", RINGFENCE_PASSWORD="wrong")
    assert isinstance(result.exception, Invalid)
    assert result.exception.code == "invalid_grant"


async def test_a_token_will_do(account):
    result = await ringfence(account, "ask", "Why?", RINGFENCE_TOKEN="nonsense")
    assert isinstance(result.exception, Unauthenticated)


async def test_the_password_is_asked_for(live):
    async with live.account(EMAIL):
        env = {"RINGFENCE_URL": live.url, "RINGFENCE_EMAIL": EMAIL}
        result = await asyncio.to_thread(CliRunner(env=env).invoke, build_app(), ["ask", "Why?"], f"{PASSWORD}\n")
    assert result.exit_code == 1
    assert PASSWORD not in result.output


async def test_no_server_is_an_error():
    result = await asyncio.to_thread(
        CliRunner().invoke, build_app(), ["ask", "Why?", "--url", "http://127.0.0.1:9"], None, {"RINGFENCE_TOKEN": "x"}
    )
    assert isinstance(result.exception, Unavailable)
    assert result.exception.code == "server_unreachable"

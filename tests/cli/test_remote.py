"""`ringfence ingest`, `ringfence ask` and `ringfence export` against a running engine."""

import asyncio
import re
import zipfile
from decimal import Decimal

import pymupdf
import pytest
from typer.testing import CliRunner

from ringfence.cli import build_app
from ringfence.client import Client
from ringfence.errors import Conflict, Forbidden, Invalid, SetupError, Unauthenticated, Unavailable
from ringfence.setting_types import ChatModelEntry
from tests.engine import PASSWORD, running

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
    result = await ringfence(account, "ingest", str(folder), "--collection", "Rules", "--tag", "2026", "--tag", "paper")
    assert result.exit_code == 0, result.output
    assert "handbook.txt" in result.stderr
    assert "notes.md" in result.stderr
    listed = await ringfence(account, "documents", "list", "--collection", "Rules", "--tag", "paper")
    assert "handbook.txt" in listed.stdout
    assert "notes.md" in listed.stdout
    result = await ringfence(account, "ask", "How long is the notice period?")
    assert result.exit_code == 0
    assert "six weeks" in result.stdout
    assert "[1] handbook.txt, page 1: “The notice period is six weeks.”" in result.stdout
    assert "[1] handbook.txt, page 1: “The notice period is six weeks.”" in result.stderr


async def test_passages_are_found_without_an_answer(account, folder):
    await ringfence(account, "ingest", str(folder))
    result = await ringfence(account, "search", "notice period", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("handbook.txt, page 1: 1.00\n")
    assert "The notice period is six weeks." in result.stdout
    result = await ringfence(account, "search", "holidays")
    assert "notes.md, page 1: 1.00" in result.stdout


async def test_a_search_takes_the_apis_options(account, folder):
    await ringfence(account, "ingest", str(folder))
    how = ("--mode", "lexical", "--fusion", "rrf", "--diversity", "0.5", "--expand", "1", "--limit", "3")
    result = await ringfence(account, "search", "notice", *how, "--filter", '{"languages": ["en"]}')
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("handbook.txt")
    assert "Anders" in result.stdout
    assert (await ringfence(account, "search", "notice", "--filter", '{"languages": ["fr"]}')).exit_code == 1
    for bad in ("[1]", "{", "null"):
        result = await ringfence(account, "search", "notice", "--filter", bad)
        assert result.exit_code == 2
        assert "no JSON object" in result.stderr


async def test_a_search_is_explained(account, folder):
    await ringfence(account, "ingest", str(folder))
    result = await ringfence(account, "search", "explain", "notice period")
    assert result.exit_code == 0, result.output
    first, embed, search, passages, *plan = result.stdout.splitlines()
    assert first == "small: Exact: 2 vectors are fewer than 20000."
    assert (embed[:7], search[:8], passages) == ("embed: ", "search: ", "passages: 2")
    assert any("embeddings_shared_pkey" in line for line in plan)
    assert (await ringfence(account, "search", "notice", "period")).exit_code == 2


async def test_where_nothing_is_found_the_exit_code_says_so(account):
    result = await ringfence(account, "search", "notice period")
    assert (result.exit_code, result.stdout) == (1, "")


async def test_what_can_not_be_used_is_said_and_the_rest_goes_on(account, folder):
    (folder / "a.zip").write_bytes(b"PK\x03\x04")
    (folder / "b.pdf").write_bytes(b"%PDF-1.7 [nothing]")
    (folder / "empty.txt").touch()
    result = await ringfence(account, "ingest", str(folder))
    assert isinstance(result.exception, Invalid)
    assert "3 of the files" in result.exception.message
    again = await ringfence(account, "ingest", str(folder / "handbook.txt"))
    assert again.exit_code == 0


async def test_a_password_opens_the_encrypted_files_of_a_folder(account, folder):
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "The vault opens at nine.")
        document.save(folder / "vault.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="geheim")
    result = await ringfence(account, "ingest", str(folder), "--password", "geheim")
    assert result.exit_code == 0, result.output
    assert "geheim" not in result.output


async def test_usage_is_shown(account, folder):
    await ringfence(account, "ingest", str(folder / "handbook.txt"))
    result = await ringfence(account, "usage")
    assert result.exit_code == 0
    size = (folder / "handbook.txt").stat().st_size
    assert result.stdout == f"documents: 1 of 10000\nbytes: {size} of {10 * 2**30}\nquestions today: 0 of 1000\n"


async def test_one_chooses_a_model_and_sees_what_it_took(settings, models, folder):
    priced = {"chat_prompt_price": Decimal(1), "chat_completion_price": Decimal(3)}
    small = ChatModelEntry(name="small", url=models.openai_url)
    changed = settings.model_copy(update={"chat_models": (small,), **priced})
    async with running(changed, models) as live, live.account(EMAIL):
        await ringfence(live, "ingest", str(folder / "handbook.txt"))
        result = await ringfence(live, "ask", "How long is the notice period?", "--model", "small")
        assert result.exit_code == 0, result.output
        assert models.chats[0].body["model"] == "small"
        async with asyncio.timeout(60):
            while "small: 1 questions, " not in (shown := await ringfence(live, "usage")).stdout:
                await asyncio.sleep(0.01)
        assert shown.stdout.splitlines()[-1].endswith(" written")
        await ringfence(live, "ask", "How long is the notice period?")
        async with asyncio.timeout(60):
            while "extract: 1 questions, " not in (shown := await ringfence(live, "usage")).stdout:
                await asyncio.sleep(0.01)
        assert re.search(r"written, 0\.\d{4} USD$", shown.stdout, re.MULTILINE)
        listed = await ringfence(live, "models")
        assert listed.stdout == "* extract: 8192 tokens, 1 and 3 USD\n  small: 8192 tokens\n"
        assert "* small: 8192 tokens" in (await ringfence(live, "models", "--choose", "small")).stdout
        models.script(status=404)
        for _ in range(5):
            await ringfence(live, "ask", "How long is the notice period?")
        listed = await ringfence(live, "models", "--choose", "")
        assert listed.stdout.splitlines()[-1] == "  small: 8192 tokens, does not answer at present"


async def test_without_a_model_none_is_shown(settings, models):
    async with running(settings.model_copy(update={"chat_provider": "none"}), models) as live, live.account(EMAIL):
        assert (await ringfence(live, "models")).output == ""


async def test_usage_without_limits_says_so(settings, models):
    without = {"quota_documents": 0, "quota_bytes": 0, "quota_questions_per_day": 0}
    async with running(settings.model_copy(update=without), models) as live, live.account(EMAIL):
        result = await ringfence(live, "usage")
    assert result.stdout.splitlines() == [
        "documents: 0 of any number",
        "bytes: 0 of any number",
        "questions today: 0 of any number",
    ]


async def test_what_failed_is_tried_again(account, folder):
    account.models.script_embeddings(status=400)
    result = await ringfence(account, "ingest", str(folder))
    assert isinstance(result.exception, Invalid)
    async with Client(account.url) as client:
        await client.sign_in(EMAIL, PASSWORD)
        ids = [str(document.document_id) for document in await client.documents()]
    assert len(ids) == 2
    result = await ringfence(account, "retry", *ids)
    assert isinstance(result.exception, Invalid)
    assert "2 of them failed again" in result.exception.message
    account.models.script_embeddings()
    result = await ringfence(account, "retry", *ids)
    assert result.exit_code == 0, result.output
    assert "handbook.txt" in result.stderr
    result = await ringfence(account, "retry", ids[0])
    assert isinstance(result.exception, Conflict)
    assert result.exception.code == "document_not_failed"


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


async def test_all_is_taken_along(account, folder, tmp_path):
    await ringfence(account, "ingest", str(folder))
    result = await ringfence(account, "export", str(tmp_path / "mine.zip"))
    assert result.exit_code == 0, result.output
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert archive.read("documents/notes.md") == (folder / "deep" / "notes.md").read_bytes()


async def test_where_nothing_can_be_written_is_said(account, folder):
    for file in (folder / "missing" / "mine.zip", folder / "handbook.txt" / "mine.zip"):
        result = await ringfence(account, "export", str(file))
        assert isinstance(result.exception, Invalid)
        assert result.exception.code == "file_not_writable"


async def test_who_one_is_has_to_be_said(account):
    result = await ringfence(account, "ask", "Why?", RINGFENCE_EMAIL="")
    assert "--email" in str(result.exception)
    result = await ringfence(account, "ask", "Why?", RINGFENCE_PASSWORD="wrong")
    assert isinstance(result.exception, Invalid)
    assert result.exception.code == "invalid_grant"


async def test_a_token_will_do(account):
    result = await ringfence(account, "ask", "Why?", RINGFENCE_TOKEN="nonsense")
    assert isinstance(result.exception, Unauthenticated)


async def test_an_api_key_is_all_that_a_program_needs(live, folder):
    async with live.account(EMAIL) as client:

        async def key(*scopes):
            body = {"name": "a program", "scopes": scopes, "expires_in_days": 1, "password": PASSWORD}
            made = (await client._http.post("/api/v1/api-keys", json=body)).json()["key"]
            return {"RINGFENCE_TOKEN": made, "RINGFENCE_EMAIL": "", "RINGFENCE_PASSWORD": ""}

        result = await ringfence(live, "ingest", str(folder), **await key("read", "write"))
        assert result.exit_code == 0, result.output
        result = await ringfence(live, "ask", "How long is the notice period?", **await key("ask"))
        assert result.exit_code == 0, result.output
        assert "six weeks" in result.stdout
        for command, scope in ((["ask", "Why?"], "write"), (["ingest", str(folder)], "ask")):
            result = await ringfence(live, *command, **await key(scope))
            assert isinstance(result.exception, Forbidden)
            assert result.exception.code == "scope_missing"


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


@pytest.mark.parametrize(
    ("token", "kind", "said"), [("", SetupError, "no_account"), ("rfk_nothing", Unavailable, "server_unreachable")]
)
def test_an_agents_tools_need_a_key_and_a_server(token, kind, said):
    env = {"RINGFENCE_TOKEN": token, "RINGFENCE_URL": "http://127.0.0.1:1/"}
    result = CliRunner().invoke(build_app(), ["mcp"], None, env)
    assert isinstance(result.exception, kind)
    assert result.exception.code == said

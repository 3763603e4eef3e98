"""`ringfence chat` against a running engine."""

import asyncio
import re

import pytest
from typer.testing import CliRunner

from ringfence.cli import build_app
from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload

EMAIL = "ada@example.com"


@pytest.fixture
async def talk(live):
    """Runs the command on lines that somebody types."""
    async with live.account(EMAIL) as client:
        await finished(client._http, (await upload(client._http)).json()["document_id"])

        async def talk(lines, *arguments):
            env = {"RINGFENCE_URL": live.url, "RINGFENCE_EMAIL": EMAIL, "RINGFENCE_PASSWORD": PASSWORD}
            command = ["chat", *arguments]
            return await asyncio.to_thread(CliRunner().invoke, build_app(), command, lines, env)

        yield talk


async def test_a_conversation_that_goes_on(talk, models):
    result = await talk("\nWho repairs the oven?\n")
    assert result.exit_code == 0, result.output
    chat_id = re.search(r"To go on: ringfence chat --chat (\S+)", result.stderr)[1]
    models.script(answer="How long is the notice period?", times=1)
    models.script(answer="", times=1)
    result = await talk("And the notice period?\nHow long is the notice period?\n", "--chat", chat_id)
    assert result.exit_code == 0, result.output
    assert "The model gave no answer" in result.stderr
    assert "six weeks" in result.stdout
    assert "[1] handbook.txt, page 1" in result.stdout

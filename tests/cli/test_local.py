"""`ringfence run`, `serve`, `worker` and `demo`, in this process (so that coverage sees them) and as processes."""

import asyncio
import io
import os
import re
import signal
import socket
import sys
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from rich.console import Console
from structlog.testing import capture_logs

from ringfence.cli.demo import DemoFailed, _fence, demo
from ringfence.cli.local import _require_loopback, everything, run_everything
from ringfence.cli.serving import _print_mail, listen, run_api, run_maintenance, run_worker, url_of
from ringfence.client import Client
from ringfence.errors import SetupError, Unavailable
from ringfence.mail import Mail, mailed_code
from ringfence.settings import Settings
from tests.engine import PASSWORD
from tests.fakes.model_server import REFUSAL, extract


@pytest.fixture
def handled():
    """SIGTERM may be raised in this process: what serves handles it, and nothing is left of it afterwards."""
    got = []
    before = signal.signal(signal.SIGTERM, lambda *_: got.append("signal"))
    yield got
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def outside(settings, database_url):
    """Settings as a person gives them who has a PostgreSQL, with the embedded parts replaced by the tests' server."""
    return settings.model_copy(
        update={
            "database_url": SecretStr(database_url),
            "app_database_url": None,
            "system_database_url": None,
        }
    )


async def code_of(folder, email):
    async with asyncio.timeout(60):
        while True:
            for path in folder.glob("*.eml"):
                text = path.read_text()
                if email in text and (found := re.search(r"\b\d{8}\b", text.partition("\n\n")[2])):
                    return found[0]
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_everything_with_nothing_but_what_comes_along(settings, models_dir, tmp_path):
    """Embedded PostgreSQL, embedded models, a worker process: sign up, upload, ask. Then again on the same folder."""
    alone = Settings(
        _env_file=None,
        data_dir=settings.data_dir,
        models_dir=models_dir,
        port=0,
        bcrypt_cost=4,
        chat_model="smollm2-135m-instruct",
    )
    async with everything(alone, chat=True) as running, Client(running.url) as client:
        registration = await client.register("ada@example.com", PASSWORD)
        await client.verify(registration, await code_of(running.mail_folder, "ada@example.com"))
        await client.sign_in("ada@example.com", PASSWORD)
        paper = tmp_path / "a.txt"
        paper.write_text("The notice period is six weeks.")
        with paper.open("rb") as file:
            document, _ = await client.upload("a.txt", file)
        async with asyncio.timeout(60):
            while not (document := await client.document(document.document_id)).final:
                await asyncio.sleep(0.1)
        assert document.state == "ready"
        events = [event async for event in client.ask("How long is the notice period?")]
        assert events[0].sources[0].quote.text == "The notice period is six weeks."
        assert "".join(event.text for event in events[1:-1])
        assert events[-1].model == "smollm2-135m-instruct"
    async with everything(alone, chat=False, worker_output=False) as running, Client(running.url) as client:
        await client.sign_in("ada@example.com", PASSWORD)
        assert [document.name for document in await client.documents()] == ["a.txt"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_these_are_loopback(host):
    _require_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_these_are_not_loopback(host):
    with pytest.raises(SetupError, match="not_loopback"):
        _require_loopback(host)


async def test_run_says_where_it_serves_and_ends_at_a_signal(outside, capfd, handled):
    run = asyncio.create_task(run_everything(outside.model_copy(update={"chat_provider": "embedded"}), chat=False))
    async with asyncio.timeout(60):
        while not (found := re.search(r"http://127.0.0.1:\d+", capfd.readouterr().out)):
            await asyncio.sleep(0.05)
    async with httpx2.AsyncClient(base_url=found[0]) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/dev/mail")).status_code == 200
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(run, 30)
    assert handled == []


async def test_a_worker_that_dies_is_replaced(outside):
    async with everything(outside, chat=True, worker_output=False) as running, Client(running.url) as client:
        first = await worker_pid(outside)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            while (second := await worker_pid(outside)) == first:
                await asyncio.sleep(0.1)
        registration = await client.register("ada@example.com", PASSWORD)
        await client.verify(registration, await code_of(running.mail_folder, "ada@example.com"))
    async with asyncio.timeout(10):
        while alive(second):
            await asyncio.sleep(0.05)


async def worker_pid(settings):
    """The worker whose mail folder is this test's."""
    wanted = str(settings.data_dir / "mail").encode()
    async with asyncio.timeout(60):
        while True:
            for entry in Path("/proc").glob("[0-9]*"):
                if wanted in command_of(entry.name):
                    return int(entry.name)
            await asyncio.sleep(0.05)


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid):
    return command_of(pid) != b""


async def test_an_address_that_is_taken_is_said(settings):
    with listen(settings) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match="address_taken"):
            listen(settings.model_copy(update={"port": port}))


def test_where_a_browser_finds_it(settings):
    with listen(settings.model_copy(update={"host": "::1"})) as listener:
        assert url_of(listener).startswith("http://[::1]:")


def test_no_packet_of_an_answer_waits_for_the_one_before(settings):
    """asyncio says so to connections of its own listeners alone; of ours they inherit it."""
    with listen(settings) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_serve_serves_until_a_signal(settings, handled):
    port = free_port(settings)
    serving = settings.model_copy(update={"smtp_host": "localhost", "port": port})
    task = asyncio.create_task(run_api(serving))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await until_ready(client)
        assert (await client.get("/dev/mail")).status_code == 404
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 30)


def free_port(settings):
    with listen(settings) as listener:
        return listener.getsockname()[1]


async def until_ready(client):
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_serve_refuses_an_unsafe_role(settings, database_url):
    unsafe = settings.model_copy(update={"smtp_host": "localhost", "app_database_url": SecretStr(database_url)})
    with pytest.raises(SetupError, match="unsafe_role"):
        await run_api(unsafe)


@pytest.mark.parametrize("end", ["signal", "parent"])
async def test_a_worker_ends_at_a_signal_or_with_its_parent(settings, monkeypatch, handled, end):
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with capture_logs() as logs:
            folder = settings.data_dir / "mail"
            task = asyncio.create_task(run_worker(settings, mail_folder=folder, with_parent=end == "parent"))
            async with asyncio.timeout(60):
                while not any(line["event"] == "working" for line in logs):
                    await asyncio.sleep(0.02)
        if end == "signal":
            signal.raise_signal(signal.SIGTERM)
        os.close(writer)
        await asyncio.wait_for(task, 30)


async def test_maintenance_ends_at_a_signal(settings, database_url):
    known = settings.model_copy(update={"database_url": SecretStr(database_url)})
    with capture_logs() as logs:
        task = asyncio.create_task(run_maintenance(known, once=False))
        async with asyncio.timeout(60):
            while not any(line["event"] == "maintaining" for line in logs):
                await asyncio.sleep(0.02)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 30)


async def test_one_round_of_maintenance(settings, database_url, app_url):
    await run_maintenance(settings.model_copy(update={"database_url": SecretStr(database_url)}), once=True)
    with pytest.raises(SetupError, match="database_missing"):
        await run_maintenance(settings, once=True)
    with pytest.raises(SetupError, match="database_rights"):
        await run_maintenance(settings.model_copy(update={"database_url": SecretStr(app_url)}), once=True)


async def test_a_worker_whose_parent_dies_hands_its_job_back(settings, live, models, admin, monkeypatch):
    """Two workers with four slots each: that of `live`, which stays busy, and ours."""
    reader, writer = os.pipe()
    models.script_embeddings(stall_after=0)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        task = asyncio.create_task(run_worker(settings, mail_folder=settings.data_dir / "mail", with_parent=True))
        async with live.account("ada@example.com") as client:
            for n in range(12):
                await client.upload(f"{n}.txt", io.BytesIO(b"Words %d." % n))
        async with asyncio.timeout(60):
            while await admin.fetchval("select count(*) from jobs where state = 'running'") < 8:
                await asyncio.sleep(0.05)
        os.close(writer)
        await asyncio.wait_for(task, 30)
    states = [tuple(row) for row in await admin.fetch("select state, attempts from jobs order by job_id")]
    assert states.count(("ready", 0)) == 8  # four that nobody had, and our four
    models.release()


def test_development_prints_mail(capsys):
    _print_mail(Mail("ada@example.com", "Subject", "Your code is 12345678\n"))
    assert "Your code is 12345678" in capsys.readouterr().out


def as_a_good_model(messages):
    """Extraction, but as a model would refuse: where no passage holds what the question is after."""
    passages, _, question = messages[-1]["content"].rpartition("Question:")
    missing = "password" in question or ("salt" in question and "salt" not in passages)
    return REFUSAL if missing else extract(messages)


async def test_the_demo_runs_to_its_end(settings, models, capsys):
    models.answerer = as_a_good_model
    await demo(settings, chat=True)
    printed = capsys.readouterr().out
    assert "404 document_not_found" in printed
    assert printed.count("is signed") == 2


async def test_the_demo_notices_an_answer_without_a_citation(settings, models):
    models.script(answer="Bananas grow in warm countries.")
    with pytest.raises(DemoFailed, match="citation"):
        await demo(settings, chat=True)


async def test_the_demo_notices_a_missing_refusal(settings, models):
    def always(messages):
        return "It is so [1]."

    models.answerer = always
    with pytest.raises(DemoFailed, match="refused"):
        await demo(settings, chat=True)


async def test_the_demo_notices_a_document_that_can_not_be_used(settings, models):
    models.script_embeddings(status=400)
    with pytest.raises(DemoFailed, match="sample document"):
        await demo(settings, chat=True)


async def test_the_demo_notices_a_mail_that_does_not_come(tmp_path):
    with pytest.raises(Unavailable, match="mail_missing"):
        await mailed_code(tmp_path, "ada@example.com", seconds=1)


async def test_the_demo_notices_a_hole_in_the_fence(live):
    live.models.script(answer=REFUSAL)
    async with live.account("ada@example.com") as client:
        await client.upload("a.txt", io.BytesIO(b"Words."))
        with pytest.raises(DemoFailed, match="foreign document"):
            await _fence([client, client], Console(quiet=True))

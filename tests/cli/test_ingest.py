"""`ringfence ingest` through known files, breaks and a server that comes and goes."""

import asyncio
import io
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from rich.console import Console

from ringfence.cli.board import Board
from ringfence.cli.files import Unreadable
from ringfence.cli.ingest import Follower, Labels, Outcome, ingest_files
from ringfence.cli.listening import bind
from ringfence.client import Client
from ringfence.documents.events import DocumentProgress, ProgressEvent
from ringfence.errors import Unauthenticated, Unavailable
from tests.engine import PASSWORD, running

EMAIL = "ada@example.com"
UPLOAD = ("POST", "/api/v1/documents")


class Counted(httpx2.AsyncHTTPTransport):
    """Real connections, whose requests are kept, and may fail after they were answered."""

    def __init__(self):
        super().__init__()
        self.requests = []
        self.accepted = 0
        self.lose = set()
        self.uploaded = asyncio.Event()

    async def handle_async_request(self, request):
        which = (request.method, request.url.path)
        self.requests.append(which)
        response = await super().handle_async_request(request)
        if which == UPLOAD:
            self.uploaded.set()
            self.accepted += response.status_code == 202
        if which in self.lose:
            self.lose.discard(which)
            await response.aclose()
            raise httpx2.ReadError("lost")
        return response

    def count(self, *which):
        return self.requests.count(which)


@asynccontextmanager
async def signed_in(url):
    transport = Counted()
    async with Client(url, transport=transport) as client:
        await client.sign_in(EMAIL, PASSWORD)
        yield client, transport


@pytest.fixture
async def account(live):
    async with live.account(EMAIL):
        yield live


@pytest.fixture
def files(tmp_path):
    found = []
    for n in range(6):
        found.append(tmp_path / f"{n}.txt")
        found[-1].write_text(f"The notice period of contract {n} is six weeks.")
    return found


def quiet():
    return Console(file=io.StringIO(), width=200)


async def ingested(client, found, **how):
    console = quiet()
    outcome = await ingest_files(client, found, console, **how)
    return outcome, console.file.getvalue()


async def test_what_is_there_already_is_not_sent(account, files, tmp_path):
    async with signed_in(account.url) as (client, transport):
        outcome, said = await ingested(client, files[:2])
        assert (outcome.ready, outcome.known, outcome.bad) == (2, 0, [])
        assert "0.txt: 1 pages, 1 passages" in said
        twice = tmp_path / "twice.txt"
        twice.write_bytes(files[2].read_bytes())
        outcome, said = await ingested(client, [*files[:3], twice])
        assert (outcome.ready, outcome.known, outcome.bad) == (1, 3, [])
        assert "3 known already" in said
    assert transport.count(*UPLOAD) == 3


async def test_what_is_new_is_labelled_and_what_is_there_keeps_its_own(account, files):
    async with signed_in(account.url) as (client, _):
        await ingested(client, files[:1], labels=Labels(tags=["old"]))
        there = await client.add_collection("Contracts")
        await ingested(client, files[:2], labels=Labels(["Contracts", "Notices"], ["new"]))
        made = {one.name: one.collection_id for one in await client.collections()}
        assert made.keys() == {"Contracts", "Notices"}
        assert made["Contracts"] == there.collection_id
        before, new = await client.documents(sort="name")
    assert (before.tags, before.collections) == (["old"], [])
    assert (new.tags, set(new.collections)) == (["new"], set(made.values()))


async def test_what_was_broken_off_goes_on_with_what_is_missing(account, files):
    """Nothing is embedded when the first run is broken off, so that nothing can be ready: the second follows it all."""
    account.models.script_embeddings(delay=30)
    async with signed_in(account.url) as (client, transport):
        running = asyncio.create_task(ingested(client, files, concurrency=1))
        await transport.uploaded.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    account.models.script_embeddings()
    async with signed_in(account.url) as (client, after):
        outcome, _ = await ingested(client, files)
        assert (outcome.ready + outcome.known, outcome.bad) == (6, [])
        assert len(await client.documents()) == 6
    assert 1 <= transport.accepted <= 2
    assert 4 <= after.accepted <= 5


async def test_a_lost_answer_sends_no_file_twice(account, files):
    async with signed_in(account.url) as (client, transport):
        transport.lose = {UPLOAD, ("POST", "/api/v1/documents/known")}
        outcome, _ = await ingested(client, files[:1])
    assert outcome.ready + outcome.known == 1
    assert transport.count(*UPLOAD) == 1


async def test_what_had_failed_is_tried_again_as_it_is(account, files):
    account.models.script_embeddings(status=400)
    async with signed_in(account.url) as (client, transport):
        outcome, said = await ingested(client, files[:2])
        assert {one.path for one in outcome.bad} == set(files[:2])
        assert f"{files[0]}: " in said
        account.models.script_embeddings()
        outcome, _ = await ingested(client, files[:1])
        assert (outcome.ready, transport.count(*UPLOAD)) == (1, 2)
        outcome, _ = await ingested(client, files[1:2], password="x")  # which goes with the file
        assert (outcome.ready, transport.count(*UPLOAD)) == (1, 3)


async def test_what_can_not_be_read_is_said_at_the_end(account, files, tmp_path):
    missing, folder = tmp_path / "missing.txt", tmp_path / "folder"
    folder.mkdir()
    broken = Unreadable(tmp_path / "x", "No such file or directory")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    async with signed_in(account.url) as (client, _):
        outcome, said = await ingested(client, [broken, missing, folder, tmp_path / "a.zip", files[0]])
    assert outcome.ready == 1
    assert [one.path.name for one in outcome.bad] == ["x", "missing.txt", "folder", "a.zip"]
    assert "missing.txt: No such file or directory" in said
    assert said.index("0.txt") < said.index("missing.txt")


async def test_a_file_that_vanishes_before_its_turn_is_said(account, files):
    async with signed_in(account.url) as (client, _):
        original = client.known

        async def known(digests):
            files[0].unlink(missing_ok=True)
            return await original(digests)

        client.known = known
        outcome, _ = await ingested(client, files[:2])
    assert outcome.ready == 1
    assert outcome.bad == [Unreadable(files[0], "No such file or directory")]


async def test_a_document_that_is_deleted_meanwhile_is_said(account, files):
    account.models.script_embeddings(delay=30)
    async with signed_in(account.url) as (client, transport):
        running = asyncio.create_task(ingested(client, files[:1]))
        await transport.uploaded.wait()
        async with asyncio.timeout(10):
            while not (found := await client.documents()):
                pass
        assert (await client._http.delete(f"/api/v1/documents/{found[0].document_id}")).status_code == 204
        outcome, _ = await running
    assert [one.reason for one in outcome.bad] == ["It was deleted meanwhile."]


async def test_a_session_is_renewed_as_often_as_it_has_to_be(settings, models, files):
    """By whoever of several calls at once is refused first; the others go on with what it got."""
    ahead = timedelta(0)
    async with (
        running(settings, models, now=lambda: datetime.now(UTC) + ahead) as live,
        live.account(EMAIL),
        signed_in(live.url) as (client, transport),
    ):
        for n in range(2):
            first = client.access_token
            ahead += timedelta(hours=1)
            outcome, _ = await ingested(client, files[2 * n : 2 * n + 2])
            assert (outcome.ready, outcome.bad) == (2, [])
            assert client.access_token != first
    assert transport.count("POST", "/api/v1/auth/token") == 3


async def test_an_end_that_comes_before_the_answer_to_its_upload_counts():
    ended = DocumentProgress(
        document_id=uuid4(), name="a.txt", size=1, stage="ready", pages=1, pages_done=1, chunks=1, chunks_done=1,
        eta_seconds=None, reason_code=None, reason=None,
    )  # fmt: skip
    outcome = Outcome()
    async with Client("http://127.0.0.1:9") as client:
        follower = Follower(client, Board(quiet(), 1), outcome, 1.0)
        follower._told(ProgressEvent(document=ended))
        assert outcome.ready == 0
        follower.add(ended.document_id, Path("a.txt"))
    assert outcome.ready == 1


@pytest.mark.long
async def test_a_session_that_has_ended_is_no_files_fault(account, files):
    async with signed_in(account.url) as (client, _), signed_in(account.url) as (other, _):
        assert (await other._http.delete("/api/v1/sessions")).status_code == 204
        with pytest.raises(Unauthenticated, match="session_ended"):
            await ingested(client, files)


async def test_a_server_that_is_restarted_is_waited_for(settings, models, files):
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port, "shutdown_grace": 0.1})
    models.script_embeddings(delay=0.1)
    async with AsyncExitStack() as engine:
        live = await engine.enter_async_context(running(settings, models))
        async with live.account(EMAIL), signed_in(live.url) as (client, transport):
            ingesting = asyncio.create_task(ingested(client, files, concurrency=2))
            await transport.uploaded.wait()
            await engine.aclose()
            async with running(settings, models):
                outcome, _ = await ingesting
    assert (outcome.ready + outcome.known, outcome.bad) == (6, [])


async def test_a_server_that_stays_away_is_an_error(account, files):
    async with signed_in(account.url) as (client, transport):

        async def fail(request):
            raise httpx2.ConnectError("down")

        transport.handle_async_request = fail
        with pytest.raises(Unavailable, match="server_unreachable"):
            await ingested(client, files, patience=0)

"""Everything behind PgBouncer in transaction mode, with fewer server connections than the engine has clients."""

import asyncio
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import SecretStr

from tests.engine import running
from tests.fakes.pgbouncer import pgbouncer, through
from tests.http.test_documents import finished, upload


def login(url):
    parts = urlsplit(url)
    return {unquote(parts.username): unquote(parts.password)}


@pytest.fixture
async def pooled(settings, app_url, system_url, tmp_path):
    """Settings of an engine whose every connection goes through the pooler."""
    async with pgbouncer(tmp_path / "pgbouncer", app_url, login(app_url) | login(system_url)) as port:
        yield settings.model_copy(
            update={
                "app_database_url": SecretStr(through(app_url, port)),
                "system_database_url": SecretStr(through(system_url, port)),
                "db_statement_cache": 0,
            }
        )


async def test_sign_up_upload_and_ask(pooled, models, admin):
    async with running(pooled, models) as live, live.account("ada@example.com") as client:
        done = await finished(client._http, (await upload(client._http)).json()["document_id"])
        assert done["state"] == "ready"
        events = [event async for event in client.ask("How long is the notice period?")]
        assert events[-1].citations[0].document == "handbook.txt"
        through_the_pooler = "select count(*) from pg_stat_activity where datname = current_database() and usename = $1"
        assert 1 <= await admin.fetchval(through_the_pooler, "ringfence_app") <= 2


@pytest.mark.long
async def test_tenants_that_share_connections_see_their_own_rows_alone(pooled, models):
    """Many transactions of two tenants take turns on two server connections; no setting of one outlives it."""
    async with (
        running(pooled, models) as live,
        live.account("ada@example.com") as ada,
        live.account("bob@example.com") as bob,
    ):
        for client, text in ((ada, b"Ada's notice period is six weeks."), (bob, b"Bob's notice period is one day.")):
            await finished(client._http, (await upload(client._http, content=text)).json()["document_id"])

        async def look(client, own, other):
            for _ in range(15):
                answer = (await client._http.post("/api/v1/answers", json={"question": "notice period?"})).text
                assert own in answer
                assert other not in answer
                assert len((await client._http.get("/api/v1/documents")).json()["documents"]) == 1

        await asyncio.gather(
            *(look(ada, "six weeks", "one day") for _ in range(4)),
            *(look(bob, "one day", "six weeks") for _ in range(4)),
        )

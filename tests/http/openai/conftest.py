"""The official client of OpenAI, with an API key of the engine."""

from contextlib import asynccontextmanager

import httpx2
import openai
import pytest

from tests.contract import keeps_to_it
from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload


@asynccontextmanager
async def client_of(url, key):
    """A client that does not try again, and whose every answer has to be one that the API describes."""
    bare = httpx2.AsyncClient(timeout=30, event_hooks={"response": [keeps_to_it]})
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=bare) as client:
        yield client


async def key_of(http, *scopes):
    """A new API key of whoever is signed in there."""
    body = {"name": "a program", "scopes": list(scopes), "expires_in_days": 1, "password": PASSWORD}
    return (await http.post("/api/v1/api-keys", json=body)).json()["key"]


@asynccontextmanager
async def program_of(live, email, *scopes):
    """A program with a key of a new account, and the account's own client."""
    async with live.account(email) as account:
        key = await key_of(account._http, *(scopes or ("read", "write", "ask")))
        async with client_of(live.url, key) as client:
            yield client, account._http


@pytest.fixture
async def ada(live):
    """Ada's program, and her own client; she has a handbook."""
    async with program_of(live, "ada@example.com") as (client, http):
        await finished(http, (await upload(http)).json()["document_id"])
        yield client, http

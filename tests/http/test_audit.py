"""`GET /api/v1/audit`: one's own events, page by page."""

from uuid import uuid4

import pytest

from tests.engine import PASSWORD


@pytest.fixture
async def ada(http, live):
    """A signed-in client that does not renew its tokens by itself."""
    async with live.account("ada@example.com") as client:
        http.headers["Authorization"] = f"Bearer {client.access_token}"
        yield http


async def audit(http, **query):
    response = await http.get("/api/v1/audit", params=query)
    assert response.status_code == 200
    return response.json()["events"]


async def test_owners_read_what_happened(ada):
    form = {"grant_type": "password", "username": "ada@example.com", "password": "wrong " + PASSWORD}
    await ada.post("/api/v1/auth/token", data=form)
    events = await audit(ada)
    assert [event["kind"] for event in events] == ["sign_in_failed", "signed_in", "verified", "registered"]
    assert {event["address"] for event in events} == {"127.0.0.1"}
    assert all("httpx" in event["agent"] for event in events)
    assert events[1]["detail"].keys() == {"session_id"}


async def test_signing_out_is_read_after_signing_in_again(ada):
    [session] = (await ada.get("/api/v1/sessions")).json()["sessions"]
    assert (await ada.post("/api/v1/auth/sign-out")).status_code == 204
    form = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    tokens = [(await ada.post("/api/v1/auth/token", data=form)).json() for _ in range(2)]
    ada.headers["Authorization"] = f"Bearer {tokens[0]['access_token']}"
    assert (await ada.delete("/api/v1/sessions")).status_code == 204
    ada.headers["Authorization"] = f"Bearer {(await ada.post('/api/v1/auth/token', data=form)).json()['access_token']}"
    events = await audit(ada, limit=5)
    kinds = ["signed_in", "sessions_ended", "signed_in", "signed_in", "session_ended"]
    assert [event["kind"] for event in events] == kinds
    assert events[1]["detail"] == {"count": 2}
    assert events[4]["detail"] == {"session_id": session["session_id"]}


async def test_it_is_read_page_by_page(ada):
    everything = await audit(ada)
    first = await audit(ada, limit=2)
    assert first == everything[:2]
    assert await audit(ada, limit=2, before=first[-1]["event_id"]) == everything[2:]
    assert await audit(ada, before=everything[-1]["event_id"]) == []
    assert await audit(ada, before=str(uuid4())) == []


async def test_it_is_ones_own(ada, live):
    mine = {event["event_id"] for event in await audit(ada)}
    async with live.account("eve@example.com") as eve:
        theirs = {event["event_id"] for event in await audit(eve._http)}
        assert await audit(eve._http, before=next(iter(mine))) == []
    assert mine
    assert theirs
    assert not mine & theirs


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"before": "yesterday"}])
async def test_bad_pages_are_refused(ada, query):
    response = await ada.get("/api/v1/audit", params=query)
    assert (response.status_code, response.json()["code"]) == (422, "bad_request")


async def test_without_a_session_it_is_401(http):
    assert (await http.get("/api/v1/audit")).status_code == 401

"""API keys from outside: shown once, each for as much as it allows, wherever a bearer token works."""

import base64
import re
from datetime import datetime
from uuid import uuid4

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload
from tests.isolation.catalog import GLOBAL_TABLES, tenant_tables

SCOPES = ("read", "write", "ask")
DOCUMENTS, ANSWERS, KEYS = "/api/v1/documents", "/api/v1/answers", "/api/v1/api-keys"
QUESTION = {"question": "How long is the notice period?"}


@pytest.fixture
async def ada(live):
    async with live.account("ada@example.com") as client:
        yield client._http


async def create(http, *scopes, name="nightly upload", days=None):
    """A new key, as the one answer shows it that ever does."""
    body = {"name": name, "scopes": list(scopes), "expires_in_days": days, "password": PASSWORD}
    response = await http.post(KEYS, json=body)
    assert response.status_code == 201, response.text
    return response.json()


@pytest.fixture
async def using(live):
    """Makes bare clients which show a key."""
    clients = []

    def using(key):
        headers = {"Authorization": f"Bearer {key['key']}"}
        clients.append(httpx2.AsyncClient(base_url=live.url, timeout=30, headers=headers))
        return clients[-1]

    yield using
    for client in clients:
        await client.aclose()


async def test_a_key_is_shown_once(ada):
    body = {"name": " nightly ", "scopes": ["write", "read"], "expires_in_days": 90, "password": PASSWORD}
    response = await ada.post(KEYS, json=body)
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    made = response.json()
    assert re.fullmatch(r"rfk_[A-Za-z0-9_-]{86}==", made["key"])
    assert made["key"].startswith(made["prefix"])
    assert (made["name"], made["scopes"], made["used_at"]) == ("nightly", ["read", "write"], None)
    created, expires = (datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at"))
    assert (expires - created).days == 90
    later = await create(ada, "ask", name="second")
    assert later["expires_at"] is None
    listed = await ada.get(KEYS)
    assert listed.json()["api_keys"] == [{k: v for k, v in key.items() if k != "key"} for key in (later, made)]
    assert made["key"][12:] not in listed.text


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 101},
        {"name": "tab\tbed"},
        {"name": "turned \u202e round"},
        {"name": 5},
        {"scopes": []},
        {"scopes": ["admin"]},
        {"scopes": "read"},
        {"scopes": ["read", "read"]},
        {"expires_in_days": 0},
        {"expires_in_days": 3651},
        {"expires_in_days": "5"},
        {"expires_in_days": True},
        {"user_id": str(uuid4())},
    ],
)
async def test_bad_wishes_are_422(ada, change):
    body = {"name": "a key", "scopes": ["read"], "expires_in_days": None}
    response = await ada.post(KEYS, json={**body, **change})
    assert (response.status_code, response.json()["code"]) == (422, "bad_request")
    for name in body:
        assert (await ada.post(KEYS, json={k: v for k, v in body.items() if k != name})).status_code == 422
    assert (await ada.get(KEYS)).json() == {"api_keys": []}


async def test_a_stolen_access_token_alone_makes_no_key_and_one_that_is_made_is_told(ada, live):
    body = {"name": "mine", "scopes": ["read", "ask"], "expires_in_days": None, "password": "a wrong password"}
    refused = await ada.post(KEYS, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "password_not_confirmed")
    made = await create(ada, "read", "ask", name="click here")
    mail = await live.until_mailed("ada@example.com", "A new API key for your Ringfence account")
    assert f"begins with {made['prefix']} and may ask, read." in mail.text
    assert "click here" not in mail.text + mail.html
    assert made["key"] not in mail.text + mail.html


async def test_names_of_any_script_and_both_ends_of_a_life_will_do(ada):
    for name, days in (("x" * 100, 1), ("Nächtlicher Import ✓ 夜", 3650)):
        assert (await create(ada, "read", name=name, days=days))["name"] == name


async def test_a_key_that_reads_reads(ada, using):
    document = (await upload(ada)).json()
    await finished(ada, document["document_id"])
    await ada.post(ANSWERS, json=QUESTION)
    reader = using(await create(ada, "read"))
    assert (await reader.get("/api/v1/me")).json()["email"] == "ada@example.com"
    assert (await reader.get(DOCUMENTS)).json()["documents"][0]["document_id"] == document["document_id"]
    assert (await reader.get(f"{DOCUMENTS}/{document['document_id']}")).json()["state"] == "ready"
    assert b"notice period" in (await reader.get(f"{DOCUMENTS}/{document['document_id']}/content")).content
    [answer] = (await reader.get(ANSWERS)).json()["answers"]
    assert (await reader.get(f"{ANSWERS}/{answer['answer_id']}")).json() == answer


async def test_a_key_that_writes_uploads_and_deletes(ada, using):
    writer = using(await create(ada, "write"))
    response = await upload(writer)
    assert response.status_code == 202
    await finished(ada, response.json()["document_id"])
    await ada.post(ANSWERS, json=QUESTION)
    [answer] = (await ada.get(ANSWERS)).json()["answers"]
    assert (await writer.delete(f"{DOCUMENTS}/{response.json()['document_id']}")).status_code == 204
    assert (await writer.delete(f"{ANSWERS}/{answer['answer_id']}")).status_code == 204
    assert (await ada.get(DOCUMENTS)).json() == {"documents": [], "next_cursor": None}
    assert (await ada.get(ANSWERS)).json() == {"answers": []}


async def test_a_key_that_asks_asks(ada, using):
    await finished(ada, (await upload(ada)).json()["document_id"])
    asker = using(await create(ada, "ask"))
    answer = await asker.post(ANSWERS, json=QUESTION)
    assert answer.status_code == 200
    assert "six weeks" in answer.text


async def operations(http):
    """Every operation that needs a token, as the API describes itself: (method, path, its scope or "")."""
    described = (await http.get("/api/openapi.json")).json()["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", str(uuid4()), path), "".join(operation["security"][0]["bearer"]))
        for path, methods in described.items()
        for method, operation in methods.items()
        if "security" in operation
    ]


def said(refused):
    """Code and words of an error, in the engine's form, or below /v1 in OpenAI's."""
    openai = refused.request.url.path.startswith("/v1/")
    assert refused.headers["content-type"] == ("application/json" if openai else "application/problem+json")
    body = refused.json()
    return (body["error"]["code"], body["error"]["message"]) if openai else (body["code"], body["detail"])


async def test_beyond_its_scopes_a_key_opens_nothing(ada, using):
    """Of every route: all other scopes together are not enough, and its own alone is."""
    having = {scope: using(await create(ada, scope)) for scope in SCOPES}
    lacking = {scope: using(await create(ada, *(set(SCOPES) - {scope}))) for scope in SCOPES}
    found = [operation for operation in await operations(ada) if operation[2]]
    assert {scope for _, _, scope in found} == set(SCOPES)
    for method, path, scope in found:
        refused = await lacking[scope].request(method, path)
        assert (refused.status_code, said(refused)[0]) == (403, "scope_missing"), (method, path)
        assert refused.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'
        assert scope in said(refused)[1]
        async with having[scope].stream(method, path) as opened:  # not read: some never end
            assert opened.status_code not in {401, 403}, (method, path)


async def test_a_key_manages_neither_keys_nor_sessions(ada, using):
    made = await create(ada, *SCOPES)
    key = using(made)
    # Which models there are, every key may know.
    found = [(m, path) for m, path, scope in await operations(ada) if not scope and not path.startswith("/v1/models")]
    assert {("POST", KEYS), ("GET", "/api/v1/sessions"), ("POST", "/api/v1/auth/sign-out")} <= set(found)
    wish = {"name": "one more", "scopes": ["read"], "expires_in_days": None, "password": PASSWORD}
    for method, path in [*found, ("DELETE", f"{KEYS}/{made['key_id']}")]:
        refused = await key.request(method, path, json=wish if method == "POST" else None)
        assert (refused.status_code, said(refused)[0]) == (403, "session_required"), (method, path)
    assert len((await ada.get(KEYS)).json()["api_keys"]) == 1
    assert (await ada.get("/api/v1/me")).status_code == 200


async def test_each_scope_is_where_it_belongs(ada):
    expected = {
        ("GET", "/api/v1/me"): "read",
        ("GET", DOCUMENTS): "read",
        ("POST", DOCUMENTS): "write",
        ("GET", ANSWERS): "read",
        ("POST", ANSWERS): "ask",
        ("GET", KEYS): "",
    }
    found = {(method, path): scope for method, path, scope in await operations(ada)}
    assert expected.items() <= found.items()


def invalid(response):
    """The body of an answer to a token that opens nothing, which says so as RFC 6750 does."""
    assert (response.status_code, response.json()["code"]) == (401, "invalid_token")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    return response.content


async def test_wrong_revoked_expired_and_disabled_look_alike(ada, using, admin):
    gone, old, wrong = [await create(ada, "read", days=1) for _ in range(3)]
    assert (await using(gone).get("/api/v1/me")).status_code == 200
    assert (await ada.delete(f"{KEYS}/{gone['key_id']}")).status_code == 204
    await admin.execute("update api_keys set expires_at = now() where key_id = $1", old["key_id"])
    changed = "A" if wrong["key"][-4] != "A" else "B"
    wrong["key"] = wrong["key"][:-4] + changed + wrong["key"][-3:]
    bodies = {invalid(await using(key).get("/api/v1/me")) for key in (gone, old, wrong, {"key": "rfk_"})}
    good = await create(ada, "read")
    await admin.execute("update users set disabled_at = now()")
    bodies.add(invalid(await using(good).get("/api/v1/me")))
    assert len(bodies) == 1


async def test_a_key_outlives_its_session(ada, using):
    key = using(await create(ada, "read"))
    assert (await ada.delete("/api/v1/sessions")).status_code == 204
    assert (await key.get("/api/v1/me")).status_code == 200


async def test_last_use_is_noted_and_not_at_every_request(ada, using, admin):
    key = using(await create(ada, "read"))
    version = "select xmin::text || ctid::text from api_keys"
    unused = await admin.fetchval(version)
    await key.get("/api/v1/me")
    noted = await admin.fetchval(version)
    [listed] = (await ada.get(KEYS)).json()["api_keys"]
    assert listed["used_at"] >= listed["created_at"]
    assert noted != unused
    for _ in range(5):
        await key.get("/api/v1/me")
    assert await admin.fetchval(version) == noted
    await admin.execute("update api_keys set used_at = used_at - interval '1 minute'")
    await key.get("/api/v1/me")
    assert (await ada.get(KEYS)).json()["api_keys"][0]["used_at"] > listed["used_at"]


async def test_nobody_sees_or_revokes_anothers_keys(ada, using, live):
    made = await create(ada, "read")
    async with live.account("eve@example.com") as eve:
        assert (await eve._http.get(KEYS)).json() == {"api_keys": []}
        theirs = await eve._http.delete(f"{KEYS}/{made['key_id']}")
        never = await eve._http.delete(f"{KEYS}/{uuid4()}")
        assert (theirs.status_code, theirs.json()["code"]) == (404, "api_key_not_found")
        assert theirs.content == never.content
        await upload(eve._http)
    assert (await using(made).get(DOCUMENTS)).json() == {"documents": [], "next_cursor": None}


async def test_the_fifty_first_key_is_a_conflict(ada):
    for _ in range(50):
        await create(ada, "read")
    body = {"name": "more", "scopes": ["read"], "expires_in_days": None, "password": PASSWORD}
    refused = await ada.post(KEYS, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_api_keys")


async def test_neither_the_whole_database_nor_the_log_holds_a_key(ada, using, admin):
    with capture_logs() as logs:
        made = await create(ada, *SCOPES)
        key = using(made)
        await finished(key, (await upload(key)).json()["document_id"])
        await key.post(ANSWERS, json=QUESTION)
        await key.get("/api/v1/sessions")
    dump = repr(logs)
    for table in (*await tenant_tables(admin), *GLOBAL_TABLES):
        dump += "\n".join(row[0] for row in await admin.fetch("select t::text from TABLE t".replace("TABLE", table)))
    assert made["prefix"] in dump
    secret = base64.urlsafe_b64decode(made["key"].removeprefix("rfk_"))[32:]
    for sign in (made["key"], made["key"][-40:-2], secret.hex()):
        assert sign not in dump

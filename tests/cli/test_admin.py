"""`ringfence admin …` as an operator runs it, on a real database, beside a running engine where tokens matter."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from uuid import UUID, uuid4

import numpy as np
import pytest
from typer.testing import CliRunner

from ringfence.accounts import audit_queries
from ringfence.accounts.audit import AuditKind, pseudonym, record
from ringfence.accounts.sessions import Device
from ringfence.cli import EXIT_CODES, build_app, main
from ringfence.documents import queries
from ringfence.documents.chunker import Chunk
from ringfence.errors import Kind
from ringfence.ids import new_document_id, new_user_id
from ringfence.keys import Purpose, derive
from ringfence.models.registry import EmbeddingModels
from tests.conftest import SECRET
from tests.engine import PASSWORD
from tests.http.test_documents import TEXT, upload

ADD = """
insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, 'a hash', $3)
"""
FORM = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}


@pytest.fixture
def environment(app_url, system_url, tmp_path):
    """All that the commands need."""
    return {
        "RINGFENCE_SECRET_KEY": SECRET,
        "RINGFENCE_APP_DATABASE_URL": app_url,
        "RINGFENCE_SYSTEM_DATABASE_URL": system_url,
        "RINGFENCE_DATA_DIR": str(tmp_path / "none"),
    }


@pytest.fixture
def ringfence(environment):
    async def ringfence(*arguments, answer=None):
        root = logging.getLogger()
        handlers = root.handlers
        try:
            return await asyncio.to_thread(CliRunner().invoke, build_app(), ["admin", *arguments], answer, environment)
        finally:  # the engine beside it must not log to the command's standard error, which is closed
            root.handlers = handlers

    return ringfence


@pytest.fixture
async def ada(http, live):
    """A signed-in client that does not renew its tokens by itself."""
    async with live.account("ada@example.com") as client:
        http.headers["Authorization"] = f"Bearer {client.access_token}"
        yield http


async def add(admin, email, verified=True):
    user_id = new_user_id()
    await admin.execute(ADD, user_id, email, datetime.now(UTC) if verified else None)
    return user_id


async def store(db, user_id, texts):
    """A document of a user, with a vector for each of its passages."""
    document_id = new_document_id()
    model_id = await EmbeddingModels(db).number("openai/hash", 2)
    chunks = [Chunk(number, text, ((1, 0, len(text)),)) for number, text in enumerate(texts)]
    async with db.tenant(user_id) as tx:
        await queries.add(tx, document_id, name="a.txt", media_type="text/plain", size=1, sha256=bytes(32))
        await queries.add_chunks(tx, document_id, chunks, {model_id: np.eye(2, dtype=np.float32)[: len(texts)]})


async def spoken(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_users_are_listed_with_states_and_counts(ringfence, ada, admin):
    await upload(ada)
    await add(admin, "waiting@example.com", verified=False)
    await admin.execute("update users set disabled_at = now() where user_id = $1", await add(admin, "bad@example.com"))
    found = {user["email"]: user for user in await spoken(await ringfence("users", "list", "--json"))}
    adas = found["ada@example.com"]
    assert adas["user_id"] == (await ada.get("/api/v1/me")).json()["user_id"]
    assert (adas["sessions"], adas["documents"], adas["bytes"]) == (1, 1, len(TEXT))
    assert datetime.fromisoformat(adas["signed_in_at"]) > datetime.fromisoformat(adas["created_at"])
    assert (adas["disabled_at"], found["waiting@example.com"]["verified_at"]) == (None, None)
    assert found["bad@example.com"]["disabled_at"]
    assert found["bad@example.com"]["documents"] == found["bad@example.com"]["bytes"] == 0
    table = (await ringfence("users", "list")).stdout
    for line, words in zip(
        table.splitlines(),
        (["id", "address", "state"], ["bad@", "disabled"], ["waiting@", "not verified"], ["ada@", "active"]),
        strict=True,
    ):
        assert all(word in line for word in words)
    assert len((await ringfence("users", "list", "--limit", "1")).stdout.splitlines()) == 2
    for content in ("handbook", "notice", "a hash"):
        assert content not in table + json.dumps(found)


async def test_nobody_is_listed_as_none(ringfence):
    assert (await ringfence("users", "list")).stdout == "none\n"
    assert await spoken(await ringfence("users", "list", "--json")) == []


async def test_a_disabled_user_is_out_at_once_until_enabled(ringfence, ada):
    user_id = (await ada.get("/api/v1/me")).json()["user_id"]
    result = await ringfence("users", "disable", "ADA@example.com", "--yes")
    assert result.stdout == f"ada@example.com ({user_id}): disabled\n"
    assert (await ada.get("/api/v1/me")).json()["code"] == "session_ended"
    assert (await ada.post("/api/v1/auth/token", data=FORM)).json()["error"] == "invalid_grant"
    assert "disabled already" in (await ringfence("users", "disable", user_id, "--yes")).stdout
    assert "enabled" in (await ringfence("users", "enable", user_id)).stdout
    again = await spoken(await ringfence("users", "enable", user_id, "--json"))
    assert again == {"user_id": user_id, "changed": False}
    assert (await ada.get("/api/v1/me")).status_code == 401  # sessions do not come back to life
    token = (await ada.post("/api/v1/auth/token", data=FORM)).json()["access_token"]
    events = (await ada.get("/api/v1/audit", headers={"Authorization": f"Bearer {token}"})).json()["events"]
    kinds = ["signed_in", "enabled", "sign_in_failed", "sessions_ended", "disabled", "signed_in"]
    assert [event["kind"] for event in events][:6] == kinds
    for event in (events[1], events[3], events[4]):
        assert event["detail"]["who"] == "operator"
        assert (event["address"], event["agent"]) == ("", "ringfence admin")
    assert "who" not in events[2]["detail"]


async def test_signing_out_ends_every_session_and_says_so(ringfence, ada):
    tokens = (await ada.post("/api/v1/auth/token", data=FORM)).json()
    result = await spoken(await ringfence("users", "sign-out", "ada@example.com", "--yes", "--json"))
    assert result["sessions_ended"] == 2
    assert (await ada.get("/api/v1/me")).json()["code"] == "session_ended"
    renewal = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await ada.post("/api/v1/auth/token", data=renewal)).json()["error"] == "invalid_grant"
    assert "sessions ended: 0" in (await ringfence("users", "sign-out", "ada@example.com", "--yes")).stdout
    events = await spoken(await ringfence("users", "events", "ada@example.com", "--json"))
    assert [event["kind"] for event in events].count("sessions_ended") == 1
    assert events[0]["detail"] == {"count": 2, "who": "operator"}
    table = (await ringfence("users", "events", "ada@example.com", "--limit", "1")).stdout.splitlines()
    assert len(table) == 2
    assert "sessions_ended" in table[1]
    assert "who=operator count=2" in table[1]


@pytest.mark.parametrize("command", ["disable", "sign-out"])
async def test_what_cuts_people_off_asks_first(ringfence, admin, command):
    user_id = await add(admin, "ada@example.com")
    for answer in ("n\n", ""):
        refused = await ringfence("users", command, str(user_id), answer=answer)
        assert refused.exit_code == 1
        assert f"ada@example.com ({user_id})?" in refused.stderr
        assert refused.stdout.strip() == answer.strip()  # the runner shows what is typed
    assert await admin.fetchval("select count(*) from audit_events") == 0
    assert await admin.fetchval("select disabled_at from users") is None
    assert (await ringfence("users", command, str(user_id), answer="y\n")).exit_code == 0


@pytest.mark.parametrize(
    ("who", "code", "kind"),
    [
        ("0f5ae5d0-7c3c-4d6c-9a55-6f2b1f4b8a11", "user_not_found", Kind.NOT_FOUND),
        ("nobody@example.com", "user_not_found", Kind.NOT_FOUND),
        ("waiting@example.com", "user_not_found", Kind.NOT_FOUND),
        ("nobody", "invalid_email", Kind.INVALID),
    ],
)
async def test_who_is_not_there_is_not_found(ringfence, admin, environment, monkeypatch, capsys, who, code, kind):
    await add(admin, "waiting@example.com", verified=False)
    for command in (("disable", "--yes"), ("enable",), ("sign-out", "--yes")):
        assert code in str((await ringfence("users", command[0], who, *command[1:])).exception)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["ringfence", "admin", "users", "enable", who])
    with pytest.raises(SystemExit) as caught:
        await asyncio.to_thread(main)
    assert caught.value.code == EXIT_CODES[kind]
    assert capsys.readouterr().err.startswith("ringfence: ")


async def test_an_unverified_registration_is_found_by_its_id(ringfence, admin):
    user_id = await add(admin, "waiting@example.com", verified=False)
    assert (await spoken(await ringfence("users", "disable", str(user_id), "--yes", "--json")))["changed"]


async def test_a_former_owner_is_matched_by_the_id_that_they_had(ringfence, db, admin):
    former = await add(admin, "gone@example.com")
    async with db.system() as tx:
        await record(tx, former, AuditKind.DELETED, Device("203.0.113.9", "a test"))
        await audit_queries.pseudonymise(tx, former, pseudonym(derive(SECRET, Purpose.AUDIT), former))
    [event] = await spoken(await ringfence("users", "events", str(former), "--json"))
    assert (event["kind"], event["address"], event["agent"]) == ("deleted", "", "")
    assert (await ringfence("users", "events", str(uuid4()))).stdout == "none\n"
    assert "user_not_found" in str((await ringfence("users", "events", "former@example.com")).exception)


async def test_failed_sign_ins_of_nobody_can_be_seen(ringfence, ada):
    await ada.post("/api/v1/auth/token", data={**FORM, "username": "nobody@example.com"})
    [event] = await spoken(await ringfence("users", "events", str(UUID(int=0)), "--json"))
    assert (event["kind"], event["address"]) == ("sign_in_failed", "127.0.0.1")


async def test_what_strangers_say_can_not_steer_the_terminal(ringfence, admin, db):
    user_id = await add(admin, "ada@example.com")
    async with db.system() as tx:
        await record(tx, user_id, AuditKind.SIGN_IN_FAILED, Device("\x9b2J\x1b[2J", "a\x1b]0;agent\x07"))
    shown = (await ringfence("users", "events", str(user_id))).stdout
    assert "]0;agent" in shown
    assert not {"\x1b", "\x9b", "\x07"} & set(shown)


async def test_keys_are_rotated_and_tokens_live_on(ringfence, ada, admin):
    first = (await ada.get("/.well-known/jwks.json")).json()["keys"][0]["kid"]
    result = await spoken(await ringfence("rotate-keys", "--json"))
    assert result["key_id"] == await admin.fetchval("select key_id from signing_keys where retired_at is null")
    assert result["key_id"] != first
    assert (await ada.get("/api/v1/me")).status_code == 200
    said = (await ringfence("rotate-keys")).stdout
    assert await admin.fetchval("select key_id from signing_keys where retired_at is null") in said
    assert await admin.fetchval("select count(*) from signing_keys") == 3


async def test_it_needs_the_secret_and_the_database(environment):
    for missing in ("RINGFENCE_SECRET_KEY", "RINGFENCE_SYSTEM_DATABASE_URL"):
        some = {**environment, missing: None}
        result = await asyncio.to_thread(CliRunner().invoke, build_app(), ["admin", "users", "list"], None, some)
        assert getattr(result.exception, "kind", None) is Kind.SETUP


async def test_a_users_quotas_are_shown_and_set_and_noted(ringfence, ada, admin):
    await upload(ada)
    shown = await spoken(await ringfence("users", "quota", "ada@example.com", "--json"))
    user_id = (await ada.get("/api/v1/me")).json()["user_id"]
    assert shown == {
        "user_id": user_id,
        "documents": {"used": 1, "limit": 10_000, "set by": "settings"},
        "bytes": {"used": len(TEXT), "limit": 10 * 2**30, "set by": "settings"},
        "questions": {"used": 0, "limit": 1000, "set by": "settings"},
    }
    table = (await ringfence("users", "quota", user_id, "--documents", "1", "--bytes", "0")).stdout.splitlines()
    assert [line.split() for line in table] == [
        ["quota", "used", "limit", "set", "by"],
        ["documents", "1", "1", "operator"],
        ["bytes", str(len(TEXT)), "none", "operator"],
        ["questions", "0", "1000", "settings"],
    ]
    assert (await upload(ada, "b.txt", b"More words.")).json()["code"] == "quota_exceeded"
    await ringfence("users", "quota", user_id, "--questions", "1")
    answers = [await ada.post("/api/v1/answers", json={"question": "Who?"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert (await ada.get("/api/v1/me/usage")).json()["bytes"]["limit"] is None
    found = await spoken(await ringfence("users", "quota", user_id, "--default", "--json"))
    assert {found[name]["set by"] for name in ("documents", "bytes", "questions")} == {"settings"}
    assert (await upload(ada, "b.txt", b"More words.")).status_code == 202
    await ringfence("users", "quota", user_id, "--default")
    events = [event for event in (await ada.get("/api/v1/audit")).json()["events"] if event["kind"] == "quota_changed"]
    assert [event["detail"] for event in events] == [
        {"who": "operator"},
        {"who": "operator", "questions": 1},
        {"who": "operator", "documents": 1, "bytes": 0},
    ]
    assert {(event["address"], event["agent"]) for event in events} == {("", "ringfence admin")}


@pytest.mark.parametrize("given", [("--default", "--documents", "3"), ("--default", "--questions", "0")])
async def test_quotas_are_set_or_the_defaults_again(ringfence, given):
    result = await ringfence("users", "quota", str(uuid4()), *given)
    assert getattr(result.exception, "code", None) == "bad_quota"


async def test_a_quota_is_no_negative_number(ringfence):
    assert (await ringfence("users", "quota", str(uuid4()), "--bytes", "-1")).exit_code == 2


@pytest.mark.parametrize("group", [(), ("users",)])
async def test_without_a_command_it_says_which_there_are(ringfence, group):
    for command in ("disable", "enable", "sign-out", "events", "quota") if group else ("users", "rotate-keys"):
        assert command in (await ringfence(*group, "--help")).stdout


async def test_an_account_is_deleted_for_ever(ringfence, ada, admin):
    await upload(ada)
    refused = await ringfence("users", "delete", "ada@example.com", answer="n\n")
    assert refused.exit_code == 1
    assert (await ada.get("/api/v1/me")).status_code == 200
    user_id = (await ada.get("/api/v1/me")).json()["user_id"]
    assert (await spoken(await ringfence("users", "delete", "ada@example.com", "--yes", "--json")))["deleted"] is True
    assert (await ada.get("/api/v1/me")).status_code == 401
    async with asyncio.timeout(30):
        while await admin.fetchval("select count(*) from users"):
            await asyncio.sleep(0.05)
    events = await spoken(await ringfence("users", "events", user_id, "--json"))
    assert (events[0]["kind"], events[0]["detail"]) == ("deleted", {"who": "operator"})
    assert {event["address"] for event in events} == {""}
    assert await admin.fetchval("select count(*) from audit_events where user_id = $1", UUID(user_id)) == 0


async def test_a_closed_account_is_not_opened_again(ringfence, admin):
    user_id = await add(admin, "ada@example.com")
    await ringfence("users", "delete", str(user_id), "--yes")
    assert "was not disabled" in (await ringfence("users", "enable", str(user_id))).stdout


async def test_jobs_that_were_set_aside_are_listed_and_queued_again(ringfence, live, ada, admin):
    live.models.script_embeddings(status=503)
    document_id = (await upload(ada)).json()["document_id"]
    assert "queued again" not in (await ringfence("jobs", "list")).stdout
    [waiting] = [
        job for job in await spoken(await ringfence("jobs", "list", "--all", "--json")) if job["kind"] != "mail"
    ]
    assert waiting["state"] in {"ready", "running"}
    async with asyncio.timeout(30):  # too old to be tried once more
        while not (parked := await spoken(await ringfence("jobs", "list", "--json"))):
            await admin.execute(
                "update jobs set created_at = now() - '2 hours'::interval, run_after = now() where state = 'ready'"
            )
    [job] = parked
    assert (job["job_id"], job["kind"], job["state"]) == (waiting["job_id"], "ingest", "parked")
    assert job["user_id"] == (await ada.get("/api/v1/me")).json()["user_id"]
    assert job["reason"] == (await ada.get(f"/api/v1/documents/{document_id}")).json()["reason_code"]
    table = (await ringfence("jobs", "list")).stdout
    assert all(word in table for word in ("ingest", "parked", job["reason"], job["user_id"]))
    for content in (document_id, "handbook", "payload"):
        assert content not in table + json.dumps(parked)
    live.models.script_embeddings()
    assert (await ringfence("jobs", "retry", str(job["job_id"]))).stdout == f"queued again: {job['job_id']}\n"
    async with asyncio.timeout(30):
        while (await ada.get(f"/api/v1/documents/{document_id}")).json()["state"] != "ready":
            await asyncio.sleep(0.05)
        while await admin.fetchval("select count(*) from jobs where kind = 'ingest'"):
            await asyncio.sleep(0.05)


async def test_a_job_that_is_not_set_aside_is_said(ringfence, admin):
    user_id = await add(admin, "ada@example.com")
    await admin.execute(
        "insert into jobs (user_id, kind, payload, tag, state) select $1, 'k', '{}', 1, 'parked'", user_id
    )
    number = await admin.fetchval("select job_id from jobs")
    result = await ringfence("jobs", "retry", str(number), str(number + 1), "--json")
    assert json.loads(result.stdout) == {"queued": [number]}
    assert (result.exception.code, result.exception.message) == ("job_not_found", f"Not set aside: {number + 1}.")
    table = (await ringfence("jobs", "list", "--all")).stdout.splitlines()
    assert len(table) == 2
    assert "ready" in table[1]
    assert (await ringfence("jobs", "list")).stdout == "none\n"
    assert (await ringfence("jobs", "retry", str(number))).stdout == "queued again: none\n"


async def test_users_are_moved_to_another_model(ringfence, environment, admin, db):
    environment |= {"RINGFENCE_EMBEDDING_PROVIDER": "openai", "RINGFENCE_EMBEDDING_MODEL": "hash"}
    assert (await ringfence("models")).stdout == "none\n"
    ada = await add(admin, "ada@example.com")
    await add(admin, "bob@example.com")
    await store(db, ada, ["One fact.", "Another one."])
    [move] = await spoken(await ringfence("models", "--json"))
    assert (move["email"], move["live"], move["coming"]) == ("ada@example.com", "openai/hash", None)
    assert (move["chunks"], move["vectors"]) == (2, {"openai/hash": 2})
    table = (await ringfence("models")).stdout.splitlines()
    assert table[1].split() == ["openai/hash", "2", "EMBEDDING", "1", "0", "2"]
    assert (await spoken(await ringfence("reembed", "--json")))["queued"] == []

    environment |= {"RINGFENCE_EMBEDDING_NEXT_PROVIDER": "openai", "RINGFENCE_EMBEDDING_NEXT_MODEL": "next"}
    assert (await ringfence("reembed", "bob@example.com")).stdout == "openai/next: 0 users are on their way to it.\n"
    await admin.execute("insert into embedding_models (name, dimensions) values ('openai/next', 384)")
    await admin.execute("update live_models set next_model_id = (select max(model_id) from embedding_models)")
    row = (await ringfence("models", "--users")).stdout.splitlines()[1].split()
    assert row[1:] == ["ada@example.com", "openai/hash", "2", "2", "openai/next", "0%"]
    assert (await ringfence("models")).stdout.splitlines()[2].split()[2:] == ["EMBEDDING_NEXT", "0", "1", "0"]
    assert (await ringfence("reembed")).stdout == "openai/next: 1 users are on their way to it.\n"
    assert await admin.fetchval("select count(*) from jobs where kind = 'reembed'") == 1

"""Leaving, from outside: the export, the deletion, and that nothing opens the account any more."""

import asyncio
import json
import tracemalloc
import zipfile
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import PurePosixPath
from uuid import UUID

import pytest

from ringfence.client import Client
from ringfence.errors import Forbidden, Invalid, RingfenceError, Unauthenticated
from ringfence.ids import user_id_from_record
from ringfence.services import open_services
from tests import traces_of
from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload

ADA, BOB = "ada-zebrafinch@example.com", "bob@example.com"
TEXT = b"The notice period of the zebrafinch is six weeks to the end of a quarter.\n\nAnders repairs the oven."
QUESTION = "How long is the notice period of the zebrafinch?"
SHEET = ("a.md", b"# The zebrafinch\n\nIt needs a notice of three days.")


@pytest.fixture
async def ada(live):
    async with live.account(ADA) as client:
        yield client


@pytest.fixture
async def bob(live):
    async with live.account(BOB) as client:
        yield client


@pytest.fixture
def files(settings):
    return settings.data_dir / "files"


async def filled(client, text=TEXT):
    """An account with two documents, one of them not read yet, and an answer; the user's id."""
    await finished(client._http, (await upload(client._http, "zebrafinch.txt", text)).json()["document_id"])
    await upload(client._http, *SHEET)
    assert [event async for event in client.ask(QUESTION)][-1].type == "done"
    await conversation(client)
    return (await client._http.get("/api/v1/me")).json()["user_id"]


async def conversation(client):
    """A chat in which something was asked, and the answer rated."""
    chat = (await client._http.post("/api/v1/chats", json={})).headers["location"]
    asked = await client._http.post(
        f"{chat}/messages", json={"question": QUESTION}, headers={"Accept": "application/json"}
    )
    feedback = {"rating": "down", "comment": "Too short, said the zebrafinch."}
    path = f"{chat}/messages/{asked.json()['message_id']}/feedback"
    assert (await client._http.put(path, json=feedback)).status_code == 204


async def gone(admin, user_id):
    async with asyncio.timeout(30):
        while await admin.fetchval("select count(*) from users where user_id = $1", UUID(user_id)):
            await asyncio.sleep(0.02)


async def api_key(client):
    """The text of an API key that may do everything."""
    scopes = ["read", "write", "ask"]
    body = {"name": "zebrafinch", "scopes": scopes, "expires_in_days": None, "password": PASSWORD}
    return (await client._http.post("/api/v1/api-keys", json=body)).json()["key"]


async def test_an_api_key_neither_exports_nor_deletes(live, ada):
    async with Client(live.url, token=await api_key(ada)) as program:
        for method, path, body in (
            ("DELETE", "/api/v1/me", {"password": PASSWORD}),
            ("GET", "/api/v1/me/export", None),
        ):
            response = await program._http.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (403, "session_required")


# Deletion


async def test_deleting_an_account_leaves_no_row_vector_file_job_or_mail(live, admin, ada, bob, files):
    user_id = await filled(ada)
    other_id = await filled(bob, b"Bob gives notice within two weeks.")
    await api_key(ada)
    await ada.register(ADA, PASSWORD)  # by somebody else, say: a row of its own with the address
    async with asyncio.timeout(30):
        while await admin.fetchval("select count(*) from jobs"):
            await asyncio.sleep(0.02)
    signs = [user_id, ADA, "ada-zebrafinch"]
    assert {
        "public.users", "public.answers", "public.chunks", "public.embeddings", "public.sessions", "public.chats",
        "public.messages", "public.traces", "public.pinned_passages",
    } <= set(await traces_of.in_tables(admin, signs))  # fmt: skip
    assert traces_of.in_folder(files, signs)
    theirs = await traces_of.rows_of(admin, other_id), traces_of.contents(files / other_id)
    await ada.delete_account(PASSWORD)
    await gone(admin, user_id)
    assert await traces_of.in_tables(admin, signs) == {}
    assert traces_of.in_folder(files, [*signs, TEXT]) == []
    assert (await traces_of.rows_of(admin, other_id), traces_of.contents(files / other_id)) == theirs
    assert await admin.fetchval("select array_agg(email) from users") == [BOB]


async def test_no_token_password_or_code_opens_it_any_more_and_the_address_is_free(live, http, ada, admin):
    user_id = (await ada._http.get("/api/v1/me")).json()["user_id"]
    access, refresh, key = ada.access_token, ada._auth._refresh, await api_key(ada)
    async with Client(live.url) as elsewhere:
        await elsewhere.sign_in(ADA, PASSWORD)
        await ada.delete_account(PASSWORD)
        assert ada.access_token is None
        with pytest.raises(RingfenceError, match=r"session_ended|invalid_grant"):
            await elsewhere.documents()
        with pytest.raises(Invalid, match="invalid_grant"):
            await elsewhere.sign_in(ADA, PASSWORD)
    old = await http.get("/api/v1/me", headers={"Authorization": f"Bearer {access}"})
    assert (old.status_code, old.json()["code"]) == (401, "session_ended")
    keys = await http.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"})
    assert (keys.status_code, keys.json()["code"]) == (401, "invalid_token")
    renewed = await http.post("/api/v1/auth/token", data={"grant_type": "refresh_token", "refresh_token": refresh})
    assert (renewed.status_code, renewed.json()["error"]) == (400, "invalid_grant")
    live.mails.clear()
    async with live.account(ADA) as anew:
        assert (await anew._http.get("/api/v1/me")).json()["user_id"] != user_id
        assert await anew.documents() == []
        assert (await anew._http.get("/api/v1/api-keys")).json()["api_keys"] == []
        await gone(admin, user_id)
        assert (await anew._http.get("/api/v1/me")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"password": "not it, but long enough"}, 403, "password_not_confirmed"),
        ({"password": ""}, 403, "password_not_confirmed"),
        ({"password": PASSWORD, "sure": True}, 422, "bad_request"),
        ({}, 422, "bad_request"),
        (None, 422, "bad_request"),
    ],
)
async def test_without_the_password_nothing_is_deleted(ada, admin, body, status, code):
    response = await ada._http.request("DELETE", "/api/v1/me", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert "not it" not in response.text
    assert (await ada._http.get("/api/v1/me")).status_code == 200
    assert await admin.fetchval("select email from users") == ADA


async def test_the_clients_errors(ada):
    with pytest.raises(Forbidden, match="password_not_confirmed"):
        await ada.delete_account("not it, but long enough")
    await ada.documents()


async def test_who_has_no_session_deletes_and_exports_nothing(http):
    for method, path, body in (("DELETE", "/api/v1/me", {"password": PASSWORD}), ("GET", "/api/v1/me/export", None)):
        response = await http.request(method, path, json=body)
        assert (response.status_code, response.json()["code"]) == (401, "no_token")


async def test_deletions_at_once_are_one(http, ada, admin):
    user_id = (await ada._http.get("/api/v1/me")).json()["user_id"]
    bearer = {"Authorization": f"Bearer {ada.access_token}"}
    requests = [http.request("DELETE", "/api/v1/me", json={"password": PASSWORD}, headers=bearer) for _ in range(5)]
    answers = {(answer.status_code, bool(answer.content)) for answer in await asyncio.gather(*requests)}
    assert (202, False) in answers
    assert answers <= {(202, False), (401, True), (403, True)}
    await gone(admin, user_id)
    assert await traces_of.in_tables(admin, [user_id, ADA]) == {}


async def test_an_answer_that_streams_meanwhile_is_not_kept(live, ada, admin):
    user_id = await filled(ada)
    live.models.script(answer="six weeks, zebrafinch, and never an end", stall_after=1)
    async with Client(live.url, token=ada.access_token) as other:
        events = other.ask(QUESTION)
        while (await anext(events)).type != "token":
            pass
        await ada.delete_account(PASSWORD)
        await gone(admin, user_id)
        live.models.release()
        assert [event.type async for event in events][-1] == "done"
    assert await traces_of.in_tables(admin, [user_id, ADA, "zebrafinch"]) == {}


async def test_a_sign_in_that_the_deletion_overtakes_is_refused(live, ada, admin):
    """Whichever comes first: never a 500, never a session that stands."""
    user_id = (await ada._http.get("/api/v1/me")).json()["user_id"]
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(Client(live.url)) for _ in range(10)]
        signing_in = [asyncio.create_task(other.sign_in(ADA, PASSWORD)) for other in others]
        await ada.delete_account(PASSWORD)
        results = await asyncio.gather(*signing_in, return_exceptions=True)
        assert {result.code for result in results if result is not None} <= {"invalid_grant"}
        for other in others:
            with pytest.raises(RingfenceError, match=r"no_token|session_ended|invalid_grant"):
                await other.documents()
    await gone(admin, user_id)
    assert await traces_of.in_tables(admin, [user_id, ADA]) == {}


# Export


async def exported(client, tmp_path):
    path = tmp_path / "mine.zip"
    await client.export(path)
    return zipfile.ZipFile(path)


async def test_the_export_holds_everything_and_nothing_of_others(live, ada, bob, admin, tmp_path):
    user_id = await filled(ada)
    other_id = await filled(bob, b"Bob gives notice within two weeks.")
    key = await api_key(ada)
    with await exported(ada, tmp_path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            "account.json", "answers.json", "api-keys.json", "audit.json", "chats.json", "collections.json",
            "documents.json", "documents/a.md", "documents/zebrafinch.txt", "evaluations.json", "messages.json",
            "model-usage.json", "sessions.json", "traces.json", "usage.json",
        ]  # fmt: skip
        assert archive.read("documents/zebrafinch.txt") == TEXT
        assert archive.read("documents/a.md") == SHEET[1]
        account, answers, keys, audit, documents, sessions, usage = (
            json.loads(archive.read(f"{name}.json"))
            for name in ("account", "answers", "api-keys", "audit", "documents", "sessions", "usage")
        )
        chats, messages, traces, spent = (
            json.loads(archive.read(f"{name}.json")) for name in ("chats", "messages", "traces", "model-usage")
        )
        everything = b"".join(archive.read(name) for name in archive.namelist())
        for info in archive.infolist():
            assert abs(datetime(*info.date_time, tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)
    assert (account["format"], account["user_id"], account["email"]) == (1, user_id, ADA)
    views = {view["document_id"]: view for view in (await ada._http.get("/api/v1/documents")).json()["documents"]}
    assert {document["file"] for document in documents} == {"documents/a.md", "documents/zebrafinch.txt"}
    for document in documents:
        view = views.pop(document["document_id"])
        assert document["file"] == f"documents/{view['name']}"
        assert {key: document[key] for key in ("name", "media_type", "size", "sha256")} == {
            key: view[key] for key in ("name", "media_type", "size", "sha256")
        }
    assert views == {}
    assert answers == (await ada._http.get("/api/v1/answers")).json()["answers"]
    assert answers[0]["question"] == QUESTION
    assert answers[0]["citations"]
    assert usage == [
        {
            "documents": 2, "bytes": len(TEXT) + len(SHEET[1]), "questions": 2,
            "documents_limit": 10_000, "bytes_limit": 10 * 2**30, "questions_limit": 1000,
            "chat_model": None,
        }
    ]  # fmt: skip
    assert [event["kind"] for event in audit] == ["exported", "api_key_created", "signed_in", "verified", "registered"]
    assert audit == (await ada._http.get("/api/v1/audit")).json()["events"]
    view = (await ada._http.get("/api/v1/sessions")).json()["sessions"]
    assert [session | {"current": True} for session in sessions] == view
    assert keys == (await ada._http.get("/api/v1/api-keys")).json()["api_keys"]
    assert len(keys) == 1
    assert {(row["model"], row["questions"] > 0) for row in spent} == {("extract", True)}
    [chat], [trace] = chats, traces
    question, answer = sorted(messages, key=lambda message: message["role"], reverse=True)
    assert (chat["title"], question["text"], chat["leaf_id"]) == (QUESTION, QUESTION, answer["message_id"])
    assert (answer["rating"], answer["comment"]) == ("down", "Too short, said the zebrafinch.")
    assert trace["message_id"] == answer["message_id"]
    assert "six weeks" in trace["passages"][0]["text"]
    quoted = "\n".join(f"> {line}".rstrip() for line in trace["passages"][0]["text"].splitlines())
    assert quoted in trace["prompt"][-1]["content"]
    for sign in (BOB, other_id, "Bob", "two weeks", key):
        assert sign.encode() not in everything


async def test_both_are_described(http):
    paths = (await http.get("/api/openapi.json")).json()["paths"]
    assert {"202", "403"} <= set(paths["/api/v1/me"]["delete"]["responses"])
    assert "application/zip" in paths["/api/v1/me/export"]["get"]["responses"]["200"]["content"]


async def test_the_exports_headers(ada):
    response = await ada._http.get("/api/v1/me/export")
    day = datetime.now(UTC)
    names = {f'attachment; filename="ringfence-{day - timedelta(days=n):%Y-%m-%d}.zip"' for n in (0, 1)}
    assert response.headers["content-disposition"] in names
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["cache-control"] == "no-store"
    assert "content-length" not in response.headers
    with zipfile.ZipFile(BytesIO(response.content)) as archive:
        assert json.loads(archive.read("documents.json")) == json.loads(archive.read("answers.json")) == []


NAMES = [
    "report.txt", "report.txt", "REPORT.txt", "../../etc/passwd", "..\\..\\windows\\system.ini", "/etc/shadow",
    "C:\\x.txt", "c:autoexec.bat", "con.txt", "NUL", "aux", "com1.tar.gz", ".bashrc", "...", "name.", "a:stream",
    "x" * 255,
    "ü" * 127 + "r", "u\u0308.txt", "ü.txt", "a." + "y" * 200, 'what?*<>|".md', "report (2).txt",
    "~", "-rf", " ", "\x7f",
]  # fmt: skip


async def test_hostile_and_equal_names_are_harmless_in_it(ada, admin, files, tmp_path):
    """Names as no upload takes them, straight in the database."""
    user_id = UUID((await ada._http.get("/api/v1/me")).json()["user_id"])
    (files / str(user_id)).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        digest = number.to_bytes(32)
        await admin.execute(
            "insert into documents (user_id, document_id, name, media_type, size, sha256, created_at) "
            "values ($1, gen_random_uuid(), $2, 'text/plain', 1, $3, now() - $4 * interval '1 hour')",
            user_id,
            name,
            digest,
            number,
        )
        (files / str(user_id) / digest.hex()).write_bytes(b"%d" % number)
    with await exported(ada, tmp_path) as archive:
        names = [name for name in archive.namelist() if name.startswith("documents/")]
        listed = json.loads(archive.read("documents.json"))
        assert [document["name"] for document in listed] == NAMES
        assert [archive.read(document["file"]) for document in listed] == [b"%d" % n for n in range(len(NAMES))]
        archive.extractall(tmp_path / "out")
    assert len({name.casefold() for name in names}) == len(NAMES)
    assert names[:3] == ["documents/report.txt", "documents/report (2).txt", "documents/REPORT (3).txt"]
    assert "documents/document" in names
    for name in names:
        _, file = name.split("/")
        assert not set(file) & set('<>:"\\|?*\x7f')
        assert len(file.encode()) <= 160
        assert not file.startswith(".")
        assert file[-1] not in ". "
        assert PurePosixPath(file).stem.partition(".")[0].lower() not in {"con", "nul", "aux", "com1"}
    extracted = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert extracted == {
        *names,
        *(f"{name}.json" for name in ("account", "answers", "api-keys", "audit", "collections", "documents")),
        *(
            f"{name}.json"
            for name in ("chats", "evaluations", "messages", "model-usage", "sessions", "traces", "usage")
        ),
    }


async def test_a_file_that_is_gone_is_listed_without_one(ada, files, tmp_path):
    user_id = await filled(ada)
    for path in (files / user_id).iterdir():
        if path.read_bytes() == TEXT:
            path.unlink()
    with await exported(ada, tmp_path) as archive:
        listed = {document["name"]: document["file"] for document in json.loads(archive.read("documents.json"))}
        assert "documents/zebrafinch.txt" not in archive.namelist()
    assert listed == {"zebrafinch.txt": None, "a.md": "documents/a.md"}


async def test_more_answers_than_a_page_are_all_there_in_order(ada, admin, tmp_path):
    user_id = UUID((await ada._http.get("/api/v1/me")).json()["user_id"])
    await admin.execute(
        "insert into answers (user_id, answer_id, question, state, text, citations, created_at) "
        "select $1, gen_random_uuid(), n::text, 'done', 'text', '[]', now() - (n / 7) * interval '1 minute' "
        "from generate_series(1, 1203) n",
        user_id,
    )
    with await exported(ada, tmp_path) as archive:
        answers = json.loads(archive.read("answers.json"))
    assert sorted(int(answer["question"]) for answer in answers) == list(range(1, 1204))
    assert [answer["created_at"] for answer in answers] == sorted((a["created_at"] for a in answers), reverse=True)


SPARSE = 200 * 2**20


@pytest.fixture
async def large(ada, admin, files):
    """A document of 200 MB, nearly all of it a hole in the file."""
    user_id = UUID((await ada._http.get("/api/v1/me")).json()["user_id"])
    await admin.execute(
        "insert into documents (user_id, document_id, name, media_type, size, sha256) "
        "values ($1, gen_random_uuid(), 'large.txt', 'text/plain', $2, $3)",
        user_id,
        SPARSE,
        b"L" * 32,
    )
    (files / str(user_id)).mkdir(parents=True)
    with (files / str(user_id) / (b"L" * 32).hex()).open("wb") as file:
        file.truncate(SPARSE - 3)
        file.seek(0, 2)
        file.write(b"end")


async def test_memory_does_not_grow_with_a_document(ada, large, tmp_path):
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        with await exported(ada, tmp_path) as archive:
            _, peak = tracemalloc.get_traced_memory()
            with archive.open("documents/large.txt") as file:
                size = 0
                while piece := file.read(2**20):
                    size, last = size + len(piece), piece
    finally:
        tracemalloc.stop()
    assert (size, last[-3:]) == (SPARSE, b"end")
    assert peak - before < 30 * 2**20


async def test_no_connection_is_held_between_two_pieces(settings, ada, large):
    """So that slow clients, however many, keep none from anybody."""
    await filled(ada)
    user_id = user_id_from_record(UUID((await ada._http.get("/api/v1/me")).json()["user_id"]))
    tight = settings.model_copy(update={"db_pool_size": 1, "db_connect_timeout": 2})
    async with open_services(tight) as services, aclosing(services.export.zip(user_id)) as pieces:
        async for _ in pieces:
            await services.db.check()


async def test_an_export_that_can_not_be_finished_breaks_off(ada, admin, files, tmp_path):
    """And nothing is left where it should have been written."""
    await filled(ada)
    user_id = (await ada._http.get("/api/v1/me")).json()["user_id"]
    await admin.execute("update documents set sha256 = $1 where name = 'zebrafinch.txt'", b"F" * 32)
    (files / user_id / (b"F" * 32).hex()).mkdir()
    with pytest.raises(Exception, match="server_unreachable"):
        await ada.export(tmp_path / "mine.zip")
    assert [path.name for path in tmp_path.glob("mine*")] == []


async def test_what_was_exported_before_stays_until_the_new_one_is_whole(ada, live, tmp_path):
    (tmp_path / "mine.zip").write_bytes(b"before")
    async with Client(live.url, token="nonsense") as nobody:
        with pytest.raises(Unauthenticated):
            await nobody.export(tmp_path / "mine.zip")
    assert (tmp_path / "mine.zip").read_bytes() == b"before"
    (await exported(ada, tmp_path)).close()
    assert (tmp_path / "mine.zip").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("mine*")] == ["mine.zip"]

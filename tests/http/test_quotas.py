"""Quotas from outside: counted in the transaction that stores, so that no number of uploads at once passes them."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from urllib.parse import urlsplit

import httpx2
import pytest

from ringfence.client import Client
from ringfence.errors import QuotaExceeded, RateLimited
from tests.engine import PASSWORD, running
from tests.http.test_documents import finished, upload

QUESTION = {"question": "How long is the notice period?"}
MANY = 50


def content(number, size=100):
    return f"Document {number}. ".encode().ljust(size, b"x")


@pytest.fixture
def engine(settings, models):
    """An engine with these settings, and an account on it."""

    @asynccontextmanager
    async def engine(**changes):
        async with running(settings.model_copy(update=changes), models) as live, live.account("ada@example.com") as ada:
            limits = httpx2.Limits(max_connections=MANY)
            async with httpx2.AsyncClient(base_url=live.url, timeout=60, limits=limits) as http:
                http.headers["Authorization"] = f"Bearer {ada.access_token}"
                yield http

    return engine


@pytest.fixture
def files(settings):
    """Names of what is stored, of all users, and of what is being received."""

    def files():
        return [path.name for path in (settings.data_dir / "files").rglob("*") if path.is_file()]

    return files


async def used(http):
    return (await http.get("/api/v1/me/usage")).json()


async def at_once(http, bodies):
    return await asyncio.gather(*(upload(http, f"{n}.txt", body) for n, body in enumerate(bodies)))


def statuses(responses):
    found = [response.status_code for response in responses]
    return {status: found.count(status) for status in found}


async def test_50_parallel_uploads_can_not_pass_the_limit_of_documents(engine, admin, files):
    async with engine(quota_documents=7) as http:
        responses = await at_once(http, [content(n) for n in range(MANY)])
        assert statuses(responses) == {202: 7, 403: MANY - 7}
        assert await admin.fetchval("select count(*) from documents") == 7
        assert {path for path in files() if len(path) == 64} == {
            hashlib.sha256(content(n)).hexdigest() for n, one in enumerate(responses) if one.status_code == 202
        }
        assert (await used(http))["documents"] == {"used": 7, "limit": 7}


async def test_50_parallel_uploads_can_not_pass_the_limit_of_bytes(engine, admin):
    async with engine(quota_bytes=1050) as http:
        responses = await at_once(http, [content(n) for n in range(MANY)])
        assert statuses(responses) == {202: 10, 403: MANY - 10}
        assert await admin.fetchval("select sum(size) from documents") == 1000
        assert statuses(await at_once(http, [content(99, 51)])) == {403: 1}
        assert statuses(await at_once(http, [content(99, 50)])) == {202: 1}
        assert (await used(http))["bytes"] == {"used": 1050, "limit": 1050}


@pytest.mark.parametrize("quota", [{}, {"quota_documents": 1}, {"quota_documents": 0, "quota_bytes": 0}])
async def test_50_parallel_uploads_of_the_same_file_make_one_document_and_no_500(engine, admin, quota):
    async with engine(**quota) as http:
        responses = await at_once(http, [content(0)] * MANY)
        found = statuses(responses)
        assert found == {202: 1, 200: MANY - 1}
        assert len({one.json()["document_id"] for one in responses}) == 1
        assert await admin.fetchval("select count(*) from documents") == 1


async def test_uploads_and_deletions_at_once_never_block_each_other(engine, admin):
    async with engine(quota_documents=20) as http:

        async def come_and_go(n):
            for body in (content(n), content(n % 5, 200)):
                made = await upload(http, "a.txt", body)
                assert made.status_code in {200, 202, 403}, made.text
                if made.status_code != 403:
                    gone = await http.delete(f"/api/v1/documents/{made.json()['document_id']}?purge=true")
                    assert gone.status_code in {204, 404}

        await asyncio.gather(*(come_and_go(n) for n in range(30)))
        assert await admin.fetchval("select count(*) from documents") == 0
        assert (await used(http))["documents"]["used"] == 0


async def test_an_account_that_is_deleted_amid_uploads_is_gone(engine, admin):
    async with engine(quota_documents=30) as http:
        uploads = asyncio.gather(*(upload(http, "a.txt", content(n)) for n in range(MANY)))
        leaving = await http.request("DELETE", "/api/v1/me", json={"password": PASSWORD})
        assert leaving.status_code == 202
        assert set(statuses(await uploads)) <= {202, 401, 403}
        async with asyncio.timeout(30):
            while await admin.fetchval("select count(*) from users"):
                await asyncio.sleep(0.02)


async def test_what_is_refused_is_said_and_deleting_makes_room(engine):
    async with engine(quota_documents=2, quota_bytes=1000) as http:
        first = await upload(http, "a.txt", content(1))
        await upload(http, "b.txt", content(2))
        refused = await upload(http, "c.txt", content(3))
        assert refused.headers["content-type"] == "application/problem+json"
        body = refused.json()
        assert {name: body[name] for name in ("status", "code", "quota", "limit", "used")} == {
            "status": 403, "code": "quota_exceeded", "quota": "documents", "limit": 2, "used": 2,
        }  # fmt: skip
        assert "2 documents" in body["detail"]
        await http.delete(f"/api/v1/documents/{first.json()['document_id']}?purge=true")
        refused = await upload(http, "c.txt", content(3, 901))
        assert (refused.json()["quota"], refused.json()["used"]) == ("bytes", 100)
        assert (await upload(http, "c.txt", content(3, 900))).status_code == 202
        other = await http.get("/api/v1/documents/nothing")
        assert not {"quota", "limit", "used"} & set(other.json())


async def test_a_document_that_failed_counts_and_may_be_tried_again(engine):
    async with engine(quota_documents=2) as http:
        failed = (await upload(http, "a.pdf", b"%PDF-1.7 [nothing]")).json()["document_id"]
        assert (await finished(http, failed))["state"] == "failed"
        again = await upload(http, "a.pdf", b"%PDF-1.7 [nothing]")
        assert (again.status_code, again.json()["document_id"]) == (200, failed)
        assert (await used(http))["documents"]["used"] == 1


async def announced(http, length):
    """The status and the body of an answer to headers alone: not one byte of what they announce is sent."""
    parts = urlsplit(str(http.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST /api/v1/documents HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {length}\r\n"
        f"Authorization: {http.headers['authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


async def test_what_will_not_fit_is_refused_before_its_body_is_read(engine, files):
    async with engine(quota_documents=1, quota_bytes=3 * 2**20) as http:
        status, answer = await announced(http, 5 * 2**20)
        assert status == 403
        assert b'"quota":"bytes"' in answer
        await upload(http, "a.txt", content(1))
        status, answer = await announced(http, 2 * 2**20)  # no document that is kept can have the same content
        assert status == 403
        assert b'"quota":"documents"' in answer
        assert len(files()) >= 1
        assert [path for path in files() if "." in path] == []  # nothing that is being received


@pytest.mark.parametrize("quota", [{"quota_documents": 2}, {"quota_bytes": 200}])
async def test_the_same_file_is_there_already_at_a_full_quota_too(engine, quota):
    async with engine(**quota) as http:
        first = await upload(http, "a.txt", content(1))
        await upload(http, "b.txt", content(2))
        again = await upload(http, "another name.txt", content(1))
        assert (again.status_code, again.json()["document_id"]) == (200, first.json()["document_id"])
        assert (await upload(http, "c.txt", content(3))).status_code == 403


async def test_what_does_not_say_its_length_is_refused_at_its_end(engine, files):
    async def pieces():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for _ in range(20):
            yield b"words and " * 10
        yield b"\r\n--b--\r\n"

    async with engine(quota_bytes=1999) as http:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        refused = await http.post("/api/v1/documents", content=pieces(), headers=headers)
        assert (refused.status_code, refused.json()["quota"]) == (403, "bytes")
        assert [path for path in files() if len(path) >= 64] == []


async def test_usage_says_what_is_used_and_the_limits(engine, models):
    async with engine(quota_documents=5, quota_bytes=0, quota_questions_per_day=9) as http:
        assert (await used(http))["documents"] == {"used": 0, "limit": 5}
        await finished(http, (await upload(http, "a.txt", content(1))).json()["document_id"])
        await http.post("/api/v1/answers", json=QUESTION)
        found = await used(http)
        assert found["documents"] == {"used": 1, "limit": 5}
        assert found["bytes"] == {"used": 100, "limit": None}
        assert (found["questions"]["used"], found["questions"]["limit"]) == (1, 9)
        left = datetime.fromisoformat(found["questions"]["resets_at"]) - datetime.now(UTC)
        assert timedelta(0) < left <= timedelta(days=1)
        assert (await http.get("/api/v1/me/usage", headers={"Authorization": ""})).status_code == 401
        async with Client(str(http.base_url), token=http.headers["authorization"].removeprefix("Bearer ")) as client:
            usage = await client.usage()
        assert (usage.documents.used, usage.documents.limit, usage.bytes.limit) == (1, 5, None)
        assert (usage.questions.used, usage.questions.limit) == (1, 9)


async def test_questions_of_the_last_thirty_days_are_counted_day_by_day(engine, admin):
    async with engine() as http:
        assert [day["questions"] for day in (await http.get("/api/v1/me/usage/days")).json()["days"]] == [0] * 30
        await http.post("/api/v1/answers", json=QUESTION)
        chat = (await http.post("/api/v1/chats", json={})).headers["location"]
        for _ in range(2):
            await http.post(f"{chat}/messages", json=QUESTION, headers={"Accept": "application/json"})
        await admin.execute("update answers set created_at = created_at - interval '3 days'")
        await admin.execute(
            "insert into answers select (jsonb_populate_record(a, jsonb_build_object('answer_id', "
            "gen_random_uuid(), 'created_at', now() - interval '31 days'))).* from answers a"
        )
        days = (await http.get("/api/v1/me/usage/days")).json()["days"]
        assert [day["questions"] for day in days] == [0] * 26 + [1, 0, 0, 2]
        assert [day["day"] for day in days] == sorted({day["day"] for day in days})


async def test_questions_a_day_are_limited(engine):
    async with engine(quota_questions_per_day=3) as http:
        await finished(http, (await upload(http, "a.txt", b"The notice period is six weeks.")).json()["document_id"])
        answers = [await http.post("/api/v1/answers", json=QUESTION) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        for left, answer in zip((2, 1, 0), answers, strict=True):
            assert '"questions";q=3;w=86400' in answer.headers["ratelimit-policy"]
            assert f'"questions";r={left};t=' in answer.headers["ratelimit"]
        refused = await http.post("/api/v1/answers", json=QUESTION)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_questions")
        wait = int(refused.headers["retry-after"])
        assert 0 < wait <= 86_400
        assert refused.headers["ratelimit"].startswith(f'"questions";r=0;t={wait}')
        assert (await used(http))["questions"]["used"] == 3
        assert (await http.get("/api/v1/answers")).status_code == 200


async def test_of_many_questions_at_once_no_more_are_answered(engine):
    async with engine(quota_questions_per_day=5) as http:
        answers = await asyncio.gather(*(http.post("/api/v1/answers", json=QUESTION) for _ in range(20)))
        assert statuses(answers) == {200: 5, 429: 15}


async def test_a_question_that_was_refused_or_failed_by_the_engines_fault_does_not_count(engine, models):
    async with engine(quota_questions_per_day=5) as http:
        await finished(http, (await upload(http, "a.txt", b"The notice period is six weeks.")).json()["document_id"])
        for body in ({"question": "   "}, {"question": ""}, {}, {"question": "a\0b"}):
            assert (await http.post("/api/v1/answers", json=body)).status_code in {400, 422}
        models.script(status=400, times=2)  # also without what not every server knows
        broken = await http.post("/api/v1/answers", json=QUESTION)
        assert "event: error" in broken.text
        models.script_embeddings(status=400, times=1)
        assert (await http.post("/api/v1/answers", json=QUESTION)).status_code >= 400
        assert (await used(http))["questions"]["used"] == 0
        assert "event: done" in (await http.post("/api/v1/answers", json=QUESTION)).text
        assert (await used(http))["questions"]["used"] == 1


async def test_the_client_says_what_a_limit_says(engine):
    async with engine(quota_documents=1, quota_questions_per_day=1) as http:
        token = http.headers["authorization"].removeprefix("Bearer ")
        await upload(http, "a.txt", content(1))
        async with Client(str(http.base_url), token=token) as client:
            with pytest.raises(QuotaExceeded) as full:
                await client.upload("b.txt", BytesIO(content(2)))
            assert (full.value.quota, full.value.limit, full.value.used) == ("documents", 1, 1)
            assert [event async for event in client.ask("Who?")]
            with pytest.raises(RateLimited, match="too_many_questions") as asked:
                await anext(client.ask("Who?"))
            assert asked.value.retry_after > 0
            assert asked.value.policy.startswith('"questions";q=1;')

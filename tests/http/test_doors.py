"""What holds for every request: health, errors, limits, headers, and logs that keep secrets."""

import asyncio
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from ringfence.errors import SetupError
from ringfence.http import errors
from ringfence.http.middleware import RequestContext
from ringfence.telemetry.logs import logging_to
from tests.engine import PASSWORD, running
from tests.fakes.tcp_proxy import tcp_proxy
from tests.http.test_documents import finished, upload


async def test_alive_and_ready(http):
    for path in ("/livez", "/readyz"):
        response = await http.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_unknown_paths_and_methods_are_problems(http):
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/api/v1/me", 405, "method_not_allowed"),
    ):
        response = await http.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_refused_method_is_told_all_that_the_path_takes(http):
    for method, path, allowed in (
        ("PUT", "/api/v1/me", "DELETE, GET"),
        ("PUT", f"/api/v1/documents/{uuid4()}", "DELETE, GET, PATCH"),
        ("POST", "/livez", "GET"),
        ("POST", "/static/base.css", "GET, HEAD"),
    ):
        response = await http.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)


async def test_every_answer_has_an_id_and_security_headers(http):
    first, second = await http.get("/livez"), await http.get("/livez")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    for name in ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"):
        assert first.headers[name]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413(http, settings, declared):
    body = b'{"email": "' + b"x" * settings.body_max_bytes + b'"}'

    async def pieces():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    response = await http.post(
        "/api/v1/auth/register",
        content=body if declared else pieces(),
        headers={"Content-Type": "application/json"},
    )
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_lost_database_is_503_within_5_seconds_and_comes_back(settings, database_url, models):
    async with tcp_proxy(database_url) as proxy:
        through = settings.model_copy(
            update={
                "app_database_url": type(settings.secret_key)(proxy.url(settings.app_database_url.get_secret_value())),
                "system_database_url": type(settings.secret_key)(
                    proxy.url(settings.system_database_url.get_secret_value())
                ),
                "db_connect_timeout": 1.5,
                "db_command_timeout": 2.0,
            }
        )
        async with running(through, models) as live, live.account("ada@example.com") as client:
            for lose, restore in ((proxy.cut, proxy.restore), (hold(proxy), release(proxy))):
                await lose()
                for path in ("/readyz", "/api/v1/me"):
                    async with asyncio.timeout(5):
                        response = await client._http.get(path)
                    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
                assert (await client._http.get("/livez")).status_code == 200
                await restore()
                async with asyncio.timeout(15):
                    while (await client._http.get("/readyz")).status_code != 200:
                        await asyncio.sleep(0.05)


def hold(proxy):
    async def act():
        proxy.hold()

    return act


def release(proxy):
    async def act():
        proxy.release()

    return act


async def test_defects_and_set_up_faults_say_nothing_of_the_inside():
    app = FastAPI()
    errors.install(app)
    app.add_middleware(RequestContext)

    @app.get("/defect")
    async def defect():
        raise ZeroDivisionError("secret detail")

    @app.get("/setup")
    async def setup():
        raise SetupError("unsafe_role", "secret detail")

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        for path, code in (("/defect", "internal"), ("/setup", "unsafe_role")):
            with capture_logs() as logs:
                response = await client.get(path)
            assert (response.status_code, response.json()["code"]) == (500, code)
            assert "secret" not in response.text
            assert response.headers["x-request-id"]
            assert response.headers["x-content-type-options"] == "nosniff"
            assert logs[-1]["status"] == 500


async def test_no_log_line_holds_text_code_token_or_password(live, models, capfd):
    secret = "Xylophones sing at midnight in the garden"
    with logging_to(form="json", level="debug"):
        async with live.account("ada@example.com") as client:
            code = await live.mailed_code("ada@example.com")
            http = client._http
            document = (await upload(http, "a.txt", secret.encode() + b".")).json()
            await finished(http, document["document_id"])
            bad = (await upload(http, "b.pdf", b"%PDF-1.7 " + secret.encode())).json()
            assert (await finished(http, bad["document_id"]))["state"] == "failed"
            answer = await http.post("/api/v1/answers", json={"question": f"When do {secret}?"})
            assert "midnight" in answer.text
            models.script(answer="Xylophones", break_after=1)
            await http.post("/api/v1/answers", json={"question": f"When do {secret}?"})
            form = {"grant_type": "password", "username": "ada@example.com", "password": "wrong " + PASSWORD}
            await http.post("/api/v1/auth/token", data=form)
            await http.post("/api/v1/auth/register", json={"email": "x", "password": PASSWORD, "more": secret})
            token = client.access_token
    written = capfd.readouterr().out
    assert '"event": "request"' in written
    for confidential in (PASSWORD, code, token, token.split(".")[2], "Xylophones", "midnight"):
        assert confidential not in written


async def test_the_api_describes_itself(http):
    document = (await http.get("/api/openapi.json")).json()
    assert {"/api/v1/auth/token", "/api/v1/documents", "/api/v1/answers", "/api/v1/me"} <= document["paths"].keys()

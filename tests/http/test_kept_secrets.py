"""A dump of the database, at any time of an account's life, gives away nothing that opens it.

A flow to come adds a step to `life`, and tells `Witness` what its user typed or was given.
"""

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest

from ringfence.cli.serving import api, listen, url_of
from ringfence.embedded.postgres import find_binaries
from tests.engine import PASSWORD, running

EMAIL, ELSEWHERE = "ada@example.com", "ada@example.org"


@dataclass
class Witness:
    """Learns secrets, and takes dumps of the whole database after each step.

    Attributes:
        secrets: by their names.
        dumps: of the database, by what had happened.
    """

    database_url: str
    secrets: dict[str, str] = field(default_factory=dict)
    dumps: dict[str, str] = field(default_factory=dict)

    async def saw(self, happened, **secrets):
        """Something happened, in which these secrets were typed or given."""
        self.secrets |= secrets
        process = await asyncio.create_subprocess_exec(
            find_binaries() / "pg_dump", "--data-only", self.database_url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        self.dumps[happened] = output.decode()


def shapes(secret: str) -> Iterator[tuple[str, str]]:
    """What must not be found: the secret itself, however it is spelled, and digests that anybody can search."""
    data = secret.encode()
    yield "as it is", secret
    yield "in hex", data.hex()
    yield "in base64", base64.b64encode(data).decode().rstrip("=")
    if secret.startswith(("rfr_", "rfk_")):  # ids come first, then what has to stay secret
        yield "as bytes", base64.urlsafe_b64decode(secret[4:])[32:].hex()
    for name in ("md5", "sha1", "sha256", "sha512"):
        yield f"as {name}", hashlib.new(name, data).hexdigest()


def given_away(witness: Witness) -> list[str]:
    """Which secrets the dumps hold, where and how."""
    return [
        f"{name} {shape}, after: {happened}"
        for happened, dump in witness.dumps.items()
        for name, secret in witness.secrets.items()
        for shape, text in shapes(secret)
        if text in dump
    ]


@pytest.fixture
def witness(database_url):
    return Witness(database_url)


async def call(http, method, path, **more):
    response = await http.request(method, f"/api/v1{path}", **more)
    assert response.is_success, response.text
    return response.json() if response.content else None


async def life(settings, models, witness):
    """An account's life, and with it all that its user must keep secret."""
    registration = await register_while_no_mail_leaves(settings, witness)
    async with running(settings, models) as live, httpx2.AsyncClient(base_url=live.url, timeout=30) as http:
        code = await live.mailed_code(EMAIL)
        await witness.saw("the mail left", code=code)
        await call(http, "POST", "/auth/verify", json={"registration_id": registration, "code": code})
        await witness.saw("the address was verified")
        form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD}
        first = await call(http, "POST", "/auth/token", data=form)
        await witness.saw("signed in", access=first["access_token"], refresh=first["refresh_token"])
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        second = await call(http, "POST", "/auth/token", data=form)
        await witness.saw("renewed", second_access=second["access_token"], second_refresh=second["refresh_token"])
        http.headers["Authorization"] = f"Bearer {second['access_token']}"
        wish = {"name": "a key", "scopes": ["read"], "expires_in_days": None, "password": PASSWORD}
        key = (await call(http, "POST", "/api-keys", json=wish))["key"]
        await witness.saw("a key was made", key=key)
        wrong = {"grant_type": "password", "username": EMAIL, "password": "almost " + PASSWORD}
        await http.post("/api/v1/auth/token", data=wrong)
        await witness.saw("somebody mistyped", mistyped=wrong["password"])
        await credentials_change(live, http, witness)


async def credentials_change(live, http, witness):
    """Forgotten, reset, changed; and another address."""
    await call(http, "POST", "/auth/forgot", json={"email": EMAIL})
    reset_code = live.code_in(await live.until_mailed(EMAIL, "A new password for Ringfence"))
    await witness.saw("a code to reset was asked for", reset_code=reset_code)
    second = "a second private sentence"
    await call(http, "POST", "/auth/reset", json={"email": EMAIL, "code": reset_code, "password": second})
    await witness.saw("the password was reset", second=second)
    form = {"grant_type": "password", "username": EMAIL, "password": second}
    http.headers["Authorization"] = f"Bearer {(await call(http, 'POST', '/auth/token', data=form))['access_token']}"
    third = "a third private sentence"
    await call(http, "POST", "/me/password", json={"password": second, "new_password": third})
    await witness.saw("the password was changed", third=third)
    await call(http, "POST", "/me/email", json={"email": ELSEWHERE, "password": third})
    moving_code = await live.mailed_code(ELSEWHERE)
    await witness.saw("a code to move was asked for", moving_code=moving_code)
    await call(http, "POST", "/me/email/confirm", json={"code": moving_code})
    await witness.saw("the address was changed")
    await call(http, "POST", "/auth/sign-out")
    await witness.saw("signed out")


async def register_while_no_mail_leaves(settings, witness):
    """The registration's id. Its mail waits in the database, since there is no worker."""
    with listen(settings) as listener:
        async with api(settings, listener), httpx2.AsyncClient(base_url=url_of(listener), timeout=30) as http:
            body = {"email": EMAIL, "password": PASSWORD}
            registered = await call(http, "POST", "/auth/register", json=body)
            await witness.saw("registered", password=PASSWORD)
            return registered["registration_id"]


async def test_a_dump_gives_nothing_away(settings, models, witness):
    await life(settings, models, witness)
    assert given_away(witness) == []
    assert len(witness.secrets) >= 12
    assert all(EMAIL in dump or ELSEWHERE in dump for dump in witness.dumps.values())


@pytest.mark.parametrize(
    "kept",
    [
        "$1",
        "convert_to($1, 'utf8')::text",
        "sha256(convert_to($1, 'utf8'))::text",
        "md5($1)",
        "encode(convert_to($1, 'utf8'), 'base64')",
    ],
)
async def test_what_is_given_away_is_found(admin, witness, kept):
    secret = "31415926"
    await witness.saw("nothing", code=secret)
    assert given_away(witness) == []
    await admin.execute("create table keeps (it text)")
    await admin.execute(f"insert into keeps select {kept}", secret)
    await witness.saw("it was kept")
    assert given_away(witness)

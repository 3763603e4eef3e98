import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from ringfence.http import development, errors
from ringfence.mail import FolderTransport, Mail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
async def client(folder: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    app = FastAPI()
    errors.install(app)
    app.include_router(development.router(folder))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


async def write(folder: Path, number: int, mail: Mail) -> None:
    """As the engine writes it; the larger its number, the newer."""
    await FolderTransport(folder, lambda _: None).send(mail, f"id{number}")
    os.utime(folder / f"id{number}.eml", (number, number))


def subjects(html: str) -> list[str]:
    return re.findall(r"<h2>(.*)</h2>", html)


async def test_before_the_first_mail_the_page_says_so_and_looks_again(client: httpx2.AsyncClient) -> None:
    response = await client.get("/dev/mail")
    assert response.status_code == 200
    assert "There is no mail yet" in response.text
    assert 'http-equiv="refresh"' in response.text


async def test_mail_is_shown_newest_first(client: httpx2.AsyncClient, folder: Path) -> None:
    for number in (2, 3, 1):
        await write(folder, number, Mail("ada@example.com", f"Mail {number}", f"Your code is 0000000{number}\n"))
    response = await client.get("/dev/mail")
    assert subjects(response.text) == ["Mail 3", "Mail 2", "Mail 1"]
    assert "To ada@example.com" in response.text
    assert "Your code is 00000003" in response.text
    assert 'http-equiv="refresh"' not in response.text
    assert response.headers["cache-control"] == "no-store"


async def test_the_list_ends_somewhere(client: httpx2.AsyncClient, folder: Path) -> None:
    for number in range(1, 53):
        await write(folder, number, Mail("ada@example.com", f"Mail {number}", "."))
    shown = subjects((await client.get("/dev/mail")).text)
    assert shown == [f"Mail {number}" for number in range(52, 2, -1)]


async def test_mail_is_text_and_never_markup(client: httpx2.AsyncClient, folder: Path) -> None:
    await write(folder, 1, Mail("a&b@example.com", "<b>Subject</b> ünï", "<script>alert('1')</script> „Grüße“"))
    text = (await client.get("/dev/mail")).text
    assert "<script>" not in text
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; „Grüße“" in text
    assert subjects(text) == ["&lt;b&gt;Subject&lt;/b&gt; ünï"]
    assert "a&amp;b@example.com" in text


async def test_what_holds_no_text_is_shown_empty_and_other_files_are_not_shown(
    client: httpx2.AsyncClient, folder: Path
) -> None:
    folder.mkdir()
    (folder / "half.eml").write_bytes(b"")
    (folder / "image.eml").write_bytes(b"Subject: Image\r\nContent-Type: image/png\r\n\r\nabc")
    (folder / "notes.txt").write_text("private")
    response = await client.get("/dev/mail")
    assert response.status_code == 200
    assert sorted(subjects(response.text)) == ["", "Image"]
    assert response.text.count("<pre></pre>") == 2
    assert "private" not in response.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535"])
async def test_loopback_may_look(client: httpx2.AsyncClient, host: str) -> None:
    assert (await client.get("/dev/mail", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil.example#localhost",
        "localhost:8000@evil.example",
        "127.0.0.1.evil.example",
        "127x0x0x1",
        "192.168.1.2",
        "[::2]",
        "localhost:",
        "",
    ],
)
async def test_a_name_that_points_here_may_not(client: httpx2.AsyncClient, folder: Path, host: str) -> None:
    await write(folder, 1, Mail("ada@example.com", "Secret", "Your code is 12345678"))
    response = await client.get("/dev/mail", headers={"Host": host})
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert "12345678" not in response.text


@pytest.mark.parametrize("hosts", [["localhost", "evil.example"], ["localhost", "localhost"]])
async def test_there_is_one_host_or_nothing_to_see(client: httpx2.AsyncClient, hosts: list[str]) -> None:
    response = await client.get("/dev/mail", headers=[("Host", host) for host in hosts])
    assert response.status_code == 404

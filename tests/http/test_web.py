import re
from collections.abc import AsyncGenerator
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from ringfence.http import development, web

FILES = Path(web.__file__).parent
SOURCES = sorted(path for path in FILES.rglob("*") if path.suffix in {".html", ".css", ".js", ".svg"})


def app_of(mail_folder: Path | None = None) -> FastAPI:
    app = FastAPI()
    app.include_router(web.router)
    web.mount(app)
    if mail_folder is not None:
        app.include_router(development.router(mail_folder))
    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


@pytest.fixture
async def client() -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_of(app_of()) as client:
        yield client


class Tags(HTMLParser):
    """Every tag of a page, with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.script_text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.all and self.all[-1][0] in {"script", "style"}:
            self.script_text += data.strip()

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.all if (value := attributes.get(name)) is not None]


async def test_the_page_is_html_that_nobody_caches(client: httpx2.AsyncClient) -> None:
    response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert "<title>Ringfence</title>" in response.text


async def test_everything_that_the_page_asks_for_is_there(client: httpx2.AsyncClient) -> None:
    tags = Tags((await client.get("/")).text)
    wanted = [url for url in tags.values("src") + tags.values("href") if url.startswith("/static/")]
    assert len(wanted) == 3
    assert [(await client.get(url)).status_code for url in wanted] == [200, 200, 200]


async def test_the_script_is_served_as_a_script_and_asked_for_anew(client: httpx2.AsyncClient) -> None:
    response = await client.get("/static/page.js")
    assert response.headers["content-type"].startswith("text/javascript")
    assert response.headers["cache-control"] == "no-cache"
    again = await client.get("/static/page.js", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py", "nothing.js", ""])
async def test_nothing_but_static_files_is_served(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(f"/static/{path}")).status_code == 404


async def test_the_policy_of_content_forbids_nothing_that_the_page_does(client: httpx2.AsyncClient) -> None:
    """`default-src 'self'`: no script or style inside the page, no handler in an attribute, nothing from elsewhere."""
    tags = Tags((await client.get("/")).text)
    assert tags.script_text == ""
    assert "style" not in {tag for tag, _ in tags.all}
    assert [name for _, attributes in tags.all for name in attributes if name == "style" or name.startswith("on")] == []
    assert [url for url in tags.values("src") + tags.values("href") if not re.match(r"/(?!/)", url)] == []


async def test_passwords_are_masked_and_managers_may_fill_them(client: httpx2.AsyncClient) -> None:
    tags = Tags((await client.get("/")).text)
    fields = [attributes for tag, attributes in tags.all if tag == "input" and "password" in attributes["id"]]
    assert [field["type"] for field in fields] == ["password"] * 2
    assert {field["autocomplete"] for field in fields} == {"current-password", "new-password"}
    script = (await client.get("/static/page.js")).text
    assert "onpaste" not in script
    assert '"paste"' not in script


async def test_every_field_has_a_label(client: httpx2.AsyncClient) -> None:
    tags = Tags((await client.get("/")).text)
    fields = [attributes["id"] for tag, attributes in tags.all if tag in {"input", "textarea"}]
    assert len(fields) == 7
    assert sorted(fields) == sorted(tags.values("for"))


async def test_ids_are_unique_and_the_script_finds_those_it_names(client: httpx2.AsyncClient) -> None:
    ids = Tags((await client.get("/")).text).values("id")
    assert len(ids) == len(set(ids))
    script = (FILES / "static" / "page.js").read_text()
    named = set(re.findall(r'\$\("([^"]+)"\)|onSubmit\("([^"]+)"', script))
    assert {first or second for first, second in named} <= set(ids)
    assert len(named) > 20


def test_the_script_inserts_text_and_never_markup() -> None:
    script = (FILES / "static" / "page.js").read_text()
    assert "textContent" in script
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\b|Function\(", script) == []
    )


def test_it_stays_small() -> None:
    assert sum(path.stat().st_size for path in SOURCES) < 30_000


async def test_mail_is_linked_where_the_development_page_exists(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    async with client_of(app_of(tmp_path)) as in_development:
        assert 'href="/dev/mail"' in (await in_development.get("/")).text
    assert "/dev/mail" not in (await client.get("/")).text
    assert (await client.get("/dev/mail")).status_code == 404


async def test_values_are_escaped(tmp_path: Path) -> None:
    app = app_of(tmp_path)

    @app.get("/rendered")
    async def rendered(request: Request) -> HTMLResponse:
        return web.render(request, "page.html", mail_page='"><script>alert(1)</script>')

    async with client_of(app) as client:
        text = (await client.get("/rendered")).text
    assert "<script>alert" not in text
    assert "&#34;&gt;&lt;script&gt;alert(1)" in text

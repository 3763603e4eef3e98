"""The library in a real browser, on the real engine: adding, finding, ordering and deleting documents."""

import re
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.visitor import DOCUMENT, PASSWORD, Visitor
from tests.engine import Live

pytestmark = pytest.mark.browser

SECRET_WORD = "open, please"
HOSTILE = {
    "a \"quoted\" one & 'another'.txt": None,
    "<img src=x onerror=alert(1)>.txt": None,
    "invoice\u202excod.txt": "invoicexcod.txt",  # the sign would turn what follows it
    "חוזה שכירות.txt": None,
    "😀 مرحبا.md": None,
    f"{'long ' * 40}end.txt": None,
    "..\\up.txt": "up.txt",
}
"""Names as they are sent, and where that differs, as they are kept."""


async def at_the_library(browser: Browser, live: Live, email: str = "ada@example.com") -> Visitor:
    """Somebody new, signed in, with nothing in their library yet."""
    async with live.account(email, PASSWORD):
        visitor = await Visitor.arrive(browser, live.url, email)
    said = {"email": email, "password": PASSWORD}
    response = await visitor.context.request.post("/api/v1/auth/cookie", data=said, headers={"Origin": live.url})
    assert response.ok
    await visitor.page.goto("/library")
    await expect(visitor.page.get_by_text("There are none yet.")).to_be_visible()
    return visitor


def text(name: str, content: bytes | None = None) -> Any:
    """A file; by default with a content of its own."""
    return {"name": name, "mimeType": "text/plain", "buffer": name.encode() if content is None else content}


async def add(page: Page, *files: Any) -> None:
    await page.get_by_label("Add files").set_input_files(list(files))


def rows(page: Page) -> Locator:
    return page.locator("#document-list tr")


def row(page: Page, name: str) -> Locator:
    return rows(page).filter(has=page.get_by_text(name, exact=True))


async def more(page: Page, name: str, item: str) -> None:
    """Choose from a document's menu."""
    await row(page, name).locator("summary").click()
    await row(page, name).get_by_role("button", name=item, exact=True).click()


def locked() -> bytes:
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "The combination of the safe is seven.")
        return document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw=SECRET_WORD, owner_pw="none of yours")


async def test_whatever_files_are_called_they_are_read_once_and_for_their_owner_alone(
    browser: Browser, live: Live
) -> None:
    ada = await at_the_library(browser, live)
    page = ada.page
    await add(page, *map(text, HOSTILE), text("empty.txt", b""))
    uploads = page.get_by_role("region", name="Uploads")
    await expect(uploads).to_contain_text("7 files added, 1 not added")
    await expect(uploads).to_contain_text("The file is empty.")
    await expect(rows(page).filter(has_text="Ready")).to_have_count(len(HOSTILE))
    for name, kept in HOSTILE.items():
        await expect(row(page, kept or name)).to_have_count(1)
    await expect(page.get_by_role("region", name="Storage")).to_contain_text(f"{len(HOSTILE)} of 10,000 documents")

    await uploads.get_by_role("button", name="Clear").click()
    await add(page, text("copy.txt", "חוזה שכירות.txt".encode()))
    await expect(uploads.get_by_role("listitem")).to_contain_text("You have this already: חוזה שכירות.txt")
    await expect(rows(page)).to_have_count(len(HOSTILE))

    await page.set_viewport_size({"width": 390, "height": 844})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    bob = await at_the_library(browser, live, "bob@example.com")
    await add(bob.page, text("copy.txt", "חוזה שכירות.txt".encode()))  # new to Bob
    await expect(row(bob.page, "copy.txt")).to_contain_text("Ready")
    await expect(rows(bob.page)).to_have_count(1)
    assert ada.complaints + bob.complaints == []


async def test_a_folder_is_added_with_all_that_is_in_it(browser: Browser, live: Live, tmp_path: Path) -> None:
    (tmp_path / "chosen" / "deep").mkdir(parents=True)
    for name in ("one.txt", "deep/two.txt", ".hidden", "Thumbs.db"):
        (tmp_path / "chosen" / name).write_text(name)
    ada = await at_the_library(browser, live)
    page = ada.page
    await page.get_by_label("Add a folder").set_input_files(tmp_path / "chosen")
    await expect(rows(page)).to_have_count(2)
    await page.evaluate(
        """() => {
          const file = (name) => ({ name, isFile: true, file: (give) => give(new File([name], name)) });
          const folder = (name, ...pages) => {
            const createReader = () => ({ readEntries: (give) => give(pages.shift() ?? []) });
            return { name, isDirectory: true, createReader };
          };
          const inner = folder("inner", [file("four.txt"), file(".DS_Store")]);
          const dropped = folder("dropped", [file("three.txt")], [inner]);
          const dataTransfer = { types: ["Files"], items: [{ webkitGetAsEntry: () => dropped }] };
          dispatchEvent(Object.assign(new Event("dragenter"), { dataTransfer }));
          dispatchEvent(Object.assign(new Event("drop"), { dataTransfer }));
        }"""
    )
    await expect(rows(page).filter(has_text="Ready")).to_have_count(4)
    for name in ("one.txt", "two.txt", "three.txt", "four.txt"):
        await expect(row(page, name)).to_have_count(1)
    assert ada.complaints == []


async def test_what_fails_says_what_to_do(browser: Browser, live: Live) -> None:
    ada = await at_the_library(browser, live)
    page = ada.page
    pdf = {"mimeType": "application/pdf"}
    torn_file = {"name": "torn.pdf", "buffer": b"%PDF-1.7\n", **pdf}
    await add(page, {"name": "safe.pdf", "buffer": locked(), **pdf}, torn_file)
    safe, torn = row(page, "safe.pdf"), row(page, "torn.pdf")
    await expect(torn).to_contain_text("damaged")
    async with page.expect_response("**/retry") as retried:
        await torn.get_by_role("button", name="Try again").click()
    assert (await retried.value).status == 202
    await expect(torn).to_contain_text("damaged")

    for word, outcome in (("not it", "does not open"), (SECRET_WORD, "Ready")):
        await safe.get_by_role("button", name="Give the password").click()
        await page.get_by_label("Password").fill(word)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(safe).to_contain_text(outcome)

    async with page.expect_file_chooser() as chosen:
        await torn.get_by_role("button", name="Replace the file").click()
    await (await chosen.value).set_files([text("mended.txt")])
    await expect(torn).to_contain_text("Ready")
    assert ada.complaints == []


async def test_an_upload_waits_for_a_lost_connection_and_for_a_busy_engine(browser: Browser, live: Live) -> None:
    ada = await at_the_library(browser, live)
    page = ada.page
    await page.route("**/api/v1/**", lambda route: route.abort())
    await add(page, text("later.txt"))
    uploads = page.get_by_role("region", name="Uploads")
    await expect(uploads).to_contain_text("The connection is lost.")
    await page.unroute("**/api/v1/**")
    busy = {"status": 503, "headers": {"retry-after": "1"}, "json": {"code": "busy", "detail": "Busy."}}
    await page.route("**/api/v1/documents", lambda route: route.fulfill(**busy), times=1)
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(row(page, "later.txt")).to_contain_text("Ready")
    await expect(uploads).to_be_hidden()

    full = {"status": 403, "json": {"code": "quota_exceeded", "detail": "You keep 10 documents of 10."}}
    await page.route("**/api/v1/documents", lambda route: route.fulfill(**full), times=1)
    await add(page, text("last.txt"))
    await expect(uploads).to_contain_text("You keep 10 documents of 10.")
    await expect(uploads.get_by_role("link", name="See what you use")).to_have_attribute("href", "/account")
    await uploads.get_by_role("button", name="Try again").click()
    await expect(row(page, "last.txt")).to_contain_text("Ready")
    assert ada.complaints == []


async def test_documents_are_named_ordered_and_found(browser: Browser, live: Live) -> None:
    ada = await at_the_library(browser, live)
    page = ada.page
    await add(page, text("contract.txt", DOCUMENT), text("notes.txt"), text("plan.txt"))
    await expect(rows(page).filter(has_text="Ready")).to_have_count(3)

    async with page.expect_download() as download:
        await more(page, "contract.txt", "Download")
    assert (await (await download.value).path()).read_bytes() == DOCUMENT

    await page.get_by_role("columnheader", name="Name").get_by_role("button").click()
    await expect(rows(page)).to_contain_text(["contract.txt", "notes.txt", "plan.txt"])
    await row(page, "plan.txt").focus()
    await page.keyboard.press("F2")
    await page.keyboard.type("nothing")
    await page.keyboard.press("Escape")
    await expect(row(page, "plan.txt")).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await expect(row(page, "notes.txt")).to_be_focused()
    await page.keyboard.press("F2")
    await page.keyboard.type("minutes")  # its ending stays
    await page.keyboard.press("Enter")
    await expect(row(page, "minutes.txt")).to_be_focused()

    await page.keyboard.press("/")
    await page.keyboard.type("PLAN")
    await expect(rows(page)).to_contain_text(["plan.txt"])
    await expect(page).to_have_url(re.compile(r"/library\?name=PLAN&sort=name$"))
    assert ada.complaints == []


async def test_documents_are_put_into_collections_and_tagged(browser: Browser, live: Live) -> None:
    ada = await at_the_library(browser, live)
    page = ada.page
    await page.goto("/library?sort=name")
    await add(page, text("minutes.txt"))
    await expect(row(page, "minutes.txt")).to_contain_text("Ready")
    await add(page, text("plan.txt"))
    await expect(row(page, "plan.txt")).to_contain_text("Ready")
    await row(page, "minutes.txt").focus()
    await page.keyboard.press("Space")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Shift+Space")
    await expect(page.get_by_role("toolbar")).to_contain_text("2 selected")
    await page.get_by_role("button", name="Add to collection").click()
    await page.get_by_label("Collection", exact=True).fill("Meetings")
    await page.keyboard.press("Enter")
    shelf = page.get_by_role("link", name="Meetings 2")
    await expect(shelf).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("Escape")

    await more(page, "minutes.txt", "Details")
    details = page.get_by_role("dialog")
    await details.get_by_label("Tags").fill("Urgent")
    await page.keyboard.press("Enter")
    await expect(details.get_by_text("urgent", exact=True)).to_be_visible()
    await details.get_by_role("button", name="Remove Meetings").click()
    await expect(details.get_by_text("Meetings", exact=True)).to_have_count(0)
    await page.keyboard.press("Escape")

    await page.get_by_role("link", name="Meetings 1").click()
    await expect(page.get_by_role("heading", name="Meetings")).to_be_visible()
    await expect(rows(page)).to_contain_text(["plan.txt"])
    await add(page, text("minutes.txt"))
    await expect(page.get_by_text("it is in this collection now")).to_be_visible()
    await expect(rows(page)).to_have_count(2)
    await more(page, "minutes.txt", "Details")
    await details.get_by_role("button", name="Remove Meetings").click()
    await expect(rows(page)).to_contain_text(["plan.txt"])
    await page.keyboard.press("Escape")
    await page.go_back()
    await row(page, "minutes.txt").get_by_role("link", name="urgent").click()
    await expect(rows(page)).to_contain_text(["minutes.txt"])
    assert ada.complaints == []


async def test_what_is_deleted_can_be_had_back_for_a_while(browser: Browser, live: Live) -> None:
    ada = await at_the_library(browser, live)
    page = ada.page
    await add(page, text("one.txt"), text("two.txt"), text("three.txt"))
    await expect(rows(page).filter(has_text="Ready")).to_have_count(3)
    await more(page, "one.txt", "Delete")
    await expect(row(page, "one.txt")).to_have_count(0)
    await page.get_by_role("button", name="Undo").click()
    await expect(row(page, "one.txt")).to_contain_text("Ready")

    await page.get_by_label("Select all that are shown").check()
    await row(page, "two.txt").focus()
    await page.keyboard.press("Delete")
    await expect(page.get_by_text("There are none yet.")).to_be_visible()
    await page.get_by_role("link", name="Bin").click()
    await expect(rows(page)).to_have_count(3)
    await more(page, "two.txt", "Restore")
    await expect(row(page, "two.txt")).to_have_count(0)
    await page.get_by_label("Select all that are shown").check()
    await page.get_by_role("toolbar").get_by_role("button", name="Delete for good").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete for good").click()
    await expect(page.get_by_text("The bin is empty")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("The bin is empty")).to_be_visible()
    await page.get_by_role("link", name="All documents").click()
    await expect(rows(page)).to_contain_text(["two.txt"])
    assert ada.complaints == []

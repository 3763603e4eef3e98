"""The page in a real browser, on the real engine: sign up, upload, ask, and the fence between two accounts.

`live` is the engine; a fake model server behind it writes the answers.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, async_playwright, expect

from tests.engine import Live

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "a long and private sentence"
DOCUMENT = b"The notice period is three months.\n\nThe kitchen is cleaned on Fridays.\n"
QUESTION = "How long is the notice period?"
TIMEOUT_MS = 30_000


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("There is no Chromium on this machine (on Debian: apt-get install chromium).")
    expect.set_options(timeout=TIMEOUT_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        await browser.close()


class Visitor:
    """A person with a browser of their own, and all that the browser complained about."""

    def __init__(self, context: BrowserContext, page: Page, url: str, email: str) -> None:
        self.context, self.page, self.url, self.email = context, page, url, email
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        # That a request got a 4xx is expected here and there; a broken policy or a script's error never is.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    @classmethod
    async def arrive(cls, browser: Browser, url: str, email: str) -> "Visitor":
        context = await browser.new_context(base_url=url)
        context.set_default_timeout(TIMEOUT_MS)
        visitor = cls(context, await context.new_page(), url, email)
        await visitor.page.goto("/")
        return visitor

    async def open(self, name: str) -> None:
        await self.page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(self.page).to_have_title(f"{name} · Ringfence")

    async def sign_up(self) -> None:
        await self.page.get_by_role("link", name="Create an account").click()
        form = self.page.get_by_role("region", name="Create an account")
        await form.get_by_label("E-mail").fill(self.email)
        await form.get_by_label("Password").fill(PASSWORD)
        await self.page.keyboard.press("Enter")
        await expect(self.page.get_by_role("heading", name="Enter your code")).to_be_visible()
        code = await self._code_from_mail()
        # Eight digits are a whole code: nothing has to be pressed.
        await self.page.get_by_role("textbox", name="Code").fill(f" {code[:4]} {code[4:]} ")
        await expect(self.page.get_by_role("heading", name="Ask your documents")).to_be_visible()
        await expect(self.page.get_by_role("banner")).to_contain_text(self.email)

    async def _code_from_mail(self) -> str:
        async with self.context.expect_page() as opened:
            await self.page.get_by_role("link", name="read the mail here").click()
        mails = await opened.value
        mail = mails.get_by_role("article").filter(has_text=self.email)
        async with asyncio.timeout(90):  # the worker may still be starting
            while not await mail.count():
                await asyncio.sleep(0.2)  # leaves the processor to the worker that sends it
                await mails.goto("/dev/mail")
        text = await mail.first.inner_text()
        await mails.close()
        found = re.search(r"\b\d{8}\b", text)
        assert found, text
        return found[0]

    async def upload(self, name: str, content: bytes) -> Locator:
        file = {"name": name, "mimeType": "text/plain", "buffer": content}
        await self.open("Library")
        await self.page.get_by_label("Add files").set_input_files([file])
        return self.page.get_by_role("listitem").filter(has_text=name)

    async def ask(self, question: str) -> None:
        await self.open("Chat")
        await self.page.get_by_role("textbox", name="Question").fill(question)
        await self.page.keyboard.press("Enter")

    @property
    def answer(self) -> Locator:
        return self.page.locator(".answer-text").last

    @property
    def status(self) -> Locator:
        return self.page.locator(".answer-status").last

    @property
    def sources(self) -> Locator:
        return self.page.get_by_role("list", name="Sources").last.get_by_role("listitem")


async def test_from_signing_up_to_a_cited_answer_that_nobody_else_gets(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    await ada.sign_up()
    document = await ada.upload("contract.txt", DOCUMENT)
    await expect(document).to_contain_text("Ready · 1 page, ")

    live.models.script(answer="It is three months [1], says <b>page</b> [99].", stall_after=3)
    await ada.ask(QUESTION)
    # The model is silent after three words: they are there already, and so is what they rest on.
    await expect(ada.answer).to_have_text("It is three")
    await expect(ada.sources.first).to_contain_text("contract.txtp. 1")
    await expect(ada.sources.first).to_contain_text("The notice period is three months.")
    live.models.release()
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await expect(ada.answer).to_have_text("It is three months1, says <b>page</b>.")

    await expect(ada.answer.get_by_role("button")).to_have_text(["1"])
    await ada.answer.get_by_role("button").click()
    await expect(ada.page.get_by_role("complementary", name="Document").locator("mark")).to_have_text(
        "The notice period is three months."
    )
    theirs = ada.page.url

    bob = await Visitor.arrive(browser, live.url, "bob@example.com")
    await bob.sign_up()
    await bob.open("Library")
    await expect(bob.page.get_by_text("There are none yet.")).to_be_visible()
    await bob.ask(QUESTION)
    await expect(bob.answer).to_have_text("The documents do not answer this question.")
    await expect(bob.sources).to_have_count(0)
    assert "contract.txt" not in await bob.page.content()
    await bob.page.goto(theirs)
    await expect(bob.page.get_by_text("There is no such chat")).to_be_visible()
    assert ada.complaints + bob.complaints == []


async def test_stopping_an_answer_stops_the_model(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    await ada.sign_up()
    await expect(await ada.upload("contract.txt", DOCUMENT)).to_contain_text("Ready")
    live.models.script(answer="It is three months [1].", stall_after=2)
    await ada.ask(QUESTION)
    await expect(ada.answer).to_have_text("It is")
    await ada.page.get_by_role("button", name="Stop").click()
    await expect(ada.status).to_contain_text("You stopped this answer.")
    models = live.models
    await models.wait_for(lambda: models.disconnects > 0, within=10)
    await expect(ada.answer).to_have_text("It is")
    assert ada.complaints == []


async def test_documents_come_and_go(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    await ada.sign_up()
    document = await ada.upload("contract.txt", DOCUMENT)
    await expect(document).to_contain_text("Ready")

    await expect(await ada.upload("empty.txt", b"")).to_contain_text("Not uploaded: The file is empty.")
    await ada.page.get_by_role("button", name="Dismiss empty.txt").click()
    await ada.upload("copy.txt", DOCUMENT)
    await expect(ada.page.get_by_text("You have this file already: contract.txt")).to_be_visible()
    await expect(ada.page.locator("#document-list").get_by_role("listitem")).to_have_count(1)

    async with ada.page.expect_download() as download:
        await ada.page.get_by_role("link", name="Download contract.txt").click()
    saved = await download.value
    assert saved.suggested_filename == "contract.txt"
    assert (await saved.path()).read_bytes() == DOCUMENT

    await ada.page.reload()
    await expect(document).to_contain_text("Ready")
    await ada.page.get_by_role("button", name="Delete contract.txt").click()
    await expect(document).to_have_count(0)
    await ada.page.get_by_role("button", name="Undo").click()
    await expect(document).to_contain_text("Ready")
    await expect(ada.page.get_by_role("button", name="Undo")).to_have_count(0)
    await ada.page.get_by_role("button", name="Delete contract.txt").click()
    await expect(document).to_have_count(0)
    await ada.page.reload()
    await expect(ada.page.get_by_text("There are none yet.")).to_be_visible()
    assert ada.complaints == []


async def test_signing_out_leaves_nothing_behind(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    await ada.sign_up()
    kept = await ada.context.cookies()
    await ada.page.get_by_role("button", name="Sign out").click()
    await expect(ada.page.get_by_role("link", name="Sign in")).to_be_visible()
    assert await ada.context.cookies() == []
    assert await ada.page.evaluate("[document.cookie, Object.keys(sessionStorage), Object.keys(localStorage)]") == [
        "",
        [],
        [],
    ]
    await ada.page.go_back()
    await expect(ada.page.get_by_role("link", name="Sign in")).to_be_visible()

    await ada.context.add_cookies([{"name": one["name"], "value": one["value"], "url": live.url} for one in kept])
    await ada.page.goto("/library")  # the session has ended, so whoever kept its cookie has nothing
    await expect(ada.page).to_have_url(f"{live.url}/sign-in?next=/library")
    form = ada.page.get_by_role("region", name="Sign in")
    await form.get_by_label("E-mail").fill(ada.email)
    await form.get_by_label("Password").fill("not my password at all")
    await ada.page.keyboard.press("Enter")
    await expect(form.get_by_role("alert")).to_contain_text("wrong")
    await form.get_by_label("Password").fill(PASSWORD)
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.get_by_role("heading", name="Library")).to_be_visible()
    assert ada.complaints == []


async def test_a_session_that_ends_elsewhere_leads_to_the_door_and_back(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    await ada.sign_up()
    await ada.open("Library")
    ended = await ada.page.evaluate("fetch('/api/v1/sessions', { method: 'DELETE' }).then(({ status }) => status)")
    assert ended == 204
    await ada.page.get_by_label("Add files").set_input_files(
        [{"name": "a.txt", "mimeType": "text/plain", "buffer": DOCUMENT}]
    )
    await expect(ada.page).to_have_url(f"{live.url}/sign-in?next=%2Flibrary")
    await ada.page.get_by_label("E-mail").fill(ada.email)
    await ada.page.get_by_label("Password").fill(PASSWORD)
    await ada.page.keyboard.press("Enter")
    await expect(ada.page).to_have_url(f"{live.url}/library")
    assert ada.complaints == []

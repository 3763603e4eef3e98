"""A person with a browser, for the tests of the pages."""

import asyncio
import re
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.engine import Live

PASSWORD = "a long and private sentence"
DOCUMENT = b"The notice period is three months.\n\nThe kitchen is cleaned on Fridays.\n"
QUESTION = "How long is the notice period?"
TIMEOUT_MS = 30_000


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
    async def arrive(cls, browser: Browser, url: str, email: str, **wishes: Any) -> "Visitor":
        context = await browser.new_context(base_url=url, **wishes)
        context.set_default_timeout(TIMEOUT_MS)
        visitor = cls(context, await context.new_page(), url, email)
        await visitor.page.goto("/")
        return visitor

    @classmethod
    async def enter(cls, browser: Browser, live: Live, email: str, **wishes: Any) -> "Visitor":
        """Somebody with an account who is signed in already; `wishes`: of the browser's context."""
        async with live.account(email, PASSWORD):
            pass
        context = await browser.new_context(base_url=live.url, **wishes)
        context.set_default_timeout(TIMEOUT_MS)
        body = {"email": email, "password": PASSWORD}
        signed_in = await context.request.post("/api/v1/auth/cookie", data=body, headers={"Origin": live.url})
        assert signed_in.status == 204
        return cls(context, await context.new_page(), live.url, email)

    async def see(self, path: str) -> None:
        """Open a page and wait until nothing in it is grey any more; a stream may go on."""
        await self.page.goto(path)
        await expect(self.page.locator(".skeleton")).to_have_count(0)

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
        return self.page.get_by_role("row").filter(has_text=name)

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

"""The account page, from a new password to the account's end; and what the doors say at whose field."""

import re
import zipfile

import pytest
from playwright.async_api import Browser, expect

from tests.browser.visitor import PASSWORD, Visitor
from tests.engine import Live

pytestmark = pytest.mark.browser

NEW = "another sentence, just as private"


async def test_what_one_may_do_with_ones_account(browser: Browser, live: Live) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com")
    page = ada.page
    await ada.see("/account")
    await expect(page.get_by_role("img", name=re.compile("0 questions in the last 30 days"))).to_be_visible()

    await page.get_by_role("region", name="Profile").get_by_role("button", name="Change").nth(1).click()
    asked = page.get_by_role("dialog", name="Another password")
    await asked.get_by_label("Present password").fill("not mine, but long enough")
    await asked.get_by_label("New password").fill("short")
    await page.keyboard.press("Enter")
    await expect(asked.get_by_label("Present password")).to_have_attribute("aria-invalid", "true")
    await asked.get_by_label("Present password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(asked.get_by_label("New password")).to_have_attribute("aria-invalid", "true")
    await expect(asked).to_contain_text("12 characters")
    await asked.get_by_label("New password").fill(NEW)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Your password is changed.")).to_be_visible()

    await page.get_by_role("button", name="New key").click()
    wish = page.get_by_role("dialog", name="A new API key")
    await wish.get_by_label("Name").fill("nightly")
    await wish.get_by_label("Ask questions").check()
    await wish.get_by_label("Your password").fill(NEW)
    await wish.get_by_role("button", name="Make it").click()
    key = await page.locator("#new-key").inner_text()
    shown = {"Authorization": f"Bearer {key}"}
    assert (await ada.context.request.get("/api/v1/me", headers=shown)).status == 200
    await page.get_by_role("button", name="Done").click()
    await page.get_by_role("button", name="Revoke nightly").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.locator("#keys")).to_have_text("There are none.")
    assert (await ada.context.request.get("/api/v1/me", headers=shown)).status == 401

    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export").click()
    with zipfile.ZipFile(await (await download.value).path()) as exported:
        assert "account.json" in exported.namelist()
    await page.reload()
    await expect(page.locator("#audit")).to_contain_text("Data exported")

    await page.get_by_role("button", name="Delete account").click()
    await page.get_by_role("dialog").get_by_label("Your password").fill(NEW)
    await page.get_by_role("dialog").get_by_role("button", name="Delete everything").click()
    await expect(page.get_by_role("link", name="Create an account")).to_be_visible()
    assert ada.complaints == []


async def test_a_forgotten_password_is_reset_and_a_reload_loses_no_registration(browser: Browser, live: Live) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com")
    await ada.context.clear_cookies()
    page = ada.page
    await ada.see("/forgot")
    await page.get_by_label("E-mail").fill(ada.email)
    await page.keyboard.press("Enter")
    mail = await live.until_mailed(ada.email, "A new password for Ringfence")
    code = live.code_in(mail)
    await page.get_by_role("textbox", name="New password").fill("password1234")
    await page.get_by_role("textbox", name="Code").fill(f"{code[:4]}-{code[4:]}")
    await expect(page.get_by_role("textbox", name="New password")).to_have_attribute("aria-invalid", "true")
    await page.get_by_role("textbox", name="New password").fill(NEW)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()

    await ada.context.clear_cookies()
    await ada.see("/register")
    await page.get_by_label("E-mail").fill("no address")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("#email-wrong")).to_contain_text("e-mail address")
    await page.get_by_label("E-mail").fill("bob@example.com")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Send another code in")).to_be_disabled()
    await page.reload()
    await expect(page.get_by_role("heading", name="Enter your code")).to_be_visible()
    await page.get_by_role("textbox", name="Code").fill("0000 0000")
    await expect(page.locator("#code-wrong")).to_contain_text("wrong or has expired")
    await page.get_by_role("textbox", name="Code").fill(await live.mailed_code("bob@example.com"))
    await expect(page.get_by_label("E-mail")).to_have_value("bob@example.com")  # the password went with the reload
    await expect(page.get_by_label("Password")).to_be_focused()
    assert ada.complaints == []

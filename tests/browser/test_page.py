"""The page in a real browser, on the real engine: sign up, upload, ask, and the fence between two accounts.

`live` is the engine; a fake model server behind it writes the answers.
"""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.visitor import DOCUMENT, PASSWORD, QUESTION, Visitor
from tests.engine import Live

pytestmark = pytest.mark.browser


async def test_from_signing_up_to_a_cited_answer_that_nobody_else_gets(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    await ada.sign_up()
    document = await ada.upload("contract.txt", DOCUMENT)
    await expect(document).to_contain_text("Ready")

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
    # Nothing has to be done: the page hears of it.
    await expect(ada.page).to_have_url(f"{live.url}/sign-in?next=%2Flibrary")
    await ada.page.get_by_label("E-mail").fill(ada.email)
    await ada.page.get_by_label("Password").fill(PASSWORD)
    await ada.page.keyboard.press("Enter")
    await expect(ada.page).to_have_url(f"{live.url}/library")
    assert ada.complaints == []

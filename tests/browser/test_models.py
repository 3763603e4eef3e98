"""Several chat models, in a real browser."""

import re
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Browser, expect

from ringfence.setting_types import ChatModelEntry
from ringfence.settings import Settings
from tests.browser.test_chat import visit
from tests.browser.visitor import QUESTION
from tests.engine import Live, running
from tests.fakes.model_server import ModelServer

pytestmark = pytest.mark.browser


@pytest.fixture
async def live(settings: Settings, models: ModelServer) -> AsyncGenerator[Live]:
    """An engine with two models."""
    small = ChatModelEntry(name="small", url=models.openai_url, completion_price=2, prompt_price=1)
    async with running(settings.model_copy(update={"chat_models": (small,)}), models) as live:
        yield live


async def test_one_chooses_who_answers(browser: Browser, live: Live) -> None:
    ada = await visit(browser, live)
    chip, keys = ada.page.get_by_role("button", name="Answers by"), ada.page.keyboard
    await expect(chip).to_have_text("extract")
    await chip.focus()
    await keys.press("Enter")
    await ada.page.get_by_role("radio", name="small").check()
    await expect(ada.page.get_by_text("1 / 2 USD a million tokens")).to_be_visible()
    await ada.page.get_by_role("button", name="Done").click()
    await expect(chip).to_have_text("small")
    await ada.ask(QUESTION)
    await expect(ada.answer).to_have_class(re.compile("rendered"))
    await ada.page.reload()
    await expect(chip).to_have_text("small")
    assert live.models.chats[-1].body["model"] == "small"
    assert ada.complaints == []

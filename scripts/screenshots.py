"""Take a picture of each view into docs/screenshots/: a fresh engine, its demo account, a question, Chromium.

usage: python scripts/screenshots.py [--no-model] [FOLDER]
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from ringfence.cli.local import everything
from ringfence.cli.logs import quiet_logging
from ringfence.settings import Settings

_FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
_QUESTION = "How long is the notice period after the probation?"
_SETTLED_MS = 1500
_DESK = {"viewport": {"width": 1280, "height": 800}}
_PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
_DOORS = {"landing": "/", "sign-in": "/sign-in", "register": "/register", "forgot": "/forgot"}
_VIEWS = {"start": "/", "chat": "/", "library": "/library", "search": "/search?q=notice+period", "account": "/account"}
_LOOKS: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "": (_DESK, "light", {**_DOORS, **_VIEWS}),
    "-dark": (_DESK, "dark", {name: _VIEWS[name] for name in ("chat", "library", "search")}),
    "-phone": (_PHONE, "light", {"landing": "/", **_VIEWS}),
}


async def main(folder: Path) -> None:
    """Start an engine and take all pictures of it."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        sys.exit("There is no Chromium on this machine (on Debian: apt-get install chromium).")
    with tempfile.TemporaryDirectory() as data, quiet_logging(level="critical"):
        free = {"data_dir": Path(data), "database_url": None, "port": 0, "metrics_port": 0}
        settings = Settings().model_copy(update=free)
        async with (
            everything(settings, chat="--no-model" not in sys.argv, worker_output=False) as running,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            for suffix, (screen, theme, views) in _LOOKS.items():
                await _taken(browser, running.url, screen | {"color_scheme": theme}, views, folder, suffix)
            await browser.close()


async def _taken(  # noqa: PLR0917  # all that a look is
    browser: Browser, url: str, wishes: dict[str, Any], views: dict[str, str], folder: Path, suffix: str
) -> None:
    context = await browser.new_context(base_url=url, **wishes)
    page = await context.new_page()
    for name in [name for name in views if name in _DOORS]:
        await _picture(page, views[name], folder / f"{name}{suffix}.png")
    await page.goto("/")
    await page.get_by_role("button", name="Try it with sample documents").click()
    await page.get_by_role("textbox", name="Question").wait_for()
    await _until_read(page)
    for name in [name for name in views if name in _VIEWS]:
        await _picture(page, views[name], folder / f"{name}{suffix}.png", asks=name == "chat")
    await context.close()


async def _until_read(page: Page) -> None:
    """Until the sample documents are ready."""
    pending = "fetch('/api/v1/documents?state=queued&state=processing').then((r) => r.json())"
    while (await page.evaluate(pending))["documents"]:
        await page.wait_for_timeout(500)


async def _picture(page: Page, path: str, file: Path, *, asks: bool = False) -> None:
    await page.goto(path)
    if asks:
        await page.get_by_role("textbox", name="Question").fill(_QUESTION)
        await page.keyboard.press("Enter")
        await page.locator(".answer-text.rendered").wait_for(timeout=180_000)
        await page.get_by_role("button", name="Source 1").first.click()
        await page.locator(".hit, mark").first.wait_for()
    await page.wait_for_timeout(_SETTLED_MS)
    await page.locator(".skeleton").first.wait_for(state="detached")
    await page.screenshot(path=file, animations="disabled", scale="css")
    print(file)


if __name__ == "__main__":
    _FOLDER.mkdir(parents=True, exist_ok=True)
    folders = [Path(argument) for argument in sys.argv[1:] if argument != "--no-model"]
    asyncio.run(main(folders[0] if folders else _FOLDER))

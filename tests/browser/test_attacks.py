"""What hostile sites and hostile names get in a real browser: nothing."""

import json

import pytest
from playwright.async_api import Browser, Route, expect

from tests.browser.visitor import PASSWORD, Visitor
from tests.engine import Live

pytestmark = pytest.mark.browser

IMAGE = "<img src=x onerror='window.hit=1'>"
SENT = """
([url, body]) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: url, enctype: "text/plain" });
  const field = document.createElement("input");
  [field.name, field.value] = [body, ""];  // text/plain: what a form may send without asking
  form.append(field);
  document.body.append(form);
  form.submit();
}
"""
TOLD = """
async (site) => {
  const read = await fetch(site + "/api/v1/me", { credentials: "include" }).then((one) => one.text(), () => "refused");
  const unread = { method: "POST", mode: "no-cors", credentials: "include", body: "{}" };
  const sent = await fetch(site + "/api/v1/chats", unread).then(() => "sent", () => "refused");
  const framed = document.createElement("iframe");
  framed.src = site + "/account";
  document.body.append(framed);
  const picture = new Image();
  const shown = new Promise((done) => {
    picture.onload = () => done("shown");
    picture.onerror = () => done("refused");
  });
  picture.src = site + "/static/icon.svg";
  return [read, sent, await shown];
}
"""
MARKUP = """
async (path) => {
  const { fill } = await import(path);
  const said = (html) => {
    const place = document.createElement("div");
    try { fill(place, html); return place.innerHTML; } catch (error) { return error.name; }
  };
  const direct = () => {
    try { document.body.innerHTML = "<p>"; return "let through"; } catch (error) { return error.name; }
  };
  return [direct(), ...HOSTILE.map(said), said(GOOD)];
}
"""
GOOD = '<p dir="auto">A <a href="/documents/7?page=2">page</a> <mark>x</mark></p>'
HOSTILE = [
    IMAGE, "<script>window.hit=1</script>", "<p onclick='window.hit=1'>", "<a href='javascript:window.hit=1'>a</a>",
    "<a href='//evil.example'>a</a>", "<svg><use href='#i-ring'/></svg>", "<p style='color:red'>", "<iframe srcdoc=x>",
    "<form><input name=a></form>", "<template><img></template>", "<a href=' javascript:hit=1'>a</a>",
    "<base href=//evil>",
]  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "another site"])
async def test_a_page_of_another_origin_can_do_nothing(browser: Browser, live: Live, host: str) -> None:
    ada = await Visitor.enter(browser, live, "ada@example.com")
    async with live.account("mallory@example.com", PASSWORD):
        pass
    before = await ada.context.cookies()

    async def evil(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<!doctype html><title>evil</title><body>")

    await ada.context.route(f"http://{host}:9999/**", evil)
    caused = {}
    sign_in = json.dumps({"email": "mallory@example.com", "password": PASSWORD})
    for path, body in (("/api/v1/chats", "{}"), ("/api/v1/auth/cookie", sign_in), ("/dev/demo", "")):
        await ada.page.goto(f"http://{host}:9999/")
        async with ada.page.expect_navigation() as navigation:
            await ada.page.evaluate(SENT, [live.url + path, body])
        answer = await navigation.value
        assert answer
        caused[path] = answer.status
    # Where the cookie came along, the request is refused for its origin; where it did not, for lack of it.
    first = 403 if host == "127.0.0.1" else 401
    assert caused == {"/api/v1/chats": first, "/api/v1/auth/cookie": 403, "/dev/demo": 403}
    await ada.page.goto(f"http://{host}:9999/")
    assert await ada.page.evaluate(TOLD, live.url) == ["refused", "refused", "refused"]
    assert ada.email not in "".join([await frame.content() for frame in ada.page.frames])
    assert await ada.context.cookies() == before
    assert (await (await ada.context.request.get("/api/v1/chats")).json())["chats"] == []


async def test_names_are_text_wherever_they_are_shown(browser: Browser, live: Live) -> None:
    ada = await Visitor.enter(browser, live, "o'hara+{a}&lt=1|`b`@example.com")
    await ada.see("/library")
    document = await ada.upload(f"{IMAGE}.txt", b"The notice period is <b>three</b> months." + IMAGE.encode())
    await expect(document).to_contain_text("Ready")
    await ada.see("/search?q=notice+%3Cimg+src=x+onerror=window.hit=1%3E&mode=lexical&tag=&collection=%22%3E%3Cb%3E")
    await ada.see("/search?q=notice+period")
    await expect(ada.page.locator(".hit")).to_contain_text(["<b>three</b> months"])
    key = {"name": IMAGE, "scopes": ["read"], "expires_in_days": None, "password": PASSWORD}
    made = await ada.context.request.post("/api/v1/api-keys", data=key, headers={"Origin": live.url})
    assert made.status == 201
    await ada.see("/account")
    await expect(ada.page.locator("#keys")).to_contain_text(IMAGE)
    await expect(ada.page.locator("#email")).to_have_text(ada.email)
    for path in ("/account", "/library", f"/documents/{'0' * 8}-0000-4000-8000-{'0' * 12}"):
        await ada.see(path)
        assert await ada.page.evaluate("[window.hit, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    await ada.context.clear_cookies()
    for hostile in ("//evil.example", "javascript:window.hit=1", "/\\\\evil.example", '"><img src=x onerror=hit=1>'):
        await ada.page.goto(f"/sign-in?next={hostile}")
        assert await ada.page.evaluate("document.querySelector('form').dataset.next") == "/"
    assert ada.complaints == []


async def test_markup_has_one_door_that_lets_no_code_in(browser: Browser, live: Live) -> None:
    ada = await Visitor.arrive(browser, live.url, "ada@example.com")
    source = MARKUP.replace("HOSTILE", json.dumps(HOSTILE)).replace("GOOD", json.dumps(GOOD))
    direct, *hostile, good = await ada.page.evaluate(source, "/static/markup.js")
    assert direct == "TypeError"
    assert hostile == ["TypeError"] * len(HOSTILE)
    assert good == GOOD
    assert await ada.page.evaluate("window.hit") is None

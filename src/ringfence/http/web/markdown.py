"""Answers as HTML. What a model writes is data: Markdown without raw HTML, pictures or references, sanitised after.

Two walls stand behind each other: the Markdown parser never passes markup on, and the sanitiser would not let through
what the parser should not have made. The page's own check (`markup.js`) and its policy of content are two more.
"""

import re
from collections.abc import Iterator, MutableMapping, Sequence
from functools import cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from ringfence.chats.queries import Claim

_DISABLED = ["html_block", "html_inline", "image", "reference", "autolink", "entity"]
_ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    "span": {"class", "data-n"},
}
_TAGS = {
    *("a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "span"),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
_CLASSES = {"span": {"cite", "unsupported", "partly"}}
_SCHEMES = {"http", "https", "mailto"}
_LINK = re.compile(r"(?:https?://|mailto:)[^\s\\]+", re.IGNORECASE)
_MARKER = re.compile(r"[ \u00a0]*\[(\d{1,3}(?:, \d{1,3})*)\]")  # as the engine writes it (`answers.markers`)
_TAG = re.compile(r"(<[^>]*>)")
# Where sentences begin and end, while Markdown is parsed: characters that no text has a meaning for.
_OPENING = {"unsupported": "\ue000", "partly": "\ue001"}
_CLOSING = "\ue002"
_MARKS = re.compile("[\ue000-\ue002]")
# What makes a list, a quotation, a heading or a table of a line: marks stand behind it, and before `_BORDERS`.
_LEAD = re.compile(r"(?:[ \t]*(?:[-*+>]|\d{1,9}[.)]|#{1,6})[ \t]+|\|[|:\- \t\n]*|[ \t\n]+)*")
_BORDERS = "| \t\n"
_HEADING_SHIFT = 2  # the page's own headings come first
_DEEPEST = 6


def rendered(text: str, claims: Sequence[Claim] = (), *, sources: int = 999) -> str:
    """An answer as HTML that is safe to insert.

    Each citation is a `<span class="cite" data-n="1">`, words of a sentence that is not (wholly) supported are within
    `<span class="unsupported">` (`partly`).

    Args:
        text: Markdown.
        claims: the sentences that were checked, by their characters in the text.
        sources: how many there are; numbers beyond are dropped.
    """
    html = _parser().render(_marked(text, claims), {"sources": sources})
    return _sanitised(_doubted(html))


def _marked(text: str, claims: Sequence[Claim]) -> str:
    """The text with marks around the sentences that are not supported."""
    text = _MARKS.sub("\ufffd", text)
    pieces, at = [], 0
    for claim in sorted(claims, key=lambda one: one.start):
        mark = _OPENING.get(claim.verdict)
        if mark is None or claim.start < at or claim.end > len(text):
            continue
        lead = _LEAD.match(text, claim.start, claim.end)
        begin = lead.end() if lead else claim.start
        words = text[begin : claim.end].rstrip(_BORDERS)
        pieces += [text[at:begin], mark, words, _CLOSING]
        at = begin + len(words)
    return "".join([*pieces, text[at:]])


def _doubted(html: str) -> str:
    """HTML in which marks became spans, each around text alone, so that no span crosses an element."""
    verdict, pieces = "", list[str]()
    for piece in _TAG.split(html):
        if piece.startswith("<"):
            pieces.append(_MARKS.sub("", piece))
            continue
        for part in re.split(f"({_MARKS.pattern})", piece):
            if _MARKS.fullmatch(part):
                verdict = next((name for name, mark in _OPENING.items() if mark == part), "")
            else:
                pieces.append(f'<span class="{verdict}">{part}</span>' if verdict and part.strip() else part)
    return "".join(pieces)


def _sanitised(html: str) -> str:
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
        attribute_filter=_kept,
    )


def _kept(element: str, attribute: str, value: str) -> str | None:
    if attribute == "href":
        return value if _LINK.fullmatch(value) else None
    if attribute == "class":
        return value if value in _CLASSES.get(element, ()) else None
    if attribute in {"data-n", "start"}:
        return value if re.fullmatch(r"\d{1,9}", value, re.ASCII) else None
    return value


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20})
    parser.enable(["table", "strikethrough"]).disable(_DISABLED)
    parser.validateLink = _is_link  # type: ignore[method-assign]  # as its documentation says to do
    parser.add_render_rule("citation", _chip)
    parser.core.ruler.push("citations", _cite)
    parser.core.ruler.push("headings", _lower_headings)
    return parser


def _is_link(url: str) -> bool:
    return _LINK.fullmatch(url) is not None


def _chip(_renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    return f'<span class="cite" data-n="{tokens[index].content}"></span>'


def _lower_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + _HEADING_SHIFT, _DEEPEST)}"


def _cite(state: StateCore) -> None:
    """Let markers in running text, not in code, become citations."""
    for token in state.tokens:
        if token.type == "inline" and token.children:
            token.children = [made for child in token.children for made in _with_citations(child, state.env)]


def _with_citations(token: Token, env: MutableMapping[str, Any]) -> Iterator[Token]:
    if token.type != "text":
        yield token
        return
    at = 0
    for match in _MARKER.finditer(token.content):
        yield _text(token, token.content[at : match.start()])
        at = match.end()
        for number in match[1].split(", "):
            if 1 <= int(number) <= env["sources"]:
                yield Token("citation", "", 0, content=number)
    yield _text(token, token.content[at:])


def _text(token: Token, content: str) -> Token:
    return Token("text", "", 0, content=content, level=token.level)

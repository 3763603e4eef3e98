"""What an answer may lead to, however it is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.answers.addresses import REMOVED, Addresses, kept, unloaded

KNOWN = ["See https://docs.example.org/guide (or www.example.com). Call http://h.example.net/?q= with yours."]


def left(text, size=1):
    addresses = Addresses(KNOWN)
    shown = [addresses.feed(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join([*shown, addresses.finish()])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Six weeks.", "Six weeks."),
        ("It is at https://docs.example.org/guide.", "It is at https://docs.example.org/guide."),
        ("[guide](https://docs.example.org/guide)[2]. So.", "[guide](https://docs.example.org/guide)[2]. So."),
        ("(https://www.example.com/), or", "(https://www.example.com/), or"),
        ("At www.example.com", "At www.example.com"),
        ("See https://evil.example/?q=QX-7719 now", f"See {REMOVED} now"),
        ("See http://h.example.net/?q=QX-7719.", f"See {REMOVED}."),
        ("See http://h.example.net/?q=)QX-7719", f"See {REMOVED}"),
        ("HTTPS://EVIL.example", REMOVED),
        ("[map](//evil.example/a)", f"[map]({REMOVED})"),
        ("[1]: ftp://evil.example", f"[1]: {REMOVED}"),
        ("[go](javascript:alert(1))", f"[go]({REMOVED}))"),
        ("data:text/html,x", REMOVED),
        ("![map](https://evil.example/a.png)", f"[map]({REMOVED})"),
        ("![map](https://docs.example.org/guide)", "[map](https://docs.example.org/guide)"),
        ("![map][1]!", "[map][1]!"),
        ('<img src="https://evil.example/a">', f'< img src="{REMOVED}">'),
        ("<b>a</b><!-- x --><a-b c>", "<b>a</b><!-- x -->< a-b c>"),
        ("<SVG/onload=x><script>x</script>", "< SVG/onload=x>< script>x</script>"),
        (
            "List<int>, a <b and <https://docs.example.org/guide>",
            "List<int>, a < b and <https://docs.example.org/guide>",
        ),
        ("1 <b", "1 <b"),
        ("1 < 2, a/b, http and w", "1 < 2, a/b, http and w"),
        ("No! Not javascript: or data: at all // here", "No! Not javascript: or data: at all // here"),
        ("https://", REMOVED),
    ],
)
def test_addresses_of_the_passages_stay_and_nothing_loads(written, shown):
    for size in (1, 2, 3, 7, len(written)):
        assert left(written, size) == shown


WORDS = [
    "http",
    "s",
    ":",
    "/",
    "//",
    "www",
    ".",
    "evil.example",
    " ",
    "!",
    "[",
    "]",
    "(",
    ")",
    "<",
    "a",
    "data",
    "script",
]
PARTS = st.sampled_from(WORDS)


@given(st.lists(PARTS, max_size=12), st.integers(1, 5))
def test_how_it_is_cut_makes_no_difference(parts, size):
    text = "".join(parts)
    assert left(text, size) == left(text, max(len(text), 1))


async def test_a_stream_of_pieces():
    async def pieces():
        for piece in ("Read ", "ht", "tps:", "//evil.example", "/x ", "now", "!"):
            yield piece

    assert "".join([piece async for piece in kept(pieces(), KNOWN)]) == f"Read {REMOVED} now!"


def test_a_quotation_loads_nothing():
    assert unloaded("![a](http://b) <script>") == "[a](http://b) < script>"

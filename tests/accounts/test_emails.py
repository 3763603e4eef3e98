"""Which addresses are accepted, and which are the same."""

import pytest

from ringfence.accounts import emails
from ringfence.errors import Invalid


@pytest.mark.parametrize(
    ("text", "shown", "wire", "key"),
    [
        ("ann@example.com", "ann@example.com", "ann@example.com", "ann@example.com"),
        (
            "Ann.O'Hara+x@EXAMPLE.com",
            "Ann.O'Hara+x@example.com",
            "Ann.O'Hara+x@example.com",
            "ann.o'hara+x@example.com",
        ),
        ("Ann@München.de", "Ann@münchen.de", "Ann@xn--mnchen-3ya.de", "ann@xn--mnchen-3ya.de"),
        ("info@xn--mnchen-3ya.de", "info@münchen.de", "info@xn--mnchen-3ya.de", "info@xn--mnchen-3ya.de"),
        ("x@\uff45xample.com", "x@example.com", "x@example.com", "x@example.com"),
    ],
)
def test_parse(text, shown, wire, key):
    assert emails.parse(text) == emails.Email(shown=shown, wire=wire, key=key)


def test_domains_that_dns_tells_apart_stay_apart():
    assert emails.parse("x@straße.de").key != emails.parse("x@strasse.de").key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "ann@",
        "@example.com",
        "ann@localhost",
        "ann@127.0.0.1",
        "ann@[127.0.0.1]",
        "Ann <ann@example.com>",
        '"ann"@example.com',
        " ann@example.com",
        "ann@example.com\r\nBcc: eve@example.com",
        "ann@example.com, eve@example.com",
        "ann\0@example.com",
        "ann\ud800@example.com",
        "ännchen@example.com",
        "\uff41nn@example.com",
        "a" * 65 + "@example.com",
        "ann@" + "a" * 300 + ".com",
        "ann@" + "a." * 126 + "com",
        "ann@" + "\u0300\u0316" * 200_000 + ".com",  # to be sorted in quadratic time, on the event loop
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(Invalid) as caught:
        emails.parse(text)
    assert caught.value.code == "invalid_email"


def test_what_is_no_address_has_a_key_of_its_own():
    keys = {emails.key_or_none(text) for text in ("", "ann", "bob", "ann\ud800@example.com", "a" * 10_000)}
    assert len(keys) == 5
    assert all(key.startswith("? ") and len(key) < 100 for key in keys)
    assert emails.key_or_none("ANN@example.com") == "ann@example.com"

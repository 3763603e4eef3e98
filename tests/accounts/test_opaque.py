"""Opaque tokens: one spelling each, and nothing else is taken for one."""

import base64
import hashlib
import uuid

import pytest

from ringfence.accounts import opaque
from ringfence.accounts.opaque import Opaque

TOKEN = Opaque(uuid.UUID(int=2**127 + 1), uuid.UUID(int=2**126 + 3), bytes(range(32)))
TEXT = TOKEN.text("rfx_")


def test_a_token_is_read_as_it_was_written():
    assert opaque.parse("rfx_", TEXT) == TOKEN
    assert TOKEN.digest == hashlib.sha256(TOKEN.secret).digest()
    assert repr(TOKEN.secret) not in repr(TOKEN)


def test_a_users_tokens_begin_differently():
    other = Opaque(uuid.uuid4(), TOKEN.user_id, TOKEN.secret)
    assert other.text("rfx_")[:12] != TEXT[:12]


def encoded(data: bytes) -> str:
    return "rfx_" + base64.urlsafe_b64encode(data).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rfx_",
        TEXT.removeprefix("rfx_"),
        "rfy_" + TEXT.removeprefix("rfx_"),
        "RFX_" + TEXT.removeprefix("rfx_"),
        "rfx_" + TEXT,
        TEXT.rstrip("="),
        TEXT + "=",
        TEXT + " ",
        " " + TEXT,
        TEXT + "\n",
        TEXT[:-8],
        TEXT + "AAAA",
        TEXT.replace("=", "", 1),
        TEXT[:-3] + chr(ord(TEXT[-3]) + 1) + "==",  # other bits that base64 throws away
        "ü" + TEXT,
        "\ud800" + TEXT,
        encoded(bytes(63)),
        encoded(bytes(65)),
        encoded(bytes(16)),
        encoded(b"\xff" * 64).replace("_w", "/w"),
    ],
)
def test_nothing_else_is_a_token(text):
    assert opaque.parse("rfx_", text) is None

"""Derived keys."""

import hashlib
import hmac
import re

import pytest

from ringfence.keys import Purpose, derive, derive_password

SECRET = "any secret of at least thirty-two characters"


@pytest.mark.parametrize("purpose", Purpose)
def test_a_key_is_hkdf_sha256_of_the_secret(purpose):
    # RFC 5869 by hand: extract with a salt of zeros, then the first block of expand.
    extracted = hmac.digest(bytes(32), SECRET.encode(), hashlib.sha256)
    expected = hmac.digest(extracted, f"ringfence/{purpose.value}".encode() + b"\x01", hashlib.sha256)
    assert derive(SECRET, purpose) == expected


def test_keys_differ_by_purpose_and_by_secret():
    keys = [derive(secret, purpose) for secret in (SECRET, SECRET + "!") for purpose in Purpose]
    assert len(set(keys)) == len(keys)


def test_a_derived_password_may_stand_in_a_url():
    passwords = {derive_password(SECRET, purpose) for purpose in Purpose}
    assert len(passwords) == len(Purpose)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", password) for password in passwords)

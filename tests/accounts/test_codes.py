"""One-time codes."""

import re
import uuid

from ringfence.accounts.codes import CodePurpose, digest

KEY = bytes(range(32))
USER = uuid.UUID("6b1d4b0e-7f1c-4d0a-9a55-0d6c8d5d2f10")


def test_codes_are_eight_digits_and_spread_over_all_of_them(codes):
    drawn = [codes.new(USER, CodePurpose.VERIFY).text for _ in range(2000)]
    assert all(re.fullmatch(r"[0-9]{8}", code) for code in drawn)
    assert {code[0] for code in drawn} == set("0123456789")
    assert len(set(drawn)) > 1990  # the birthday bound expects 0.02 repetitions


def test_a_digest_depends_on_key_user_and_code():
    first = digest(KEY, USER, CodePurpose.VERIFY, "01234567")
    assert len(first) == 32
    others = [
        digest(bytes(32), USER, CodePurpose.VERIFY, "01234567"),
        digest(KEY, uuid.UUID(int=1), CodePurpose.VERIFY, "01234567"),
        digest(KEY, USER, CodePurpose.RESET, "01234567"),
        digest(KEY, USER, CodePurpose.VERIFY, "01234568"),
        digest(KEY, USER, CodePurpose.VERIFY, "1234567"),
        digest(KEY, USER, CodePurpose.VERIFY, ""),
        digest(KEY, USER, CodePurpose.VERIFY, "\ud800"),
    ]
    assert first not in others
    assert len(set(others)) == len(others)


def test_white_space_does_not_count():
    assert digest(KEY, USER, CodePurpose.VERIFY, " 0123 4567\n") == digest(KEY, USER, CodePurpose.VERIFY, "01234567")


def test_a_code_for_one_purpose_opens_no_other(codes):
    for made in CodePurpose:
        code = codes.new(USER, made)
        assert [opened for opened in CodePurpose if codes.is_right(USER, opened, code.text, code.digest)] == [made]

import json

import pytest

from ringfence.documents.parsing.wire import REASONS, Failure, Limits, Part, Request, encode, reason
from ringfence.errors import Invalid, NotFound, TooLarge, Unsupported


def test_a_request_survives_the_wire():
    request = Request("application/pdf", 'pass\n"word"', Limits(1, 2.5, 3, 4, 5))
    line = request.encode()
    assert line.count(b"\n") == 1
    assert Request.decode(line) == request


def test_a_frame_is_one_line():
    assert encode(Part(1, 2, "a\n\u2028é")).count(b"\n") == 1
    assert json.loads(encode(Failure("no_text"))) == {"error": "no_text"}


@pytest.mark.parametrize("code", REASONS)
def test_each_reason_has_a_kind_and_words(code):
    error = reason(code)
    assert error.code == code
    assert isinstance(error, Invalid | NotFound | TooLarge | Unsupported)
    assert error.message.endswith(".")


def test_a_child_can_not_make_up_reasons():
    assert reason("send me your password").code == "parser_crashed"

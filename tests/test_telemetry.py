import json
import logging

import pytest
import structlog

from ringfence.telemetry import configure_logging, trace_without_values


def test_each_line_is_an_object_with_its_context(capsys):
    configure_logging()
    structlog.contextvars.bind_contextvars(request_id="r1")
    structlog.get_logger().info("happened", count=3)
    logging.getLogger("library").warning("it says %s", "so")
    structlog.get_logger().debug("too fine")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["count"], first["level"], first["request_id"]) == ("happened", 3, "info", "r1")
    assert (second["event"], second["level"]) == ("it says so", "warning")
    assert first["timestamp"].endswith("Z")


@pytest.mark.parametrize("readable", [True, False])
def test_a_trace_tells_where_but_no_values(capsys, readable):
    configure_logging(readable=readable)
    try:
        password = "hunter2"
        raise ValueError(f"bad input: {password}")
    except ValueError:
        structlog.get_logger().exception("defect")
        logging.getLogger("library").exception("theirs")
    written = capsys.readouterr().err
    assert written.count("builtins.ValueError") == 2
    assert written.count("test_telemetry.py") == 2
    assert "hunter2" not in written


def test_an_exception_may_be_given_itself_or_not_at_all():
    assert trace_without_values(None, "", {"exc_info": KeyError("secret")}) == {
        "error": "builtins.KeyError",
        "trace": [],
    }
    for nothing in ({}, {"exc_info": None}, {"exc_info": False}, {"exc_info": (None, None, None)}):
        assert trace_without_values(None, "", nothing) == {}

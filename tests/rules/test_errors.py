"""docs/errors.md lists every code that the engine raises, and none besides."""

import ast
import re
from pathlib import Path

import pytest

from ringfence import errors
from ringfence.documents.parsing.wire import REASONS

ROOT = Path(__file__).parents[2]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
# Built from parts, said by foreign checks, or given as event codes.
OTHERS = {
    "bad_request", "method_not_allowed", "not_found", "model_empty", "server_error", "weights_missing",
    "range_not_satisfiable", "weights_unavailable", "postgres_init_failed", "postgres_start_failed",
}  # fmt: skip


def raised(source: str) -> set[str]:
    """Constant codes given to an error's constructor."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    raised = [call.args[0] for call in calls if call.args and _name(call) in KINDS | {"DemoFailed"}]
    streamed = [
        word.value for call in calls if _name(call) == "ErrorEvent" for word in call.keywords if word.arg == "code"
    ]
    return {node.value for node in raised + streamed if isinstance(node, ast.Constant)}


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", "")


def listed() -> set[str]:
    words = re.findall(r"`([a-z]+(?:_[a-z0-9]+)+|internal)`", (ROOT / "docs/errors.md").read_text(encoding="utf-8"))
    return set(words) - {"reason_code"}


def test_the_page_lists_what_is_raised():
    codes = set(REASONS) | OTHERS
    for path in (ROOT / "src").rglob("*.py"):
        codes |= raised(path.read_text(encoding="utf-8"))
    assert listed() == codes


@pytest.mark.parametrize(("source", "codes"), [("raise Invalid('x_y', 'z')", {"x_y"}), ("f('x')", set())])
def test_codes_are_found(source, codes):
    assert raised(source) == codes

"""docs/security.md names tests: each of them is there."""

import ast
import re

from tests.rules import house

PAGE = house.ROOT / "docs" / "security.md"
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def missing(text: str) -> list[str]:
    found = []
    for file, name in NAMED.findall(text):
        path = house.ROOT / "tests" / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        if name not in names:
            found.append(f"{file}::{name}")
    return found


def test_each_test_that_the_page_names_is_there():
    text = PAGE.read_text(encoding="utf-8")
    assert len(NAMED.findall(text)) > 40
    assert missing(text) == []


def test_the_check_can_fail():
    assert missing("`rules/test_security_page.py::test_not_there` `no/file.py::test_x`") == [
        "rules/test_security_page.py::test_not_there",
        "no/file.py::test_x",
    ]

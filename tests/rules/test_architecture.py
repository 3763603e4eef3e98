"""docs/architecture.md is a map of the code as it is: its table names every room, in the order of the import rules."""

import configparser
import re
from pathlib import Path

import pytest

from tests.rules import house

PAGE = (house.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`")
_MODULE = re.compile(r"\b\w+(?:/\w+)*\.py\b")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*(?:/|\.py)")


def rows(page: str) -> list[tuple[list[str], list[str]]]:
    """Of each row of the table of rooms: the rooms, and the paths that its description names."""
    section = page.partition("\n## The rooms\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [(_CODE.findall(rooms), [p for p in _CODE.findall(about) if _PATH.fullmatch(p)]) for rooms, about in cells]


def in_the_tree(source: Path) -> set[str]:
    """Every module and package directly under a folder, as the table writes them."""
    packages = {f"{path.parent.name}/" for path in source.glob("*/*.py")}
    return packages | {path.name for path in source.glob("*.py") if not path.stem.startswith("__")}


def map_faults(page: str, source: Path) -> list[str]:
    """Rooms that the table or the tree has alone, and those that the table has twice."""
    named, there = [room for rooms, _ in rows(page) for room in rooms], in_the_tree(source)
    return [
        *(f"{room} is not in the table" for room in sorted(there - set(named))),
        *(f"{room} does not exist" for room in sorted(set(named) - there)),
        *(f"{room} is named twice" for room in sorted({room for room in named if named.count(room) > 1})),
    ]


def layers() -> list[set[str]]:
    """Rooms that .importlinter puts on one line, from the top down."""
    rules = configparser.ConfigParser()
    rules.read(house.ROOT / ".importlinter", encoding="utf-8")
    lines = rules["importlinter:contract:layers"]["layers"].split("\n")
    return [set(re.findall(r"\w+", line)) for line in lines if line.strip()]


def order_faults(page: str) -> list[str]:
    """Rooms that stand above one which they are below of, and rows joined by `·` that are not one line of the rules."""
    depth = {room: number for number, layer in enumerate(layers()) for room in layer}
    faults, deepest = [], 0
    for rooms, _ in rows(page):
        depths = [depth[room.removesuffix("/").removesuffix(".py")] for room in rooms]
        joined = f"`{'` · `'.join(rooms)}`" in page
        if joined and len(set(depths)) > 1:
            faults.append(f"{rooms} are not one line")
        if min(depths) < deepest or depths != sorted(depths):
            faults.append(f"{rooms} stand too low")
        deepest = max(depths)
    return faults


def test_the_table_names_every_room_and_no_other() -> None:
    assert rows(PAGE)
    assert map_faults(PAGE, house.SRC) == []


def test_the_table_has_the_order_of_the_import_rules() -> None:
    assert order_faults(PAGE) == []


def test_files_that_the_table_describes_are_in_their_room() -> None:
    missing = [
        f"{rooms}: {path}"
        for rooms, paths in rows(PAGE)
        for path in paths
        if not any((house.SRC / room / path).exists() for room in [*rooms, "."])
    ]
    assert missing == []


def test_paths_that_the_page_names_exist() -> None:
    before, _, after = PAGE.partition("\n## The rooms\n")
    outside = before + after.partition("\n## ")[2]
    named = set(_MODULE.findall(outside)) | {p for p in _CODE.findall(outside) if _PATH.fullmatch(p)}
    assert {"documents/parsing/formats.py", "migrations/", "worker.py"} <= named
    everywhere = {"queries.py"}  # each feature's own
    assert [
        p for p in sorted(named - everywhere) if not any((base / p).exists() for base in (house.ROOT, house.SRC))
    ] == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("`cli/` |", "`clio/` |", ["cli/ is not in the table", "clio/ does not exist"]),
        (" · `mail.py`", "", ["mail.py is not in the table"]),
        ("`cli/` |", "`cli/` · `db.py` |", ["db.py is named twice"]),
    ],
)
def test_faults_of_the_map_are_found(before: str, after: str, fault: list[str]) -> None:
    assert before in PAGE
    assert set(fault) <= set(map_faults(PAGE.replace(before, after), house.SRC))


def test_a_new_module_is_missed(tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    for name in ("extra/__init__.py", "more.py", "__init__.py", "__main__.py"):
        (tmp_path / name).touch()
    faults = map_faults(PAGE, tmp_path)
    assert "extra/ is not in the table" in faults
    assert "more.py is not in the table" in faults
    assert not any("__" in fault for fault in faults)


@pytest.mark.parametrize(
    ("rooms", "good"),
    [
        (["`db.py`", "`settings.py`, `errors.py`"], True),
        (["`settings.py`", "`db.py`"], False),
        (["`errors.py`, `settings.py`"], False),
        (["`settings.py` · `errors.py`"], False),
        (["`ids.py` · `keys.py`"], True),
    ],
)
def test_faults_of_the_order_are_found(rooms: list[str], good: bool) -> None:
    page = "\n## The rooms\n\n" + "\n".join(f"| {room} | words |" for room in rooms)
    assert (order_faults(page) == []) == good
